//! Sources of region, endpoint and instance. The SDK reads the environment of its process, so each case runs this test
//! binary again, with only the test `ask_from_environment` and an environment of its own.

use std::process::Command;

use tempfile::TempDir;

use super::*;

const CHILD_TEST: &str = "ports::ec2::client::fault_tests::environment::ask_from_environment";

/// Marks a child process.
const CHILD_VARIABLE: &str = "TRUEUP_TEST_EC2";

/// The child's part: asks for the instance, then for the address. Does nothing when run as a test of its own.
#[test]
fn ask_from_environment() {
    if std::env::var_os(CHILD_VARIABLE).is_none() {
        return;
    }
    let client = match ApiClient::open(&Ec2Settings::default(), Duration::from_secs(10)) {
        Ok(client) => client,
        Err(error) => return println!("error {error}; {}", error.hint().unwrap()),
    };
    println!("client {}", client.address);
    match client.this_instance() {
        Ok(this) => println!("instance {} {}", this.id, this.interface),
        Err(error) => println!("error {error}; {}", error.hint().unwrap()),
    }
    // Never a real one.
    if client.address.ends_with("amazonaws.com.cn") {
        return;
    }
    match client.elastic_ip(&allocation()) {
        Ok(address) => println!("address {}", address.public_address),
        Err(error) => println!("error {error}"),
    }
}

/// Runs the child with only this environment, in a home of its own.
fn run_child(environment: &[(&str, &str)]) -> String {
    let home = TempDir::new().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args([CHILD_TEST, "--exact", "--nocapture"])
        .env_clear()
        .env(CHILD_VARIABLE, "1")
        .env("HOME", home.path())
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    String::from_utf8(child.stdout).unwrap()
}

const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "id"),
    ("AWS_SECRET_ACCESS_KEY", "secret"),
];

/// A metadata service that gives these answers in turn, after the session's token.
fn metadata(answers: &[&str]) -> FaultyServer {
    let text = |text: &&str| {
        let head = "HTTP/1.1 200 OK\r\nx-aws-ec2-metadata-token-ttl-seconds: 600\r\n";
        Reaction::Respond(format!("{head}Content-Length: {}\r\n\r\n{text}", text.len()).into())
    };
    let mut reactions = vec![text(&"token")];
    reactions.extend(answers.iter().map(text));
    FaultyServer::start(reactions)
}

#[test]
fn metadata_service_says_region_instance_and_interface() {
    let answers = ["eu-north-1", "i-0a", "0e:49:61:0f:c3:11", "eni-0a"];
    let metadata = metadata(&answers);
    let address = "<DescribeAddressesResponse><addressesSet><item><publicIp>203.0.113.9</publicIp><allocationId>eipalloc-0a1b2c3d</allocationId></item></addressesSet></DescribeAddressesResponse>";
    let api = FaultyServer::start(vec![respond(200, address)]);
    let (metadata_url, api_url) = (metadata.endpoint(), api.endpoint());
    let mut environment = KEYS.to_vec();
    environment.push(("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata_url));
    environment.push(("AWS_ENDPOINT_URL_EC2", &api_url));
    let output = run_child(&environment);
    assert!(output.contains("instance i-0a eni-0a"), "{output}");
    assert!(output.contains("address 203.0.113.9"), "{output}");
    assert!(api.request_heads()[0].contains("/eu-north-1/ec2/"));
    let paths = metadata.request_heads();
    let path = "/latest/meta-data/network/interfaces/macs/0e:49:61:0f:c3:11/interface-id";
    assert!(paths.last().unwrap().contains(path), "{paths:?}");
}

#[test]
fn environment_names_the_region_without_any_request() {
    let mut environment = KEYS.to_vec();
    environment.push(("AWS_REGION", "cn-north-1"));
    environment.push(("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1"));
    let output = run_child(&environment);
    let host = "client ec2.cn-north-1.amazonaws.com.cn";
    assert!(output.contains(host), "{output}");
    let hint = "works only on an EC2 instance";
    assert!(
        output.contains("did not say its id") && output.contains(hint),
        "{output}"
    );
}

#[test]
fn host_outside_of_ec2_ends_with_an_instruction() {
    let silent = FaultyServer::start(vec![Reaction::Hang]);
    let endpoint = silent.endpoint();
    let output = run_child(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint)]);
    assert!(
        output.contains("did not say its region") && output.contains("set `ec2.region`"),
        "{output}"
    );
}

#[test]
fn metadata_of_another_form_is_refused() {
    for answers in [
        &["../../user-data"][..],
        &["i-0a", "../../iam"],
        &["i-0a", "0e:49:61:0f:c3:11", "eni-0a/x"],
        &[&"i-0a".repeat(100)],
    ] {
        let metadata = metadata(answers);
        let endpoint = metadata.endpoint();
        let mut environment = KEYS.to_vec();
        environment.push(("AWS_REGION", "eu-west-1"));
        environment.push(("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint));
        environment.push(("AWS_ENDPOINT_URL_EC2", "http://127.0.0.1:1"));
        let output = run_child(&environment);
        assert!(
            output.contains("metadata service did not say") && output.contains("it answered with"),
            "{answers:?}: {output}"
        );
    }
}
