//! Tests against a real implementation of EC2's API.
//!
//! `tests/ec2-server start DIR` starts such a server; source `DIR/env`, then run the tests.

use std::env;

use aws_credential_types::Credentials;

use super::*;
use crate::ports::ec2::InstanceState;

/// A client of the server, or `None` without one: printed as skipped, and a failure in CI.
fn live_client() -> Option<ApiClient> {
    let Ok(endpoint) = env::var("TRUEUP_TEST_EC2_ENDPOINT") else {
        let instruction = "start a server with tests/ec2-server and source its env file";
        assert!(
            env::var_os("CI").is_none(),
            "TRUEUP_TEST_EC2_ENDPOINT is not set: {instruction}"
        );
        // Bypasses the captured output of a test that passes.
        let _ = nix::unistd::write(
            std::io::stderr(),
            format!("SKIPPED: no EC2 server to test against: {instruction}\n").as_bytes(),
        );
        return None;
    };
    let settings = Ec2Settings {
        region: Some("eu-west-1".to_owned()),
        endpoint: Some(endpoint),
    };
    let keys = Credentials::new("test", "test", None, None, "test");
    let keys = SharedCredentialsProvider::new(keys);
    let limit = Duration::from_secs(60);
    let client = ApiClient::with_options(&settings, limit, Deadlines::default(), Some(keys));
    Some(client.unwrap())
}

/// The values of a variable of the server's env file.
fn values(name: &str) -> Vec<String> {
    let list = env::var(format!("TRUEUP_TEST_EC2_{name}")).unwrap();
    list.split(',').map(str::to_owned).collect()
}

#[test]
fn real_server_lists_instances_by_their_tag() {
    let Some(client) = live_client() else {
        return;
    };
    let filters = |value| {
        [
            Filter {
                name: "tag:role",
                values: value,
            },
            Filter {
                name: "instance-state-name",
                values: &["pending", "running"],
            },
        ]
    };
    let found = client.instances(&filters(&["other", "balancer & more"]));
    let found = found.unwrap();
    let mut ids: Vec<String> = found.iter().map(|found| found.id.to_string()).collect();
    let mut expected = values("INSTANCES");
    ids.sort();
    expected.sort();
    assert_eq!(ids, expected);
    assert_eq!(found[0].state, InstanceState::Running);
    assert_eq!(found[0].tags["role"], "balancer & more");
    assert!(found[0].private_address.is_some() && found[0].zone.starts_with("eu-west-1"));
    assert_eq!(client.instances(&filters(&["other"])).unwrap(), []);
}

#[test]
fn real_server_moves_addresses_between_interfaces() {
    let Some(client) = live_client() else {
        return;
    };
    // Another test moves the first one.
    let allocation: AllocationId = values("ALLOCATIONS")[1].parse().unwrap();
    let private = Ipv4Addr::new(172, 31, 200, 5);
    let interfaces = values("INTERFACES");
    for interface in [&interfaces[0], &interfaces[1], &interfaces[0]] {
        let interface: InterfaceId = interface.parse().unwrap();
        let association = Association {
            allocation: &allocation,
            interface: &interface,
            private_address: None,
        };
        let before = client.elastic_ip(&allocation).unwrap();
        client.associate(&association, Mode::DryRun).unwrap();
        assert_eq!(client.elastic_ip(&allocation).unwrap(), before);
        client.associate(&association, Mode::Execute).unwrap();
        let after = client.elastic_ip(&allocation).unwrap();
        assert_eq!(after.interface.as_ref(), Some(&interface));
        assert_eq!(after.public_address, before.public_address);

        client.assign(&interface, private, Mode::Execute).unwrap();
        let found = client.interfaces_with(private).unwrap();
        let ids: Vec<&InterfaceId> = found.iter().map(|found| &found.id).collect();
        assert_eq!(ids, [&interface]);
    }
}

#[test]
fn real_server_refuses_what_does_not_exist() {
    let Some(client) = live_client() else {
        return;
    };
    let allocation: AllocationId = "eipalloc-0000".parse().unwrap();
    let association = Association {
        allocation: &allocation,
        interface: &values("INTERFACES")[0].parse().unwrap(),
        private_address: None,
    };
    for refused in [
        client.elastic_ip(&allocation).map(drop),
        client.associate(&association, Mode::Execute),
    ] {
        let error = refused.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("InvalidAllocationID.NotFound"), "{text}");
        assert!(error.hint().unwrap().contains("own region"));
    }
}
