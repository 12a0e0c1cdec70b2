//! What reaches the other side of a channel, over real connections and from real programs.

#![allow(
    clippy::disallowed_methods,
    reason = "the other side is no part of trueup"
)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::notify::Courier;
use crate::ports::clock::Clock;
use crate::ports::testing::Sandbox;
use crate::problem::Problem;
use crate::settings::{Channel, Lookup};

const TIMEOUT: Duration = Duration::from_millis(700);

/// A server that answers so, and what it was asked.
fn server(answer: &'static str) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "http://127.0.0.1:{}/hook",
        listener.local_addr().unwrap().port()
    );
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 8192];
            // The body comes after an empty line, and has the length that its header names.
            loop {
                let read = stream.read(&mut buffer).unwrap_or(0);
                request.extend_from_slice(&buffer[..read]);
                let text = String::from_utf8_lossy(&request).into_owned();
                let length = text.lines().find_map(|line| {
                    line.to_lowercase()
                        .strip_prefix("content-length: ")?
                        .parse::<usize>()
                        .ok()
                });
                let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
                if read == 0 || body.is_some_and(|body| body >= length.unwrap_or(0)) {
                    sender.send(text).unwrap();
                    break;
                }
            }
            match answer {
                "silence" => std::thread::sleep(Duration::from_secs(5)),
                "endless" => {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                    while stream.write_all(&[b'x'; 8192]).is_ok() {}
                }
                // Headers that never end.
                "headers" => {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
                    while stream.write_all(b"a: b\r\n").is_ok() {}
                }
                answer => drop(stream.write_all(answer.as_bytes())),
            }
        }
    });
    (url, requests)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn deliver(sandbox: &Sandbox, kind: serde_json::Value, notice: &Notice) -> Result<String, Problem> {
    let kind: Channel = serde_json::from_value(kind).unwrap();
    let nowhere = Path::new("/nonexistent");
    let lookup = Lookup::for_config(&nowhere.join("node.yml"), nowhere).unwrap();
    let courier = Courier {
        host: &sandbox.host,
        lookup: &lookup,
    };
    courier.deliver(&kind, notice, TIMEOUT)
}

#[test]
fn slack_gets_the_text_and_no_error_shows_the_address() {
    let sandbox = Sandbox::with_base_system();
    let (url, requests) = server(OK);
    sandbox.write(
        "/etc/slack",
        format!("{url}/services/T0/B0/TokenOfSlack24secret\n"),
    );
    let slack = json!({"slack": {"url_file": "/etc/slack", "allow_private": true}});
    assert_eq!(
        deliver(&sandbox, slack, &halted()).unwrap(),
        "the server answered 200"
    );
    let request = requests.recv().unwrap();
    assert!(request.starts_with("POST /hook/services/T0/B0/TokenOfSlack24secret "));
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert!(
        body["text"]
            .as_str()
            .unwrap()
            .starts_with("*production/shop: halted*")
    );
    assert_eq!(body["unfurl_links"], false);

    let refused = "HTTP/1.1 404 Not Found\r\ncontent-length: 37\r\n\r\nno TokenOfSlack24secret at this server";
    let (url, _requests) = server(refused);
    let slack =
        json!({"slack": {"url": format!("{url}/TokenOfSlack24secret"), "allow_private": true}});
    let error = deliver(&sandbox, slack, &halted()).unwrap_err().to_string();
    assert!(
        error.contains("404") && !error.contains("TokenOfSlack"),
        "{error}"
    );
    let slack =
        json!({"slack": {"url": "http://127.0.0.1:1/TokenOfSlack24secret", "allow_private": true}});
    let error = deliver(&sandbox, slack, &halted()).unwrap_err().to_string();
    assert!(
        error.contains("cannot connect") && !error.contains("TokenOfSlack"),
        "{error}"
    );
}

