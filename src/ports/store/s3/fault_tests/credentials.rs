//! Sources of region and credentials. The SDK reads the environment of its process, so each case runs this
//! test binary again, with only the test `open_store_from_environment` and an environment of its own.

use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::super::{S3Settings, S3Store};
use super::answers::object;
use crate::ports::aws::faulty_server::{FaultyServer, Reaction};
use crate::ports::store::Store;

const CHILD_TEST: &str = "ports::store::s3::fault_tests::credentials::open_store_from_environment";

/// Marks a child process.
const CHILD_VARIABLE: &str = "TRUEUP_TEST_LOOK";

/// The child's part: opens the store that its environment names and prints the result. Does nothing when run
/// as a test of its own.
#[test]
fn open_store_from_environment() {
    if std::env::var_os(CHILD_VARIABLE).is_none() {
        return;
    }
    let settings = S3Settings {
        bucket: "bucket".to_owned(),
        prefix: String::new(),
        region: None,
        endpoint: std::env::var("LOOK_AT").ok(),
        path_style: true,
    };
    let asked = Instant::now();
    match S3Store::open(settings).and_then(|store| store.get("key", None)) {
        Ok(found) => println!("found {found:?}"),
        Err(error) => println!("error {error:?}: {error}"),
    }
    println!("\nafter {} ms", asked.elapsed().as_millis());
}

/// Runs the child with only this environment, in a home of its own.
fn run_child(environment: &[(&str, &str)], files: &[(&str, &str)]) -> (String, Duration) {
    let home = TempDir::new().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    for (name, content) in files {
        std::fs::write(home.path().join(name), content).unwrap();
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args([CHILD_TEST, "--exact", "--nocapture"])
        .env_clear()
        .env(CHILD_VARIABLE, "1")
        .env("HOME", home.path())
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let output = String::from_utf8(child.stdout).unwrap();
    let (_, after) = output.split_once("\nafter ").expect(&output);
    let millis = after.split(' ').next().unwrap().parse().unwrap();
    (output, Duration::from_millis(millis))
}

/// A store that answers, to see which key signed the request.
fn store() -> FaultyServer {
    FaultyServer::start(vec![Reaction::Respond(object("v1", b"body"))])
}

#[track_caller]
fn assert_credentials_used(store: &FaultyServer, key: &str, output: &str) {
    let requests = store.request_heads();
    assert_eq!(requests.len(), 1, "{output}");
    assert!(
        requests[0].contains(&format!("Credential={key}/")),
        "{requests:?}"
    );
    assert!(requests[0].contains("/eu-west-1/s3/"), "{requests:?}");
}

fn credentials_response(key: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"Code": "Success", "AccessKeyId": "{key}", "SecretAccessKey": "s", "Token": "t", "Expiration": "2099-01-01T00:00:00Z"}}"#
    );
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into()
}

#[test]
fn missing_region_fails_without_any_request() {
    let metadata = FaultyServer::start(vec![Reaction::Hang]);
    let endpoint = metadata.endpoint();
    let (output, _) = run_child(
        &[
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint),
        ],
        &[],
    );
    assert!(
        output.contains("Settings") && output.contains("AWS_REGION"),
        "{output}"
    );
    assert!(
        metadata.request_heads().is_empty(),
        "the metadata service was asked"
    );
}

#[test]
fn missing_credentials_error_names_each_source_and_why_it_has_none() {
    let silent = FaultyServer::start(vec![Reaction::Hang]);
    let store = store();
    let (endpoint, at) = (silent.endpoint(), store.endpoint());
    let (output, after) = run_child(
        &[
            ("LOOK_AT", &at),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint),
        ],
        &[],
    );
    assert!(output.contains("NoCredentials"), "{output}");
    for reason in [
        "so the store s3://bucket was not asked",
        "environment: AWS_ACCESS_KEY_ID is not set",
        "/.aws/credentials: no such file",
        "role of this instance: ",
    ] {
        assert!(output.contains(reason), "{reason}: {output}");
    }
    assert!(!output.contains("refused"), "{output}");
    assert!(after < Duration::from_secs(6), "{after:?}: {output}");
    assert!(
        store.request_heads().is_empty(),
        "a request without credentials"
    );
}

#[test]
fn environment_credentials_need_no_request() {
    let (store, metadata) = (store(), FaultyServer::start(vec![Reaction::Hang]));
    let (at, endpoint) = (store.endpoint(), metadata.endpoint());
    let (output, _) = run_child(
        &[
            ("LOOK_AT", &at),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "ENVIRONMENT"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint),
        ],
        &[],
    );
    assert_credentials_used(&store, "ENVIRONMENT", &output);
    assert!(
        metadata.request_heads().is_empty(),
        "the metadata service was asked"
    );
}

#[test]
fn profile_provides_region_and_credentials() {
    let store = store();
    let at = store.endpoint();
    let (output, _) = run_child(
        &[("LOOK_AT", &at), ("AWS_PROFILE", "deploy")],
        &[
            (".aws/config", "[profile deploy]\nregion = eu-west-1\n"),
            (
                ".aws/credentials",
                "[deploy]\naws_access_key_id = PROFILE\naws_secret_access_key = s\n",
            ),
        ],
    );
    assert_credentials_used(&store, "PROFILE", &output);
}

#[test]
fn container_provides_credentials() {
    let (store, container) = (
        store(),
        FaultyServer::start(vec![Reaction::Respond(credentials_response("CONTAINER"))]),
    );
    let (at, uri) = (store.endpoint(), format!("{}/keys", container.endpoint()));
    let (output, _) = run_child(
        &[
            ("LOOK_AT", &at),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &uri),
        ],
        &[],
    );
    assert_credentials_used(&store, "CONTAINER", &output);
}

#[test]
fn web_identity_provides_credentials() {
    let xml = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
        <AccessKeyId>WEB</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
        <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
        </AssumeRoleWithWebIdentityResponse>";
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{xml}",
        xml.len()
    );
    let (store, sts) = (
        store(),
        FaultyServer::start(vec![Reaction::Respond(answer.into())]),
    );
    let (at, sts) = (store.endpoint(), sts.endpoint());
    let home = TempDir::new().unwrap();
    let token = home.path().join("token");
    std::fs::write(&token, "token").unwrap();
    let (output, _) = run_child(
        &[
            ("LOOK_AT", &at),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/deploy"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
            ("AWS_ENDPOINT_URL_STS", &sts),
        ],
        &[],
    );
    assert_credentials_used(&store, "WEB", &output);
}

#[test]
fn instance_metadata_provides_credentials() {
    let text = |text: &str| {
        let head = "HTTP/1.1 200 OK\r\nx-aws-ec2-metadata-token-ttl-seconds: 600\r\n";
        Reaction::Respond(format!("{head}Content-Length: {}\r\n\r\n{text}", text.len()).into())
    };
    let metadata = FaultyServer::start(vec![
        text("token"),
        text("role"),
        Reaction::Respond(credentials_response("INSTANCE")),
    ]);
    let store = store();
    let (at, endpoint) = (store.endpoint(), metadata.endpoint());
    let (output, _) = run_child(
        &[
            ("LOOK_AT", &at),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint),
        ],
        &[],
    );
    assert_credentials_used(&store, "INSTANCE", &output);
}
