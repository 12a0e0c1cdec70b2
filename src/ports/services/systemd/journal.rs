//! What a unit prints: its lines in the journal.

use std::path::Path;
use std::time::Duration;

use super::SystemdServices;
use crate::ports::exec::Command;
use crate::ports::services::name::UnitName;

const JOURNALCTL: &str = "/usr/bin/journalctl";

const LOG_TAIL_LINES: usize = 10;

impl SystemdServices {
    /// The last lines of the unit, newest last.
    pub(super) fn journal_tail(&self, name: &UnitName) -> Vec<String> {
        if !Path::new(JOURNALCTL).exists() {
            return Vec::new();
        }
        let journalctl = |args: &[&str]| {
            let argv = std::iter::once(&JOURNALCTL).chain(args).copied();
            let command = Command::new(argv).timeout(Duration::from_secs(10));
            self.exec.run(command).ok().filter(|done| done.success())
        };
        // The last output of a process may still be on its way into the journal.
        journalctl(&["--sync"]);
        let lines = LOG_TAIL_LINES.to_string();
        let args = [
            "-u",
            name.full(),
            "-n",
            &lines,
            "-o",
            "cat",
            "-q",
            "--no-pager",
        ];
        journalctl(&args)
            .map(|done| done.output.text().lines().map(str::to_owned).collect())
            .unwrap_or_default()
    }
}
