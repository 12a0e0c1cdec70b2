//! What the services of an app print, line by line: the last lines, and on as they come.

use serde::Serialize;

use crate::operate::CommandError;
use crate::pass::Session;
use crate::ports::line_splitter::LineSplitter;
use crate::ports::secrets::Redactor;
use crate::ports::services::{LogRange, LogRead, LogReader, ServiceLog};
use crate::resource::{Failure, FailureKind};

/// A line of a log. Text of others.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LogLine {
    pub service: String,
    pub line: String,
}

/// The open logs of an app.
pub(crate) struct AppLogs {
    logs: Vec<OpenLog>,
    /// Whether lines of several services or processes come out of it.
    pub has_several: bool,
    follow: bool,
    /// Why logs cannot be read, or not any further, since [`AppLogs::take_failures`].
    failures: Vec<Failure>,
}

struct OpenLog {
    name: String,
    /// `None` at its end.
    reader: Option<Box<dyn LogReader>>,
    lines: RedactedLines,
}

impl AppLogs {
    /// Opens the logs of a `process` or cron job of an app, or those of all.
    pub(crate) fn open(
        session: &Session,
        app: &str,
        process: Option<&str>,
        range: LogRange,
    ) -> Result<AppLogs, CommandError> {
        let apps = session.apps()?;
        let app = apps.find(app)?;
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for resource in apps.select_logged(app, process)? {
            if let Some(service) = resource.body.service() {
                match service.open_logs(&session.host, range) {
                    Ok(logs) => found.extend(logs),
                    Err(failure) => failures.push(explain(failure)),
                }
            }
        }
        if let (true, Some(first)) = (found.is_empty(), failures.first()) {
            return Err(first.clone().into());
        }
        Ok(AppLogs {
            failures,
            ..AppLogs::new(found, range.follow)
        })
    }

    fn new(logs: Vec<ServiceLog>, follow: bool) -> AppLogs {
        let first = logs.first().map(|log| log.name.clone());
        let has_several = logs.iter().any(|log| Some(&log.name) != first.as_ref());
        let open = |log: ServiceLog| OpenLog {
            name: log.name,
            reader: Some(log.reader),
            lines: RedactedLines::new(),
        };
        AppLogs {
            logs: logs.into_iter().map(open).collect(),
            has_several,
            follow,
            failures: Vec::new(),
        }
    }

    pub(crate) fn take_failures(&mut self) -> Vec<Failure> {
        std::mem::take(&mut self.failures)
    }

    /// The next lines, without waiting for more; `None` once all logs have ended. Reads one log after the other to its
    /// end, or, to follow them, a piece of each.
    pub(crate) fn read(&mut self) -> Option<Vec<LogLine>> {
        let mut lines = Vec::new();
        for log in &mut self.logs {
            let Some(reader) = &mut log.reader else {
                continue;
            };
            let read = reader.read().unwrap_or_else(|error| {
                self.failures.push(explain(error.into()));
                LogRead::End
            });
            let texts = match read {
                LogRead::Bytes(bytes) => log.lines.push(&bytes),
                LogRead::Pending if self.follow => continue,
                LogRead::Pending => return Some(lines),
                LogRead::End => {
                    log.reader = None;
                    log.lines.finish()
                }
            };
            lines.extend(texts.into_iter().map(|line| LogLine {
                service: log.name.clone(),
                line,
            }));
            // The next log begins when this one has ended.
            if !self.follow && log.reader.is_some() {
                return Some(lines);
            }
        }
        let is_open = self.logs.iter().any(|log| log.reader.is_some());
        (is_open || !lines.is_empty()).then_some(lines)
    }
}

/// An error with what to do about it.
fn explain(failure: Failure) -> Failure {
    // As the kernel and as journalctl say it.
    let denials = ["Permission denied", "insufficient permissions"];
    let is_denied = denials.iter().any(|word| failure.message.contains(word));
    match is_denied || failure.is(FailureKind::PermissionDenied) {
        true => failure.hint("only root can read it: use `sudo`"),
        false => failure,
    }
}

/// Cuts a stream into lines, without secrets.
struct RedactedLines {
    redactor: Redactor,
    lines: LineSplitter,
}

impl RedactedLines {
    /// Covers the secrets that are registered by now.
    fn new() -> RedactedLines {
        RedactedLines {
            redactor: Redactor::new(),
            lines: LineSplitter::default(),
        }
    }

