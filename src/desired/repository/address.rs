//! The address of a git repository: its syntax, its ssh server, and the redaction of its password.

use crate::ports::secrets;
use crate::problem::InvalidValue;
use std::fmt;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use serde::de::{self, Deserialize, Deserializer};

/// The address of a repository. trueup shows it without its password.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(with = "String"))]
pub(crate) struct Repo {
    address: String,
    ssh: Option<SshServer>,
}

/// The ssh server of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SshServer {
    pub user: String,
    pub host: String,
    pub port: u16,
    /// The path of the repository, as the server's own shell and git see it.
    pub path: String,
}

impl Repo {
    pub(crate) fn parse(text: &str) -> Result<Repo, InvalidValue> {
        let refused = || {
            let shown = redact_password(text);
            Err(InvalidValue::new(
                format!("`{shown}` is not a repository address"),
                "expected git@host:path, ssh://, https://, http://, file:/// or an absolute path",
            ))
        };
        let repo = |ssh| {
            Ok(Repo {
                address: text.to_owned(),
                ssh,
            })
        };
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return refused();
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            return match scheme {
                "file" if authority.is_empty() && !path.is_empty() => repo(None),
                "http" | "https" if !authority.is_empty() && !path.is_empty() => repo(None),
                "ssh" if !path.is_empty() => match parse_server(authority, decode_path(path)) {
                    Some(server) => repo(Some(server)),
                    None => refused(),
                },
                _ => refused(),
            };
        }
        if text.starts_with('/') {
            return repo(None);
        }
        match text.split_once(':') {
            // scp's syntax has no port: the path follows the colon.
            Some((before, path)) if !path.is_empty() && !before.contains('/') => {
                match parse_server(before, Some(path.to_owned())) {
                    Some(server) => repo(Some(server)),
                    None => refused(),
                }
            }
            _ => refused(),
        }
    }

    /// The address for libgit2, with its password.
    pub(crate) fn url(&self) -> &str {
        &self.address
    }

    /// The ssh server, if the repository is reached by ssh.
    pub(crate) fn ssh(&self) -> Option<&SshServer> {
        self.ssh.as_ref()
    }

    /// The path of a repository on this host.
    pub(crate) fn local_path(&self) -> Option<PathBuf> {
        let path = match self.address.strip_prefix("file://") {
            Some(path) => percent_decode_str(path).decode_utf8().ok()?,
            None => self.address.as_str().into(),
        };
        path.starts_with('/')
            .then(|| Path::new(&*path).components().collect())
    }

    /// Whether it has a password, or a token in place of the user name.
    pub(crate) fn has_password(&self) -> bool {
        redact_password(&self.address) != self.address
    }

    pub(crate) fn register_secrets(&self) {
        secrets::add_url_credentials(&self.address);
    }

    /// Redacts the password of this address in a text that quotes it, for people.
    pub(crate) fn redact_in(&self, text: &str) -> String {
        text.replace(&self.address, &redact_password(&self.address))
    }
}

/// Decodes the path of an ssh address like git: `/~ana/x` is in ana's home.
fn decode_path(rest: &str) -> Option<String> {
    let path = percent_decode_str(rest).decode_utf8().ok()?.into_owned();
    Some(if path.starts_with('~') {
        path
    } else {
        format!("/{path}")
    })
}

fn parse_server(authority: &str, path: Option<String>) -> Option<SshServer> {
    let path = path.filter(|path| !path.starts_with('-') && !path.contains(char::is_control))?;
    let (user, rest) = authority.rsplit_once('@').unwrap_or(("git", authority));
    let user = user.split(':').next().unwrap_or_default();
    let (host, port) = match rest.split_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)?),
        None => (rest, 22),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let usable = |word: &str| !word.is_empty() && !word.starts_with('-') && word.chars().all(plain);
    (usable(user) && usable(host)).then(|| SshServer {
        user: user.to_owned(),
        host: host.to_owned(),
        port,
        path,
    })
}

fn redact_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        // A lone user name may itself be a token.
        Some((user, host)) if scheme != "ssh" || user.contains(':') => {
            format!("{scheme}://***@{host}{path}")
        }
        _ => url.to_owned(),
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact_password(&self.address))
    }
}

impl fmt::Debug for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repo({self})")
    }
}

impl<'de> Deserialize<'de> for Repo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Repo, D::Error> {
        let text = String::deserialize(deserializer)?;
        Repo::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_server_is_parsed_from_url_and_scp_syntax() {
        for (text, user, host, port, path) in [
            (
                "git@github.com:emami/shop",
                "git",
                "github.com",
                22,
                "emami/shop",
            ),
            ("github.com:/srv/shop", "git", "github.com", 22, "/srv/shop"),
            (
                "ssh://ana@h.example:2222/srv/a%20b",
                "ana",
                "h.example",
                2222,
                "/srv/a b",
            ),
            ("ssh://host/~ana/shop", "git", "host", 22, "~ana/shop"),
        ] {
            let repo = Repo::parse(text).unwrap();
            let server = SshServer {
                user: user.into(),
                host: host.into(),
                port,
                path: path.into(),
            };
            assert_eq!(repo.ssh(), Some(&server), "{text}");
        }
        for text in ["/srv/git/shop.git", "file:///srv/shop", "https://host/shop"] {
            assert_eq!(Repo::parse(text).unwrap().ssh(), None, "{text}");
        }
    }

    #[test]
    fn only_a_path_or_file_url_is_a_local_repository() {
        for (text, path) in [
            ("/srv/git/a%20b.git", Some("/srv/git/a%20b.git")),
            ("file:///srv/git/a.git", Some("/srv/git/a.git")),
            ("file:///srv/git/a%20b.git", Some("/srv/git/a b.git")),
            ("git@host:/srv/a.git", None),
            ("ssh://git@host/a", None),
            ("https://host/a", None),
        ] {
            let repo = Repo::parse(text).unwrap();
            assert_eq!(repo.local_path(), path.map(PathBuf::from), "{text}");
        }
    }

    #[test]
    fn address_that_resembles_an_option_or_another_transport_is_refused() {
        for text in [
            "",
            "shop",
            "./shop",
            "ext::sh -c id",
            "git://host/x",
            "-oProxyCommand=x:y",
            "ssh://-oProxyCommand=x/y",
            "https://",
            "ssh://host:0/x",
            "ftp://host/x",
            "a b:c",
            "git@host:-x",
            "ssh://host/a%0ab",
        ] {
            assert!(Repo::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_never_shown() {
        let repo = Repo::parse("https://ana:geheim@host/shop.git").unwrap();
        let shown = format!("{repo} {repo:?} {}", repo.redact_in(repo.url()));
        assert!(!shown.contains("geheim") && shown.contains("https://***@host/shop.git"));
        assert!(
            !Repo::parse("ftp://ana:geheim@host/x")
                .unwrap_err()
                .to_string()
                .contains("geheim")
        );
    }
}
