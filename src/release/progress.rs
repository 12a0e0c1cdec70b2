//! The progress of a long fetch and of the commands of a release, as log events, which the command line shows in its way: at a terminal one
//! line that is rewritten, in a pipe a line per minute.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::ports::Host;
use crate::ports::exec::OutputObserver;
use crate::ports::line_splitter::LineSplitter;
use crate::release::record::log::sanitize_line;
use crate::resource::{Failure, FailureKind};

/// Target of the event that a command starts.
pub(crate) const STARTED: &str = "progress::started";
/// Target of the events about a fetch.
pub(crate) const FETCHING: &str = "progress::fetching";
/// Target of the events with the fields `title`, `elapsed` and `line`: what it is at, about once a second; `elapsed`
/// and `line` may be empty. Without a title: nothing any more.
pub(crate) const LIVE: &str = "progress::live";
/// Target of the events that a command is still running, once a minute.
pub(crate) const RUNNING: &str = "progress::running";
/// Target of the event that a command has ended, with its duration.
pub(crate) const ENDED: &str = "progress::ended";
/// The same, of a command whose duration is of no interest.
pub(crate) const ENDED_SOON: &str = "progress::ended_soon";
/// Target of the events that are lines of a command's output.
pub(crate) const OUTPUT: &str = "progress::output";

const LIVE_INTERVAL: Duration = Duration::from_secs(1);
const RUNNING_INTERVAL: Duration = Duration::from_secs(60);

/// Longest output in the events that a command is still running, in characters.
const MAX_SHOWN_CHARS: usize = 200;

/// A fetch that takes long.
#[derive(Debug, Default)]
pub(crate) struct FetchProgress {
    is_shown: Cell<bool>,
}

impl FetchProgress {
    pub(crate) fn show(&self, title: &str, elapsed: Duration, received: &str) {
        self.is_shown.set(true);
        tracing::info!(target: FETCHING, "{title}: {received}");
        show(title, elapsed, received);
    }
}

impl Drop for FetchProgress {
    fn drop(&mut self) {
        if self.is_shown.get() {
            show("", Duration::ZERO, "");
        }
    }
}

/// A command that runs.
pub(crate) struct StepProgress<'h> {
    host: &'h Host,
    title: String,
    started: Instant,
}

impl StepProgress<'_> {
    pub(crate) fn begin(host: &Host, title: String) -> StepProgress<'_> {
        tracing::info!(target: STARTED, "{title}");
        show(&title, Duration::ZERO, "");
        StepProgress {
            host,
            title,
            started: host.clock.monotonic_now(),
        }
    }

    /// An observer of its child; `name` precedes each line of output.
    pub(crate) fn observer(&self, name: &str) -> Box<dyn OutputObserver> {
        Box::new(StepObserver {
            title: self.title.clone(),
            name: name.to_owned(),
            lines: LineSplitter::default(),
            last_line: String::new(),
            shown_at: Duration::ZERO,
            logged_at: Duration::ZERO,
        })
    }

    /// Reports how it ended.
    pub(crate) fn end<T>(self, result: &Result<T, Failure>) {
        let word = match result {
            Ok(_) => "done in",
            Err(failure) if failure.is(FailureKind::Stopped) => "stopped after",
            Err(_) => "failed after",
        };
        let now = self.host.clock.monotonic_now();
        let took = now.saturating_duration_since(self.started);
        let line = format!("{}: {word} {}", self.title, format_elapsed(took));
        match took < LIVE_INTERVAL {
            true => tracing::info!(target: ENDED_SOON, "{line}"),
            false => tracing::info!(target: ENDED, "{line}"),
        }
    }
}

/// Follows the output of a command, in bounded memory.
#[derive(Debug)]
struct StepObserver {
    title: String,
    name: String,
    lines: LineSplitter,
    /// The last line that is not blank.
    last_line: String,
    shown_at: Duration,
    logged_at: Duration,
}

impl StepObserver {
    fn add_line(&mut self, line: String) {
        if tracing::enabled!(target: OUTPUT, tracing::Level::DEBUG) {
            tracing::debug!(target: OUTPUT, "{}: {}", self.name, sanitize_line(&line));
        }
        if !line.trim().is_empty() {
            self.last_line = line;
        }
    }

    /// The last line of its output, which may not have ended yet.
    fn last_output(&self) -> String {
        let partial = sanitize_line(&self.lines.partial_line());
        match partial.trim().is_empty() {
            true => sanitize_line(&self.last_line),
            false => partial,
        }
    }
}

impl OutputObserver for StepObserver {
    fn on_output(&mut self, bytes: &[u8]) {
        for line in self.lines.push(bytes) {
            self.add_line(line);
        }
    }

