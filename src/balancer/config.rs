//! What keepalived.conf says about this host's part in a pair: it is the one place where that is written.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::check::HaproxyTarget;
use crate::ports::root::{Root, RootError};

const PATH: &str = "/etc/keepalived/keepalived.conf";

/// Largest file that is read, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// What trueup needs of keepalived.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PairConfig {
    pub instances: Vec<VrrpInstance>,
    /// haproxy, as the check of the instances asks it.
    pub haproxy: Option<HaproxyTarget>,
}

/// A set of addresses that one host has at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct VrrpInstance {
    pub name: String,
    pub addresses: Vec<IpAddr>,
    /// The addresses of the other balancers.
    pub peers: Vec<IpAddr>,
}

impl PairConfig {
    /// `None`: this host has no keepalived.conf.
    pub(crate) fn load(root: &Root) -> Result<Option<PairConfig>, RootError> {
        let text = root.read(Path::new(PATH), MAX_BYTES)?;
        Ok(text.map(|text| PairConfig::parse(&String::from_utf8_lossy(&text))))
    }

    /// Reads blocks and lines as keepalived does: `#` and `!` begin a comment, `{` ends the line that opens a block.
    fn parse(text: &str) -> PairConfig {
        let mut config = PairConfig::default();
        let mut blocks: Vec<Vec<String>> = Vec::new();
        for line in text.lines() {
            let mut words = split_words(line);
            match words.last().map(String::as_str) {
                None => {}
                Some("}") => drop(blocks.pop()),
                Some("{") => {
                    words.pop();
                    if let [keyword, name] = &words[..]
                        && keyword == "vrrp_instance"
                    {
                        let name = name.clone();
                        config.instances.push(VrrpInstance {
                            name,
                            ..VrrpInstance::default()
                        });
                    }
                    blocks.push(words);
                }
                Some(_) => config.take_line(&blocks, &words),
            }
        }
        for instance in &mut config.instances {
            let VrrpInstance {
                addresses, peers, ..
            } = instance;
            // An instance without another balancer has its own address as the peer.
            peers.retain(|peer| !addresses.contains(peer));
        }
        config
    }

    fn take_line(&mut self, blocks: &[Vec<String>], words: &[String]) {
        let keywords: Vec<&str> = blocks
            .iter()
            .filter_map(|block| block.first().map(String::as_str))
            .collect();
        match (&keywords[..], self.instances.last_mut()) {
            (
                [
                    "vrrp_instance",
                    "virtual_ipaddress" | "virtual_ipaddress_excluded",
                ],
                Some(last),
            ) => {
                last.addresses.extend(parse_address(&words[0]));
            }
            (["vrrp_instance", "unicast_peer"], Some(last)) => {
                last.peers.extend(parse_address(&words[0]));
            }
            (["vrrp_script"], _) if words[0] == "script" => {
                let command = words[1..].join(" ");
                self.haproxy = parse_check(&command).or(self.haproxy.take());
            }
            _ => {}
        }
    }

    /// All addresses that move between hosts.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let instances = self.instances.iter();
        instances.flat_map(|instance| instance.addresses.iter().copied())
    }
}

/// The addresses that are of this host only as long as keepalived says so; none if they are not known.
pub(crate) fn virtual_addresses(root: &Root) -> Vec<IpAddr> {
    let config = PairConfig::load(root).unwrap_or_else(|error| {
        tracing::debug!("{error}");
        None
    });
    config.map_or_else(Vec::new, |config| config.addresses().collect())
}

/// The words of a line, without its comment. Quotes hold a word together.
fn split_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut is_quoted, mut has_word) = (false, false);
    for c in line.chars() {
        match c {
            '"' => (is_quoted, has_word) = (!is_quoted, true),
            '#' | '!' if !is_quoted => break,
            c if c.is_whitespace() && !is_quoted => {
                if std::mem::take(&mut has_word) {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => {
                word.push(c);
                has_word = true;
            }
        }
    }
    if has_word {
        words.push(word);
    }
    words
}

/// An address with or without the length of its prefix.
fn parse_address(word: &str) -> Option<IpAddr> {
    word.split('/').next()?.parse().ok()
}

/// The arguments of `trueup balancer check` in the command of a script.
fn parse_check(command: &str) -> Option<HaproxyTarget> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let is_check = words.windows(2).any(|pair| pair == ["balancer", "check"]);
    let value = |option: &str| {
        let at = words.iter().position(|word| *word == option)?;
        words.get(at + 1).map(|word| (*word).to_owned())
    };
    is_check.then_some(())?;
    Some(HaproxyTarget {
        socket: PathBuf::from(value("--socket")?),
        url: value("--url")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::testing::Sandbox;

    const TEXT: &str = r#"
# vrrp_instance none {
global_defs {
    router_id lb1
}
vrrp_script haproxy { # a comment }
    script "/usr/bin/trueup balancer check --socket /run/haproxy/check.sock --url http://127.0.0.1:80/x"
    interval 1
}
vrrp_instance web {
    unicast_src_ip 10.0.0.2
    unicast_peer {
        10.0.0.3
        10.0.0.4
    }
    virtual_ipaddress {
        10.0.0.5/24 dev eth0
    }
    track_script {
        haproxy
    }
}
vrrp_instance web6 {
    unicast_peer {
        2001:db8::5
    }
    virtual_ipaddress {
        2001:db8::5/64 ! another comment
    }
}
"#;

    #[test]
    fn instances_their_addresses_and_peers_are_read() {
        let sandbox = Sandbox::with_base_system();
        let root = &sandbox.host.root;
        assert_eq!(PairConfig::load(root).unwrap(), None);
        assert!(virtual_addresses(root).is_empty());
        sandbox.write(PATH, TEXT);
        let config = PairConfig::load(root).unwrap().unwrap();
        let instance = |name: &str, addresses: &[&str], peers: &[&str]| VrrpInstance {
            name: name.to_owned(),
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            peers: peers.iter().map(|ip| ip.parse().unwrap()).collect(),
        };
        let expected = [
            instance("web", &["10.0.0.5"], &["10.0.0.3", "10.0.0.4"]),
            instance("web6", &["2001:db8::5"], &[]),
        ];
        assert_eq!(config.instances, expected);
        let haproxy = config.haproxy.unwrap();
        assert_eq!(haproxy.socket, Path::new("/run/haproxy/check.sock"));
        assert_eq!(haproxy.url, "http://127.0.0.1:80/x");
        assert_eq!(virtual_addresses(root).len(), 2);
    }

    #[test]
    fn file_of_another_hand_is_no_error() {
        for text in [
            "",
            "}",
            "{",
            "vrrp_instance {\n}",
            "script x",
            "\"",
            "vrrp_script a {\nscript \"pidof haproxy\"\n}",
        ] {
            assert!(PairConfig::parse(text).haproxy.is_none(), "{text}");
        }
    }
}
