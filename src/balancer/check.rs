//! Whether this host may have the virtual address: keepalived asks every second.
//!
//! haproxy says whether its listeners are up and whether it is stopping, and a request through them shows that it
//! answers. The name of a process would prove nothing of that.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::drain::Drain;
use crate::ports::haproxy::RuntimeSocket;
use crate::ports::http::{HttpClient, HttpError};
use crate::ports::root::Root;

/// How long haproxy may take for each of the two commands, and for the request: together less than the two seconds
/// after which keepalived ends the check.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(400);
const REQUEST_TIMEOUT: Duration = Duration::from_millis(900);

/// haproxy of this host, as the arguments of the check say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HaproxyTarget {
    /// A socket of haproxy, of `level user` or more.
    pub socket: PathBuf,
    /// A URL that its frontend answers.
    pub url: String,
}

/// Why this host must not have the address, in one line.
pub(crate) fn failure(root: &Rc<Root>, target: &HaproxyTarget) -> Option<String> {
    Drain::describe_host(root).or_else(|| haproxy_failure(root, target))
}

/// Why haproxy does not serve, in one line.
pub(crate) fn haproxy_failure(root: &Rc<Root>, target: &HaproxyTarget) -> Option<String> {
    let socket = RuntimeSocket::new(root, &target.socket).with_timeout(COMMAND_TIMEOUT);
    let status = match socket.process_status() {
        Ok(status) => status,
        Err(error) => return Some(format!("haproxy does not answer on its socket: {error}")),
    };
    if let Some(reason) = status.unhealthy_reason() {
        return Some(reason);
    }
    match request(&target.url, REQUEST_TIMEOUT) {
        Ok(()) => None,
        // Under so much load another host would not do better, and moving the address would break every connection.
        Err(_) if status.is_full() => None,
        Err(why) => Some(format!("{} gets no answer: {why}", target.url)),
    }
}

/// Whether a server answers. Any status will do, and so does a certificate for other names: this is no request of a
/// visitor.
pub(crate) fn request(url: &str, timeout: Duration) -> Result<(), String> {
    match HttpClient::without_proxy().get(url, &[], timeout, 0) {
        Ok(_) | Err(HttpError::Certificate { .. }) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "stands in for haproxy")]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::ports::testing::Sandbox;
    use jiff::Timestamp;

    const SOCKET: &str = "/run/haproxy/check.sock";

    /// Answers commands of a haproxy with this many connections, of at most one.
    fn serve_socket(sandbox: &Sandbox, connections: u8) {
        sandbox.make_dir("/run/haproxy");
        let listener = UnixListener::bind(sandbox.machine_path(SOCKET)).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut command = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                reader.read_line(&mut command).unwrap();
                let reply = match command.starts_with("show info") {
                    true => format!("Maxconn: 1\nCurrConns: {connections}\nStopping: 0\n"),
                    false => "# pxname,svname,status,\nweb,FRONTEND,OPEN,\n".to_owned(),
                };
                stream.write_all(reply.as_bytes()).unwrap();
            }
        });
    }

    /// Answers requests with an error of a server.
    fn serve_http() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut line = String::new();
                let _ = BufReader::new(stream.try_clone().unwrap()).read_line(&mut line);
                let _ = stream.write_all(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
            }
        });
        url
    }

    /// A URL at which nothing listens.
    fn closed_url() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    }

    fn target(url: String) -> HaproxyTarget {
        HaproxyTarget {
            socket: SOCKET.into(),
            url,
        }
    }

    #[test]
    fn any_answer_passes_unless_the_host_is_drained() {
        let sandbox = Sandbox::with_base_system();
        serve_socket(&sandbox, 0);
        let (root, target) = (&sandbox.host.root, target(serve_http()));
        assert_eq!(failure(root, &target), None);
        let drain = Drain {
            by: "ana".into(),
            since: Timestamp::UNIX_EPOCH,
            reason: Some("a new kernel".into()),
        };
        drain.save(root).unwrap();
        let reason = "drained by ana since 1970-01-01T00:00:00Z: a new kernel";
        assert_eq!(failure(root, &target).as_deref(), Some(reason));
        assert_eq!(haproxy_failure(root, &target), None);
        sandbox.write("/var/lib/trueup/balancer/drain.json", "{");
        assert!(failure(root, &target).unwrap().starts_with("drained"));
    }

    #[test]
    fn silent_socket_or_frontend_fails_with_its_reason() {
        let sandbox = Sandbox::with_base_system();
        let root = &sandbox.host.root;
        let reason = failure(root, &target(serve_http())).unwrap();
        assert_eq!(
            reason,
            "haproxy does not answer on its socket: nothing listens on /run/haproxy/check.sock"
        );
        serve_socket(&sandbox, 0);
        let reason = failure(root, &target(closed_url())).unwrap();
        assert!(
            reason.contains("gets no answer: cannot connect"),
            "{reason}"
        );
    }

    #[test]
    fn full_haproxy_keeps_the_address() {
        let sandbox = Sandbox::with_base_system();
        serve_socket(&sandbox, 1);
        assert_eq!(failure(&sandbox.host.root, &target(closed_url())), None);
    }
}
