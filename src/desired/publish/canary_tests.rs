use super::*;
use crate::desired::Sha;
use crate::ports::store::{GetOutcome, MemoryStore, StoreError, WriteCondition};
use crate::problem::Problem;

const KEY: &str = "sha_number.yml";

/// `zone=a,pool=x: shop web`.
fn host(text: &str) -> ReportedHost {
    let (tags, apps) = text.split_once(": ").unwrap();
    let tags = tags.split(',').filter_map(|tag| tag.split_once('='));
    ReportedHost {
        node: "web1".into(),
        may_take_part: Some(true),
        agent: "0.1.0".into(),
        tags: tags.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        apps: apps.split(' ').map(str::to_owned).collect(),
    }
}

/// Publishes a sha of `shop` with this `rollout:` of its own and of the environment. Returns the warnings, or the
/// error.
fn publish_to(
    rollout: &str,
    shared: &str,
    hosts: Result<ReportedHosts, StoreError>,
) -> Result<Vec<String>, String> {
    let sha = |letter: &str| Sha::parse(&letter.repeat(40)).unwrap();
    let store = MemoryStore::new();
    let text = format!(
        "production:\n  _settings:\n    rollout: {shared}\n  shop:\n    sha: {}\n    rollout: {rollout}\n",
        sha("a")
    );
    store
        .put(KEY, text.as_bytes(), WriteCondition::Always)
        .unwrap();
    let request = PublishRequest {
        shas: vec![("shop".into(), sha("b"))],
        ..PublishRequest::new("production", "2026-11-21T04:43:01Z".parse().unwrap())
    };
    let published = publish(
        &store,
        KEY,
        &request,
        None,
        &mut Reports(Some(hosts)),
        &mut |_| true,
    );
    let GetOutcome::Object(object) = store.get(KEY, None).unwrap() else {
        panic!("it is gone");
    };
    let is_written = object.body != text.as_bytes();
    assert_eq!(is_written, published.is_ok());
    match published {
        Ok(summary) => Ok(summary.warnings.iter().map(Problem::to_string).collect()),
        Err(error) => Err(error.to_string()),
    }
}

struct Reports(Option<Result<ReportedHosts, StoreError>>);

impl FleetReports for Reports {
    fn hosts(&mut self) -> Result<ReportedHosts, StoreError> {
        self.0.take().expect("hosts are read once")
    }

    fn has_rollouts(&mut self, _: &str) -> Result<bool, StoreError> {
        Ok(true)
    }

    fn was_served(&mut self, _: &str, _: &Sha) -> Result<ServedBefore, String> {
        Ok(ServedBefore::Yes)
    }
}

fn all(hosts: &[&str]) -> Result<ReportedHosts, StoreError> {
    Ok(ReportedHosts {
        hosts: hosts.iter().map(|text| host(text)).collect(),
        is_incomplete: false,
    })
}

#[test]
fn canary_that_some_host_can_be_is_published() {
    for (own, shared, hosts) in [
        (
            "{canary: {match: {zone: a}}}",
            "~",
            &["zone=a: shop", "zone=b: shop"][..],
        ),
        (
            "~",
            "{canary: {match: {zone: a}}}",
            &["zone=a,pool=x: shop"],
        ),
        // Nobody runs it yet, or nobody has reported.
        ("{canary: {match: {zone: a}}}", "~", &["zone=b: web"]),
        ("{canary: {match: {zone: a}}}", "~", &[]),
        // By name, or off: any host will do.
        ("{canary: {hosts: 2}}", "~", &["zone=b: shop"]),
        ("none", "{canary: {match: {zone: a}}}", &["zone=b: shop"]),
        (
            "{canary: ~}",
            "{canary: {match: {zone: a}}}",
            &["zone=b: shop"],
        ),
    ] {
        assert_eq!(publish_to(own, shared, all(hosts)), Ok(Vec::new()), "{own}");
    }
}

#[test]
fn canary_that_no_host_can_be_is_refused_with_the_tags_there_are() {
    let zone_a = "{canary: {match: {zone: a}}}";
    for (own, shared, hosts, expected) in [
        (
            zone_a,
            "~",
            &["zone=b: shop", "zone=c: shop", "zone=a: web"][..],
            "memory:/sha_number.yml:6:31: shop.rollout.canary.match: no host that runs shop has the tags zone=a of its canary, so no host would ever take a new sha\n  hint: their `zone` is b, c",
        ),
        (
            "{min_ready: 5s}",
            "{canary: {match: {zone: a}}}",
            &["zone=b: shop"],
            "memory:/sha_number.yml:3:31: _settings.rollout.canary.match: no host",
        ),
        (
            zone_a,
            "~",
            &["zon=a: shop"],
            "hint: none has a tag `zone`: did you mean `zon`?",
        ),
        (
            zone_a,
            "~",
            &["pool=a: shop"],
            "hint: none has a tag `zone`: they have pool",
        ),
        (zone_a, "~", &[": shop"], "hint: they have no tags"),
        (
            "{canary: {match: {zone: a, pool: x}}}",
            "~",
            &["zone=a,pool=y: shop", "zone=b,pool=x: shop"],
            "the tags pool=x, zone=a of its canary, so no host would ever take a new sha\n  hint: their `pool` is x, y; their `zone` is a, b",
        ),
    ] {
        let error = publish_to(own, shared, all(hosts)).unwrap_err();
        assert!(error.contains(expected), "{error}\n{expected}");
    }
    let many: Vec<String> = (10..30).map(|n| format!("zone=b{n}: shop")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let error = publish_to(zone_a, "~", all(&many)).unwrap_err();
    assert!(error.ends_with("b18, b19 and 10 more"), "{error}");
}

#[test]
fn unknown_hosts_make_the_canary_a_warning() {
    let canary = "{canary: {match: {zone: a}}}";
    let unreadable = StoreError::Unreachable {
        store: "memory:".into(),
        why: "no answer".into(),
        hint: "as the test says",
    };
    let warnings = publish_to(canary, "~", Err(unreadable)).unwrap();
    assert!(warnings[0].starts_with("it is unknown whether some host can be the canary: "));
    let mut some = all(&["zone=b: shop"]).unwrap();
    some.is_incomplete = true;
    let warnings = publish_to(canary, "~", Ok(some)).unwrap();
    assert!(
        warnings[0].starts_with("no host that runs shop has the tags zone=a"),
        "{warnings:?}"
    );
}
