//! What a host says that waits.

use super::super::decide::{HeldSlot, Obstacle};
use super::super::entry::HaltCause;
use super::super::remedy::CommandLine;
use super::*;

fn lines(obstacle: &Obstacle) -> (String, String) {
    let remedy = obstacle.remedy(&sha('1'));
    let command = remedy.command.map_or(String::new(), |command| {
        let line = CommandLine {
            command: &command,
            environment: "production",
            app: "shop",
        };
        line.to_string()
    });
    (remedy.waits_for, command)
}

#[test]
fn obstacles_name_what_they_wait_for_and_a_command() {
    let held = HeldSlot {
        number: 0,
        node: "web3".to_owned(),
    };
    let (waits_for, command) = lines(&Obstacle::Slots(vec![held]));
    assert_eq!(waits_for, "waits for a slot: web3 has slot 0");
    assert_eq!(
        command,
        "trueup rollout break-slot production shop 0 --reason TEXT"
    );

    let beaten = Obstacle::Slots(Vec::new()).remedy(&sha('1')).waits_for;
    assert_eq!(beaten, "waits for a slot: another host has just taken it");

    let nodes = vec!["web1".to_owned(), "web2".to_owned()];
    let (waits_for, command) = lines(&Obstacle::Canaries(nodes));
    assert_eq!(waits_for, "waits for the canaries web1, web2");
    assert_eq!(
        command,
        "trueup rollout skip-canary production shop --reason TEXT"
    );

    let (waits_for, command) = lines(&Obstacle::Held("held by ana: frozen".to_owned()));
    assert_eq!(waits_for, "it is held by ana: frozen");
    let lift = format!("trueup publish production shop={} --lift-hold", sha('1'));
    assert_eq!(command, lift);

    let step = HaltRecord::of_step("migrate", "web2");
    let (_, command) = lines(&Obstacle::Halted(step));
    assert_eq!(
        command,
        "trueup rollout once production shop migrate --resolve retry --reason TEXT"
    );

    let (waits_for, command) = lines(&Obstacle::Halted(halt(HaltCause::Environment)));
    assert!(waits_for.ends_with("web1: why"), "{waits_for}");
    assert_eq!(
        command,
        "trueup rollout resume production shop --reason TEXT"
    );
}
