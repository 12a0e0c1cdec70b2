//! `trueup fleet`: the state of each app on each node.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::Output;
use super::format::format_age;
use super::target::{StoreArgs, StoreTarget};
use crate::desired::{Manifest, Sha};
use crate::exit::Exit;
use crate::fleet::{
    self, AppView, FleetView, NodeView, RecordCache, ServingState, Snapshot, fleet_view,
};
use crate::operate::CommandError;
use crate::pass::{PassError, Paths};
use crate::ports::backoff;
use crate::ports::store::{self, Etag, GetOutcome, Store};
use crate::problem::Problem;
use crate::report::Paint;
use crate::settings::is_name;

#[derive(Debug, Args)]
#[command(
    after_help = "The exit code is that of the worst node: 0 all as wanted, 2 in progress, 3 held or waiting, 4 rolled back or \
                  quarantined, 5 a node is gone or a record cannot be read, 1 or 78 a pass failed, or `--env` or `--app` \
                  matches nothing. Use `--forget` for a node whose machine is gone for good. A live node returns with its next \
                  heartbeat and is missing from all peer lists until then: forgetting it needs `--yes`."
)]
pub struct FleetArgs {
    /// Which environment [default: the settings' own]
    #[arg(long, value_name = "ENV")]
    pub env: Option<String>,
    /// Only this app
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
    /// Repeat every so many seconds, until interrupted
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "5", value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub watch: Option<u16>,
    /// Remove the record of this node from the store instead
    #[arg(long, value_name = "NODE", conflicts_with_all = ["watch", "app"])]
    pub forget: Option<String>,
    /// Forget the node even if it sent a heartbeat recently
    #[arg(long, requires = "forget")]
    pub yes: bool,
    #[command(flatten)]
    pub at: StoreArgs,
}

/// The document of `fleet --output`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    store: &'a str,
    /// The store's time.
    now: Timestamp,
    #[serde(flatten)]
    view: &'a FleetView,
}

pub(super) fn run(args: &FleetArgs, paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    let target = StoreTarget::resolve(&args.at, paths, "fleet")?;
    let environment = args.env.clone().or(target.environment.clone());
    let environment = environment.filter(|name| is_name(name)).ok_or_else(|| {
        let problem = Problem::new("no environment given: expected `--env ENV`");
        CommandError::Usage(problem.hint("as in `trueup fleet --env production`"))
    })?;
    let store = store::open(&target.store).map_err(PassError::Store)?;
    if let Some(node) = &args.forget {
        let forget = Forget {
            store: store.as_ref(),
            environment: &environment,
            node,
            heartbeat: target.fleet.heartbeat(),
            yes: args.yes,
        };
        return forget.run(output);
    }
    let mut watch = Watch {
        store: store.as_ref(),
        environment: &environment,
        target: &target,
        app: args.app.as_deref(),
        environment_given: args.env.is_some(),
        cache: RecordCache::empty(store.address(), &environment),
        manifest: None,
    };
    let Some(seconds) = args.watch else {
        let (view, now) = watch.observe()?;
        print_view(&view, now, store.address(), output);
        return Ok(view.outcome);
    };
    loop {
        match watch.observe() {
            Ok((view, now)) => {
                output.clear_screen();
                print_view(&view, now, store.address(), output);
            }
            // Keep watching: an operator wants to see the store come back.
            Err(error) => output.print_error(&format!("trueup: {error}")),
        }
        backoff::sleep(Duration::from_secs(seconds.into()));
    }
}

/// Reads the fleet repeatedly, fetching only changed records.
struct Watch<'a> {
    store: &'a dyn Store,
    environment: &'a str,
    target: &'a StoreTarget,
    app: Option<&'a str>,
    /// An option names the environment; otherwise the settings do.
    environment_given: bool,
    cache: RecordCache,
    manifest: Option<(Etag, Result<Manifest, String>)>,
}

impl Watch<'_> {
    fn observe(&mut self) -> Result<(FleetView, Timestamp), PassError> {
        let gone_after = self.target.fleet.gone_after();
        let mut look: Snapshot =
            fleet::take_snapshot(self.store, self.environment, gone_after, &mut self.cache)?;
        let now = look.now;
        let manifest = match self.read_manifest()? {
            Ok(manifest) => Some(manifest),
            Err(why) => {
                let line = format!("{why}; showing the wanted shas that the nodes last reported");
                look.problems.push(line);
                None
            }
        };
        let mut view = fleet_view(self.environment, look, manifest.as_ref(), gone_after);
        let reported = !view.nodes.is_empty();
        let mut apps: Vec<String> = view
            .nodes
            .iter()
            .flat_map(|node| node.apps.iter().map(|app| app.app.clone()))
            .collect();
        apps.sort();
        apps.dedup();
        if let Some(app) = self.app {
            view.retain_app(app);
        }
        let environment = self.environment;
        match self.app {
            _ if !reported && (self.environment_given || self.app.is_some()) => {
                let known = manifest.iter().flat_map(|known| known.environments.keys());
                let known = join_names(known.map(String::as_str));
                view.add_not_found(format!(
                    "no node of `{environment}` has reported; the manifest names {known}"
                ));
            }
            Some(app) if view.nodes.is_empty() => view.add_not_found(format!(
                "no node of {environment} runs `{app}`; what they run: {}",
                join_names(apps.iter().map(String::as_str))
            )),
            _ => {}
        }
        Ok((view, now))
    }

    fn read_manifest(&mut self) -> Result<Result<Manifest, String>, PassError> {
        let key = &self.target.manifest;
        let known = self.manifest.as_ref().map(|(etag, _)| etag);
        match self.store.get(key, known)? {
            GetOutcome::Unchanged => {}
            GetOutcome::Missing => return Ok(Err(format!("there is no manifest `{key}`"))),
            GetOutcome::Object(object) => {
                let read = Manifest::parse(key, &object.body);
                let read = read.map_err(|problem| problem.to_string());
                self.manifest = Some((object.etag, read));
            }
        }
        let known = self.manifest.as_ref().map(|(_, read)| read.clone());
        Ok(known.unwrap_or_else(|| Err(format!("there is no manifest `{key}`"))))
    }
}

