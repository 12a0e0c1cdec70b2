//! A child is observed while it runs.

use std::time::Duration;

use super::sh;
use crate::ports::exec::{Exec, OutputObserver};

/// Sends the length of each piece of output, with its text if it is short, and counts the ticks.
#[derive(Debug)]
struct Reporter {
    pieces: std::sync::mpsc::Sender<(usize, String)>,
    ticks: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl OutputObserver for Reporter {
    fn on_output(&mut self, bytes: &[u8]) {
        let short = &bytes[..bytes.len().min(100)];
        let text = String::from_utf8_lossy(short).into_owned();
        self.pieces.send((bytes.len(), text)).unwrap();
    }

    fn on_tick(&mut self, elapsed: Duration) {
        assert!(elapsed < Duration::from_secs(60));
        self.ticks
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn output_is_observed_while_the_child_runs_and_without_secrets() {
    crate::ports::secrets::add_secret("canary-observed");
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let line = format!(
        "echo key canary-observed; until test -e {}; do sleep 0.02; done; echo the end",
        go.display()
    );
    let (sender, pieces) = std::sync::mpsc::channel();
    let ticks = std::sync::Arc::default();
    let mut command = sh(&line);
    command.observer = Some(Box::new(Reporter {
        pieces: sender,
        ticks: std::sync::Arc::clone(&ticks),
    }));
    let child = std::thread::spawn(move || Exec.run(command).unwrap());
    let first = pieces.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(first.1, "key (secret)\n");
    let before = ticks.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(500));
    let silent = ticks.load(std::sync::atomic::Ordering::Relaxed) - before;
    assert!(
        silent >= 3,
        "{silent} ticks of a silent child in half a second"
    );
    std::fs::write(go, "").unwrap();
    let done = child.join().unwrap();
    assert_eq!(done.output.text(), "key (secret)\nthe end\n");
    assert_eq!(pieces.iter().last().unwrap().1, "the end\n");
}

#[test]
fn flood_of_output_is_observed_in_small_pieces() {
    let (sender, pieces) = std::sync::mpsc::channel();
    let mut command = sh("head -c 20000000 /dev/zero | tr '\\0' x");
    command.observer = Some(Box::new(Reporter {
        pieces: sender,
        ticks: std::sync::Arc::default(),
    }));
    let reader = std::thread::spawn(move || {
        pieces.iter().fold((0, 0), |(total, largest), (length, _)| {
            (total + length, largest.max(length))
        })
    });
    Exec.run(command).unwrap();
    let (total, largest) = reader.join().unwrap();
    assert_eq!(total, 20_000_000);
    assert!(largest <= 64 << 10, "a piece of {largest} bytes");
}
