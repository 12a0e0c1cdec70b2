//! Addresses of EC2 that move to the master of a pair, against a real implementation of the API: `tests/ec2-server`.

use std::env;
use std::process::Command;

use crate::sandbox::{Ran, Sandbox};

/// The server's variable, or `None` without a server: printed as skipped, and a failure in CI.
fn variable(name: &str) -> Option<String> {
    let value = env::var(format!("TRUEUP_TEST_EC2_{name}")).ok();
    if value.is_none() {
        let instruction = "start a server with tests/ec2-server and source its env file";
        assert!(env::var_os("CI").is_none(), "no EC2 server: {instruction}");
        eprintln!("SKIPPED: no EC2 server to test against: {instruction}");
    }
    value
}

fn command(host: &Sandbox, endpoint: &str, args: &[&str]) -> Command {
    let mut command = host.command(args);
    command
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_ENDPOINT_URL_EC2", endpoint)
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint);
    command
}

fn run(host: &Sandbox, endpoint: &str, args: &[&str], code: i32) -> Ran {
    let ran = host.run_command(command(host, endpoint, args));
    assert_eq!(ran.code, code, "{args:?}: {ran}");
    ran
}

fn host() -> Sandbox {
    let host = Sandbox::of("  - file: {path: /etc/motd, content: x}\n");
    let node = "environment: production\nroles: [app]\nstore: {url: \"dir:@STORE@\"}\nmetrics: {textfile: /var/lib/textfile}\n";
    host.write("/etc/trueup/node.yml", node);
    host.write("/var/lib/textfile/other.prom", "");
    host
}

#[test]
fn master_claims_the_elastic_ip_once_and_everything_shows_it() {
    let Some(endpoint) = variable("ENDPOINT") else {
        return;
    };
    let first = |name| {
        variable(name)
            .unwrap()
            .split(',')
            .next()
            .unwrap()
            .to_owned()
    };
    let (id, this) = (first("ALLOCATIONS"), first("INSTANCES"));
    let interfaces = variable("INTERFACES").unwrap();
    let other = interfaces.split(',').nth(1).unwrap();
    let host = host();
    let run = |args: &[&str], code| run(&host, &endpoint, args, code);

    let before = run(&["eip", "status", &id], 0);
    assert!(
        before.out.contains(&format!("({id}): {other} ")),
        "{before}"
    );
    let claimed = run(&["eip", "claim", &id, "--instance", "web"], 0);
    assert!(
        claimed.out.contains(&format!(
            "is now at this instance ({this}); before, {other} "
        )),
        "{claimed}"
    );
    let state = host.read("/run/trueup/balancer/web.json");
    assert!(state.contains("\"state\":\"master\""), "{state}");
    let claimed = run(&["eip", "claim", &id, "--json"], 0).json();
    assert_eq!(
        (&claimed["attempts"], &claimed["instance"]),
        (&0.into(), &this.as_str().into())
    );
    let metrics = host.read("/var/lib/textfile/trueup_claims.prom");
    let count = format!("trueup_address_claims{{address=\"{id}\",result=\"claimed\"}} 2");
    assert!(metrics.contains(&count), "{metrics}");

    let script = format!(
        "vrrp_instance web {{\n    notify_master \"/usr/bin/trueup eip claim {id} --instance web\" root root\n}}\n"
    );
    host.write("/etc/keepalived/keepalived.conf", &script);
    let after = run(&["eip", "status"], 0);
    assert!(after.out.contains("this instance has it: "), "{after}");
    assert!(
        after.out.contains("last claim by this host succeeded "),
        "{after}"
    );
    assert_eq!(
        run(&["eip", "status", "--json"], 0).json()["addresses"][0]["here"],
        true
    );
    let doctor = run(&["doctor"], 1);
    let check = format!("ok    claim {id}");
    assert!(doctor.out.contains(&check), "{doctor}");
}

#[test]
fn private_address_is_claimed_although_the_settings_have_a_mistake() {
    let Some(endpoint) = variable("ENDPOINT") else {
        return;
    };
    let host = host();
    host.write("/etc/trueup/node.yml", "environment: [\n");
    let claimed = run(&host, &endpoint, &["eip", "claim", "172.31.200.6"], 0);
    assert!(
        claimed.err.contains("goes on without the settings"),
        "{claimed}"
    );
    assert!(
        claimed.out.contains("172.31.200.6 is now at this instance"),
        "{claimed}"
    );
}

#[test]
fn claim_without_an_answer_ends_with_the_cause_and_is_counted() {
    let host = host();
    host.write(
        "/etc/trueup/node.yml",
        "environment: production\nroles: [app]\nstore: {url: \"dir:@STORE@\"}\nec2: {region: eu-west-1}\n",
    );
    let silent = "http://127.0.0.1:1";
    let claim = ["eip", "claim", "eipalloc-0a", "--timeout", "5s"];
    let ran = run(&host, silent, &claim, 1);
    assert!(
        ran.err.contains("metadata service did not say its id"),
        "{ran}"
    );
    assert!(ran.err.contains("works only on an EC2 instance"), "{ran}");
    let record = host.read("/run/trueup/claims/eipalloc-0a.json");
    assert!(record.contains("\"failed\":1"), "{record}");
    let status = run(&host, silent, &["eip", "status", "eipalloc-0a"], 1);
    assert!(
        status
            .err
            .contains("cannot be reached for DescribeAddresses"),
        "{status}"
    );
    let none = run(&host, silent, &["eip", "status"], 64);
    assert!(
        none.err
            .contains("keepalived of this host claims no address"),
        "{none}"
    );
    for invalid in [&["x"][..], &["eipalloc-0a", "--instance", "a/b"]] {
        run(&host, silent, &[&["eip", "claim"], invalid].concat(), 64);
    }
}
