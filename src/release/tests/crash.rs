//! A pass that is stopped or killed at any instant.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use jiff::Timestamp;

use super::*;
use crate::ports::clock::Clock;

/// Runs `trigger` at the n-th reading of the time, which happens in every stage.
struct TriggerClock {
    ticks_left: Cell<u32>,
    trigger: Box<dyn Fn()>,
}

impl TriggerClock {
    fn count_down(&self) {
        let left = self.ticks_left.get();
        self.ticks_left.set(left.saturating_sub(1));
        if left == 1 {
            (self.trigger)();
        }
    }
}

impl Clock for TriggerClock {
    fn now(&self) -> Timestamp {
        self.count_down();
        SystemClock.now()
    }

    fn monotonic_now(&self) -> Instant {
        self.count_down();
        SystemClock.monotonic_now()
    }
}

const STEPS: &str = "keep_releases: 2\nlinked_dirs: [log]\nsteps:\n  - {run: 'touch one'}\n  - {run: 'mkdir -p kept/deep; touch kept/deep/file', when_changed: [b], outputs: [kept]}\n  - {name: deps, run: 'mkdir -p deps; cp a deps/of', outputs: {path: deps, by: [a], key: echo 1}}\nassets: {run: 'touch three; touch public/assets/$REVISION'}\n";

/// Only complete releases are active, and a completed pass leaves nothing behind.
fn check_host(bench: &Bench, end: bool) {
    let name = bench.active_name().unwrap();
    assert!(
        bench.app_path("current/three").exists(),
        "{name} is half-built"
    );
    let revision = bench.read("current/REVISION");
    for made in [
        "kept/deep/file".into(),
        "deps/of".into(),
        format!("public/assets/{}", revision.trim()),
    ] {
        let path = bench.app_path("current").join(&made);
        assert!(path.exists(), "{name} lacks {made}");
    }
    let record = bench.record();
    let state = record.find(&name).unwrap().state;
    assert!(state.is_complete(), "{name} is {state:?}");
    if end {
        assert_eq!(state, ReleaseStatus::Good);
        assert_eq!(record.trial(), None);
        assert_eq!(record.in_state(ReleaseStatus::Building), [""; 0]);
        let links = std::fs::read_link(bench.app_path("current/deps"));
        assert!(links.is_ok(), "{name} does not share its dependencies");
        let outputs = std::fs::read_dir(bench.app_path("outputs/deps")).unwrap();
        // The next deployment removes that of a release whose removal was the last thing that the pass did.
        assert!(outputs.count() <= bench.releases().len() + 1);
        let hidden = bench.releases().iter().any(|name| name.starts_with('.'));
        assert!(!hidden, "{:?}", bench.releases());
    }
}

fn interrupt_at_every_tick(interrupt: impl Fn(&Bench, &ReleaseSpec, u32) -> bool) {
    let bench = Bench::new();
    deploy_ok(
        &bench.spec(&bench.commit(&[("a", "0"), ("b", "1")]), STEPS),
        &bench.host(),
    );
    let mut interruptions = 0;
    for n in 1.. {
        let sha = bench.commit(&[("a", &n.to_string()), ("b", "1")]);
        let spec = bench.spec(&sha, STEPS);
        if !interrupt(&bench, &spec, n) {
            break;
        }
        interruptions += 1;
        check_host(&bench, false);
        // One more pass repairs the host, whatever was left.
        run_pass(&spec, &bench.host()).unwrap();
        check_host(&bench, true);
        assert_eq!(bench.read("current/REVISION"), format!("{sha}\n"));
        assert_eq!(run_pass(&spec, &bench.host()), Ok(None));
    }
    assert!(interruptions >= 8, "only {interruptions} places were tried");
}

#[test]
fn stopped_pass_is_completed_by_the_next_one() {
    interrupt_at_every_tick(|bench, spec, n| {
        let mut host = bench.host();
        let stop = host.stop.clone();
        host.clock = Rc::new(TriggerClock {
            ticks_left: Cell::new(n),
            trigger: Box::new(move || stop.set()),
        });
        match run_pass(spec, &host) {
            Err(failure) => {
                assert_eq!(
                    failure.message,
                    "stopped on request; the next pass continues"
                );
                true
            }
            // Set after the switch, the flag has nothing left to stop.
            Ok(_) => host.stop.is_set(),
        }
    });
}

