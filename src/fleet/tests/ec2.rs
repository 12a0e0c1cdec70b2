//! Instances of EC2 as nodes.

use std::cell::RefCell;
use std::net::IpAddr;

use super::peer_list::{settings, shop_query};
use super::*;
use crate::fleet::PeerSource;
use crate::fleet::ec2::{Instance, InstanceState, Instances, MAX_TAGS, to_peer};
use crate::settings::{Ec2Group, Settings};

const SETTINGS: &str =
    "fleet: {ec2: {filters: {'tag:app': shop}, as: {apps: [shop], ports: {http: 80}}}}\n";

/// EC2, as a test says it is.
struct Cloud {
    answer: RefCell<Result<Vec<Instance>, String>>,
    calls: RefCell<usize>,
}

impl Instances for Cloud {
    fn list(&self, group: &Ec2Group) -> Result<Vec<Instance>, String> {
        assert_eq!(group.filters["tag:app"], ["shop"]);
        *self.calls.borrow_mut() += 1;
        self.answer.borrow().clone()
    }
}

fn instance(number: u8, state: InstanceState) -> Instance {
    Instance {
        id: format!("i-{number:017x}"),
        state,
        addresses: match state {
            InstanceState::Ending => Vec::new(),
            _ => vec![IpAddr::from([10, 1, 0, number])],
        },
        tags: [("zone", "a"), ("note", "two\nlines"), ("aws:x", "y")]
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
    }
}

fn running(numbers: &[u8]) -> Vec<Instance> {
    let numbers = numbers.iter();
    numbers
        .map(|number| instance(*number, InstanceState::Running))
        .collect()
}

struct Balancer {
    sandbox: Sandbox,
    settings: Settings,
    store: MemoryStore,
    cloud: Cloud,
}

fn balancer() -> Balancer {
    Balancer {
        sandbox: Sandbox::empty(),
        settings: settings(SETTINGS).1,
        store: MemoryStore::new(),
        cloud: Cloud {
            answer: RefCell::new(Ok(running(&[1, 2]))),
            calls: RefCell::default(),
        },
    }
}

/// What a pass found.
#[derive(Debug)]
struct PassResult {
    names: Vec<String>,
    kept: Vec<String>,
    problems: Vec<String>,
}

impl Balancer {
    /// A pass a while later.
    fn pass(&self, seconds: i64) -> Result<PassResult, String> {
        self.sandbox.clock.advance(seconds);
        let host = &self.sandbox.host;
        let mut peers = PeerSource::from_store(&self.settings, host, &self.store, false)
            .with_own_node("lb", vec![IpAddr::from([10, 1, 0, 99])])
            .with_instances(&self.cloud);
        let nodes = peers.load().nodes(&shop_query())?;
        peers.save(true).unwrap();
        Ok(PassResult {
            names: nodes.iter().map(|peer| peer.name.clone()).collect(),
            kept: peers.kept_reasons(),
            problems: peers.record_problems(),
        })
    }

    fn answers(&self, answer: Result<Vec<Instance>, &str>) {
        *self.cloud.answer.borrow_mut() = answer.map_err(str::to_owned);
    }

    fn calls(&self) -> usize {
        *self.cloud.calls.borrow()
    }

    /// A host with an agent at the address of an instance, which serves.
    fn add_agent(&self, name: &str, number: u8) {
        let mut record = record(name, number);
        record.addresses = vec![IpAddr::from([10, 1, 0, number])];
        record.ports.insert("http".into(), 80);
        put(&self.store, &record);
    }
}

fn id(number: u8) -> String {
    instance(number, InstanceState::Running).id
}

#[test]
fn instances_without_an_agent_are_nodes_by_their_id() {
    let lb = balancer();
    let found = lb.pass(0).unwrap();
    assert_eq!(found.names, [id(1), id(2)]);
    let peer = to_peer(&lb.settings.fleet.ec2, &running(&[1])[0], &[0]).unwrap();
    assert_eq!(peer.apps, ["shop"]);
    assert_eq!(peer.ports["http"], 80);
    let tags: Vec<&str> = peer.tags.keys().map(String::as_str).collect();
    assert_eq!(tags, ["zone"], "a tag that could end a line is none");
}

