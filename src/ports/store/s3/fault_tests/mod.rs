//! Handling of faulty servers and networks, with a server that misbehaves on purpose.

mod answers;
mod credentials;
mod response_limits;

use std::time::{Duration, Instant};

use aws_sdk_s3::config::Credentials;

use self::answers::{error, object};
use super::*;
use crate::ports::aws::faulty_server::{FaultyServer, Reaction};

const SHORT_DEADLINES: Deadlines = Deadlines {
    connect: Duration::from_millis(400),
    attempt: Duration::from_millis(400),
    operation: Duration::from_secs(4),
    get_many: Duration::from_secs(4),
    credentials: Duration::from_millis(400),
};

fn settings(endpoint: &str) -> S3Settings {
    S3Settings {
        bucket: "bucket".to_owned(),
        prefix: "prefix".to_owned(),
        region: Some("eu-west-1".to_owned()),
        endpoint: Some(endpoint.to_owned()),
        path_style: true,
    }
}

fn store_at(endpoint: &str, deadlines: Deadlines) -> S3Store {
    let keys = Credentials::new("id", "secret", None, None, "test");
    let keys = SharedCredentialsProvider::new(keys);
    S3Store::with_options(settings(endpoint), deadlines, Some(keys)).unwrap()
}

fn store(server: &FaultyServer) -> S3Store {
    store_at(&server.endpoint(), SHORT_DEADLINES)
}

/// For servers that are slow on purpose, but do answer in the end.
fn store_with_default_deadlines(server: &FaultyServer) -> S3Store {
    store_at(&server.endpoint(), Deadlines::default())
}

#[track_caller]
fn unreachable_reason<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Unreachable { why, .. }) => why,
        other => panic!("not unreachable: {other:?}"),
    }
}

#[track_caller]
fn refusal_reason<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Refused { why, .. }) => why,
        other => panic!("not refused: {other:?}"),
    }
}

fn etag_of(etag: &str) -> Etag {
    Etag(etag.to_owned())
}

#[test]
fn silent_server_is_unreachable_by_the_deadline() {
    let server = FaultyServer::start(vec![Reaction::Hang]);
    let asked = Instant::now();
    let why = unreachable_reason(store(&server).get("key", None));
    assert!(why.contains("timeout"), "{why}");
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(server.request_heads().len(), 3, "three attempts");
}

#[test]
fn slow_body_fails_at_the_deadline() {
    let server = FaultyServer::start(vec![Reaction::RespondSlowly(object("v1", &[b'x'; 1000]))]);
    let asked = Instant::now();
    let why = unreachable_reason(store(&server).get("key", None));
    assert!(why.contains("timed out after"), "{why}");
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "{:?}",
        asked.elapsed()
    );
}

#[test]
fn write_that_may_be_missed_ends_at_its_own_limit() {
    let server = FaultyServer::start(vec![Reaction::Hang]);
    let limit = Duration::from_millis(200);
    let store = store_with_default_deadlines(&server);
    let why = unreachable_reason(store.put_within(limit, "key", b"x", WriteCondition::Always));
    assert!(why.contains("timed out after 200ms"), "{why}");
}

#[test]
fn busy_server_is_retried() {
    let busy = || Reaction::Respond(error(503, "SlowDown"));
    let server = FaultyServer::start(vec![busy(), Reaction::Respond(object("v1", b"body"))]);
    let GetOutcome::Object(found) = store_with_default_deadlines(&server)
        .get("key", None)
        .unwrap()
    else {
        panic!("no object");
    };
    assert_eq!((&found.body[..], found.etag), (&b"body"[..], etag_of("v1")));
    assert_eq!(found.modified.to_string(), "2026-11-21T04:43:01Z");

    let server = FaultyServer::start(vec![busy()]);
    let why = unreachable_reason(store_with_default_deadlines(&server).get("key", None));
    assert!(why.contains("503 SlowDown"), "{why}");
    assert_eq!(server.request_heads().len(), 3, "three attempts");
}

#[test]
fn truncated_body_is_an_error() {
    let mut short = object("v1", &[b'x'; 1000]);
    short.truncate(short.len() - 1);
    let server = FaultyServer::start(vec![Reaction::RespondAndClose(short)]);
    let why = unreachable_reason(store(&server).get("key", None));
    assert!(why.contains("truncated"), "{why}");
}

#[test]
fn body_of_unknown_or_excessive_length_is_not_read() {
    let head =
        "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nLast-Modified: Sat, 21 Nov 2026 04:43:01 GMT\r\n";
    let unknown = format!("{head}Connection: close\r\n\r\nhalf of it");
    let server = FaultyServer::start(vec![Reaction::RespondAndClose(unknown.into())]);
    let why = unreachable_reason(store(&server).get("key", None));
    assert!(why.contains("without its length"), "{why}");

    let large = format!("{head}Content-Length: {}\r\n\r\n", MAX_OBJECT_SIZE + 1);
    let server = FaultyServer::start(vec![Reaction::Respond(large.into())]);
    let result = store(&server).get("key", None);
    assert!(
        matches!(result, Err(StoreError::TooLarge { .. })),
        "{result:?}"
    );
}

