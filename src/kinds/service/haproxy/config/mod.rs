//! Splits a configuration of haproxy into its servers and all the rest.
//!
//! Two configurations with the same rest differ only in servers, which haproxy can add and delete while it runs. What is
//! not understood for certain belongs to the rest, or makes the file one that no running process can take over.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::digest::Hasher;
use crate::ports::haproxy::{ServerId, is_plain_word};

/// The words that begin a section. Another word at the start of a line is a part of the section before.
const SECTIONS: &[&str] = &[
    "acme",
    "backend",
    "cache",
    "crt-store",
    "defaults",
    "dynamic-update",
    "fcgi-app",
    "frontend",
    "global",
    "http-errors",
    "listen",
    "log-forward",
    "log-profile",
    "mailers",
    "peers",
    "program",
    "resolvers",
    "ring",
    "traces",
    "userlist",
];

/// Algorithms in which the place of a server in the file does not matter. haproxy accepts new servers in some others
/// too, but there a reload would spread the requests in another way.
const ORDERLESS_ALGORITHMS: &[&str] = &["leastconn", "random", "roundrobin"];

/// Options that haproxy takes for a new server, but which then mean something else than in the file, or need commands
/// of their own.
const OTHER_AT_RUNTIME: &[&str] = &[
    "agent-check",
    "disabled",
    "enabled",
    "id",
    "init-addr",
    "init-state",
    "resolvers",
    "track",
];

/// haproxy takes it for a space, too.
const VERTICAL_TAB: char = '\u{b}';

/// A configuration.
#[derive(Debug, Default)]
pub(super) struct Configuration {
    /// A fingerprint of all that is no server.
    pub rest: String,
    pub servers: BTreeMap<ServerId, Server>,
    /// Why no running process can take it over.
    pub blocker: Option<&'static str>,
}

/// A line `server` of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// `None`: it is no IP address with a port.
    pub address: Option<SocketAddr>,
    /// All its options, with those that it has from `default-server`; an address that is none of IP comes first.
    pub options: String,
    /// Whether its backend balances in a way in which servers may come and go.
    pub is_orderless: bool,
}

impl Server {
    fn has_option(&self, name: &str) -> bool {
        self.options.split(' ').any(|option| option == name)
    }

    pub(super) fn has_check(&self) -> bool {
        self.has_option("check")
    }

    /// Whether `add server` makes the same of it as a reload.
    pub(super) fn can_be_added(&self) -> bool {
        let mut other = OTHER_AT_RUNTIME.iter();
        self.address.is_some() && !other.any(|name| self.has_option(name))
    }
}

/// What a section `defaults` gives to the backends after it.
#[derive(Debug, Clone, Default)]
struct Inherited {
    balance: Option<String>,
    server_options: Vec<String>,
}

impl Inherited {
    fn is_orderless(&self) -> bool {
        let algorithm = self.balance.as_deref().unwrap_or("roundrobin");
        let name = algorithm.split('(').next().unwrap_or(algorithm);
        ORDERLESS_ALGORITHMS.contains(&name)
    }
}

impl Configuration {
    pub(super) fn parse(text: &str) -> Configuration {
        let mut parser = Parser::default();
        for line in text.lines() {
            parser.take_line(line);
        }
        Configuration {
            rest: parser.rest.finish(),
            servers: parser.servers,
            blocker: parser.blocker,
        }
    }
}

#[derive(Default)]
struct Parser {
    rest: Hasher,
    servers: BTreeMap<ServerId, Server>,
    blocker: Option<&'static str>,
    /// The section of the line: its word, and its name.
    section: (String, String),
    /// What applies in it: of a backend, with what it has from its `defaults`.
    current: Inherited,
    /// The last section `defaults`.
    last_defaults: Inherited,
    named_defaults: BTreeMap<String, Inherited>,
}

