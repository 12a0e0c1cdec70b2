//! One pass: settings → desired → facts → plan → apply → report.
//!
//! The stages are strung together here and nowhere else; `converge`, `plan` and `status` are the
//! same string cut at different places.

mod apps;
mod describe;
mod error;
mod exposed;
mod record;
mod standing;
mod told;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::apply::{self, Event, Task};
use crate::desired::{self, Desired, TakeUp};
use crate::exit::Exit;
use crate::facts::Facts;
use crate::fleet::{Peers, Said};
use crate::plan::{self, Plan, Selection};
use crate::ports::accounts::Accounts;
use crate::ports::clock::SystemClock;
use crate::ports::exec::{Exec, StopFlag};
use crate::ports::packages::Packages;
use crate::ports::root::{Root, RootError};
use crate::ports::store::{Store, StoreError};
use crate::ports::{Host, services, store};
use crate::problem::{Problem, nearest};
use crate::report::{Heading, History, Report};
use crate::role::{self, Catalog};
use crate::settings::{self, Settings};

pub use apps::{App, Apps};
pub use error::PassError;
pub use standing::{AppStanding, Proof, Serving, Standing};
pub use told::no_session;

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Places {
    pub config: PathBuf,
    /// The folder that stands for `/`.
    pub root: PathBuf,
    /// Where the shipped roles and templates are.
    pub share: PathBuf,
}

/// What a pass is asked to do besides the usual.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Ask the store as if nothing were known, and try at once what failed before.
    pub force: bool,
    /// Go on to what the manifest holds back, on this host and in this pass.
    pub over_holds: bool,
    /// Begin unfinished releases anew.
    pub fresh: bool,
    /// Only this resource and what acts on its change.
    pub only: Option<String>,
    /// What is wanted and quarantined on this host is tried once more.
    pub lift: Option<Lift>,
    /// Lists of peers are taken as they are now, however much smaller than before.
    pub accept_shrink: bool,
}

/// Who lifts a quarantine, and why.
#[derive(Debug, Clone)]
pub struct Lift {
    pub by: String,
    pub reason: String,
}

impl Options {
    fn take_up(&self) -> TakeUp {
        match (self.fresh, self.force || self.lift.is_some()) {
            (true, _) => TakeUp::Fresh,
            (false, true) => TakeUp::Now,
            (false, false) => TakeUp::Usual,
        }
    }
}

/// Where the desired state comes from.
#[derive(Clone, Copy)]
enum Source {
    Store(desired::Ask),
    /// Nobody: what was last good.
    Nobody,
}

/// A host and its settings, ready for a pass.
pub struct Session {
    pub settings: Settings,
    pub host: Host,
    pub facts: Facts,
    /// Opened once: its connections are used again.
    opened: OnceCell<Box<dyn Store>>,
}

impl Session {
    pub fn open(places: &Places, stop: StopFlag) -> Result<Session, PassError> {
        let settings = settings::load(&places.config, &places.share)?;
        Session::with(settings, places, stop)
    }

    /// The same with settings that may not be in force yet.
    pub fn with(settings: Settings, places: &Places, stop: StopFlag) -> Result<Session, PassError> {
        let root = Rc::new(Root::at(&places.root)?);
        let accounts = Rc::new(Accounts::default());
        let exec = Rc::new(Exec);
        let own = services::open(settings.services, &root, &exec, &accounts);
        let host = Host {
            exec,
            services: own,
            supervisor: services::supervisor(&root),
            clock: Box::new(SystemClock),
            stop,
            accounts,
            packages: Rc::new(Packages::default()),
            root,
        };
        let facts = Facts::new(host.root.clone());
        Ok(Session {
            settings,
            host,
            facts,
            opened: OnceCell::new(),
        })
    }

    pub fn node(&self) -> &str {
        self.settings
            .node
            .as_deref()
            .unwrap_or(self.facts.hostname())
    }

    pub fn store(&self) -> Result<Box<dyn Store>, PassError> {
        store::open(&self.settings.store).map_err(|error| match error {
            StoreError::Settings(why) => Problem::new(why)
                .at(&self.settings.places.store)
                .field("store")
                .into(),
            error => error.into(),
        })
    }

    fn opened(&self) -> Result<&dyn Store, PassError> {
        if let Some(store) = self.opened.get() {
            return Ok(store.as_ref());
        }
        let store = self.store()?;
        Ok(self.opened.get_or_init(|| store).as_ref())
    }

    /// What a pass would do. Writes nothing at all, and takes no manifest as acted on.
    pub fn plan(&self, options: &Options) -> Result<Report, PassError> {
        let started = self.begin();
        let ask = desired::Ask {
            force: options.force,
            keep: false,
        };
        let (catalog, desired) = self.describe(Source::Store(ask), options)?;
        let selection = select(&catalog, options)?;
        let plan = plan::build(&catalog, &self.host, &selection);
        let heading = self.heading(started, plan.shas.clone(), &desired, Vec::new());
        Ok(Report::of_plan(heading, &catalog, &plan))
    }

    /// Checks roles, templates and settings without looking at the host or the store. Returns how
    /// many resources are described.
    pub fn validate(&self) -> Result<usize, PassError> {
        let peers = Peers::known(&self.settings, &self.host);
        let expanded = role::expand(&self.settings, &self.facts, &peers, &self.root_word())?;
        self.store()?;
        let catalog = expanded.resolve(&Desired::nothing())?;
        Ok(catalog.resources.len())
    }

