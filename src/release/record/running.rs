//! What a running pass is at in a release: derived from the record and the release's log, so that a pass writes nothing
//! more for it.

use jiff::Timestamp;
use serde::Serialize;

use super::ReleaseRecord;
use super::entry::{ReleaseEntry, StageEntry, StageStatus};
use super::log::{heading_name, sanitize_line};
use crate::ports::Host;
use crate::ports::secrets::redact;
use crate::release::app::layout::Layout;
use crate::release::app::stage::Stage;

/// How much of the end of a log is read, in bytes.
const MAX_TAIL: u32 = 64 << 10;

/// Longest line of output, in characters.
const MAX_OUTPUT_CHARS: usize = 200;

/// A stage, or a command of it, that is running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RunningStep {
    pub release: String,
    pub stage: Stage,
    /// The step of the stage, or, if the log is readable, its hook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    pub since: Timestamp,
    /// The last line that it printed. `null`: none yet, or this user may not read the log, as only root may.
    pub last_output: Option<String>,
}

/// The step that the pass which began at `pass_began` is running for an app. The caller knows that this pass runs:
/// the record of a killed one looks the same.
pub(crate) fn running_step(
    host: &Host,
    layout: &Layout,
    pass_began: Timestamp,
) -> Option<RunningStep> {
    let record = ReleaseRecord::load(host, layout).ok()?;
    let (release, entry) = innermost(record.entries(), pass_began)?;
    let log = host.root.read_tail(&layout.log(&release.name), MAX_TAIL);
    let log = log.ok().flatten().unwrap_or_default();
    let output = last_command(&String::from_utf8_lossy(&log), entry);
    let (command, last_output) = output.unzip();
    Some(RunningStep {
        release: release.name.clone(),
        stage: entry.stage,
        step: entry.step.clone().or(command.flatten()),
        since: entry.began,
        last_output: last_output.flatten(),
    })
}

/// The running stage that began last. A step begins after its stage.
fn innermost(
    releases: &[ReleaseEntry],
    pass_began: Timestamp,
) -> Option<(&ReleaseEntry, &StageEntry)> {
    let stages = releases
        .iter()
        .flat_map(|release| release.stages.iter().map(move |entry| (release, entry)));
    let running = stages
        .filter(|(_, entry)| entry.status == StageStatus::Running && entry.began >= pass_began);
    running.max_by_key(|(_, entry)| entry.began)
}

/// The name of the last command in a log, if it is not that of its stage, and the last line that it printed. `None`: the
/// last command is not one of this stage or step.
fn last_command(log: &str, entry: &StageEntry) -> Option<(Option<String>, Option<String>)> {
    let mut output = None;
    for line in log.lines().rev() {
        if let Some(name) = heading_name(line, entry.stage) {
            let stage = entry.stage.as_str();
            // Only the stage `build` has steps that are commands of their own.
            let step = entry
                .step
                .as_deref()
                .filter(|_| entry.stage == Stage::Build);
            let is_own = step.is_none_or(|step| step == name);
            let name = (name != stage).then(|| name.to_owned());
            return is_own.then_some((name, output));
        }
        let line = sanitize_line(line);
        if output.is_none() && !line.trim().is_empty() {
            output = Some(redact(
                line.chars().take(MAX_OUTPUT_CHARS).collect::<String>(),
            ));
        }
    }
    // The command printed more than what was read.
    output.map(|line| (None, Some(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(stage: Stage, step: Option<&str>, began: &str, status: StageStatus) -> StageEntry {
        StageEntry {
            step: step.map(str::to_owned),
            status,
            ..StageEntry::done(stage, began.parse().unwrap())
        }
    }

    const LOG: &str = "\
== build gems == 2026-11-21T05:00:00Z bundle install
old
== build before_build ruby == 2026-11-21T05:00:01Z rbenv
one

\x1b[32mtwo\x1b[0m\x1b]52;c;aGk=\x07
\x20
";

    #[test]
    fn last_output_is_that_of_the_running_command() {
        let at = "2026-11-21T05:00:00Z";
        let of = |log, step| {
            let entry = entry(Stage::Build, step, at, StageStatus::Running);
            last_command(log, &entry)
        };
        let hook = (
            Some("before_build ruby".into()),
            Some("two52;c;aGk=".into()),
        );
        assert_eq!(of(LOG, None), Some(hook));
        assert_eq!(of(LOG, Some("gems")), None, "it has not begun");
        assert_eq!(
            of("10%\r20%", Some("gems")),
            Some((None, Some("20%".into())))
        );
        assert_eq!(of("", Some("gems")), None);
        let migrate = entry(Stage::Migrate, None, at, StageStatus::Running);
        assert_eq!(
            last_command("== migrate migrate == 2026 rake\n", &migrate),
            Some((None, None))
        );
        let long = "x".repeat(1 << 20);
        let (_, line) = of(&long, None).unwrap();
        assert_eq!(line.unwrap().len(), MAX_OUTPUT_CHARS);
    }

    #[test]
    fn step_of_an_earlier_killed_pass_is_not_running() {
        let sha = crate::desired::Sha::parse(&"4f2c9d0e".repeat(5)).unwrap();
        let began: Timestamp = "2026-11-21T05:00:00Z".parse().unwrap();
        let mut release = ReleaseEntry::new("r", &sha, began);
        release.stages = vec![
            entry(Stage::Link, None, "2026-11-21T05:00:01Z", StageStatus::Done),
            entry(
                Stage::Build,
                None,
                "2026-11-21T05:00:02Z",
                StageStatus::Running,
            ),
            entry(
                Stage::Build,
                Some("gems"),
                "2026-11-21T05:00:02Z",
                StageStatus::Running,
            ),
        ];
        let releases = [release];
        let running = |at: &str| {
            let found = innermost(&releases, at.parse().unwrap());
            found.and_then(|(_, entry)| entry.step.as_deref())
        };
        assert_eq!(running("2026-11-21T05:00:00Z"), Some("gems"));
        assert_eq!(running("2026-11-21T05:00:03Z"), None);
    }
}