#[test]
fn ec2_is_asked_once_a_minute_and_not_again_after_a_failure() {
    let lb = balancer();
    for (seconds, calls) in [(0, 1), (30, 1), (29, 1), (1, 2)] {
        lb.pass(seconds).unwrap();
        assert_eq!(lb.calls(), calls);
    }
    lb.answers(Err("throttled"));
    for (seconds, calls) in [(60, 3), (30, 3), (30, 4)] {
        lb.pass(seconds).unwrap();
        assert_eq!(lb.calls(), calls);
    }
}

#[test]
fn instance_with_an_agent_is_one_node_and_what_its_agent_says() {
    let lb = balancer();
    lb.add_agent("web1", 1);
    assert_eq!(lb.pass(0).unwrap().names, [id(2), "web1".to_owned()]);
    // It has not proven a release yet.
    let mut absent = record("web1", 1);
    absent.addresses = vec![IpAddr::from([10, 1, 0, 1])];
    for app in absent.apps.values_mut() {
        app.state = crate::fleet::ServingState::Absent;
    }
    put(&lb.store, &absent);
    assert_eq!(lb.pass(0).unwrap().names, [id(2)]);
}

#[test]
fn terminated_instance_leaves_at_once_however_young_its_record_is() {
    let lb = balancer();
    lb.answers(Ok(running(&[1, 2, 3])));
    lb.add_agent("web1", 1);
    assert_eq!(lb.pass(0).unwrap().names.len(), 3);
    let mut answer = running(&[2, 3]);
    answer.push(instance(1, InstanceState::Ending));
    lb.answers(Ok(answer.clone()));
    let found = lb.pass(60).unwrap();
    assert_eq!(found.names, [id(2), id(3)]);
    assert_eq!(found.kept, [""; 0]);
    assert_eq!(lb.pass(60).unwrap().names, [id(2), id(3)], "it stays away");
    // Another instance got its address, and the name of the host.
    let mut successor = instance(4, InstanceState::Running);
    successor.addresses = vec![IpAddr::from([10, 1, 0, 1])];
    answer.push(successor);
    lb.answers(Ok(answer));
    let names = lb.pass(60).unwrap().names;
    assert_eq!(names, [id(2), id(3), "web1".to_owned()]);
}

#[test]
fn refused_request_leaves_the_answer_before_in_force_for_ten_minutes() {
    let lb = balancer();
    lb.pass(0).unwrap();
    lb.answers(Err("RequestLimitExceeded"));
    let found = lb.pass(60).unwrap();
    assert_eq!((found.names.len(), found.kept.len()), (2, 0));
    assert!(
        found.problems[0].contains("RequestLimitExceeded; EC2's answer of"),
        "{found:?}"
    );
    let found = lb.pass(600).unwrap();
    assert_eq!(found.names, [id(1), id(2)]);
    assert!(found.kept[0].contains("RequestLimitExceeded"), "{found:?}");
    lb.answers(Ok(running(&[1, 2, 3])));
    assert_eq!(lb.pass(60).unwrap().names.len(), 3);
}

#[test]
fn first_pass_without_an_answer_of_ec2_changes_nothing() {
    let lb = balancer();
    lb.answers(Err("no credentials"));
    let why = lb.pass(0).unwrap_err();
    assert!(why.contains("no credentials"), "{why}");
}

#[test]
fn empty_answer_of_ec2_empties_no_list() {
    let lb = balancer();
    lb.answers(Ok(running(&[1, 2, 3, 4])));
    lb.pass(0).unwrap();
    lb.answers(Ok(Vec::new()));
    let found = lb.pass(60).unwrap();
    assert_eq!(found.names.len(), 4);
    assert!(
        found.kept[0].contains("the store lists no node where it listed 4"),
        "{found:?}"
    );
}

#[test]
fn own_address_and_addresses_that_no_host_has_are_no_peers() {
    let lb = balancer();
    let mut bad = running(&[99, 3, 4]);
    bad[1].addresses = vec!["169.254.169.254".parse().unwrap()];
    bad[2].id = "../x".into();
    lb.answers(Ok([running(&[1]), bad].concat()));
    assert_eq!(lb.pass(0).unwrap().names, [id(1)]);
}

