//! Addresses of EC2 that move to the master of a pair, against a real implementation of the API: `tests/ec2-server`.

use std::env;

use crate::sandbox::{Ran, Sandbox};

/// What the server has.
struct Server {
    endpoint: String,
    /// Of the two instances.
    metadata: Vec<String>,
    instances: Vec<String>,
    interfaces: Vec<String>,
    allocations: Vec<String>,
}

impl Server {
    /// `None` without a server: printed as skipped, and a failure in CI.
    fn find() -> Option<Server> {
        let values = |name| {
            let list = env::var(format!("TRUEUP_TEST_EC2_{name}")).unwrap_or_default();
            list.split(',').map(str::to_owned).collect()
        };
        let endpoint = env::var("TRUEUP_TEST_EC2_ENDPOINT").ok();
        if endpoint.is_none() {
            let instruction = "start a server with tests/ec2-server and source its env file";
            assert!(env::var_os("CI").is_none(), "no EC2 server: {instruction}");
            eprintln!("SKIPPED: no EC2 server to test against: {instruction}");
        }
        Some(Server {
            endpoint: endpoint?,
            metadata: values("METADATA"),
            instances: values("INSTANCES"),
            interfaces: values("INTERFACES"),
            allocations: values("ALLOCATIONS"),
        })
    }

    /// Runs trueup on one of the instances.
    fn run(&self, host: &Sandbox, instance: usize, args: &[&str], code: i32) -> Ran {
        run(host, &self.endpoint, &self.metadata[instance], args, code)
    }
}

fn run(host: &Sandbox, endpoint: &str, metadata: &str, args: &[&str], code: i32) -> Ran {
    let mut command = host.command(args);
    command
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_ENDPOINT_URL_EC2", endpoint)
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata);
    let ran = host.run_command(command);
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
    let Some(server) = Server::find() else {
        return;
    };
    let (this, id) = (server.instances[0].as_str(), server.allocations[0].as_str());
    let other = &server.interfaces[1];
    let host = host();
    let run = |args: &[&str], code| server.run(&host, 0, args, code);

    server.run(&self::host(), 1, &["eip", "claim", id], 0);
    let before = run(&["eip", "status", id], 0);
    assert!(
        before.out.contains(&format!("({id}): {other} ")),
        "{before}"
    );
    let claimed = run(&["eip", "claim", id, "--instance", "web"], 0);
    let line = format!("({id}) is now at this instance ({this}); before, {other} ");
    assert!(claimed.out.contains(&line), "{claimed}");
    let state = host.read("/run/trueup/balancer/web.json");
    assert!(state.contains("\"state\":\"master\""), "{state}");
    let claimed = run(&["eip", "claim", id, "--json"], 0).json();
    assert_eq!(
        (&claimed["attempts"], &claimed["instance"]),
        (&0.into(), &this.into())
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
    let last = "the last claim by this host succeeded ";
    assert!(after.out.contains(last), "{after}");
    let here = &run(&["eip", "status", "--json"], 0).json()["addresses"][0]["here"];
    assert_eq!(here, true);
    let doctor = run(&["doctor"], 0);
    assert!(
        doctor.out.contains(&format!("ok    claim {id}")),
        "{doctor}"
    );
}

#[test]
fn private_address_is_claimed_although_the_settings_have_a_mistake() {
    let Some(server) = Server::find() else {
        return;
    };
    let host = host();
    host.write("/etc/trueup/node.yml", "environment: [\n");
    for instance in [1, 0] {
        let claimed = server.run(&host, instance, &["eip", "claim", "172.31.200.6"], 0);
        let note = "goes on without the settings";
        assert!(claimed.err.contains(note), "{claimed}");
        let line = "172.31.200.6 is now at this instance";
        assert!(instance == 1 || claimed.out.contains(line), "{claimed}");
    }
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
    let ran = run(&host, silent, silent, &claim, 1);
    assert!(
        ran.err.contains("metadata service did not say its id"),
        "{ran}"
    );
    assert!(ran.err.contains("works only on an EC2 instance"), "{ran}");
    let record = host.read("/run/trueup/claims/eipalloc-0a.json");
    assert!(record.contains("\"failed\":1"), "{record}");
    let status = run(&host, silent, silent, &["eip", "status", "eipalloc-0a"], 1);
    assert!(
        status
            .err
            .contains("cannot be reached for DescribeAddresses"),
        "{status}"
    );
    let none = run(&host, silent, silent, &["eip", "status"], 64);
    assert!(
        none.err
            .contains("keepalived of this host claims no address"),
        "{none}"
    );
    for invalid in [&["x"][..], &["eipalloc-0a", "--instance", "a/b"]] {
        run(
            &host,
            silent,
            silent,
            &[&["eip", "claim"], invalid].concat(),
            64,
        );
    }
}
