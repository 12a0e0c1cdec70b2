//! A small fleet, and what holds in a fleet of any size.

use super::*;

#[test]
fn hundred_hosts_take_the_sha_within_their_slots() {
    let folder = tempfile::tempdir().unwrap();
    for (max_unavailable, slots) in [("25%", 25), ("2", 2)] {
        let outcome = simulate(&Scenario {
            hosts: 100,
            max_unavailable,
            limit: Duration::from_secs(3600),
            folder: folder.path(),
        });
        assert!(outcome.took.is_some(), "it is done: {outcome:?}");
        assert_eq!(outcome.switched, 100);
        assert!(outcome.most_out <= slots, "{}", outcome.most_out);
        assert_eq!(outcome.held_slots, 0);
        assert_eq!(outcome.errors, 0, "{}", outcome.last_error);
    }
}