impl Parser {
    fn take_line(&mut self, line: &str) {
        // In quotes, and after a backslash, a `#` begins no comment, and a space ends no word: such a line counts as it is.
        let is_plain = !line.contains(['"', '\'', '\\']);
        let line = match is_plain {
            true => line.split('#').next().unwrap_or(line),
            false => line,
        };
        let words = line.split(|c: char| c.is_ascii_whitespace() || c == VERTICAL_TAB);
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        let Some(first) = words.first().copied() else {
            return;
        };
        if first.starts_with('.') {
            self.block("it has conditions");
        }
        if SECTIONS.contains(&first) {
            self.begin_section(&words);
        } else if self.has_servers() {
            match first {
                "server" if self.take_server(&words) => return,
                "server-template" => self.block("it has a `server-template`"),
                _ => {}
            }
        }
        if self.is_proxy() {
            self.take_inherited(&words);
        }
        let normal = match is_plain {
            true => words.join(" "),
            false => line.to_owned(),
        };
        self.rest.update(normal.as_bytes());
        self.rest.update(b"\n");
    }

    fn block(&mut self, reason: &'static str) {
        self.blocker = self.blocker.or(Some(reason));
    }

    fn has_servers(&self) -> bool {
        matches!(self.section.0.as_str(), "backend" | "listen")
    }

    fn is_proxy(&self) -> bool {
        self.has_servers() || self.section.0 == "defaults"
    }

    /// `defaults [NAME] [from NAME]`, `backend NAME [from NAME]` and so on.
    fn begin_section(&mut self, words: &[&str]) {
        self.end_section();
        let from = words.iter().position(|word| *word == "from");
        let parent = from.and_then(|at| words.get(at + 1));
        let name = words.get(1).filter(|_| from != Some(1));
        self.section = (
            words[0].to_owned(),
            name.map_or("", |name| *name).to_owned(),
        );
        self.current = match parent {
            Some(parent) => self.named_defaults.get(*parent).cloned(),
            None if self.has_servers() => Some(self.last_defaults.clone()),
            None => None,
        }
        .unwrap_or_default();
    }

    fn end_section(&mut self) {
        if self.section.0 == "defaults" {
            self.last_defaults = self.current.clone();
            let name = self.section.1.clone();
            self.named_defaults.insert(name, self.current.clone());
        }
    }

    fn take_inherited(&mut self, words: &[&str]) {
        match words {
            ["dynamic-cookie-key", ..] => self.block("it has a `dynamic-cookie-key`"),
            ["balance", algorithm, ..] => self.current.balance = Some((*algorithm).to_owned()),
            ["default-server", options @ ..] => {
                if !options.iter().all(|word| is_plain_word(word)) {
                    self.block("a `default-server` has quotes or variables");
                }
                let options = options.iter().map(|word| (*word).to_owned());
                self.current.server_options.extend(options);
            }
            _ => {}
        }
    }

    /// Whether the line is a server, and not a part of the rest.
    fn take_server(&mut self, words: &[&str]) -> bool {
        let (&[_, name, address, ref own @ ..], true) =
            (words, words.iter().all(|word| is_plain_word(word)))
        else {
            self.block("a `server` has quotes or variables");
            return false;
        };
        let Some(id) = ServerId::new(&self.section.1, name) else {
            self.block("a `server` has an unusual name");
            return false;
        };
        let parsed = parse_address(address);
        let unresolved = [address].into_iter().filter(|_| parsed.is_none());
        let inherited = self.current.server_options.iter().map(String::as_str);
        let options = unresolved.chain(inherited).chain(own.iter().copied());
        let server = Server {
            address: parsed,
            options: options.collect::<Vec<_>>().join(" "),
            is_orderless: self.current.is_orderless(),
        };
        if self.servers.insert(id, server).is_some() {
            self.block("a backend has two servers of one name");
        }
        true
    }
}

/// An IP address with a port, as haproxy writes them.
fn parse_address(word: &str) -> Option<SocketAddr> {
    let (host, port) = word.rsplit_once(':')?;
    let host = ["ipv4@", "ipv6@"]
        .iter()
        .find_map(|family| host.strip_prefix(family))
        .unwrap_or(host);
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let ip: IpAddr = inner.unwrap_or(host).parse().ok()?;
    // `+80` is a distance from the port of the visitor.
    let is_number = port.chars().all(|c| c.is_ascii_digit());
    let port: u16 = port.parse().ok().filter(|port| is_number && *port > 0)?;
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests;
