//! Login message for a host that is not converged: one line, or nothing when all is well.
//!
//! It lives in `/run/motd.d`, which pam_motd shows on Debian and its derivatives, and which a reboot clears,
//! because the reported state may not survive one either. trueup rewrites it only when the text changes.

use std::path::{Path, PathBuf};

use super::Report;
use crate::exit::Exit;
use crate::ports::root::{Attrs, Root, RootError};
use crate::printable;

/// Maximum length of the reason, in characters: a few lines at a terminal.
const MAX_REASON_CHARS: usize = 300;

/// Maximum size of trueup's motd file, in bytes.
const MAX_FILE_BYTES: usize = 8192;

fn path() -> PathBuf {
    PathBuf::from("/run/motd.d/trueup")
}

/// Shows how a pass ended, or clears the message if it converged.
pub(crate) fn write(root: &Root, report: &Report) -> Result<(), RootError> {
    write_state(root, report.outcome, report.why().as_deref())
}

/// Shows the state of the host, or clears the message if it is converged.
pub(crate) fn write_state(root: &Root, outcome: Exit, why: Option<&str>) -> Result<(), RootError> {
    update(root, render(outcome, why).as_deref())
}

/// Shows that no pass can run.
pub(crate) fn write_failure(root: &Root, outcome: Exit, why: &str) -> Result<(), RootError> {
    update(root, render(outcome, Some(why)).as_deref())
}

fn render(outcome: Exit, why: Option<&str>) -> Option<String> {
    if outcome == Exit::Converged {
        return None;
    }
    let why = printable::line(why.unwrap_or_default());
    let mut short: String = why.chars().take(MAX_REASON_CHARS).collect();
    if short.len() < why.len() {
        short.push('…');
    }
    let colon = if short.is_empty() { "" } else { ": " };
    Some(format!(
        "trueup: {}{colon}{short}\n        see `trueup status`\n",
        outcome.word()
    ))
}

fn update(root: &Root, text: Option<&str>) -> Result<(), RootError> {
    let path = path();
    let Some(text) = text else {
        return root.remove_file(&path);
    };
    if root.read(&path, MAX_FILE_BYTES)?.as_deref() == Some(text.as_bytes()) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    root.create_dir_all(folder, &Attrs::mode(0o755))?;
    root.write_atomic(&path, text.as_bytes(), &Attrs::mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{report, row};
    use super::super::{ResourceReport, ResourceStatus};
    use super::*;

    #[test]
    fn motd_shows_a_problem_once_and_clears_when_converged() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path()).unwrap();
        let motd = || root.read_with_meta(&path(), MAX_FILE_BYTES).unwrap();
        write(&root, &report(vec![row(ResourceStatus::Changed)])).unwrap();
        assert!(motd().is_none());
        let failed = report(vec![ResourceReport {
            why: Some("\x1b[31mno\u{7} room".into()),
            ..row(ResourceStatus::Failed)
        }]);
        write(&root, &failed).unwrap();
        let (first, text) = motd().unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "trueup: failed: file:/a: \\x1b[31mno\\x07 room\n        see `trueup status`\n"
        );
        write(&root, &failed).unwrap();
        assert_eq!(motd().unwrap().0.inode, first.inode, "it was written again");
        write_failure(&root, Exit::BadInput, &"x".repeat(1000)).unwrap();
        let (_, text) = motd().unwrap();
        assert!(
            String::from_utf8(text)
                .unwrap()
                .starts_with("trueup: bad input: xxx")
        );
        write(&root, &report(vec![])).unwrap();
        assert!(motd().is_none());
    }
}
