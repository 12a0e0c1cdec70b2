use super::*;

#[test]
fn restart_is_marked_once_its_services_are_proven_and_the_slot_is_back() {
    let fleet = fleet(one_slot());
    let web1 = fleet.host(1);
    let (first, second) = ("2026-11-30T08:00:00Z", "2026-11-30T09:00:00Z");
    let at = |text: &str| text.parse().unwrap();
    let marked = || {
        let listed = fleet
            .store
            .inner
            .list(&format!("at/{ENV}/shop/restart-"))
            .unwrap();
        listed.len()
    };
    let mark = |text: &str, has_restarted: bool| {
        web1.mark_restart(at(text), &|| has_restarted).unwrap();
        marked()
    };
    assert_eq!(mark(first, false), 0);
    assert_eq!(
        web1.request(Purpose::Restart, true),
        PermitDecision::Granted
    );
    assert_eq!(mark(first, true), 0, "nobody has proven them");
    web1.settle(AppPosition::Other, &|| true).unwrap();
    assert_eq!(mark(first, true), 1);
    let calls = fleet.store.calls.get();
    assert_eq!(mark(first, true), 1);
    assert_eq!(fleet.store.calls.get(), calls, "it asks the store once");
    assert_eq!(mark(second, true), 1, "the mark of the last one is gone");
}

#[test]
fn restarted_services_are_healthy_for_min_ready_before_the_slot_is_back() {
    let fleet = fleet(RolloutPolicy {
        min_ready: Duration::from_secs(10),
        ..one_slot()
    });
    let web1 = fleet.host(1);
    assert_eq!(request(&web1), PermitDecision::Granted);
    settle(&web1, AppPosition::Wanted);
    fleet.advance(10);
    assert_eq!(settle(&web1, AppPosition::Wanted), Settled::Nothing);
    let restart = web1.request(Purpose::Restart, true);
    assert_eq!(restart, PermitDecision::Granted);
    assert_eq!(settle(&web1, AppPosition::Wanted), Settled::Proving);
    fleet.advance(10);
    assert_eq!(settle(&web1, AppPosition::Wanted), Settled::Nothing);
}
