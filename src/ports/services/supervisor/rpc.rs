//! Client for supervisord: XML-RPC over HTTP over its Unix socket.

use std::io::ErrorKind;
use std::rc::Rc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dxr::{FaultResponse, MethodCall, MethodResponse, TryFromValue, Value};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::endpoint::{Endpoint, EndpointError};
use crate::ports::root::Root;
use crate::ports::runtime::block_on;
use crate::ports::watchdog;

/// Maximum size of an answer, in bytes: enough for some thousand processes.
const MAX_RESPONSE: usize = 4 << 20;

/// Maximum nesting of elements in an answer; a list of processes has 11.
const MAX_DEPTH: usize = 64;

/// How long supervisord may take to listen after its start.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a call failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RpcError {
    /// Supervisord answered with a fault.
    Fault {
        code: i32,
        text: String,
    },
    /// Nothing listens, or the listener does not speak supervisord's protocol.
    Unreachable(String),
    /// The user who runs trueup may not connect.
    PermissionDenied(String),
    TimedOut,
}

/// Supervisord's fault codes.
pub(super) mod fault {
    pub(in super::super) const SHUTDOWN_STATE: i32 = 6;
    pub(in super::super) const BAD_NAME: i32 = 10;
    pub(in super::super) const NO_FILE: i32 = 20;
    pub(in super::super) const NOT_EXECUTABLE: i32 = 21;
    pub(in super::super) const ABNORMAL_TERMINATION: i32 = 40;
    pub(in super::super) const SPAWN_ERROR: i32 = 50;
    pub(in super::super) const ALREADY_STARTED: i32 = 60;
    pub(in super::super) const NOT_RUNNING: i32 = 70;
    pub(in super::super) const ALREADY_ADDED: i32 = 90;
    pub(in super::super) const CANT_REREAD: i32 = 92;
}

/// Client for the supervisord of a host.
#[derive(Debug)]
pub(super) struct RpcClient {
    root: Rc<Root>,
}

impl RpcClient {
    pub(super) fn new(root: Rc<Root>) -> RpcClient {
        RpcClient { root }
    }

    /// Calls `supervisor.METHOD` within `limit`. Each call has a connection of its own, so a restart of
    /// supervisord between calls does not matter.
    pub(super) fn call<T: TryFromValue>(
        &self,
        limit: Duration,
        method: &str,
        params: Vec<Value>,
    ) -> Result<T, RpcError> {
        let _operation = watchdog::begin(format!("supervisord: {method}"), limit);
        let endpoint = Endpoint::load(&self.root)?;
        let request = MethodCall {
            name: format!("supervisor.{method}").into(),
            params,
        };
        let request = request.to_xml().map_err(|e| protocol_error(&e))?;
        let answer = block_on(async {
            let exchange = async {
                let stream = self.connect(&endpoint).await?;
                send_request(stream, &endpoint, request).await
            };
            tokio::time::timeout(limit, exchange).await
        });
        let answer = answer.map_err(|_| RpcError::TimedOut)??;
        parse_response(&answer)
    }