#[test]
fn webhook_gets_the_signed_document() {
    let sandbox = Sandbox::with_base_system();
    sandbox.write("/etc/hook", "key-of-the-webhook");
    let (url, requests) = server(OK);
    let hook = json!({"webhook": {"url": url, "secret_file": "/etc/hook", "allow_private": true}});
    deliver(&sandbox, hook, &halted()).unwrap();
    let request = requests.recv().unwrap();
    let header = |name: &str| {
        let line = request
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap().to_owned()
    };
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    let document: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(document["version"], 1);
    assert_eq!(document["transition"], "halted");
    assert_eq!(document["to"], sha('9').as_str());
    assert!(
        document["text"]
            .as_str()
            .unwrap()
            .contains("failed on web1")
    );
    assert_eq!(header("webhook-id"), "production/shop/halted:9999999:43");
    assert_eq!(
        header("webhook-timestamp"),
        sandbox.clock.now().as_second().to_string()
    );
    assert!(header("webhook-signature").starts_with("v1,"));
}

#[test]
fn hostile_servers_cost_no_more_than_the_deadline() {
    let sandbox = Sandbox::with_base_system();
    for answer in ["silence", "headers"] {
        let (url, _requests) = server(answer);
        let hook = json!({"webhook": {"url": url, "allow_private": true}});
        let error = deliver(&sandbox, hook, &halted()).unwrap_err().to_string();
        let is_bounded = error.contains("not finished within 0.7 s") || error.contains("broke off");
        assert!(is_bounded, "{answer}: {error}");
    }
    let (url, _requests) = server("endless");
    let hook = json!({"webhook": {"url": url, "allow_private": true}});
    deliver(&sandbox, hook, &halted()).unwrap();
}

#[test]
fn redirect_to_a_metadata_service_is_not_followed() {
    let sandbox = Sandbox::with_base_system();
    let (url, _requests) =
        server("HTTP/1.1 302 F\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n");
    let hook = json!({"webhook": {"url": url, "allow_private": true}});
    let error = deliver(&sandbox, hook, &halted()).unwrap_err().to_string();
    assert!(
        error.contains("302") && error.contains("a redirect is not followed"),
        "{error}"
    );
}

#[test]
fn name_of_this_host_is_refused_unless_that_is_allowed() {
    let sandbox = Sandbox::with_base_system();
    let (url, requests) = server(OK);
    let url = url.replace("127.0.0.1", "localhost");
    let error = deliver(&sandbox, json!({"webhook": {"url": url}}), &halted()).unwrap_err();
    assert!(error.to_string().contains("allow_private: true"), "{error}");
    assert!(requests.try_recv().is_err());
}

/// A script that writes what it gets below `/srv`.
fn write_program(sandbox: &Sandbox, path: &str, body: &str) {
    let script = format!(
        "#!/bin/sh\n{}\n",
        body.replace("/srv", &sandbox.machine_path("/srv").display().to_string())
    );
    sandbox.write(path, script);
    sandbox.chmod(path, 0o755);
}

#[test]
fn command_gets_the_document_and_the_variables() {
    let sandbox = Sandbox::with_base_system();
    let body = "cat > /srv/document; echo \"$1 $TRUEUP_NOTICE $TRUEUP_ENVIRONMENT $TRUEUP_APP $TRUEUP_NOTICE_ID\" > /srv/env";
    write_program(&sandbox, "/usr/page", body);
    deliver(
        &sandbox,
        json!({"command": ["/usr/page", "a b"]}),
        &halted(),
    )
    .unwrap();
    let document: serde_json::Value = serde_json::from_str(&sandbox.read("/srv/document")).unwrap();
    assert_eq!(document["summary"], halted().summary);
    assert_eq!(
        sandbox.read("/srv/env"),
        "a b halted production shop production/shop/halted:9999999:43\n"
    );
}

#[test]
fn command_ends_at_its_deadline_with_what_it_printed() {
    let sandbox = Sandbox::with_base_system();
    write_program(&sandbox, "/usr/page", "echo waiting; sleep 60 & sleep 60");
    let error = deliver(&sandbox, json!({"command": ["/usr/page"]}), &halted()).unwrap_err();
    assert!(
        error.to_string().contains("killed") && error.to_string().contains("waiting"),
        "{error}"
    );
    write_program(&sandbox, "/usr/page", "yes | head -c 100000000; exit 3");
    let error = deliver(&sandbox, json!({"command": ["/usr/page"]}), &halted()).unwrap_err();
    assert!(error.to_string().len() < 1000, "{error}");
}

