//! Which ssh servers are who they say they are: OpenSSH's `known_hosts`, read by trueup itself so
//! that hashed names, patterns and revoked keys count, and so that the answer can say what to do.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::repo::Server;

/// One line that is about a plain key. Lines about certificate authorities are left out: libgit2
/// does not take part in certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    names: String,
    /// As in `ssh-ed25519`.
    sort: String,
    /// In base64.
    key: String,
    revoked: bool,
    file: PathBuf,
    number: usize,
}

/// What is known about ssh servers.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownHosts {
    lines: Vec<Line>,
}

/// What `known_hosts` says to a key that a server shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Known,
    Unknown,
    /// Another key stands there, at this place.
    Changed(PathBuf, usize),
    Revoked(PathBuf, usize),
}

impl KnownHosts {
    pub(super) fn add(&mut self, file: &Path, text: &str) {
        let lines = text.lines().enumerate();
        self.lines
            .extend(lines.filter_map(|(i, line)| parse(file, i + 1, line)));
    }

    /// Judges the key `blob`, as the server sent it.
    pub(super) fn judge(&self, server: &Server, blob: &[u8]) -> Verdict {
        let key = STANDARD.encode(blob);
        let place = |line: &Line| (line.file.clone(), line.number);
        let ours: Vec<&Line> = self.of(server).collect();
        if let Some(line) = ours.iter().find(|line| line.revoked && line.key == key) {
            let (file, number) = place(line);
            return Verdict::Revoked(file, number);
        }
        let mut valid = ours.iter().filter(|line| !line.revoked);
        if valid.clone().any(|line| line.key == key) {
            return Verdict::Known;
        }
        match valid.next() {
            Some(line) => {
                let (file, number) = place(line);
                Verdict::Changed(file, number)
            }
            None => Verdict::Unknown,
        }
    }

    /// The keys known for a server, one name a line: libgit2 asks the server for a key of one of
    /// these sorts, where it would otherwise get the sort that the server likes best.
    pub(super) fn plain(&self, server: &Server) -> String {
        let lines = self.of(server).filter(|line| !line.revoked);
        lines
            .map(|line| format!("{} {} {}\n", name(server), line.sort, line.key))
            .collect()
    }

    fn of(&self, server: &Server) -> impl Iterator<Item = &Line> {
        let name = name(server);
        self.lines
            .iter()
            .filter(move |line| matches(&line.names, &name))
    }
}

/// How `known_hosts` calls a server.
fn name(server: &Server) -> String {
    let host = server.host.to_ascii_lowercase();
    match server.port {
        22 => host,
        port => format!("[{host}]:{port}"),
    }
}

/// The line to add for a server that is not known.
pub(super) fn line_for(server: &Server, blob: &[u8]) -> String {
    format!(
        "{} {} {}",
        name(server),
        sort_of(blob),
        STANDARD.encode(blob)
    )
}

/// As in `ssh-ed25519`: a key begins with its sort, and that with its length in four bytes.
fn sort_of(blob: &[u8]) -> String {
    let length = blob.first_chunk().map(|length| u32::from_be_bytes(*length));
    let sort = length.and_then(|length| blob.get(4..4 + length as usize));
    sort.map_or("?".into(), |sort| {
        String::from_utf8_lossy(sort).into_owned()
    })
}

fn parse(file: &Path, number: usize, line: &str) -> Option<Line> {
    let mut words = line.split_whitespace().peekable();
    let revoked = match words.peek()?.strip_prefix('@') {
        Some("revoked") => words.next().is_some(),
        Some(_) => return None,
        None => false,
    };
    let names = words.next().filter(|names| !names.starts_with('#'))?;
    let (sort, key) = (words.next()?, words.next()?);
    Some(Line {
        names: names.to_owned(),
        sort: sort.to_owned(),
        key: key.to_owned(),
        revoked,
        file: file.to_owned(),
        number,
    })
}

