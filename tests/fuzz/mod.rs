//! Fuzzing of the parsers of external input: each target parses the files of its corpus, and mutations
//! of them, and checks a law.
//!
//! Part of the unit tests, because parsers are private. `cargo test --lib fuzz_` is the short run: the same
//! inputs each time. `tests/run fuzz SECONDS` runs each target for so long, from another seed each time. An input
//! that breaks a law is kept in `target/fuzz/`: it goes into the target's corpus with the fix.
//!
//! Checked for every input: no panic; an end within [`TIMEOUT`]; and no more memory than [`ROOM`] and some times
//! its size.
// Kept inputs are files of the test's machine, not of a host.
#![allow(clippy::disallowed_methods, clippy::print_stderr)]

mod mutate;
mod targets;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use self::mutate::Mutator;
use crate::testing::peak_memory;

/// How many mutations the short run makes.
const SHORT: usize = 400;

/// No input is longer: long ones are tests of their own.
const LONGEST: usize = 64 << 10;

/// No input takes longer. A guard against hangs, and no measure.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Memory that any input may take, in bytes, and how many times its own size on top.
const ROOM: usize = 24 << 20;
const TIMES: usize = 400;

/// One parser of external input.
pub(crate) struct Target<'t> {
    /// Its folder in `corpus/`.
    pub name: &'t str,
    /// Words of its language, for mutations.
    pub words: &'t [&'t str],
    /// Reads an input, panics if a law is broken, and returns whether the input was accepted.
    pub law: &'t dyn Fn(&[u8]) -> bool,
}

impl Target<'_> {
    pub(crate) fn run(&self) {
        let corpus = self.corpus();
        let seconds: Option<u64> = std::env::var("TRUEUP_FUZZ_SECONDS")
            .ok()
            .map(|seconds| seconds.parse().expect("TRUEUP_FUZZ_SECONDS is a number"));
        let seed = match seconds {
            None => 1,
            Some(_) => jiff::Timestamp::now().as_nanosecond() as u64,
        };
        let guard = Guard::start(self.name);
        for input in &corpus {
            self.try_one(input, &guard);
        }
        let end = Instant::now() + Duration::from_secs(seconds.unwrap_or_default());
        let mut mutator = Mutator::new(seed, corpus, self.words);
        let (mut tried, mut taken) = (0, 0);
        while if seconds.is_some() {
            Instant::now() < end
        } else {
            tried < SHORT
        } {
            let mut input = mutator.next();
            input.truncate(LONGEST);
            tried += 1;
            if self.try_one(&input, &guard) {
                taken += 1;
                mutator.learn(input);
            }
        }
        eprintln!(
            "fuzz {}: {tried} inputs, {taken} taken, seed {seed}",
            self.name
        );
    }

    fn corpus(&self) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fuzz/corpus")
            .join(self.name);
        let entries =
            std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "{} is empty", folder.display());
        paths
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect()
    }

    fn try_one(&self, input: &[u8], guard: &Guard) -> bool {
        guard.begin(input);
        let law = std::panic::AssertUnwindSafe(|| peak_memory(|| (self.law)(input)));
        let done = std::panic::catch_unwind(law);
        match done {
            Ok((taken, most)) if most <= ROOM + TIMES * input.len() => taken,
            Ok((_, most)) => {
                let kept = keep(self.name, input);
                panic!("{} bytes took {} MiB: {kept}", input.len(), most >> 20)
            }
            Err(panic) => {
                eprintln!("a law is broken by {}", keep(self.name, input));
                std::panic::resume_unwind(panic)
            }
        }
    }
}

/// Keeps an input and returns its path.
fn keep(name: &str, input: &[u8]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz");
    let path = folder.join(format!("{name}-{}", &crate::digest::digest(input)[..12]));
    let kept = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, input));
    match kept {
        Ok(()) => path.display().to_string(),
        Err(error) => format!("{error}: {input:?}"),
    }
}

/// Aborts the process when an input takes too long: its thread cannot be stopped.
struct Guard(Sender<Vec<u8>>);

impl Guard {
    fn start(name: &str) -> Guard {
        let (sender, receiver) = channel::<Vec<u8>>();
        let name = name.to_owned();
        std::thread::spawn(move || {
            let mut current = Vec::new();
            loop {
                match receiver.recv_timeout(TIMEOUT) {
                    Ok(input) => current = input,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {
                        eprintln!("no end within {TIMEOUT:?}: {}", keep(&name, &current));
                        std::process::abort();
                    }
                }
            }
        });
        Guard(sender)
    }

    fn begin(&self, input: &[u8]) {
        self.0
            .send(input.to_vec())
            .expect("the guard's thread runs as long as the guard");
    }
}
