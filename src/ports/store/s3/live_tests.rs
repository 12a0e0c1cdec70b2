//! The conformance suite, and tests that need a server with real authentication.
//!
//! `tests/s3-server start DIR` starts such a server; source `DIR/env`, then run the tests.

use std::env;

use super::*;
use crate::ports::store::conformance;

/// The bucket to test in, or `None` without a server: printed as skipped, and a failure in CI.
fn live_settings() -> Option<S3Settings> {
    let Ok(endpoint) = env::var("TRUEUP_TEST_S3_ENDPOINT") else {
        let instruction = "start a server with tests/s3-server and source its env file";
        assert!(
            env::var_os("CI").is_none(),
            "TRUEUP_TEST_S3_ENDPOINT is not set: {instruction}"
        );
        // Bypasses the captured output of a test that passes.
        let _ = nix::unistd::write(
            std::io::stderr(),
            format!("SKIPPED: no S3 server to test against: {instruction}\n").as_bytes(),
        );
        return None;
    };
    Some(S3Settings {
        bucket: env::var("TRUEUP_TEST_S3_BUCKET").expect("TRUEUP_TEST_S3_BUCKET is not set"),
        prefix: "a prefix/of tests".to_owned(),
        region: None,
        endpoint: Some(endpoint),
        path_style: true,
    })
}

fn refusal_reason(result: Result<GetOutcome, StoreError>) -> String {
    match result {
        Err(StoreError::Refused { why, .. }) => why,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn s3_store_passes_the_conformance_suite() {
    if let Some(settings) = live_settings() {
        conformance::run(&|| Box::new(S3Store::open(settings.clone()).unwrap()));
    }
}

#[test]
fn a_wrong_secret_is_refused_by_a_real_server() {
    let Some(settings) = live_settings() else {
        return;
    };
    let id = env::var("AWS_ACCESS_KEY_ID").unwrap();
    for (id, code) in [
        (id.as_str(), "SignatureDoesNotMatch"),
        ("AKIANOBODY", "InvalidAccessKeyId"),
    ] {
        let keys = aws_sdk_s3::config::Credentials::new(id, "wrong", None, None, "test");
        let keys = SharedCredentialsProvider::new(keys);
        let store =
            S3Store::with_options(settings.clone(), Deadlines::default(), Some(keys)).unwrap();
        let why = refusal_reason(store.get("key", None));
        assert!(why.contains("403") && why.contains(code), "{why}");
    }
}

#[test]
fn missing_bucket_is_refused() {
    let Some(settings) = live_settings() else {
        return;
    };
    let bucket = "no-such-bucket".to_owned();
    let store = S3Store::open(S3Settings { bucket, ..settings }).unwrap();
    assert!(refusal_reason(store.get("key", None)).contains("NoSuchBucket"));
    assert!(matches!(store.list(""), Err(StoreError::Refused { .. })));
}