    /// Makes it so, and tells peers. The caller holds the lock.
    pub fn converge(
        &self,
        options: &Options,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Report, PassError> {
        let started = self.begin();
        let _told = tracing::info_span!("pass", run = crate::report::run_name(started.0)).entered();
        let (catalog, desired, mut report) = match self.make_so(started, options, observe) {
            Ok(made) => made,
            Err(error) => {
                self.publish_failure(&error);
                return Err(error);
            }
        };
        // Of one resource, or of half the way, there is nothing to tell about the host.
        let is_whole = options.only.is_none() && report.outcome != Exit::Stopped;
        let said = match is_whole {
            true => self.publish(&report, &catalog),
            false => Said::default(),
        };
        report.warnings.extend(said.lines);
        if let Some(why) = said.untold {
            report.is_untold(why);
        }
        let history = History::new(&self.host);
        let news = history.keep(&report)?;
        if is_whole {
            history.note(&report, self.settings.metrics.textfile.as_deref())?;
        }
        told::log(&report, news || said.new, &catalog, &desired);
        if is_whole {
            self.tell(&report);
        }
        Ok(report)
    }

    fn make_so(
        &self,
        started: (jiff::Timestamp, std::time::Instant),
        options: &Options,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<(Catalog, Desired, Report), PassError> {
        let ask = desired::Ask {
            force: options.force,
            keep: true,
        };
        let (catalog, desired) = self.describe(Source::Store(ask), options)?;
        let selection = select(&catalog, options)?;
        let mut notes = apply::recover(&catalog, &self.host)?;
        notes.extend(self.exposed(&catalog).iter().map(Problem::to_string));
        if let Some(lift) = &options.lift {
            notes.extend(self.lift(lift, &catalog, &selection)?);
        }
        let plan = plan::build(&catalog, &self.host, &selection);
        let report = if plan.is_empty() && !plan.has_news() {
            apply::do_chores(&catalog, &plan, &self.host);
            notes.extend(plan.warnings.iter().cloned());
            let heading = self.heading(started, plan.shas.clone(), &desired, notes);
            Report::of_plan(heading, &catalog, &plan)
        } else {
            // A store that did not answer just now would only be waited for again.
            if !matches!(desired.freshness, desired::Freshness::Stale { .. }) {
                self.beat();
            }
            let done = self.apply(&catalog, &plan, &selection, &desired, observe)?;
            let (shas, warnings) = self.apps_after(&catalog);
            notes.extend(warnings);
            let heading = self.heading(started, shas, &desired, notes);
            Report::of_pass(heading, &catalog, done)
        };
        Ok((catalog, desired, report))
    }

    fn apply(
        &self,
        catalog: &Catalog,
        plan: &Plan,
        selection: &Selection,
        desired: &Desired,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Vec<apply::Done>, RootError> {
        let task = Task {
            catalog,
            plan,
            selection,
            shas: &told::shas(desired),
            observe,
        };
        apply::apply(task, &self.host)
    }

    /// The sha that each app is at after a pass changed something, and what a person should see to.
    fn apps_after(&self, catalog: &Catalog) -> (BTreeMap<String, Option<String>>, Vec<String>) {
        let (mut shas, mut warnings) = (BTreeMap::new(), Vec::new());
        for resource in &catalog.resources {
            let Some(app) = resource.body.app() else {
                continue;
            };
            let seen = resource.body.look(&self.host, false).ok();
            let told = seen.iter().flat_map(|seen| &seen.warnings);
            warnings.extend(told.map(|warning| format!("{}: {warning}", resource.id)));
            shas.insert(app.to_owned(), seen.and_then(|seen| seen.sha));
        }
        (shas, warnings)
    }

    fn heading<'a>(
        &'a self,
        (started, tick): (jiff::Timestamp, std::time::Instant),
        apps: BTreeMap<String, Option<String>>,
        desired: &'a Desired,
        notes: Vec<String>,
    ) -> Heading<'a> {
        Heading {
            node: self.node(),
            environment: &self.settings.environment,
            started,
            took: self.host.clock.tick() - tick,
            desired,
            apps,
            notes,
            stopped: self.host.stop.is_set(),
        }
    }

    fn begin(&self) -> (jiff::Timestamp, std::time::Instant) {
        (self.host.clock.now(), self.host.clock.tick())
    }

    /// The folder that stands for `/`, as templates see it.
    fn root_word(&self) -> String {
        self.host.root.path().display().to_string()
    }
}

fn select(catalog: &Catalog, options: &Options) -> Result<Selection, PassError> {
    let Some(id) = &options.only else {
        return Ok(Selection::all());
    };
    if catalog.find(id).is_some() {
        return Ok(Selection::only(catalog, id));
    }
    let known = || {
        catalog
            .resources
            .iter()
            .map(|resource| resource.id.as_str())
    };
    let problem = Problem::new(format!("--only: there is no resource `{id}`"));
    Err(PassError::Asked(Box::new(match nearest(id, known()) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem.hint(some_of(&known().collect::<Vec<_>>())),
    })))
}

/// "there are `a`, `b` and 3 more": enough to see how ids look.
fn some_of(ids: &[&str]) -> String {
    let shown: Vec<String> = ids.iter().take(8).map(|id| format!("`{id}`")).collect();
    let more = ids.len().saturating_sub(shown.len());
    match more {
        0 => format!("there are {}", shown.join(", ")),
        more => format!("there are {} and {more} more", shown.join(", ")),
    }
}

/// The places that the command line names, made absolute.
pub fn places(config: Option<&Path>, root: Option<&Path>, share: Option<&Path>) -> Places {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let root = root.map_or_else(|| PathBuf::from("/"), absolute);
    let default = settings::DEFAULT_CONFIG.trim_start_matches('/');
    Places {
        config: config.map_or_else(|| root.join(default), absolute),
        share: share.map_or_else(|| PathBuf::from(settings::SHARE), absolute),
        root,
    }
}
