//! Reads a release's log: the output of its commands, stage by stage.

use super::ReleaseRecord;
use super::entry::{ReleaseEntry, StageEntry, StageStatus};
use crate::ports::Host;
use crate::ports::exec::LOG_HEADING;
use crate::printable;
use crate::release::app::spec::ReleaseSpec;
use crate::release::app::stage::Stage;
use crate::resource::Failure;

/// Largest log that is read, in bytes; each command adds up to 16 MiB.
pub(crate) const MAX_LOG: usize = 64 << 20;

/// A release's recorded stages and their output.
#[derive(Debug)]
pub(crate) struct ReleaseHistory {
    pub entry: ReleaseEntry,
    /// The last lines of output of each stage or step, in the order of the entry's stages.
    pub output: Vec<Vec<String>>,
    /// Why the output cannot be shown, if it cannot.
    pub output_error: Option<String>,
    pub log: std::path::PathBuf,
}

/// Reads the history of a release, with the last `lines` lines of output of each of its stages. `None`: the
/// app has no such release.
pub(crate) fn read_history(
    spec: &ReleaseSpec,
    host: &Host,
    name: &str,
    lines: impl Fn(&StageEntry) -> usize,
) -> Result<Option<ReleaseHistory>, Failure> {
    let layout = spec.layout();
    let record = ReleaseRecord::load(host, &layout)?;
    let Some(entry) = record.find(name).cloned() else {
        return Ok(None);
    };
    let path = layout.log(name);
    let (text, silent) = match host.root.read(&path, MAX_LOG) {
        Ok(Some(text)) => (String::from_utf8_lossy(&text).into_owned(), None),
        Ok(None) => (String::new(), None),
        Err(error) => (String::new(), Some(error.to_string())),
    };
    let output = entry.stages.iter().map(|stage_entry| {
        let printed = stage_output(&text, stage_entry);
        let from = printed.len().saturating_sub(lines(stage_entry));
        printed[from..]
            .iter()
            .map(|line| sanitize_line(line))
            .collect()
    });
    Ok(Some(ReleaseHistory {
        output: output.collect(),
        entry,
        output_error: silent,
        log: host.root.machine_path(&path),
    }))
}

/// The line in a release's log that precedes a command's output.
pub(crate) fn heading(stage: Stage, name: &str, rest: &str) -> String {
    format!("{LOG_HEADING}{} {name} == {rest}", stage.as_str())
}

/// The output of a stage or step in its last run. For a failed stage it is that of its last command, which
/// may have been one of its hooks.
fn stage_output<'t>(log: &'t str, stage_entry: &StageEntry) -> Vec<&'t str> {
    let word = stage_entry.stage.as_str();
    let own = |name: &str| heading(stage_entry.stage, name, "");
    let hooks = [
        format!("{LOG_HEADING}{word} before_"),
        format!("{LOG_HEADING}{word} after_"),
    ];
    let mut lines: Vec<&str> = Vec::new();
    let mut of_it = false;
    for line in log.lines() {
        if is_heading(line) {
            of_it = match &stage_entry.step {
                Some(step) => line.starts_with(&own(step)),
                None => {
                    let is_hook = hooks.iter().any(|hook| line.starts_with(hook));
                    line.starts_with(&own(word))
                        || (is_hook && stage_entry.status == StageStatus::Failed)
                }
            };
            if of_it {
                lines.clear();
            }
        } else if of_it {
            lines.push(line);
        }
    }
    lines
}

/// The name of the command in a heading of this stage.
pub(super) fn heading_name(line: &str, stage: Stage) -> Option<&str> {
    let rest = line
        .strip_prefix(LOG_HEADING)?
        .strip_prefix(stage.as_str())?;
    Some(rest.strip_prefix(' ')?.split_once(" == ")?.0)
}

fn is_heading(line: &str) -> bool {
    let rest = line.strip_prefix(LOG_HEADING);
    rest.and_then(|rest| rest.split_once(' '))
        .is_some_and(|(word, rest)| {
            rest.contains(" == ") && Stage::ALL.iter().any(|stage| stage.as_str() == word)
        })
}

/// A line that is safe for a terminal: without colours, overwritten text, and control characters.
pub(in crate::release) fn sanitize_line(line: &str) -> String {
    let line = line.trim_end_matches('\r');
    let line = line.rsplit('\r').next().unwrap_or_default();
    let mut plain = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            if chars.next() == Some('[') {
                let _ = chars.by_ref().find(|c| ('@'..='~').contains(c));
            }
        } else if c == '\t' {
            plain.push_str("  ");
        } else if !c.is_control() {
            plain.push(c);
        }
    }
    printable::line(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
== build gems == 2026-11-21T05:00:00Z bundle install
old
== build before_build 1 == 2026-11-21T05:00:00Z tell
told
== build gems == 2026-11-21T05:01:00Z bundle install
one
== not a heading
two
== build gems and more == 2026-11-21T05:02:00Z make
three
== migrate migrate == 2026-11-21T05:03:00Z rake
four
== migrate after_migrate 1 == 2026-11-21T05:03:00Z tell
five
";

    fn stage_entry(stage: Stage, step: Option<&str>, status: StageStatus) -> StageEntry {
        StageEntry {
            step: step.map(str::to_owned),
            status,
            ..StageEntry::done(stage, jiff::Timestamp::UNIX_EPOCH)
        }
    }

    #[test]
    fn each_step_shows_the_output_of_its_last_run() {
        let of = |stage, step, status| stage_output(LOG, &stage_entry(stage, step, status));
        assert_eq!(
            of(Stage::Build, Some("gems"), StageStatus::Done),
            ["one", "== not a heading", "two"]
        );
        assert_eq!(
            of(Stage::Build, Some("gems and more"), StageStatus::Done),
            ["three"]
        );
        assert_eq!(of(Stage::Build, Some("gem"), StageStatus::Done), [""; 0]);
        assert_eq!(of(Stage::Build, None, StageStatus::Done), [""; 0]);
        assert_eq!(of(Stage::Build, None, StageStatus::Failed), ["told"]);
        assert_eq!(of(Stage::Migrate, None, StageStatus::Done), ["four"]);
        assert_eq!(of(Stage::Migrate, None, StageStatus::Failed), ["five"]);
    }

    #[test]
    fn program_output_contains_no_terminal_control_characters() {
        assert_eq!(sanitize_line("10%\r50%\r\x1b[32mdone\x1b[0m\x07\r"), "done");
        assert_eq!(sanitize_line("a\tb\x1b]0;title"), "a  b0;title");
    }
}
