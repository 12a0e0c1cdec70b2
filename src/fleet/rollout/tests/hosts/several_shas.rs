//! An app of which the manifest wants several shas.

use super::*;

#[test]
fn rollout_of_few_hosts_of_an_app_ends_when_they_have_the_sha() {
    let fleet = fleet(one_slot());
    // Every second host is in zone a.
    let text = format!(
        "generation: 2\n{ENV}:\n  shop: {{sha: {}, overrides: [{{match: {{zone: a}}, sha: {}}}]}}\n",
        sha('1'),
        sha('2')
    );
    let body = text.as_bytes();
    let written = fleet.store.inner.put(KEY, body, WriteCondition::Always);
    written.unwrap();
    let host = |number, wanted| HostRollout {
        sha: sha(wanted),
        wanted: WantedShas {
            generation: 2,
            shas: vec![sha('1'), sha('2')],
            hold: None,
        },
        ..fleet.host(number)
    };
    let (web1, web2) = (host(1, '1'), host(2, '2'));
    let (web3, _web5) = (host(3, '1'), host(5, '1'));
    deploy(&web1);
    deploy(&web2);
    deploy(&web3);
    let register = fleet.register();
    let was_done = |wanted| register.current(&sha(wanted)).unwrap().was_done;
    assert!(was_done('2'), "the only host has it");
    assert!(!was_done('1'), "web5 lacks it");
}