fn matches(names: &str, name: &str) -> bool {
    if let Some(hashed) = names.strip_prefix("|1|") {
        return matches_hash(hashed, name).unwrap_or(false);
    }
    let mut found = false;
    for pattern in names.split(',') {
        match pattern.strip_prefix('!') {
            Some(not) if fits(not.to_ascii_lowercase().as_bytes(), name.as_bytes()) => {
                return false;
            }
            Some(_) => {}
            None => found |= fits(pattern.to_ascii_lowercase().as_bytes(), name.as_bytes()),
        }
    }
    found
}

/// `SALT|HASH`, both in base64: what `HashKnownHosts` writes.
fn matches_hash(hashed: &str, name: &str) -> Option<bool> {
    let (salt, hash) = hashed.split_once('|')?;
    let salt = STANDARD.decode(salt).ok()?;
    let mut mac = Hmac::<Sha1>::new_from_slice(&salt).ok()?;
    mac.update(name.as_bytes());
    Some(mac.verify_slice(&STANDARD.decode(hash).ok()?).is_ok())
}

/// Whether a pattern with `*` and `?` fits. Goes back at most to the last `*`, so no pattern takes
/// long.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                back = Some((p + 1, n));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match &mut back {
                Some((after, from)) => {
                    *from += 1;
                    (p, n) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str, port: u16) -> Server {
        Server {
            user: "git".into(),
            host: host.into(),
            port,
        }
    }

    fn judged(text: &str, server: &Server) -> Verdict {
        let mut known = KnownHosts::default();
        known.add(Path::new("/f"), text);
        known.judge(server, b"key")
    }

    #[test]
    fn a_key_counts_only_for_the_names_on_its_line() {
        let (host, other_port) = (server("git.example", 22), server("git.example", 2222));
        let key = STANDARD.encode(b"key");
        for names in [
            "git.example",
            "a,git.example",
            "*.example",
            "g?t.example",
            "GIT.example",
        ] {
            assert_eq!(
                judged(&format!("{names} ssh-x {key}\n"), &host),
                Verdict::Known,
                "{names}"
            );
        }
        for names in [
            "example",
            "[git.example]:2222",
            "*,!git.example",
            "#git.example",
            "|1|x|y",
        ] {
            assert_eq!(
                judged(&format!("{names} ssh-x {key}\n"), &host),
                Verdict::Unknown,
                "{names}"
            );
        }
        let with_port = format!("[git.example]:2222 ssh-x {key} comment");
        assert_eq!(judged(&with_port, &other_port), Verdict::Known);
        assert_eq!(
            judged(&format!("git.example ssh-x {key}"), &other_port),
            Verdict::Unknown
        );
    }

    #[test]
    fn a_hashed_name_is_recognised() {
        // Made by `ssh-keygen -H` for `git.example`.
        let (salt, name) = (b"01234567890123456789", b"git.example");
        let mut mac = Hmac::<Sha1>::new_from_slice(salt).unwrap();
        mac.update(name);
        let hash = STANDARD.encode(mac.finalize().into_bytes());
        let key = STANDARD.encode(b"key");
        let line = format!("|1|{}|{hash} ssh-x {key}", STANDARD.encode(salt));
        assert_eq!(judged(&line, &server("git.example", 22)), Verdict::Known);
        assert_eq!(
            judged(&line, &server("other.example", 22)),
            Verdict::Unknown
        );
    }

    #[test]
    fn another_key_is_a_changed_one_and_a_revoked_key_is_never_known() {
        let host = server("h", 22);
        let key = STANDARD.encode(b"key");
        assert_eq!(
            judged("# c\nh ssh-x b3RoZXI=\n", &host),
            Verdict::Changed("/f".into(), 2)
        );
        let revoked = format!("h ssh-x {key}\n@revoked * ssh-x {key}\n");
        assert_eq!(judged(&revoked, &host), Verdict::Revoked("/f".into(), 2));
        let authority = format!("@cert-authority h ssh-x {key}\n");
        assert_eq!(judged(&authority, &host), Verdict::Unknown);
    }
}