#[test]
fn an_unchanged_object_is_not_read() {
    let unchanged = b"HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n".to_vec();
    // The second server has the object at the known version, but sends it anyway.
    for answer in [unchanged, object("v1", b"body")] {
        let server = FaultyServer::start(vec![Reaction::Respond(answer)]);
        let found = store(&server).get("key", Some(&etag_of("v1"))).unwrap();
        assert_eq!(found, GetOutcome::Unchanged);
        let requests = server.request_heads();
        assert!(
            requests[0].starts_with("GET /bucket/prefix/key"),
            "{requests:?}"
        );
        assert!(
            requests[0].contains("\r\nif-none-match: \"v1\"\r\n"),
            "{requests:?}"
        );
    }
}

#[test]
fn not_modified_without_a_known_etag_is_an_error() {
    let unchanged = b"HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n".to_vec();
    let server = FaultyServer::start(vec![Reaction::Respond(unchanged)]);
    let why = unreachable_reason(store(&server).get("key", None));
    assert!(why.contains("not modified"), "{why}");
}

#[test]
fn a_write_sends_its_condition() {
    let written = || {
        Reaction::Respond(b"HTTP/1.1 200 OK\r\nETag: \"v2\"\r\nContent-Length: 0\r\n\r\n".to_vec())
    };
    let cases = [
        (WriteCondition::Always, None),
        (WriteCondition::Absent, Some("\r\nif-none-match: *\r\n")),
        (
            WriteCondition::Matches(&etag_of("v1")),
            Some("\r\nif-match: v1\r\n"),
        ),
    ];
    for (when, condition) in cases {
        let server = FaultyServer::start(vec![written()]);
        let put = store(&server).put("key", b"body", when).unwrap();
        assert_eq!(put, PutOutcome::Written(etag_of("v2")));
        let requests = &server.request_heads()[0];
        match condition {
            Some(condition) => assert!(requests.contains(condition), "{requests}"),
            None => assert!(!requests.contains("\r\nif-"), "{requests}"),
        }
    }
}

#[test]
fn failed_condition_is_a_conflict_but_a_missing_bucket_is_not() {
    for (status, code) in [(412, "PreconditionFailed"), (404, "NoSuchKey")] {
        let server = FaultyServer::start(vec![Reaction::Respond(error(status, code))]);
        let put = store(&server).put("key", b"", WriteCondition::Matches(&etag_of("v1")));
        assert_eq!(put.unwrap(), PutOutcome::Conflict);
        assert_eq!(
            server.request_heads().len(),
            1,
            "asked once, and looked up nothing"
        );
    }
    let server = FaultyServer::start(vec![Reaction::Respond(error(404, "NoSuchBucket"))]);
    let put = store(&server).put("key", b"", WriteCondition::Matches(&etag_of("v1")));
    assert!(refusal_reason(put).contains("NoSuchBucket"));
    assert!(refusal_reason(store(&server).get("key", None)).contains("NoSuchBucket"));
}

#[test]
fn write_retries_while_another_is_in_progress() {
    let busy = || Reaction::Respond(error(409, "ConditionalRequestConflict"));
    let written =
        Reaction::Respond(b"HTTP/1.1 200 OK\r\nETag: \"v2\"\r\nContent-Length: 0\r\n\r\n".to_vec());
    let server = FaultyServer::start(vec![busy(), busy(), written]);
    let put = store_with_default_deadlines(&server)
        .put("key", b"", WriteCondition::Absent)
        .unwrap();
    assert_eq!(put, PutOutcome::Written(etag_of("v2")));

    let server = FaultyServer::start(vec![busy()]);
    let put = store_with_default_deadlines(&server)
        .put("key", b"", WriteCondition::Absent)
        .unwrap();
    assert_eq!(put, PutOutcome::Conflict);
    assert_eq!(server.request_heads().len(), MAX_PUT_ATTEMPTS as usize);
}

/// The server executes the first attempt but its answer is lost; the second conflicts with the first.
#[test]
fn write_with_a_lost_response_is_recognised() {
    fn mark(heads: &[String]) -> &str {
        let (_, rest) = heads[0].split_once("x-amz-meta-trueup-write: ").unwrap();
        rest.split("\r\n").next().unwrap()
    }
    fn head(mark: &str) -> Vec<u8> {
        format!(
            "HTTP/1.1 200 OK\r\nETag: \"v2\"\r\nx-amz-meta-trueup-write: {mark}\r\nContent-Length: 0\r\n\r\n"
        )
        .into()
    }
    let lost = || Reaction::RespondAndClose(Vec::new());
    let conflict = || Reaction::Respond(error(412, "PreconditionFailed"));

    let server = FaultyServer::start(vec![
        lost(),
        conflict(),
        Reaction::RespondWith(|requests| head(mark(requests))),
    ]);
    let put = store_with_default_deadlines(&server)
        .put("key", b"", WriteCondition::Absent)
        .unwrap();
    assert_eq!(put, PutOutcome::Written(etag_of("v2")));
    assert!(server.request_heads()[2].starts_with("HEAD "));

    let server = FaultyServer::start(vec![lost(), conflict(), Reaction::Respond(head("another"))]);
    let put = store_with_default_deadlines(&server)
        .put("key", b"", WriteCondition::Absent)
        .unwrap();
    assert_eq!(put, PutOutcome::Conflict);
}

