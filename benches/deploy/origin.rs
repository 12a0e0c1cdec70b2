//! The repository that is deployed, and the same content in it every time.

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use crate::{git, output, run};

/// The repository, which gets a commit of 30 touched files at a time: 26 changed, 2 added, 2 removed.
pub(crate) struct Origin {
    pub(crate) path: PathBuf,
    random: Random,
    files: Vec<(String, usize)>,
    commits: u64,
}

impl Origin {
    pub(crate) fn new(path: PathBuf, files: usize, megabytes: usize) -> Origin {
        run(std::process::Command::new("git")
            .args(["init", "-q", "--bare", "-b", "main"])
            .arg(&path));
        let mut random = Random(7);
        let folders: Vec<String> = (0..12 * (files / 150).max(2))
            .map(|n| {
                let deep = (0..n % 4).map(|level| format!("/d{}", (n * 7 + level) % 40));
                format!("part{}{}", n % 12, deep.collect::<String>())
            })
            .collect();
        // Many small files and a few large ones.
        let raw: Vec<f64> = (0..files).map(|_| (random.normal() * 1.7).exp()).collect();
        #[allow(clippy::cast_precision_loss)]
        let scale = megabytes as f64 * 1e6 / raw.iter().sum::<f64>();
        let files = raw.iter().enumerate().map(|(n, raw)| {
            let folder = &folders[random.below(folders.len())];
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let size = ((raw * scale) as usize).clamp(20, 8_000_000);
            (
                format!(
                    "{folder}/file_{n}.{}",
                    if n % 7 == 0 { "png" } else { "rb" }
                ),
                size,
            )
        });
        let files = files.collect();
        let mut origin = Origin {
            path,
            random,
            files,
            commits: 0,
        };
        let all: Vec<usize> = (0..origin.files.len()).collect();
        origin.import(&all, &[]);
        run(git(&origin.path).args(["repack", "-adfq"]));
        run(git(&origin.path).args(["config", "uploadpack.allowAnySHA1InWant", "true"]));
        origin
    }

    pub(crate) fn head(&self) -> String {
        output(git(&self.path).args(["rev-parse", "main"]))
            .trim()
            .into()
    }

    pub(crate) fn commit(&mut self) -> String {
        let mut removed = Vec::new();
        for _ in 0..2 {
            let n = self.random.below(self.files.len());
            removed.push(self.files.swap_remove(n).0);
        }
        let mut touched: Vec<usize> = Vec::new();
        while touched.len() < 26 {
            let n = self.random.below(self.files.len());
            if !touched.contains(&n) {
                touched.push(n);
            }
        }
        for n in 0..2 {
            touched.push(self.files.len());
            let name = format!("part{n}/new_{}_{n}.rb", self.commits);
            self.files.push((name, 5_000));
        }
        self.import(&touched, &removed);
        self.head()
    }

    fn import(&mut self, touched: &[usize], removed: &[String]) {
        let mut child = git(&self.path)
            .args(["fast-import", "--quiet", "--date-format=raw"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = std::io::BufWriter::new(child.stdin.take().unwrap());
        let time = 1_704_067_200 + 3600 * self.commits;
        write!(
            input,
            "commit refs/heads/main\ncommitter B <b@example.test> {time} +0000\ndata 1\nc\n"
        )
        .unwrap();
        if self.commits > 0 {
            input.write_all(b"from refs/heads/main^0\n").unwrap();
        }
        for path in removed {
            writeln!(input, "D {path}").unwrap();
        }
        for n in touched {
            let (path, size) = &self.files[*n];
            let mode = if n % 50 == 7 { "100755" } else { "100644" };
            let body = self.random.content(*size, path.ends_with("png"));
            write!(input, "M {mode} inline {path}\ndata {}\n", body.len()).unwrap();
            input.write_all(&body).unwrap();
            input.write_all(b"\n").unwrap();
        }
        drop(input);
        assert!(child.wait().unwrap().success());
        self.commits += 1;
    }
}

/// A generator that gives the same repository every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn normal(&mut self) -> f64 {
        #[allow(clippy::cast_precision_loss)]
        let sum: f64 = (0..12)
            .map(|_| (self.next() >> 11) as f64 / (1_u64 << 53) as f64)
            .sum();
        sum - 6.0
    }

    /// Text that shrinks to about a quarter, or bytes that do not shrink.
    fn content(&mut self, size: usize, packed: bool) -> Vec<u8> {
        const WORDS: [&str; 16] = [
            "def",
            "end",
            "return",
            "class",
            "module",
            "if",
            "else",
            "price",
            "order",
            "customer",
            "render",
            "params",
            "self",
            "include",
            "validates",
            "belongs_to",
        ];
        let mut body = Vec::with_capacity(size + 16);
        while body.len() < size {
            let n = self.next();
            if packed {
                body.extend_from_slice(&n.to_le_bytes());
            } else {
                body.extend_from_slice(WORDS[(n % 16) as usize].as_bytes());
                write!(
                    body,
                    "_{:x}{}",
                    (n >> 8) & 0xfff,
                    if n.is_multiple_of(5) { '\n' } else { ' ' }
                )
                .unwrap();
            }
        }
        body.truncate(size);
        body
    }
}