/// Removes the record of a node from the store.
struct Forget<'a> {
    store: &'a dyn Store,
    environment: &'a str,
    node: &'a str,
    /// Interval at which a live node publishes its record.
    heartbeat: Duration,
    /// Remove even a node that still publishes.
    yes: bool,
}

impl Forget<'_> {
    fn run(&self, output: &Output) -> Result<Exit, CommandError> {
        let Forget {
            store,
            environment,
            node,
            ..
        } = *self;
        let silence = fleet::node_silence(store, environment, node).map_err(PassError::Store)?;
        let lives = silence.filter(|silence| *silence < 2 * self.heartbeat);
        let back = "if it is alive, it returns with its next heartbeat and is missing from all peer lists until then";
        if let (Some(silence), false) = (lives, self.yes) {
            let seconds = silence.as_secs();
            let problem = Problem::new(format!("{node} sent a heartbeat {seconds} s ago: {back}"));
            return Err(CommandError::Usage(problem.hint(format!(
                "if its machine is gone or was replaced: `trueup fleet --forget {node} --yes`"
            ))));
        }
        let forgotten = fleet::forget_node(store, environment, node).map_err(PassError::Store)?;
        if forgotten == 0 {
            let problem = Problem::new(format!("{environment} has no node `{node}`"));
            return Err(CommandError::Usage(
                problem.hint("`trueup fleet` lists the nodes"),
            ));
        }
        output.print_text(format!("removed the record of {node} in {environment}"));
        if lives.is_some() {
            output.print_text(format!("{}: {back}", output.paint.changed("warning")));
        }
        if output.is_document() {
            output.print_document(&serde_json::json!({
                "version": crate::report::VERSION, "outcome": Exit::Converged, "forgotten": node,
            }));
        }
        Ok(Exit::Converged)
    }
}

/// `a, b`, or a note that there are none.
fn join_names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.take(20).collect();
    match names.as_slice() {
        [] => "nothing".into(),
        names => names.join(", "),
    }
}

fn print_view(view: &FleetView, now: Timestamp, store: &str, output: &Output) {
    if output.is_document() {
        return output.print_document(&Document {
            version: crate::report::VERSION,
            store,
            now,
            view,
        });
    }
    let paint = output.paint;
    if view.nodes.is_empty() && view.outcome == Exit::Converged {
        output.print_line(format!(
            "no node of {} has reported to {store}",
            view.environment
        ));
    } else if !view.nodes.is_empty() {
        let heads = ["node", "app", "wanted", "actual", "since", "seen", "state"];
        let mut rows = vec![heads.map(|head| paint.faint(head)).to_vec()];
        rows.extend(
            view.nodes
                .iter()
                .flat_map(|node| node_rows(node, now, paint)),
        );
        output.print_table(&rows);
    }
    for problem in &view.problems {
        output.print_line(format!("{}: {problem}", paint.changed("warning")));
    }
}

/// A row for each app of a node, or one for a node without apps.
fn node_rows(node: &NodeView, now: Timestamp, paint: Paint) -> Vec<Vec<String>> {
    let last_seen = || match node.gone {
        true => paint.bad(&format_age(node.last_seen, now)),
        false => format_age(node.last_seen, now),
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for app in &node.apps {
        rows.push(vec![
            paint.strong(&node.node),
            app.app.clone(),
            short_sha(app.wanted.as_ref()),
            short_sha(app.actual.as_ref()),
            app.since.map_or("-".into(), |since| format_age(since, now)),
            last_seen(),
            state_text(app, paint),
        ]);
    }
    if node.apps.is_empty() || node.why.is_some() {
        let state = match (&node.why, node.outcome) {
            (None, outcome) => paint_outcome(outcome, outcome.word(), paint),
            (Some(why), outcome) => {
                format!("{}: {why}", paint_outcome(outcome, outcome.word(), paint))
            }
        };
        let none = || "-".to_owned();
        let name = paint.strong(&node.node);
        rows.push(vec![
            name,
            none(),
            none(),
            none(),
            none(),
            last_seen(),
            state,
        ]);
    }
    rows
}

fn short_sha(sha: Option<&Sha>) -> String {
    sha.map_or("-".into(), |sha| sha.short().to_owned())
}

fn state_text(app: &AppView, paint: Paint) -> String {
    let plain = match (app.outcome, app.state) {
        (Exit::Converged, ServingState::Absent) => "absent",
        (Exit::Converged, _) => "serving",
        (Exit::Stale, _) => "gone",
        (outcome, _) => outcome.word(),
    };
    let state = paint_outcome(app.outcome, plain, paint);
    match &app.why {
        Some(why) => format!("{state}: {why}"),
        None => state,
    }
}

fn paint_outcome(outcome: Exit, word: &str, paint: Paint) -> String {
    match outcome {
        Exit::Converged => paint.good(word),
        Exit::Failed | Exit::BadInput | Exit::RolledBack | Exit::Stale => paint.bad(word),
        _ => paint.changed(word),
    }
}