#[test]
fn closed_connection_is_reopened() {
    let once = || Reaction::RespondAndClose(object("v1", b"body"));
    let server = FaultyServer::start(vec![once()]);
    let store = store_with_default_deadlines(&server);
    for _ in 0..3 {
        assert!(matches!(
            store.get("key", None).unwrap(),
            GetOutcome::Object(_)
        ));
        // Time for the server's close to arrive, as it would between two operations.
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_error_names_its_cause_and_the_endpoint() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let why = unreachable_reason(store_at(&closed, SHORT_DEADLINES).get("key", None));
    assert!(
        why.contains("Connection refused") && why.contains(&closed),
        "{why}"
    );
    assert!(!why.contains("dispatch failure"), "{why}");

    let why =
        unreachable_reason(store_at("http://store.invalid", Deadlines::default()).get("key", None));
    assert!(why.contains("dns") || why.contains("timeout"), "{why}");
    assert!(!why.contains("dispatch failure"), "{why}");

    let server = FaultyServer::start(vec![Reaction::RespondAndClose(b"not TLS".to_vec())]);
    let secure = server.endpoint().replace("http:", "https:");
    let why = unreachable_reason(store_at(&secure, Deadlines::default()).get("key", None));
    assert!(
        why.to_lowercase().contains("tls") || why.contains("corrupt message"),
        "{why}"
    );

    let server = FaultyServer::start(vec![Reaction::Respond(
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
    )]);
    let why = unreachable_reason(store(&server).get("key", None));
    assert!(why.contains("without its ETag"), "{why}");
}

#[test]
fn refusal_carries_the_error_code_and_a_hint() {
    for (status, code, hint) in [
        (403, "SignatureDoesNotMatch", "secret access key"),
        (403, "InvalidAccessKeyId", "does not know"),
        (403, "AccessDenied", "permission"),
        (403, "RequestTimeTooSkewed", "clock"),
        (404, "NoSuchBucket", "bucket's name"),
    ] {
        let server = FaultyServer::start(vec![Reaction::Respond(error(status, code))]);
        let store = store_with_default_deadlines(&server);
        for why in [
            refusal_reason(store.get("key", None)),
            refusal_reason(store.put("key", b"", WriteCondition::Absent)),
            refusal_reason(store.list("")),
            refusal_reason(store.delete("key")),
        ] {
            assert!(why.contains(code) && why.contains(hint), "{why}");
        }
    }
}

#[test]
fn plain_web_server_404_is_not_a_missing_object() {
    let page = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<h1>gone</h1>\r\n";
    let server = FaultyServer::start(vec![Reaction::Respond(page.to_vec())]);
    assert!(refusal_reason(store(&server).get("key", None)).contains("an S3 server?"));
    assert!(
        refusal_reason(store(&server).put("key", b"", WriteCondition::Matches(&etag_of("v"))))
            .contains("404")
    );
    assert!(refusal_reason(store(&server).delete("key")).contains("404"));
}

#[test]
fn a_list_is_read_to_its_last_page() {
    let page = |names: &[&str], next: &str| {
        let rows: String = names
            .iter()
            .map(|name| format!("<Contents><Key>prefix/{name}</Key><LastModified>2026-11-21T04:43:01.000Z</LastModified><ETag>&quot;v&quot;</ETag><Size>7</Size></Contents>"))
            .collect();
        let xml = format!("<ListBucketResult>{rows}{next}</ListBucketResult>");
        Reaction::Respond(
            format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{xml}",
                xml.len()
            )
            .into(),
        )
    };
    let more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t+1</NextContinuationToken>";
    let server = FaultyServer::start(vec![page(&["a/1", "a/"], more), page(&["a/2"], "")]);
    let rows = store(&server).list("a/").unwrap();
    let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(keys, ["a/1", "a/2"], "and the console's folder is left out");
    assert_eq!((rows[0].size, &rows[0].etag), (7, &etag_of("v")));
    let requests = server.request_heads();
    assert!(requests[0].contains("prefix=prefix%2Fa%2F"), "{requests:?}");
    assert!(
        requests[1].contains("continuation-token=t%2B1"),
        "{requests:?}"
    );

    // A server that reports more pages forever, or gives no token for the next page.
    for next in [more, "<IsTruncated>true</IsTruncated>"] {
        let server = FaultyServer::start(vec![page(&["a/1"], next)]);
        assert!(unreachable_reason(store(&server).list("a/")).contains("continuation"));
    }
}
