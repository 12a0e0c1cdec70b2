//! Commits and migrations in text.

use crate::operate::commits::{ChangeStatus, CommitRange, Direction};
use crate::report::Paint;

/// Migrations that are listed.
const MAX_MIGRATIONS: usize = 10;

/// What lies between two commits, a line each.
pub(super) fn range_lines(paint: Paint, range: &CommitRange) -> Vec<String> {
    let mut lines = Vec::new();
    let added = range.added.unwrap_or_default();
    let removed = range.removed.unwrap_or_default();
    match range.direction {
        Direction::Same => return lines,
        Direction::Forward => lines.push(count(added)),
        Direction::Backward => {
            lines.push(paint.changed(&format!("goes back: takes {} away", count(removed))))
        }
        Direction::Diverged => lines.push(paint.changed(&format!(
            "the histories differ: adds {}, takes {} away",
            count(added),
            count(removed)
        ))),
        Direction::Unknown => {
            let why = range.why_unknown.as_deref().unwrap_or("unknown");
            lines.push(paint.faint(&format!("commits between: {why}")));
        }
    }
    for commit in &range.commits {
        let author = paint.faint(&format!("({})", commit.author));
        let short = paint.changed(commit.sha.short());
        lines.push(format!("  {short} {} {author}", commit.subject));
    }
    let all = match range.direction {
        Direction::Backward => removed,
        _ => added,
    };
    let more = all.saturating_sub(range.commits.len() as u64);
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    if range.migration_count > 0 {
        let word = match range.migration_count {
            1 => "1 migration differs:".to_owned(),
            count => format!("{count} migrations differ:"),
        };
        lines.push(paint.changed(&word));
        for file in range.migrations.iter().take(MAX_MIGRATIONS) {
            let how = match file.change {
                ChangeStatus::New => "new",
                ChangeStatus::Gone => "gone",
                ChangeStatus::Changed => "changed",
            };
            lines.push(format!("  {how} {}", file.path));
        }
        let more = range.migration_count.saturating_sub(MAX_MIGRATIONS);
        if more > 0 {
            lines.push(format!("  and {more} more"));
        }
    } else if range.direction != Direction::Unknown {
        lines.push(paint.faint("no migration differs"));
    }
    lines
}

fn count(commits: u64) -> String {
    match commits {
        1 => "1 commit".to_owned(),
        count => format!("{count} commits"),
    }
}
