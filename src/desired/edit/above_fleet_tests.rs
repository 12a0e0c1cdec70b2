//! `--above-fleet`: a fleet that refuses all generations that a publisher could write recovers.

use super::edit_manifest;
use super::tests::{abbreviate_shas, edited, expand_shas, order};
use crate::desired::NodeGeneration;

fn edit_above_fleet(
    before: &str,
    words: &str,
    hosts: &[u64],
) -> Result<(String, Vec<String>), String> {
    let mut order = if words.is_empty() {
        order("--env production")
    } else {
        order(words)
    };
    let numbered = hosts.iter().enumerate();
    let reported = |(n, generation): (usize, &u64)| NodeGeneration {
        node: format!("production/web{n}"),
        generation: *generation,
    };
    order.above_fleet = Some(numbered.map(reported).collect());
    let edited = edit_manifest("m.yml", Some(expand_shas(before).as_bytes()), &order)
        .map_err(|error| error.to_string())?;
    let body = edited.body.map_or_else(
        || "nothing".into(),
        |body| abbreviate_shas(&String::from_utf8(body).unwrap()),
    );
    Ok((
        body,
        edited.warnings.iter().map(|w| w.to_string()).collect(),
    ))
}

#[test]
fn locked_out_fleet_recovers_with_a_higher_generation() {
    let most = "18446744073709551615";
    let locked = format!("# top\ngeneration: {most} # n\nproduction: {{shop: A}}\n");
    let why = edited(&locked, "shop=B").unwrap_err();
    assert!(
        why.contains("cannot be incremented") && why.contains("--above-fleet"),
        "{why}"
    );
    // With a sha, without one, and with one that is current already.
    let healed = |apps: &str, shop: &str| {
        let change = format!("{{action: publish, by: ana, at: 2026-11-21T04:43:01Z{apps}}}");
        format!(
            "# top\ngeneration: {most} # n\nproduction: {{_settings: {{generation: 43, change: {change}}}, shop: {shop}}}\n"
        )
    };
    let moved = "{sha: B, previous: A, by: ana, at: 2026-11-21T04:43:01Z}";
    let (move_of, none) = (", apps: {shop: {from: A, to: B}}", ", apps: {shop: {}}");
    for (words, apps, sha) in [
        ("shop=B", move_of, moved),
        ("", "", "A"),
        ("shop=A", none, "A"),
    ] {
        let (body, warnings) = edit_above_fleet(&locked, words, &[42, 41]).unwrap();
        assert_eq!((body, warnings.len()), (healed(apps, sha), 0), "{words}");
    }
    // A host with an arbitrary number in its record is named, and does not mislead the others.
    let (body, warnings) = edit_above_fleet(&locked, "", &[42, u64::MAX, 41]).unwrap();
    assert_eq!(body, healed("", "A"));
    assert!(
        warnings[0].contains("production/web1") && warnings[0].contains(most),
        "{warnings:?}"
    );
    // If there is no generation yet, one is added.
    let (body, _) = edit_above_fleet("production: {shop: A}\n", "", &[42]).unwrap();
    assert!(
        body.starts_with("production: {_settings: {generation: 43, "),
        "{body}"
    );
    let why = edit_above_fleet(&locked, "shop=B", &[]).unwrap_err();
    assert!(
        why.contains("no node record reports") && why.contains("by hand"),
        "{why}"
    );
    // A generation that most hosts would refuse is not written; the error names the hosts and their numbers.
    let far = [1 << 30, 1 << 31, 1 << 32, 42, 43];
    let why = edit_above_fleet(&locked, "", &far).unwrap_err();
    assert!(
        why.contains("3 of 5 hosts would refuse the generation 44")
            && why.contains("production/web0 says 1073741824")
            && why.contains("nothing was written"),
        "{why}"
    );
    // No advice to write a generation that no new host would accept.
    assert!(edit_above_fleet(&locked, "shop=B", &[u64::MAX]).is_err());
}
