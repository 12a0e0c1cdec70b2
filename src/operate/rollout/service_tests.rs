use super::tests::{observe, put, store, with_target};
use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

#[test]
fn status_shows_who_restarts_a_service_and_only_its_slot_can_be_broken() {
    let store = store("");
    let view = observe(&store, "_haproxy").unwrap();
    assert_eq!((view.outcome, view.waits_for), (Exit::Converged, None));
    let slot = r#"{"version": 1, "nonce": "00000000000000c3", "holder": {"node": "lb1", "machine": "m", "since": "2026-11-29T10:00:07Z"}}"#;
    put(&store, "slots/production/_haproxy/0.json", slot);
    let view = observe(&store, "_haproxy").unwrap();
    assert_eq!(view.outcome, Exit::Pending);
    let why = view.waits_for.unwrap();
    let command = "`trueup rollout break-slot production _haproxy 0 --reason TEXT`";
    assert!(why.contains(command), "{why}");
    let act = |what| {
        let operator = ("ana".to_owned(), "its disk died".to_owned(), NOW);
        with_target(&store, "_haproxy", |target| {
            intervene(target, None, &what, operator, None).map_err(|error| error.summary())
        })
    };
    let error = act(Intervention::Resume).unwrap_err();
    assert!(error.contains("only its slot can be broken"), "{error}");
    let broken = act(Intervention::BreakSlot {
        number: 0,
        even_if_alive: false,
        step: None,
    });
    assert_eq!(broken.unwrap(), "slot 0 of lb1 is free");
    let view = observe(&store, "_haproxy").unwrap();
    assert_eq!(view.outcome, Exit::Converged);
    assert_eq!(view.acts.len(), 1);
}

#[test]
fn reset_replaces_a_damaged_history_of_a_service() {
    let store = store("");
    put(&store, "rollouts/production/_haproxy.json", "{");
    let error = observe(&store, "_haproxy").unwrap_err();
    assert!(error.contains("`trueup rollout reset"), "{error}");
    let operator = ("ana".to_owned(), "it is damaged".to_owned(), NOW);
    let done = with_target(&store, "_haproxy", |target| {
        intervene(target, None, &Intervention::Reset, operator, None)
            .map_err(|error| error.summary())
    });
    assert_eq!(done.unwrap(), "the history of _haproxy begins again");
    let view = observe(&store, "_haproxy").unwrap();
    assert_eq!((view.outcome, view.acts.len()), (Exit::Converged, 1));
}
