//! The order of the reasons not to go on.

use super::super::decide::{Decision, Obstacle, Situation, decide};
use super::super::entry::HaltCause;
use super::super::identity::Nonce;
use super::super::journal::FailedHere;
use super::super::once::OnceClaim;
use super::super::quarantine::Quarantine;
use super::super::register::WantedHold;
use super::*;

/// The decision for a host that serves, but for some fields.
macro_rules! decision {
    ($register:expr $(, $field:ident = $value:expr)*) => {{
        let (sha, wanted) = (sha('1'), wanted(2, "1"));
        decide(&Situation {
            $($field: $value,)*
            ..Situation {
                register: &$register,
                wanted: &wanted,
                sha: &sha,
                node: "web1",
                serves: true,
                quarantine: None,
                failed_here: None,
                own_claim: None,
                wants_canaries: false,
                after: None,
            }
        })
    }};
}

fn rolling() -> (Register, EntryId) {
    let (mut register, id) = opened();
    register.count(&id, &counted(8, &[]), "web1");
    (register, id)
}

#[test]
fn serving_host_needs_a_slot_and_a_newcomer_a_proof() {
    let (mut register, id) = rolling();
    assert_eq!(decision!(register), Decision::NeedsSlot);
    let newcomer = |register: &Register| decision!(*register, serves = false);
    assert_eq!(newcomer(&register), Decision::Blocked(Obstacle::Unproven));
    register.set_proven(&id);
    assert_eq!(newcomer(&register), Decision::Free);
}

#[test]
fn uncounted_entry_blocks_those_who_depend_on_the_count() {
    let (register, _) = opened();
    assert_eq!(decision!(register), Decision::NeedsSlot);
    let counting = Decision::Blocked(Obstacle::Counting);
    let newcomer = decision!(register, serves = false);
    assert_eq!(newcomer, counting);
    let canary = decision!(register, wants_canaries = true);
    assert_eq!(canary, counting);
}

#[test]
fn quarantine_in_force_comes_before_all_other_reasons() {
    let (mut register, id) = rolling();
    register.halt(&id, halt(HaltCause::Environment));
    let about = (
        Nonce(1),
        "web2".to_owned(),
        Timestamp::UNIX_EPOCH,
        "why".to_owned(),
    );
    let imposed = Quarantine::imposed(None, about.clone());
    let lifted = Quarantine::lifted(Some(&imposed), about);
    let blocked = decision!(register, quarantine = Some(&imposed));
    assert!(matches!(
        blocked,
        Decision::Blocked(Obstacle::Quarantined { .. })
    ));
    let halted = decision!(register, quarantine = Some(&lifted));
    assert!(matches!(halted, Decision::Blocked(Obstacle::Halted(_))));
    assert_eq!((imposed.epoch, lifted.epoch), (0, 1));
}

#[test]
fn after_canaries_and_own_failures_block_until_they_are_settled() {
    let (mut register, _) = rolling();
    let failed = FailedHere {
        sha: sha('1'),
        epoch: 0,
        reason: "the gate failed".to_owned(),
    };
    let blocked = decision!(register, failed_here = Some(&failed));
    let expected = Obstacle::FailedHere("the gate failed".to_owned());
    assert_eq!(blocked, Decision::Blocked(expected));
    let after = |register: &Register| decision!(*register, after = Some("api"));
    assert_eq!(
        after(&register),
        Decision::Blocked(Obstacle::After("api".to_owned()))
    );
    register.skip_after(&sha('1'));
    assert_eq!(after(&register), Decision::NeedsSlot);

    let (mut register, id) = opened();
    register.count(&id, &counted(8, &["web2"]), "web1");
    let expected = Obstacle::Canaries(vec!["web2".to_owned()]);
    assert_eq!(decision!(register), Decision::Blocked(expected));
    let canary = decision!(register, node = "web2");
    assert_eq!(canary, Decision::NeedsSlot);
}

#[test]
fn step_of_another_host_takes_no_slot() {
    let (mut register, id) = rolling();
    let claim = OnceClaim {
        step: "migrate".to_owned(),
        entry: id,
        member: failure("web2", 1).member,
        claim: Nonce(7),
        since: Timestamp::UNIX_EPOCH,
    };
    register.claim(&claim, None);
    let blocked = decision!(register);
    assert!(matches!(
        blocked,
        Decision::Blocked(Obstacle::Claimed { .. })
    ));
}

#[test]
fn older_manifest_blocks() {
    let (mut register, _) = rolling();
    register.generation = 3;
    assert_eq!(
        decision!(register),
        Decision::Blocked(Obstacle::OldManifest)
    );
}

#[test]
fn hold_blocks_every_sha_but_the_one_that_it_names() {
    let (register, _) = rolling();
    let hold = |named: Option<char>| WantedShas {
        hold: Some(WantedHold {
            sha: named.map(sha),
            description: "held by ana: frozen".to_owned(),
        }),
        ..wanted(2, "12")
    };
    let held = Decision::Blocked(Obstacle::Held("held by ana: frozen".to_owned()));
    let decide = |hold: &WantedShas| decision!(register, wanted = hold);
    assert_eq!(decide(&hold(None)), held);
    assert_eq!(decide(&hold(Some('2'))), held);
    assert_eq!(decide(&hold(Some('1'))), Decision::NeedsSlot);
}