#[test]
fn program_that_others_can_change_does_not_run_as_root() {
    let sandbox = Sandbox::with_base_system();
    write_program(&sandbox, "/usr/page", "touch /srv/ran");
    sandbox.chmod("/usr/page", 0o777);
    let command = json!({"command": ["/usr/page"]});
    let error = deliver(&sandbox, command.clone(), &halted())
        .unwrap_err()
        .to_string();
    assert!(error.contains("/usr/page"), "{error}");
    assert!(!sandbox.exists("/srv/ran"));
    let sandbox = Sandbox::with_base_system();
    write_program(&sandbox, "/usr/page", "touch /srv/ran");
    sandbox.chmod("/usr", 0o777);
    deliver(&sandbox, command, &halted()).unwrap_err();
    assert!(!sandbox.exists("/srv/ran"));
    let sandbox = Sandbox::with_base_system();
    let missing = deliver(&sandbox, json!({"command": ["/usr/none"]}), &halted()).unwrap_err();
    assert!(missing.to_string().contains("/usr/none"), "{missing}");
}

#[test]
fn secret_file_that_others_can_change_is_refused() {
    let sandbox = Sandbox::with_base_system();
    sandbox.write("/etc/slack", "http://127.0.0.1:1/x");
    sandbox.chmod("/etc/slack", 0o666);
    let error = deliver(
        &sandbox,
        json!({"slack": {"url_file": "/etc/slack"}}),
        &halted(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("/etc/slack"), "{error}");
    sandbox.write("/etc/hook", "not an address");
    let error = deliver(
        &sandbox,
        json!({"slack": {"url_file": "/etc/hook"}}),
        &halted(),
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("is not an http or https URL"),
        "{error}"
    );
    assert!(!error.to_string().contains("not an address"), "{error}");
}

#[test]
fn email_has_one_header_whatever_the_subject_says() {
    let sandbox = Sandbox::with_base_system();
    write_program(
        &sandbox,
        "/usr/sbin/sendmail",
        "echo \"$@\" > /srv/args; cat > /srv/mail",
    );
    let mut notice = halted();
    notice.summary = "shöp: x\r\nBcc: evil@example.com\r\n\r\nbody =?utf-8?B?eA==?=".into();
    let email = json!({"email": {"to": ["ops@example.com", "root"], "from": "trueup@example.com"}});
    deliver(&sandbox, email, &notice).unwrap();
    assert_eq!(sandbox.read("/srv/args"), "-t -i\n");
    let mail = sandbox.read("/srv/mail");
    let (headers, body) = mail.split_once("\n\n").unwrap();
    let names = headers.lines().filter(|line| !line.starts_with(' '));
    let names: Vec<&str> = names.map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(
        names,
        [
            "From",
            "To",
            "Subject",
            "Date",
            "Message-ID",
            "Auto-Submitted",
            "MIME-Version",
            "Content-Type",
            "Content-Transfer-Encoding",
        ]
    );
    assert!(
        headers.is_ascii() && headers.lines().all(|line| line.len() <= 78),
        "{headers}"
    );
    let words = headers
        .split("Subject: ")
        .nth(1)
        .unwrap()
        .split("\nDate")
        .next()
        .unwrap();
    let words = words.split_whitespace().map(|word| {
        let word = word
            .strip_prefix("=?utf-8?B?")
            .unwrap()
            .strip_suffix("?=")
            .unwrap();
        String::from_utf8(STANDARD.decode(word).unwrap()).unwrap()
    });
    assert_eq!(
        words.collect::<String>(),
        "shöp: xBcc: evil@example.combody =?utf-8?B?eA==?="
    );
    let body = STANDARD.decode(body.replace('\n', "")).unwrap();
    assert!(String::from_utf8(body).unwrap().starts_with("shöp: x"));
}

#[test]
fn host_without_sendmail_says_so() {
    let sandbox = Sandbox::with_base_system();
    let error = deliver(&sandbox, json!({"email": {"to": ["root"]}}), &halted()).unwrap_err();
    assert!(error.to_string().contains("/usr/sbin/sendmail"), "{error}");
}
