//! Reports as text: colour at a terminal, plain text in a pipe, the same words in both.

use anstyle::{AnsiColor, Style};
use similar::TextDiff;

use super::{Report, ResourceStatus};
use crate::owed::Obligation;
use crate::ports::secrets::PLACEHOLDER;
use crate::resource::{Change, Duty, FieldValue, Verb};

/// Colours, or none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Paint {
    pub colour: bool,
}

impl Paint {
    fn style(self, style: Style, text: &str) -> String {
        if self.colour {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.style(AnsiColor::Green.on_default(), text)
    }

    pub(crate) fn changed(self, text: &str) -> String {
        self.style(AnsiColor::Yellow.on_default(), text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.style(AnsiColor::Red.on_default().bold(), text)
    }

    pub(crate) fn faint(self, text: &str) -> String {
        self.style(Style::new().dimmed(), text)
    }

    pub(crate) fn strong(self, text: &str) -> String {
        self.style(Style::new().bold(), text)
    }
}

/// A change in one line: `update file:/etc/motd (content, mode 0644 -> 0600)`.
pub(crate) fn change_line(paint: Paint, id: &str, change: &Change) -> String {
    let word = match change.verb {
        Verb::Create => paint.good("create"),
        Verb::Remove => paint.bad("remove"),
        Verb::Build => paint.changed("build ahead"),
        verb => paint.changed(&verb.to_string()),
    };
    let fields: Vec<String> = change
        .fields
        .iter()
        .map(|field| match (&field.from, &field.to) {
            (FieldValue::Absent, FieldValue::Value(to)) => {
                format!("{} {}", field.field, short_sha(to))
            }
            (FieldValue::Value(from), FieldValue::Value(to)) => {
                format!("{} {} -> {}", field.field, short_sha(from), short_sha(to))
            }
            (FieldValue::Value(from), FieldValue::Absent) => {
                format!("{} {}", field.field, short_sha(from))
            }
            (_, FieldValue::Unknown(until)) => format!("{} unknown until {until}", field.field),
            (_, FieldValue::Text(_)) | (FieldValue::Text(_), _) => field.field.to_string(),
            (_, FieldValue::Secret) | (FieldValue::Secret, _) => {
                format!("{} {PLACEHOLDER}", field.field)
            }
            _ => field.field.to_string(),
        })
        .collect();
    if fields.is_empty() {
        format!("{word} {id}")
    } else {
        format!(
            "{word} {id} {}",
            paint.faint(&format!("({})", fields.join(", ")))
        )
    }
}

/// A withheld change; the reason is on a line of its own.
pub(crate) fn waiting_lines(paint: Paint, id: &str, change: &Change, why: &str) -> String {
    let mut change = change.clone();
    change
        .fields
        .retain(|field| !matches!(&field.to, FieldValue::Value(to) if to == why));
    let line = change_line(paint, id, &change);
    format!("{line}\n  {}: {why}", paint.changed("waiting"))
}

/// Shortens a sha; returns any other value unchanged.
fn short_sha(value: &str) -> &str {
    let sha = value.len() == 40 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    if sha { &value[..7] } else { value }
}

/// The texts of a change as indented unified diffs.
pub(crate) fn diff_lines(paint: Paint, id: &str, change: &Change) -> Vec<String> {
    let mut lines = Vec::new();
    for field in &change.fields {
        let (from, to) = match (&field.from, &field.to) {
            (FieldValue::Text(from), FieldValue::Text(to)) => (from.as_str(), to.as_str()),
            (_, FieldValue::Text(to)) => ("", to.as_str()),
            (FieldValue::Text(from), FieldValue::Absent) => (from.as_str(), ""),
            _ => continue,
        };
        let before = if matches!(field.from, FieldValue::Text(_)) {
            "on the host"
        } else {
            "nothing"
        };
        let names = (
            &*format!("{id} ({before})"),
            &*format!("{id} (as described)"),
        );
        let diff = unified_diff(paint, (names.0, from), (names.1, to));
        lines.extend(diff.into_iter().map(|line| format!("    {line}")));
    }
    lines
}

/// The difference of two texts with their names, as `diff -u` prints it.
pub(crate) fn unified_diff(
    paint: Paint,
    (from_name, from): (&str, &str),
    (to_name, to): (&str, &str),
) -> Vec<String> {
    let diff = TextDiff::from_lines(from, to);
    let text = diff
        .unified_diff()
        .context_radius(3)
        .header(from_name, to_name)
        .to_string();
    let painted = |line: &str| match line.as_bytes().first() {
        Some(b'+') => paint.good(line),
        Some(b'-') => paint.bad(line),
        Some(b'@') => paint.faint(line),
        _ => line.to_owned(),
    };
    text.lines().map(painted).collect()
}

/// A restart, reload or run with its cause.
pub(crate) fn obligation_line(
    paint: Paint,
    id: &str,
    obligation: &Obligation,
    done: bool,
) -> String {
    let word = match (obligation.duty, done) {
        (Duty::Restart, true) => "restarted",
        (Duty::Reload, true) => "reloaded",
        (Duty::Run, true) => "ran",
        (Duty::Restart, false) => "restart",
        (Duty::Reload, false) => "reload",
        (Duty::Run, false) => "run",
    };
    let cause = format!("(because of {})", obligation.causes.join(", "));
    format!("{} {id} {}", paint.changed(word), paint.faint(&cause))
}

/// What a running service took over instead of a reload: `updated service:haproxy at runtime: +shop/web4`.
pub(crate) fn runtime_update_line(
    paint: Paint,
    id: &str,
    obligation: &Obligation,
    done: &str,
) -> String {
    let (word, cause) = (paint.changed("updated"), obligation.causes.join(", "));
    let cause = paint.faint(&format!("(because of {cause})"));
    format!("{word} {id} at runtime: {done} {cause}")
}

/// The closing line of a pass or plan.
pub(crate) fn summary_line(paint: Paint, report: &Report) -> String {
    use crate::exit::Exit;
    let counts = &report.counts;
    let planned = report.resources.iter().any(|row| {
        matches!(
            row.status,
            ResourceStatus::Pending | ResourceStatus::Unknown
        )
    }) || report.outcome == Exit::Pending;
    let mut parts = vec![match counts.changed {
        changed if planned => format!("{changed} to change"),
        1 => "1 change".into(),
        changed => format!("{changed} changes"),
    }];
    let mut add = |number: usize, word: &str| {
        if number > 0 {
            parts.push(format!("{number} {word}"));
        }
    };
    add(counts.restarted, "restarted");
    add(counts.reloaded, "reloaded");
    add(counts.updated_at_runtime, "updated at runtime");
    add(counts.failed, "failed");
    add(counts.rolled_back, "rolled back");
    add(counts.skipped, "skipped");
    add(counts.waiting, "waiting");
    add(counts.owed, "owed");
    add(counts.not_inspected, "not inspected");
    parts.push(format!("{} right", counts.right));
    let word = report.outcome.word();
    let word = match report.outcome {
        Exit::Converged => paint.good(word),
        Exit::Pending | Exit::Stale | Exit::Waiting => paint.changed(word),
        _ => paint.bad(word),
    };
    format!(
        "{word}: {} {}",
        parts.join(", "),
        paint.faint(&format!("({} ms)", report.took_ms))
    )
}