    /// Takes the next piece, and returns the lines that end in it.
    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let shown = self.redactor.push(bytes);
        self.lines.push(&shown)
    }

    /// Ends the stream, and returns the rest.
    fn finish(&mut self) -> Vec<String> {
        let rest = self.redactor.finish();
        let mut lines = self.lines.push(&rest);
        lines.extend(self.lines.finish());
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::line_splitter::MAX_LINE_BYTES;
    use crate::ports::secrets;

    #[test]
    fn stream_is_cut_into_bounded_lines_without_secrets() {
        secrets::add_secret("canary-of-a-log");
        let mut splitter = RedactedLines::new();
        let long = "x".repeat(MAX_LINE_BYTES + 1);
        let text = format!("one\r\n\nkey canary-of-a-log.\n{long}\nü\u{fffd}");
        let expected = ["one", "", "key (secret).", &long[1..], "x", "ü\u{fffd}"];
        for size in [1, 7, 1 << 20] {
            let pieces = text.as_bytes().chunks(size);
            let mut lines: Vec<String> = pieces.flat_map(|piece| splitter.push(piece)).collect();
            lines.extend(splitter.finish());
            assert_eq!(lines, expected, "by {size}");
        }
        assert_eq!(splitter.push(b"\xff\n"), ["\u{fffd}"]);
    }

    /// A log that has these pieces, one for each read.
    struct Pieces(Vec<LogRead>);

    impl LogReader for Pieces {
        fn read(&mut self) -> Result<LogRead, crate::ports::services::ServiceError> {
            Ok(match self.0.is_empty() {
                true => LogRead::End,
                false => self.0.remove(0),
            })
        }
    }

    fn logs(follow: bool, all: Vec<(&str, Vec<LogRead>)>) -> AppLogs {
        let log = |(name, pieces): (&str, Vec<LogRead>)| ServiceLog {
            name: name.to_owned(),
            reader: Box::new(Pieces(pieces)),
        };
        AppLogs::new(all.into_iter().map(log).collect(), follow)
    }

    fn read_all(logs: &mut AppLogs) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(more) = logs.read() {
            let text = |line: LogLine| format!("{} {}", line.service, line.line);
            lines.extend(more.into_iter().map(text));
        }
        lines
    }

    #[test]
    fn logs_that_end_are_shown_one_after_the_other() {
        let bytes = |text: &str| LogRead::Bytes(text.as_bytes().to_vec());
        let web = vec![
            LogRead::Pending,
            bytes("a\nb"),
            LogRead::Pending,
            bytes("c"),
            bytes("\n"),
        ];
        let all = vec![("web", web), ("worker", vec![bytes("d\n"), bytes("e")])];
        let mut logs = logs(false, all);
        assert!(logs.has_several);
        let expected = ["web a", "web bc", "worker d", "worker e"];
        assert_eq!(read_all(&mut logs), expected);
    }

    #[test]
    fn followed_log_that_never_pauses_does_not_starve_another() {
        let bytes = |text: &str| LogRead::Bytes(text.as_bytes().to_vec());
        let web = vec![bytes("a\n"), bytes("b\n"), bytes("c\n")];
        let worker = vec![LogRead::Pending, bytes("d\n"), bytes("e")];
        let mut logs = logs(true, vec![("web", web), ("worker", worker)]);
        let expected = ["web a", "web b", "worker d", "web c", "worker e"];
        assert_eq!(read_all(&mut logs), expected);
    }

    /// A log that cannot be read.
    struct Unreadable;

    impl LogReader for Unreadable {
        fn read(&mut self) -> Result<LogRead, crate::ports::services::ServiceError> {
            Err(crate::ports::services::ServiceError::TimedOut {
                verb: "logs",
                name: "worker".into(),
                seconds: 1,
            })
        }
    }

    #[test]
    fn unreadable_log_hides_no_other_and_is_reported() {
        let web = vec![LogRead::Bytes(b"a\n".to_vec())];
        let mut logs = logs(false, vec![("web", web)]);
        logs.logs.insert(
            0,
            OpenLog {
                name: "worker".into(),
                reader: Some(Box::new(Unreadable)),
                lines: RedactedLines::new(),
            },
        );
        assert_eq!(read_all(&mut logs), ["web a"]);
        let failures = logs.take_failures();
        assert_eq!(failures.len(), 1);
        assert!(
            failures[0].message.contains("worker timed out"),
            "{failures:?}"
        );
    }

    #[test]
    fn two_files_of_one_service_need_no_name() {
        assert!(!logs(false, vec![("web", Vec::new()), ("web", Vec::new())]).has_several);
    }
}
