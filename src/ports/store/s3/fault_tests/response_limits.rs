//! Limits on the size of a server's answers.

use super::*;

/// For a busy machine and a build without optimisation.
const LONG_DEADLINES: Deadlines = Deadlines {
    connect: Duration::from_secs(60),
    attempt: Duration::from_secs(60),
    operation: Duration::from_secs(600),
    get_many: Duration::from_secs(600),
    credentials: Duration::from_secs(60),
};

/// A page of a list, with this many consecutive keys.
fn list_page(from: usize, count: usize, next: &str) -> Vec<u8> {
    let rows: String = (from..from + count)
        .map(|n| format!("<Contents><Key>prefix/{n}</Key><LastModified>2026-11-21T04:43:01.000Z</LastModified><ETag>&quot;v&quot;</ETag><Size>7</Size></Contents>"))
        .collect();
    let xml = format!("<ListBucketResult>{rows}{next}</ListBucketResult>");
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{xml}",
        xml.len()
    )
    .into()
}

#[test]
fn a_list_that_never_ends_is_refused_with_little_memory() {
    // Each page has another token and reports that more pages follow.
    let server = FaultyServer::start(vec![Reaction::RespondWith(|requests| {
        let next = format!(
            "<IsTruncated>true</IsTruncated><NextContinuationToken>t{}</NextContinuationToken>",
            requests.len()
        );
        list_page(requests.len() * 5000, 5000, &next)
    })]);
    let (listed, peak) =
        crate::testing::peak_memory(|| store_at(&server.endpoint(), LONG_DEADLINES).list(""));
    match listed {
        Err(StoreError::ListTooLarge { what, .. }) => {
            assert!(what.contains("more than 100000 objects"), "{what}")
        }
        other => panic!("{:?}", other.map(|rows| rows.len())),
    }
    assert_eq!(server.request_heads().len(), 21);
    assert!(peak < 100 << 20, "{} MiB", peak >> 20);

    let server = FaultyServer::start(vec![Reaction::RespondWith(|requests| {
        let next = format!(
            "<IsTruncated>true</IsTruncated><NextContinuationToken>t{}</NextContinuationToken>",
            requests.len()
        );
        list_page(0, 0, &next)
    })]);
    let why = unreachable_reason(store(&server).list(""));
    assert!(
        why.contains("without an end") || why.contains("timed out after"),
        "{why}"
    );
}

/// An answer that continues for as long as the client reads.
fn endless_response(status: u16) -> Reaction {
    let mut response = format!("HTTP/1.1 {status} So\r\nETag: \"v\"\r\nLast-Modified: Sat, 21 Nov 2026 04:43:01 GMT\r\nContent-Length: 500000000\r\n\r\n").into_bytes();
    response.resize(40 << 20, b'x');
    Reaction::RespondAndClose(response)
}

#[test]
fn endless_response_is_cut_off_in_every_operation() {
    for status in [200, 403, 503] {
        let server = FaultyServer::start(vec![endless_response(status)]);
        let store = store_at(&server.endpoint(), LONG_DEADLINES);
        for asked in ["get", "put", "list", "delete"] {
            let (failed, peak) = crate::testing::peak_memory(|| match asked {
                "get" => store.get("key", None).is_err(),
                "put" => store.put("key", b"", WriteCondition::Absent).is_err(),
                "list" => store.list("").is_err(),
                _ => store.delete("key").is_err() || status == 200,
            });
            assert!(failed, "{asked} {status}");
            assert!(peak < 24 << 20, "{asked} {status}: {} MiB", peak >> 20);
        }
    }
}

#[test]
fn too_long_list_page_is_an_error() {
    let server = FaultyServer::start(vec![Reaction::Respond(list_page(0, 20_000, ""))]);
    let why = unreachable_reason(store_at(&server.endpoint(), LONG_DEADLINES).list(""));
    assert!(why.contains("longer than 1572864 bytes"), "{why}");
}

#[test]
fn object_larger_than_the_limit_is_not_read() {
    let server = FaultyServer::start(vec![Reaction::Respond(object("v", &[b'x'; 3000]))]);
    let mut answers = Vec::new();
    let keys = ["a".to_owned(), "b".to_owned()];
    store(&server).get_many(&keys, 2000, &mut |_, answer| answers.push(answer));
    assert_eq!(answers.len(), 2);
    for answer in answers {
        assert!(
            matches!(answer, Err(StoreError::TooLarge { limit: 2000, .. })),
            "{answer:?}"
        );
    }
}