#[test]
fn operators_see_the_instances_that_have_no_agent() {
    let lb = balancer();
    let mut answer = running(&[1, 2]);
    answer.push(instance(3, InstanceState::Ending));
    answer.push(instance(4, InstanceState::Pending));
    answer[1].tags.insert("Name".into(), "old\u{1b}[2J".into());
    lb.answers(Ok(answer));
    let groups = &lb.settings.fleet.ec2;
    let listed = list_instances(groups, &lb.cloud).unwrap();
    let mut record = record("web1", 1);
    record.addresses = vec![IpAddr::from([10, 1, 0, 1])];
    let shown = without_agent(groups, &listed, &[record.into()]);
    let ids: Vec<&str> = shown.iter().map(|instance| &*instance.id).collect();
    assert_eq!(ids, [id(2), id(4)]);
    assert_eq!(shown[0].apps, ["shop"]);
    let name = shown[0].name.as_ref().unwrap();
    assert!(!name.contains('\u{1b}'), "{name}");
}

#[test]
fn record_hides_no_more_than_one_instance() {
    let lb = balancer();
    lb.answers(Ok(running(&[1, 2, 3])));
    let mut record = record("evil", 9);
    let claimed = [9, 1, 2, 3].map(|number| IpAddr::from([10, 1, 0, number]));
    record.addresses = claimed.into();
    put(&lb.store, &record);
    let names = lb.pass(0).unwrap().names;
    assert_eq!(names, ["evil".to_owned(), id(2), id(3)]);
}

#[test]
fn host_that_stays_listed_after_an_outage_is_no_second_node() {
    let lb = balancer();
    lb.store.set_server_time(fixed_time());
    lb.add_agent("web1", 1);
    let before = [id(2), "web1".to_owned()];
    assert_eq!(lb.pass(0).unwrap().names, before);
    lb.store
        .set_server_time(fixed_time() + SignedDuration::from_hours(2));
    assert_eq!(lb.pass(7200).unwrap().names, before);
}

#[test]
fn record_that_is_written_after_an_instance_ended_is_of_another_host() {
    let lb = balancer();
    lb.store.set_server_time(fixed_time());
    lb.answers(Ok(running(&[1, 2, 3])));
    lb.add_agent("web1", 1);
    assert_eq!(lb.pass(0).unwrap().names.len(), 3);
    let mut answer = running(&[1, 2, 3]);
    answer[0].state = InstanceState::Ending;
    lb.answers(Ok(answer));
    assert_eq!(lb.pass(60).unwrap().names, [id(2), id(3)]);
    // No instance of these groups has the address now.
    lb.store
        .set_server_time(fixed_time() + SignedDuration::from_mins(30));
    lb.add_agent("web9", 1);
    let names = lb.pass(1800).unwrap().names;
    assert_eq!(names, [id(2), id(3), "web9".to_owned()]);
}

#[test]
fn instance_that_the_settings_name_as_well_is_one_node() {
    let mut lb = balancer();
    let settings_text = SETTINGS.replace(
        "fleet: {",
        "fleet: {static: {old1: {addresses: [10.1.0.1], ports: {http: 80}, apps: [shop]}}, ",
    );
    lb.settings = settings(&settings_text).1;
    assert_eq!(lb.pass(0).unwrap().names, [id(2), "old1".to_owned()]);
}

#[test]
fn error_of_ec2_is_one_line_without_control_characters() {
    let lb = balancer();
    lb.pass(0).unwrap();
    lb.answers(Err("refused\nall is well \u{1b}[2J"));
    let found = lb.pass(60).unwrap();
    assert!(!found.problems[0].contains(char::is_control), "{found:?}");
}

#[test]
fn tags_of_all_instances_are_limited() {
    let lb = balancer();
    let mut heavy = running(&[1]);
    heavy[0].tags.insert("x".into(), "y".repeat(MAX_TAGS));
    lb.answers(Ok(heavy));
    let why = lb.pass(0).unwrap_err();
    assert!(why.contains("48 MiB of tags"), "{why}");
}
