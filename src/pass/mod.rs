//! One pass: settings → roles (facts, peers) → desired → catalog → plan → apply → report.
//!
//! Only this module chains the stages; `converge`, `plan` and `status` run the same chain up to different
//! stages.

mod announce;
mod apps;
mod claims;
mod compile;
mod cron;
mod error;
mod exposed_secrets;
mod joined;
mod local_failure;
mod log;
mod notices;
mod options;
mod policy;
mod preview;
mod progress;
mod record;
mod restart;
mod rollouts;
mod selection;
mod status;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::apply::{self, ApplyParams, Event};
use crate::desired::{self, DesiredState};
use crate::exit::Exit;
use crate::facts::Facts;
use crate::fleet::PublishOutcome;
use crate::plan::{self, Selection};
use crate::ports::accounts::Accounts;
use crate::ports::clock::SystemClock;
use crate::ports::exec::{Exec, StopFlag};
use crate::ports::packages::Packages;
use crate::ports::permission::Permissions;
use crate::ports::root::Root;
use crate::ports::store::{Store, StoreError};
use crate::ports::{Host, selinux, services, store};
use crate::problem::Problem;
use crate::release::{self, Maintenance};
use crate::report::{History, Report, ReportHeader};
use crate::role::Catalog;
use crate::settings::{self, Settings};

pub(crate) use announce::announce_no_session;
pub(crate) use apps::{Apps, DeployedApp};
pub(crate) use cron::CronStatus;
pub(crate) use error::PassError;
use joined::{AppNotices, Rollouts};
pub(crate) use options::{PassOptions, QuarantineLift};
use policy::{PolicyPass, PolicyUse};
pub(crate) use status::{AppStatus, HostStatus, ProbeResult, ServingStatus};

/// Locations that the command line selects.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub config: PathBuf,
    /// The folder that stands for `/`.
    pub root: PathBuf,
    /// Folder of the shipped roles and templates.
    pub share: PathBuf,
}

/// Source of the desired state.
#[derive(Clone, Copy)]
enum ManifestSource {
    Store(desired::ReadOptions, PolicyUse),
    /// The last good manifest on disk, without asking the store.
    LastGood,
}

/// A host and its settings, ready for a pass.
pub(crate) struct Session {
    pub settings: Settings,
    pub host: Host,
    pub facts: Facts,
    /// Opened once, so that its connections are reused.
    shared_store: OnceCell<Rc<dyn Store>>,
    /// After a pass: other hosts wait until this one has proven itself for longer.
    is_proving: Cell<bool>,
    /// Of the last pass.
    rollouts: RefCell<Rollouts>,
    /// Of the last pass, until they are sent.
    notices: RefCell<Vec<AppNotices>>,
    /// Of the last pass.
    policy: RefCell<PolicyPass>,
}

impl Session {
    pub(crate) fn open(paths: &Paths, stop: StopFlag) -> Result<Session, PassError> {
        let settings = settings::load(&paths.config, &paths.share)?;
        Session::with_settings(settings, paths, stop)
    }

    /// Opens a session with settings that need not be on disk yet.
    pub(crate) fn with_settings(
        settings: Settings,
        paths: &Paths,
        stop: StopFlag,
    ) -> Result<Session, PassError> {
        let root = Rc::new(Root::at(&paths.root)?);
        selinux::start(&root);
        let accounts = Rc::new(Accounts::default());
        let exec = Rc::new(Exec);
        let manager = services::open(settings.services, &root, &exec, &accounts);
        let host = Host {
            exec,
            services: manager,
            supervisor: services::supervisor(&root),
            clock: Rc::new(SystemClock),
            permissions: Permissions::default(),
            stop,
            accounts,
            packages: Rc::new(Packages::default()),
            root,
        };
        let facts = Facts::new(host.root.clone());
        let (settings, policy) = policy::with_policy_in_force(settings, &host)?;
        Ok(Session {
            settings,
            host,
            facts,
            shared_store: OnceCell::new(),
            is_proving: Cell::new(false),
            rollouts: RefCell::default(),
            notices: RefCell::default(),
            policy: RefCell::new(policy),
        })
    }

