//! Passes of all hosts of an environment, over ssh.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use serde::Serialize;

use super::CommandError;
use super::fleet::FleetWatch;
use super::manifest::check_names;
use crate::ports::exec::{Command, Exec, ExitReason};
use crate::printable;
use crate::problem::Problem;

/// Hosts that are logged in to at once.
const AT_ONCE: usize = 32;

/// A pass may build a release.
const TIMEOUT: Duration = Duration::from_secs(3600);

/// What a host printed, and how its pass ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct HostPass {
    pub node: String,
    /// The exit code of trueup; 255 or `null` if ssh failed.
    pub exit: Option<i32>,
    /// The last lines.
    pub output: String,
}

/// The live hosts of an environment, or those of them that run `app`.
pub(crate) fn live_nodes(
    watch: &mut FleetWatch<'_>,
    app: Option<&str>,
) -> Result<Vec<String>, CommandError> {
    watch.is_own_environment = false;
    let (view, _) = watch.observe()?;
    let live = view.nodes.iter().filter(|node| !node.gone);
    let live =
        live.filter(|node| app.is_none_or(|app| node.apps.iter().any(|known| known.app == app)));
    let names: Vec<String> = live.map(|node| node.node.clone()).collect();
    if names.is_empty() {
        let environment = &view.environment;
        check_names(watch.store, watch.manifest_key, environment, app)?;
        return Err(CommandError::Usage(
            Problem::new(format!("no live host of {environment} is on record"))
                .hint(format!("`trueup fleet --env {environment}` shows all")),
        ));
    }
    Ok(names)
}

/// Makes a pass on each host, many at once. `env`: what ssh needs of the caller's environment. `on_end` is called as each
/// host ends.
pub(crate) fn converge_over_ssh(
    nodes: Vec<String>,
    env: &BTreeMap<OsString, OsString>,
    on_end: &mut dyn FnMut(HostPass),
) {
    let workers = nodes.len().min(AT_ONCE);
    let queue = Mutex::new(VecDeque::from(nodes));
    let (sender, ended) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (queue, sender) = (&queue, sender.clone());
            scope.spawn(move || {
                let next = || queue.lock().ok()?.pop_front();
                while let Some(node) = next() {
                    if sender.send(converge_host(node, env)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for pass in ended {
            on_end(pass);
        }
    });
}

fn converge_host(node: String, env: &BTreeMap<OsString, OsString>) -> HostPass {
    /// Lines of each host that are shown.
    const LINES: usize = 40;
    // A name of a record begins with a letter or a digit, so it is no option.
    let argv = [
        "ssh",
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectTimeout=15",
        "--",
        &node,
    ];
    let remote = ["sudo", "-n", "trueup", "converge"];
    let mut command = Command::new(argv.into_iter().chain(remote)).timeout(TIMEOUT);
    command.env.clone_from(env);
    match Exec.run(command) {
        Ok(done) => HostPass {
            exit: match done.exit_reason {
                ExitReason::Exited(code) => Some(code),
                _ => None,
            },
            output: printable::text(&done.output.tail(LINES)).into_owned(),
            node,
        },
        Err(error) => HostPass {
            exit: None,
            output: error.to_string(),
            node,
        },
    }
}