#[test]
fn crashed_pass_is_completed_by_the_next_one() {
    interrupt_at_every_tick(|bench, spec, n| {
        let mut host = bench.host();
        host.clock = Rc::new(TriggerClock {
            ticks_left: Cell::new(n),
            trigger: Box::new(|| std::panic::resume_unwind(Box::new("the power is gone"))),
        });
        catch_unwind(AssertUnwindSafe(|| run_pass(spec, &host))).is_err()
    });
}

#[test]
fn a_lost_record_never_makes_a_half_built_release_good() {
    let bench = Bench::new();
    let (one, two) = (bench.commit(&[("a", "1")]), bench.commit(&[("a", "2")]));
    deploy_ok(&bench.spec(&one, STEPS), &bench.host());
    let fails = "steps: [{run: 'false'}]\n";
    run_pass(&bench.spec(&two, fails), &bench.host()).unwrap_err();
    let record = bench.host_path("var/lib/trueup/releases/shop.json");
    let kept = std::fs::read(&record).unwrap();
    let newer = String::from_utf8(kept)
        .unwrap()
        .replace("\"version\": 2", "\"version\": 3");
    for body in [None, Some(""), Some("{"), Some("[]"), Some(newer.as_str())] {
        match body {
            Some(body) => std::fs::write(&record, body).unwrap(),
            None => std::fs::remove_file(&record).unwrap(),
        }
        let rebuilt = bench.record();
        assert_eq!(
            rebuilt.in_state(ReleaseStatus::Good),
            [bench.active_name().unwrap()]
        );
        assert_eq!(rebuilt.in_state(ReleaseStatus::Failed).len(), 1);
        // The half-built release exists with the right REVISION, and is still not activated.
        let change = plan(&bench.spec(&two, STEPS), &bench.host()).unwrap();
        assert!(change.touches("steps"), "{change:?}");
    }
    deploy_ok(&bench.spec(&two, STEPS), &bench.host());
    check_host(&bench, true);
}

#[test]
fn a_release_that_lost_its_folder_is_built_again() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let spec = bench.spec(&sha, STEPS);
    deploy_ok(&spec, &bench.host());
    std::fs::remove_dir_all(
        bench
            .app_path("releases")
            .join(bench.active_name().unwrap()),
    )
    .unwrap();
    deploy_ok(&spec, &bench.host());
    check_host(&bench, true);
}

#[test]
fn kill_while_a_sha_that_changes_nothing_is_compared_loses_nothing() {
    let bench = Bench::new();
    let commit = |other: u32| {
        bench.commit(&[
            ("shop/a", "1"),
            ("shop/b", "1"),
            ("other", &other.to_string()),
        ])
    };
    let spec = |sha: &Sha| bench.spec(sha, &format!("subdir: shop\n{STEPS}"));
    deploy_ok(&spec(&commit(0)), &bench.host());
    let active = bench.active_name();
    let mut kills = 0;
    for n in 1.. {
        let sha = commit(n);
        let mut host = bench.host();
        host.clock = Rc::new(TriggerClock {
            ticks_left: Cell::new(n),
            trigger: Box::new(|| std::panic::resume_unwind(Box::new("the power is gone"))),
        });
        let outcome = catch_unwind(AssertUnwindSafe(|| run_pass(&spec(&sha), &host)));
        assert_eq!(bench.active_name(), active);
        run_pass(&spec(&sha), &bench.host()).unwrap();
        assert_eq!(run_pass(&spec(&sha), &bench.host()), Ok(None));
        assert_eq!(
            (bench.active_name(), bench.releases().len()),
            (active.clone(), 1)
        );
        if outcome.is_ok() {
            break;
        }
        kills += 1;
    }
    assert!(kills >= 3, "only {kills} kills");
}