    pub(crate) fn node(&self) -> &str {
        self.settings
            .node
            .as_deref()
            .unwrap_or(self.facts.hostname())
    }

    pub(crate) fn open_store(&self) -> Result<Box<dyn Store>, PassError> {
        store::open(&self.settings.store).map_err(|error| match error {
            StoreError::Settings(why) => Problem::new(why)
                .at(&self.settings.locations.store)
                .field("store")
                .into(),
            error => error.into(),
        })
    }

    fn shared_store(&self) -> Result<&Rc<dyn Store>, PassError> {
        if let Some(store) = self.shared_store.get() {
            return Ok(store);
        }
        let store = self.open_store()?;
        Ok(self.shared_store.get_or_init(|| store.into()))
    }

    /// Runs a pass and publishes the host's record. The caller holds the lock.
    pub(crate) fn converge(
        &self,
        options: &PassOptions,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Report, PassError> {
        let started = self.start_time();
        let _span = tracing::info_span!("pass", run = crate::report::run_name(started.0)).entered();
        // First: a mistake in the roles must not keep visitors from an app beyond the end that an operator set.
        match release::end_due_maintenance(&self.host) {
            Ok(lines) => lines
                .iter()
                .for_each(|line| tracing::info!(target: "progress", "{line}")),
            Err(failure) => tracing::warn!("{failure}"),
        }
        self.end_drains();
        let made = self.plan_and_apply(started, options, on_event);
        // Also if it ended early.
        self.end_drains();
        let (catalog, desired, mut report) = match made {
            Ok(made) => made,
            Err(error) => {
                self.publish_failure(&error);
                return Err(error);
            }
        };
        let is_whole = is_whole(options, &report);
        self.judge_policy(&mut report, is_whole)?;
        if is_whole {
            self.converge_claims(options.by_hand, &mut report);
        }
        let published = match is_whole {
            true => self.publish_record(&report, &catalog),
            false => PublishOutcome::default(),
        };
        report.warnings.extend(published.report_lines);
        // The record is there: without it the rollout of the only host would not end.
        report.warnings.extend(self.settle_rollouts(&catalog));
        report.warnings.extend(self.settle_policy(&report));
        if is_whole {
            let warnings = self.give_service_slots_back(&report);
            report.warnings.extend(warnings);
            self.list_local_failures(&catalog, &report);
            self.note_news(&catalog, &desired, &report);
        }
        if let Some(why) = published.publish_error {
            report.mark_unpublished(why);
        }
        let history = History::new(&self.host);
        let is_new = history.save_if_new(&report)?;
        let news = is_new || published.is_new;
        let is_due = news || (is_whole && log::is_due_in_journal(&history, &report));
        if is_whole {
            let textfile = self.settings.metrics.textfile.as_deref();
            history.save_last(&report, textfile, is_due)?;
        }
        log::log_report(&report, is_due, &catalog, &desired);
        if is_whole {
            self.announce(&report);
        }
        Ok(report)
    }

    /// Lets load balancers send visitors to the apps again that a killed pass left drained. The caller holds the lock.
    fn end_drains(&self) {
        match release::end_all_drains(&self.host) {
            Ok(apps) => apps.iter().for_each(|app| {
                tracing::info!(target: "progress", "{app}: its drain is over, which a pass left that ended early");
            }),
            Err(error) => tracing::warn!("{error}"),
        }
    }

    fn plan_and_apply(
        &self,
        started: (jiff::Timestamp, std::time::Instant),
        options: &PassOptions,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<(Catalog, DesiredState, Report), PassError> {
        let ask = desired::ReadOptions {
            force: options.force,
            save_last_good: true,
        };
        let (mut catalog, desired) =
            self.compile(ManifestSource::Store(ask, options.policy_use()), options)?;
        self.join_rollouts(&mut catalog, &desired, options);
        let selection = selection::select(&catalog, options.only.as_deref())?;
        let mut notes = apply::recover_interrupted(&catalog, &self.host)?;
        notes.extend(
            self.exposed_secrets(&catalog)
                .iter()
                .map(Problem::to_string),
        );
        if let Some(lift) = &options.lift_quarantine {
            notes.extend(self.lift_quarantine(lift, &catalog, &selection)?);
        }
        let failing = apply::check_covered_files(&catalog, &self.host, None)?;
        let mut plan = plan::build_plan(&catalog, &self.host, &selection);
        if apply::repeat_trials(&catalog, &plan, &selection, &self.host) {
            plan = plan::build_plan(&catalog, &self.host, &selection);
        }
        plan.mark_failing(&failing);
        notes.extend(plan.notes.iter().cloned());
        let report = if plan.is_empty() && !plan.has_outdated_records() {
            apply::run_maintenance(&catalog, &plan, &self.host);
            notes.extend(plan.warnings.iter().cloned());
            let heading = self.report_header(started, plan.deployed_shas.clone(), &desired, notes);
            Report::from_plan(heading, &catalog, &plan)
        } else {
            self.rollouts.borrow().forget_positions();
            // A store that did not answer just now would only cost another timeout.
            let store_answers = !matches!(desired.freshness, desired::Freshness::Stale { .. });
            if store_answers {
                self.send_heartbeat();
            }
            let task = ApplyParams {
                catalog: &catalog,
                plan: &plan,
                selection: &selection,
                wanted_shas: &desired.wanted_shas(),
                on_event,
            };
            let (done, progress) = self.apply(task, started.0, store_answers)?;
            let (shas, warnings) = self.observe_apps(&catalog);
            notes.extend(warnings);
            let heading = self.report_header(started, shas, &desired, notes);
            let report = Report::from_pass(heading, &catalog, done);
            if !is_whole(options, &report) {
                progress.end(&report);
            }
            report
        };
        Ok((catalog, desired, report))
    }

    /// The deployed sha of each app after a pass changed something, and warnings for the operator.
    fn observe_apps(&self, catalog: &Catalog) -> (BTreeMap<String, Option<String>>, Vec<String>) {
        let (mut shas, mut warnings) = (BTreeMap::new(), Vec::new());
        for (resource, spec) in catalog.releases() {
            let observed = resource.body.inspect(&self.host).ok();
            let release = observed
                .as_ref()
                .and_then(|observed| observed.condition().release());
            let of_it = release.iter().flat_map(|release| &release.warnings);
            warnings.extend(of_it.map(|warning| format!("{}: {warning}", resource.id)));
            let sha = release.and_then(|release| release.sha.clone());
            shas.insert(spec.app.clone(), sha);
        }
        (shas, warnings)
    }

    fn report_header<'a>(
        &'a self,
        (started, tick): (jiff::Timestamp, std::time::Instant),
        apps: BTreeMap<String, Option<String>>,
        desired: &'a DesiredState,
        notes: Vec<String>,
    ) -> ReportHeader<'a> {
        let maintenance = apps.keys().filter_map(|app| {
            let line = Maintenance::describe_app(&self.host.root, app)?;
            Some((app.clone(), line))
        });
        ReportHeader {
            maintenance: maintenance.collect(),
            node: self.node(),
            environment: &self.settings.environment,
            started,
            took: self.host.clock.monotonic_now() - tick,
            desired,
            apps,
            policy: self.policy.borrow().status.clone(),
            notes,
            stopped: self.host.stop.is_set(),
        }
    }

    fn start_time(&self) -> (jiff::Timestamp, std::time::Instant) {
        (self.host.clock.now(), self.host.clock.monotonic_now())
    }

    /// The folder that stands for `/`, as templates see it.
    fn root_text(&self) -> String {
        self.host.root.path().display().to_string()
    }
}

/// A pass over one resource, or a stopped one, does not describe the state of the host.
fn is_whole(options: &PassOptions, report: &Report) -> bool {
    options.only.is_none() && report.outcome != Exit::Stopped
}

/// Makes the paths of the command line absolute.
pub(crate) fn resolve_paths(
    config: Option<&Path>,
    root: Option<&Path>,
    share: Option<&Path>,
) -> Paths {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let root = root.map_or_else(|| PathBuf::from("/"), absolute);
    let default = settings::DEFAULT_CONFIG.trim_start_matches('/');
    Paths {
        config: config.map_or_else(|| root.join(default), absolute),
        share: share.map_or_else(|| PathBuf::from(settings::DEFAULT_SHARE), absolute),
        root,
    }
}
