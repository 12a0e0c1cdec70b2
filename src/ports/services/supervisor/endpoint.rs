//! Finds supervisord's socket and the credentials for it in its configuration.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::ports::root::{Root, RootError};

/// Possible configuration files; the first match wins, as for supervisord itself.
const CONFIG_FILES: [&str; 2] = ["/etc/supervisor/supervisord.conf", "/etc/supervisord.conf"];

/// Maximum size of the configuration, in bytes.
const MAX_CONFIG_FILE: usize = 1 << 20;

/// Why the socket cannot be found.
#[derive(Debug, thiserror::Error)]
pub(super) enum EndpointError {
    #[error(transparent)]
    Root(#[from] RootError),
    #[error("{0}")]
    Unusable(String),
}

impl EndpointError {
    pub(super) fn is_permission_denied(&self) -> bool {
        matches!(self, EndpointError::Root(error) if error.is_permission_denied())
    }
}

/// Supervisord's socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Path on the host, that is, below the root of a sandbox.
    pub(super) socket: PathBuf,
    /// Name and password, if the server requires them.
    pub(super) credentials: Option<(String, String)>,
}

impl Endpoint {
    /// Reads the configuration of the host behind `root`.
    pub(super) fn load(root: &Root) -> Result<Endpoint, EndpointError> {
        for path in CONFIG_FILES {
            let path = Path::new(path);
            if let Some(body) = root.read(path, MAX_CONFIG_FILE)? {
                let text = String::from_utf8_lossy(&body);
                return Endpoint::parse(&text, path, root)
                    .map_err(|why| EndpointError::Unusable(format!("{}: {why}", path.display())));
            }
        }
        Err(EndpointError::Unusable(format!(
            "there is no {} (is its package installed?)",
            CONFIG_FILES[0]
        )))
    }

    fn parse(text: &str, path: &Path, root: &Root) -> Result<Endpoint, String> {
        let file = config_value(text, "unix_http_server", "file").ok_or(
            "its section [unix_http_server] has no file=, so supervisord cannot be reached",
        )?;
        let here = root.machine_path(path.parent().unwrap_or(Path::new("/")));
        let file = file.replace("%(here)s", &here.display().to_string());
        if file.contains('%') || !file.starts_with('/') {
            return Err(format!(
                "cannot resolve `file={file}`: write it as an absolute path"
            ));
        }
        // The configuration has machine paths; `socket` begins at the root.
        let socket = Path::new(&file)
            .strip_prefix(root.path())
            .map_err(|_| format!("file={file} is not below {}", root.path().display()))?;
        // The server section has the password in the clear or as a hash, supervisorctl always in the clear.
        let login = ["supervisorctl", "unix_http_server"]
            .into_iter()
            .find_map(|section| {
                Some((
                    config_value(text, section, "username")?,
                    config_value(text, section, "password")?,
                ))
            });
        Ok(Endpoint {
            socket: Path::new("/").join(socket),
            credentials: login,
        })
    }

    /// The folder of the socket, held open, and a path to the socket through it: no link that a less
    /// privileged user may have planted is followed on the way, and no path is too long for a socket address.
    pub(super) fn resolve_socket(&self, root: &Root) -> Result<(OwnedFd, PathBuf), EndpointError> {
        let nobody =
            || EndpointError::Unusable(format!("nothing listens on {}", self.socket.display()));
        let folder = self.socket.parent().ok_or_else(nobody)?;
        let name = self.socket.file_name().ok_or_else(nobody)?;
        let folder = root.open_folder_fd(folder)?.ok_or_else(nobody)?;
        let path = Path::new("/proc/self/fd")
            .join(std::os::fd::AsRawFd::as_raw_fd(&folder).to_string())
            .join(name);
        Ok((folder, path))
    }
}

/// The value of a key as Python's configparser reads it, with inline comments after ` ;`.
fn config_value(text: &str, section: &str, key: &str) -> Option<String> {
    let mut inside = false;
    let mut found = None;
    for line in text.lines() {
        let line = line.split(" ;").next().unwrap_or(line).trim_end();
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            inside = name == section;
        } else if inside
            && !line.starts_with([';', '#'])
            && let Some((name, value)) = line.split_once(['=', ':'])
            && name.trim().eq_ignore_ascii_case(key)
        {
            found = Some(value.trim().to_owned());
        }
    }
    found.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Endpoint, String> {
        let path = Path::new("/etc/supervisor/supervisord.conf");
        Endpoint::parse(text, path, &Root::real().unwrap())
    }

    #[test]
    fn the_socket_is_where_the_configuration_says() {
        let debian = "; supervisor config file\n\n[unix_http_server]\nfile=/var/run/supervisor.sock   ; (the path)\nchmod=0700\n\n[supervisorctl]\nserverurl=unix:///elsewhere.sock\n";
        let endpoint = parse(debian).unwrap();
        assert_eq!(endpoint.socket, Path::new("/var/run/supervisor.sock"));
        assert_eq!(endpoint.credentials, None);
        let here = "[unix_http_server]\nFile : %(here)s/s.sock\n";
        assert_eq!(
            parse(here).unwrap().socket,
            Path::new("/etc/supervisor/s.sock")
        );
    }

    #[test]
    fn the_password_is_the_one_that_supervisorctl_uses() {
        let text = "[unix_http_server]\nfile=/s\nusername=u\npassword={SHA}00\n[supervisorctl]\nusername=u\npassword=p=1\n";
        assert_eq!(
            parse(text).unwrap().credentials,
            Some(("u".into(), "p=1".into()))
        );
    }

    #[test]
    fn unusable_configuration_error_says_what_to_do() {
        for (text, word) in [
            ("", "file="),
            ("[inet_http_server]\nport=9001\n", "file="),
            ("[unix_http_server]\n;file=/s\n", "file="),
            ("[unix_http_server]\nfile=%(ENV_X)s/s\n", "absolute"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn sandbox_never_reaches_the_host_supervisord() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path()).unwrap();
        let path = Path::new("/etc/supervisord.conf");
        let text = "[unix_http_server]\nfile=/run/supervisor.sock\n";
        let why = Endpoint::parse(text, path, &root).unwrap_err();
        assert!(why.contains("not below"), "{why}");
        let inside = root.path().join("run/s.sock");
        let text = format!("[unix_http_server]\nfile={}\n", inside.display());
        let endpoint = Endpoint::parse(&text, path, &root).unwrap();
        assert_eq!(endpoint.socket, Path::new("/run/s.sock"));
    }
}
