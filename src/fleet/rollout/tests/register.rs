//! Transitions of the register.

use super::super::entry::{EntryState, HaltCause};
use super::super::identity::Nonce;
use super::super::once::OnceClaim;
use super::*;

type Command<'a> = &'a dyn Fn(&mut Register);

fn state(register: &Register) -> EntryState {
    register.current(&sha('1')).unwrap().state()
}

#[test]
fn entry_goes_from_open_to_done() {
    let (mut register, id) = opened();
    assert_eq!(state(&register), EntryState::Open);
    register.count(&id, &counted(8, &["web1"]), "web1");
    assert_eq!(state(&register), EntryState::Canary);
    assert_eq!(register.slots, 2);
    register.pass_canary(&id, "web2");
    assert_eq!(state(&register), EntryState::Canary);
    register.pass_canary(&id, "web1");
    assert_eq!(state(&register), EntryState::Rolling);
    register.set_done(&id);
    assert_eq!(state(&register), EntryState::Done);
}

#[test]
fn transitions_may_be_repeated() {
    let (mut register, id) = opened();
    let changes: [&dyn Fn(&mut Register); 7] = [
        &|register| register.open(&sha('1'), &wanted(2, "1"), OPENER),
        &|register| register.count(&id, &counted(8, &["web1"]), "web1"),
        &|register| register.pass_canary(&id, "web1"),
        &|register| register.record_failure(&id, 0, failure("web2", 1), 2),
        &|register| register.ignore(&sha('1'), "web2"),
        &|register| register.halt(&id, halt(HaltCause::Environment)),
        &|register| register.lift_quarantine(&sha('1'), 1),
    ];
    for change in changes {
        change(&mut register);
        let once = register.clone();
        change(&mut register);
        assert_eq!(register, once);
    }
}

#[test]
fn same_sha_published_later_is_another_entry() {
    let (mut register, first) = opened();
    register.open(&sha('2'), &wanted(3, "2"), OPENER);
    assert!(register.current(&sha('1')).is_none());
    // Also by a manifest whose generation nobody increased.
    register.supersede(&wanted(3, ""));
    register.open(&sha('1'), &wanted(3, "1"), OPENER);
    let second = &register.current(&sha('1')).unwrap().id;
    assert!(second.generation > first.generation);
}

#[test]
fn older_manifest_opens_and_ends_nothing() {
    let (mut register, _) = opened();
    register.open(&sha('2'), &wanted(3, "2"), OPENER);
    let before = register.clone();
    register.open(&sha('1'), &wanted(2, "1"), OPENER);
    register.supersede(&wanted(2, "1"));
    assert_eq!(register, before);
    register.reset(&wanted(2, "1"));
    register.open(&sha('1'), &wanted(2, "1"), OPENER);
    assert!(
        register.current(&sha('1')).is_some(),
        "after an operator's reset"
    );
}

#[test]
fn failure_counts_once_and_in_its_own_epoch_only() {
    let (mut register, id) = opened();
    register.record_failure(&id, 0, failure("web1", 1), 2);
    register.record_failure(&id, 0, failure("web1", 1), 2);
    assert_eq!(state(&register), EntryState::Open);
    register.record_failure(&id, 0, failure("web1", 2), 2);
    assert_eq!(state(&register), EntryState::Halted);
    register.lift_quarantine(&sha('1'), 1);
    assert_eq!(state(&register), EntryState::Open);
    register.record_failure(&id, 0, failure("web2", 1), 1);
    assert_eq!(
        state(&register),
        EntryState::Open,
        "it began before the lift"
    );
}

#[test]
fn halt_ends_only_by_its_own_command() {
    let causes = [
        HaltCause::Quarantined,
        HaltCause::Environment,
        HaltCause::NoCanary,
        HaltCause::OnceStep,
    ];
    for cause in causes {
        let (mut register, id) = opened();
        register.halt(&id, halt(cause));
        register.set_done(&id);
        assert_eq!(state(&register), EntryState::Halted);
        let commands: [(HaltCause, Command<'_>); 4] = [
            (HaltCause::Quarantined, &|register| {
                register.lift_quarantine(&sha('1'), 1)
            }),
            (HaltCause::Environment, &|register| {
                register.resume(&sha('1'), &[HaltCause::Environment]);
            }),
            (HaltCause::NoCanary, &|register| {
                register.skip_canary(&sha('1'))
            }),
            (HaltCause::OnceStep, &|register| {
                register.resume(&sha('1'), &[HaltCause::OnceStep]);
            }),
        ];
        for (of, command) in commands {
            let mut register = register.clone();
            command(&mut register);
            let is_halted = state(&register) == EntryState::Halted;
            assert_eq!(
                is_halted,
                of != cause,
                "{cause:?} by the command for {of:?}"
            );
        }
    }
}

#[test]
fn missing_and_vanished_canaries_halt_the_entry() {
    let none = Counted {
        canaries: Err("no live host".to_owned()),
        ..counted(8, &[])
    };
    let (mut register, id) = opened();
    register.count(&id, &none, "web1");
    assert_eq!(state(&register), EntryState::Halted);

    let (mut register, id) = opened();
    register.count(&id, &counted(8, &["web1", "web2"]), "web1");
    register.pass_canary(&id, "web1");
    let gone = Counted {
        gone_canaries: vec!["web2".to_owned()],
        ..counted(7, &[])
    };
    register.count(&id, &gone, "web3");
    assert_eq!(state(&register), EntryState::Halted);
    register.skip_canary(&sha('1'));
    register.count(&id, &gone, "web3");
    assert_eq!(state(&register), EntryState::Rolling);
}

#[test]
fn register_holds_one_claim_of_an_open_entry() {
    let (mut register, id) = opened();
    let claim = |nonce, entry: &EntryId| OnceClaim {
        step: "migrate".to_owned(),
        entry: entry.clone(),
        member: failure("web1", 1).member,
        claim: Nonce(nonce),
        since: Timestamp::UNIX_EPOCH,
    };
    register.claim(&claim(1, &id), None);
    register.claim(&claim(2, &id), None);
    assert_eq!(register.claim.as_ref().unwrap().claim, Nonce(1));
    register.claim(&claim(3, &id), Some(Nonce(1)));
    assert_eq!(
        register.claim.as_ref().unwrap().claim,
        Nonce(3),
        "taken up again"
    );
    register.take_claim_over(Nonce(1), Nonce(4));
    assert_eq!(
        register.claim.as_ref().unwrap().claim,
        Nonce(3),
        "not as it was shown"
    );
    register.take_claim_over(Nonce(3), Nonce(4));
    register.claim(&claim(5, &id), Some(Nonce(3)));
    assert_eq!(
        register.claim.as_ref().unwrap().claim,
        Nonce(4),
        "an operator's"
    );
    register.release_claim(|held| held.claim == Nonce(4));
    register.open(&sha('2'), &wanted(3, "2"), OPENER);
    register.claim(&claim(6, &id), None);
    assert!(register.claim.is_none(), "the entry is superseded");
}
