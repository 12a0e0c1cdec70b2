//! Steps that one host runs for all hosts, with a fleet that answers as a test tells it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::*;
use crate::ports::permission::{Permission, PermitDecision, Purpose, StepDecision};

/// Grants everything. A step that another host runs or has run is answered so.
#[derive(Default)]
struct Others {
    steps: RefCell<BTreeMap<String, StepDecision>>,
    recorded: RefCell<Vec<(String, bool)>>,
    claimed: RefCell<Option<String>>,
}

impl Permission for Others {
    fn peek(&self, _: Purpose, _: bool) -> PermitDecision {
        PermitDecision::Granted
    }

    fn request(&self, _: Purpose, _: bool) -> PermitDecision {
        PermitDecision::Granted
    }

    fn confirm(&self, _: Purpose, _: bool) -> PermitDecision {
        PermitDecision::Granted
    }

    fn others_serve(&self) -> Option<bool> {
        Some(true)
    }

    fn claim_step(&self, step: &str) -> StepDecision {
        let answer = self.steps.borrow().get(step).cloned();
        if answer.is_none() {
            *self.claimed.borrow_mut() = Some(step.to_owned());
        }
        answer.unwrap_or(StepDecision::Run { attempt: 7 })
    }

    fn record_step(&self, succeeded: bool, _: &str) -> Result<(), String> {
        let step = self.claimed.borrow_mut().take().expect("it was claimed");
        self.recorded.borrow_mut().push((step, succeeded));
        Ok(())
    }

    fn note_failure(&self, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }
}

const STEPS: &str = "
steps:
  - {name: upload, once: fleet, run: 'echo upload $TRUEUP_ATTEMPT >> ../../shared/ran'}
  - {name: page, run: 'echo page >> ../../shared/ran'}
migrate: {run: 'echo migrate >> ../../shared/ran'}
hooks:
  before_migrate: [{run: 'echo each >> ../../shared/ran'}]
  after_migrate: [{name: seed, once: fleet, run: 'echo seed >> ../../shared/ran'}]
  before_activate:
    - {name: warm, once: fleet, run: 'test -e ../../shared/go'}
    - {run: 'echo here >> ../../shared/ran'}
";

/// A bench, a host whose fleet is given, and the app with these steps.
fn with_others(text: &str) -> (Bench, Host, Rc<Others>, ReleaseSpec) {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let (host, others) = (bench.host(), Rc::new(Others::default()));
    host.permissions.set("shop", others.clone());
    let mut spec = bench.spec(&sha, text);
    spec.move_once_steps();
    spec.validate().unwrap();
    (bench, host, others, spec)
}

#[test]
fn step_for_all_hosts_runs_before_the_activation_and_is_recorded() {
    let (bench, host, others, spec) = with_others(STEPS);
    run_pass(&spec, &host).unwrap_err();
    assert_eq!(bench.active_name(), None);
    assert_eq!(
        others.recorded.take(),
        [
            ("upload", true),
            ("migrate", true),
            ("seed", true),
            ("warm", false)
        ]
        .map(|(step, ended)| (step.to_owned(), ended))
    );
    std::fs::write(bench.app_path("shared/go"), "").unwrap();
    deploy_ok(&spec, &host);
    assert_eq!(others.recorded.take(), [("warm".to_owned(), true)]);
    assert_eq!(
        bench.read("shared/ran"),
        "page\nupload 7\neach\nmigrate\nseed\nhere\n"
    );
}

#[test]
fn step_that_another_host_runs_or_has_run_is_not_run_here() {
    let (bench, host, others, spec) = with_others(STEPS);
    std::fs::create_dir_all(bench.app_path("shared")).unwrap();
    std::fs::write(bench.app_path("shared/go"), "").unwrap();
    let answer = |step: &str, answer: StepDecision| {
        others.steps.borrow_mut().insert(step.to_owned(), answer);
    };
    answer("upload", StepDecision::Succeeded);
    answer("migrate", StepDecision::Succeeded);
    answer("seed", StepDecision::Wait("web1 runs it".into()));
    assert_eq!(
        run_pass(&spec, &host),
        Ok(Some(ApplyOutcome::Waiting("web1 runs it".into())))
    );
    assert_eq!(bench.active_name(), None);
    answer("seed", StepDecision::Failed("it failed on web1".into()));
    let failure = run_pass(&spec, &host).unwrap_err();
    assert!(failure.message.contains("it failed on web1"), "{failure}");
    answer("seed", StepDecision::Succeeded);
    deploy_ok(&spec, &host);
    assert_eq!(bench.read("shared/ran"), "page\neach\nhere\n");
    assert_eq!(others.recorded.take(), [("warm".to_owned(), true)]);
}