    fn on_tick(&mut self, elapsed: Duration) {
        if elapsed >= self.shown_at + LIVE_INTERVAL {
            self.shown_at = elapsed;
            show(&self.title, elapsed, &self.last_output());
        }
        if elapsed >= self.logged_at + RUNNING_INTERVAL {
            self.logged_at = elapsed;
            let output = match self.last_output() {
                line if line.is_empty() => "no output yet".to_owned(),
                line => format!("last output: {}", truncate(&line)),
            };
            let (title, elapsed) = (&self.title, format_elapsed(elapsed));
            tracing::info!(target: RUNNING, "{title}: still running after {elapsed}, {output}");
        }
    }
}

impl Drop for StepObserver {
    /// A last line without an end.
    fn drop(&mut self) {
        if let Some(line) = self.lines.finish() {
            self.add_line(line);
        }
    }
}

pub(crate) fn show(title: &str, elapsed: Duration, line: &str) {
    let elapsed = match elapsed.is_zero() {
        true => String::new(),
        false => format_elapsed(elapsed),
    };
    tracing::info!(target: LIVE, title, elapsed, line);
}

fn truncate(line: &str) -> String {
    match line.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// `240 ms`, `12 s`, `4 min 5 s`.
fn format_elapsed(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds @ 1..=119 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt};

    use super::*;
    use crate::ports::line_splitter::MAX_LINE_BYTES;
    use crate::ports::testing::Sandbox;

    /// Keeps all events: the target, and the text of the fields.
    #[derive(Default, Clone)]
    struct Events(Arc<Mutex<Vec<(String, String)>>>);

    struct Text(String);

    impl Visit for Text {
        fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
            self.0 += &format!("{value:?}|");
        }
    }

    impl<S: tracing::Subscriber> Layer<S> for Events {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            let mut text = Text(String::new());
            event.record(&mut text);
            let target = event.metadata().target().to_owned();
            self.0.lock().unwrap().push((target, text.0));
        }
    }

    impl Events {
        fn of(&self, target: &str) -> Vec<String> {
            let events = self.0.lock().unwrap();
            let found = events.iter().filter(|(of, _)| of == target);
            found.map(|(_, text)| text.clone()).collect()
        }
    }

    /// The events of a command that prints these pieces, a second apart.
    fn observe(pieces: &[&[u8]], seconds: u64) -> Events {
        let events = Events::default();
        let sandbox = Sandbox::empty();
        tracing::subscriber::with_default(
            tracing_subscriber::registry().with(events.clone()),
            || {
                let progress = StepProgress::begin(&sandbox.host, "shop: install".into());
                let mut observer = progress.observer("install");
                for second in 0..=seconds {
                    if let Some(piece) = pieces.get(usize::try_from(second).unwrap()) {
                        observer.on_output(piece);
                    }
                    for tick in 0..20 {
                        observer.on_tick(Duration::from_millis(second * 1000 + tick * 50));
                    }
                }
                drop(observer);
                progress.end(&Ok(()));
            },
        );
        events
    }

    #[test]
    fn output_is_shown_once_a_second_and_told_once_a_minute() {
        let events = observe(&[b"one\ntwo\n", b"\n  \n", b"10%\r\x1b[32m20%"], 130);
        let live = events.of(LIVE);
        assert_eq!(live.len(), 131);
        assert_eq!(live[1], "\"shop: install\"|\"1 s\"|\"two\"|");
        assert_eq!(live[2], "\"shop: install\"|\"2 s\"|\"20%\"|");
        assert_eq!(
            events.of(RUNNING),
            [
                "shop: install: still running after 60 s, last output: 20%|",
                "shop: install: still running after 2 min 0 s, last output: 20%|"
            ]
        );
        assert_eq!(events.of(STARTED), ["shop: install|"]);
        assert_eq!(events.of(ENDED).len() + events.of(ENDED_SOON).len(), 1);
    }

    #[test]
    fn each_line_of_output_has_the_name_of_its_step() {
        let events = observe(
            &[b"one\r\nt", b"wo\n\n", b"\xff\x1b]52;c;aGk=\x07\nthe end"],
            3,
        );
        assert_eq!(
            events.of(OUTPUT),
            [
                "install: one|",
                "install: two|",
                "install: |",
                "install: \u{fffd}52;c;aGk=|",
                "install: the end|"
            ]
        );
    }

    #[test]
    fn endless_line_is_kept_in_bounded_memory() {
        let progress_of = |observer: &StepObserver| {
            observer.last_line.len() + observer.lines.partial_line().len()
        };
        let mut observer = StepObserver {
            title: String::new(),
            name: String::new(),
            lines: LineSplitter::default(),
            last_line: String::new(),
            shown_at: Duration::ZERO,
            logged_at: Duration::ZERO,
        };
        for _ in 0..64 {
            observer.on_output(&[b'x'; 16 << 10]);
            assert!(progress_of(&observer) <= 2 * MAX_LINE_BYTES);
        }
        assert!(!observer.last_output().is_empty());
        assert_eq!(
            truncate(&"ü".repeat(1000)).chars().count(),
            MAX_SHOWN_CHARS + 1
        );
    }
}