    /// Retries, because a supervisord that was just started does not listen at once.
    async fn connect(&self, endpoint: &Endpoint) -> Result<UnixStream, RpcError> {
        let started = Instant::now();
        loop {
            let (_folder, path) = endpoint.resolve_socket(&self.root)?;
            let error = match UnixStream::connect(path).await {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            let early = [ErrorKind::NotFound, ErrorKind::ConnectionRefused];
            if !early.contains(&error.kind()) || started.elapsed() > CONNECT_TIMEOUT {
                let why = format!("{}: {error}", endpoint.socket.display());
                return Err(match error.kind() {
                    ErrorKind::PermissionDenied if !self.root.is_privileged() => {
                        RpcError::PermissionDenied(why)
                    }
                    _ => RpcError::Unreachable(why),
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl From<EndpointError> for RpcError {
    fn from(error: EndpointError) -> RpcError {
        match error.is_permission_denied() {
            true => RpcError::PermissionDenied(error.to_string()),
            false => RpcError::Unreachable(error.to_string()),
        }
    }
}

async fn send_request(
    stream: UnixStream,
    endpoint: &Endpoint,
    call: String,
) -> Result<String, RpcError> {
    let unreachable = |error: &dyn std::fmt::Display| {
        RpcError::Unreachable(format!("{}: {error}", endpoint.socket.display()))
    };
    let server = stream.peer_cred().map_err(|e| unreachable(&e))?.uid();
    // Any user could listen in a world-writable folder.
    if server != 0 && server != nix::unistd::geteuid().as_raw() {
        return Err(unreachable(&format!(
            "user {server} listens there; expected root, or the user who runs trueup"
        )));
    }
    let mut request = Request::post("/RPC2")
        .header(HOST, "localhost")
        .header(CONNECTION, "close")
        .header(CONTENT_TYPE, "text/xml");
    if let Some((name, password)) = &endpoint.credentials {
        let login = STANDARD.encode(format!("{name}:{password}"));
        request = request.header(AUTHORIZATION, format!("Basic {login}"));
    }
    let body = Full::new(Bytes::from(call));
    let request = request.body(body).map_err(|e| unreachable(&e))?;
    let (mut sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|e| unreachable(&e))?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|e| unreachable(&e))?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(unreachable(&match status {
                StatusCode::UNAUTHORIZED => {
                    "it requires a username= and password= other than those in its configuration"
                        .into()
                }
                status => format!("it answered with {status}"),
            }));
        }
        let body = Limited::new(response.into_body(), MAX_RESPONSE);
        let body = body
            .collect()
            .await
            .map_err(|e| unreachable(&e))?
            .to_bytes();
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
    .await;
    connection.abort();
    answer
}

fn parse_response<T: TryFromValue>(answer: &str) -> Result<T, RpcError> {
    // Each level takes stack space in the recursive parser.
    if nesting_depth(answer) > MAX_DEPTH {
        return Err(protocol_error(&"the response is nested too deeply"));
    }
    match MethodResponse::from_xml(answer) {
        Ok(response) => T::try_from_value(&response.value).map_err(|e| protocol_error(&e)),
        Err(_) => {
            let fault = FaultResponse::from_xml(answer)
                .map_err(|_| protocol_error(&"the response is not XML-RPC"))?
                .fault;
            Err(match fault.code() {
                fault::SHUTDOWN_STATE => RpcError::Unreachable("it is shutting down".into()),
                code => RpcError::Fault {
                    code,
                    text: fault.string().to_owned(),
                },
            })
        }
    }
}

/// Maximum nesting of elements, closed or not.
fn nesting_depth(answer: &str) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    let bytes = answer.as_bytes();
    for at in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'<') {
        match bytes.get(at.0 + 1) {
            Some(b'/') => now = now.saturating_sub(1),
            Some(next) if next.is_ascii_alphabetic() => now += 1,
            _ => {}
        }
        most = most.max(now);
    }
    most
}

fn protocol_error(error: &dyn std::fmt::Display) -> RpcError {
    let text: String = error.to_string().chars().take(200).collect();
    RpcError::Unreachable(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzz_xml_rpc_answers() {
        let words = &[
            "<value>",
            "</value>",
            "<array><data>",
            "</data></array>",
            "<struct>",
            "</struct>",
            "<member>",
            "<name>",
            "<int>",
            "<i4>",
            "<string>",
            "<boolean>",
            "<double>",
            "<nil/>",
            "<base64>",
            "<dateTime.iso8601>",
            "&lt;",
            "&#0;",
            "<![CDATA[",
            "]]>",
            "<!-- ",
            " -->",
            "<!DOCTYPE a [<!ENTITY b \"c\">]>",
            "&b;",
            "<?xml version='1.0'?>",
        ];
        let law = |input: &[u8]| parse_response::<Value>(&String::from_utf8_lossy(input)).is_ok();
        let name = "xml-rpc";
        crate::fuzz::Target {
            name,
            words,
            law: &law,
        }
        .run();
    }

    #[test]
    fn deeply_nested_response_is_refused() {
        for depth in [40, 100_000] {
            let (open, close) = ("<value><array><data>", "</data></array></value>");
            let inner = format!("{}{}", open.repeat(depth), close.repeat(depth));
            let answer =
                format!("<methodResponse><params><param>{inner}</param></params></methodResponse>");
            for answer in [&answer, &answer[..answer.len() / 2]] {
                let why = parse_response::<Value>(answer).unwrap_err();
                assert_eq!(why, protocol_error(&"the response is nested too deeply"));
            }
        }
    }
}
