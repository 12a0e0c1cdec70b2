//! Drains of balancers whose peers, haproxy and keepalived are stand-ins.
#![allow(clippy::disallowed_methods, reason = "stands in for other balancers")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use super::*;
use crate::balancer::state::record;
use crate::ports::ec2::fake::{FakeEc2, THIS_INTERFACE};
use crate::ports::testing::Sandbox;

/// Answers requests to the addresses of these tests, which are all on the loopback interface.
fn serve_http() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            let _ = BufReader::new(stream.try_clone().unwrap()).read_line(&mut line);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    port
}

fn sandbox(port: u16, peers: &str) -> Sandbox {
    let sandbox = Sandbox::with_base_system();
    sandbox.write(
        "/etc/keepalived/keepalived.conf",
        format!(
            "vrrp_script haproxy {{\n script \"trueup balancer check --socket /run/none.sock --url http://127.0.0.1:{port}/\"\n}}\n\
             vrrp_instance web {{\n unicast_peer {{\n {peers}\n }}\n virtual_ipaddress {{\n 127.0.0.1/8\n }}\n}}\n"
        ),
    );
    sandbox
}

fn no_ec2() -> Result<Box<dyn Ec2>, Ec2Error> {
    panic!("nothing of EC2 moves here");
}

fn nothing() -> BTreeSet<IpAddr> {
    BTreeSet::new()
}

fn address() -> BTreeSet<IpAddr> {
    [IpAddr::from([127, 0, 0, 1])].into()
}

fn balancer(sandbox: &Sandbox, own: fn() -> BTreeSet<IpAddr>) -> Balancer<'_> {
    let opened = Balancer::open(&sandbox.host.root, &*sandbox.host.clock, &no_ec2).unwrap();
    Balancer {
        own_addresses: own,
        ..opened
    }
}

fn wanted() -> Drain {
    Drain {
        by: "ana".into(),
        since: Timestamp::UNIX_EPOCH,
        reason: None,
    }
}

/// Without patience: the clock of a sandbox stands still.
fn drain(balancer: &Balancer<'_>, force: bool) -> Result<MoveOutcome, CommandError> {
    let wait = Wait {
        timeout: Duration::ZERO,
        stop: &StopFlag::default(),
        announce: &mut |_| {},
    };
    balancer
        .drain(wanted(), force, wait)
        .map(|(_, outcome)| outcome)
}

fn text(outcome: MoveOutcome) -> String {
    match outcome {
        MoveOutcome::Done => "done".to_owned(),
        MoveOutcome::TimedOut(why) => why,
        MoveOutcome::Undone(why) => format!("undone: {why}"),
    }
}

#[test]
fn drain_is_done_once_the_address_answers_elsewhere() {
    let sandbox = sandbox(serve_http(), "127.0.0.2");
    let root = &sandbox.host.root;
    // Nobody listens at the peer.
    let refused = drain(&balancer(&sandbox, address), false).err().unwrap();
    let message = refused.summary();
    assert!(
        message.starts_with("no other balancer would take 127.0.0.1: cannot connect"),
        "{message}"
    );
    assert_eq!(Drain::load(root).unwrap(), None);
    let here = drain(&balancer(&sandbox, address), true).unwrap();
    assert_eq!(text(here), "127.0.0.1 is still here");
    assert_eq!(Drain::load(root).unwrap(), Some(wanted()));
    record(root, "web", State::Backup, Timestamp::UNIX_EPOCH).unwrap();
    let backup = drain(&balancer(&sandbox, nothing), false).unwrap();
    assert_eq!(text(backup), "keepalived still has web in the state backup");
    record(root, "web", State::Fault, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(
        text(drain(&balancer(&sandbox, nothing), false).unwrap()),
        "done"
    );
}

#[test]
fn address_that_nobody_takes_is_not_done() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let sandbox = sandbox(serve_http(), "127.0.0.1");
    let mut balancer = balancer(&sandbox, nothing);
    // The balancer itself answers as its peer, and then no longer.
    balancer.instances[0].peers = vec![IpAddr::from([127, 0, 0, 1])];
    assert_eq!(text(drain(&balancer, false).unwrap()), "done");
    balancer.haproxy.url = format!("http://{closed}/");
    let why = balancer.what_stays(true).unwrap().unwrap();
    assert!(
        why.starts_with("127.0.0.1 is gone from here, and does not answer elsewhere: "),
        "{why}"
    );
    assert_eq!(balancer.what_stays(false).unwrap(), None);
}

#[test]
fn drain_that_moves_nothing_is_undone() {
    let sandbox = sandbox(serve_http(), "127.0.0.2");
    let mut balancer = balancer(&sandbox, address);
    balancer.instances[0].peers = vec![IpAddr::from([127, 0, 0, 1])];
    let outcome = drain(&balancer, false).unwrap();
    assert_eq!(text(outcome), "undone: 127.0.0.1 is still here");
    assert_eq!(Drain::load(&sandbox.host.root).unwrap(), None);
    // An earlier one is in force.
    wanted().save(&sandbox.host.root).unwrap();
    let outcome = drain(&balancer, false).unwrap();
    assert_eq!(text(outcome), "127.0.0.1 is still here");
    assert_eq!(Drain::load(&sandbox.host.root).unwrap(), Some(wanted()));
}

#[test]
fn undrain_waits_until_the_check_passes() {
    let sandbox = sandbox(80, "127.0.0.2");
    wanted().save(&sandbox.host.root).unwrap();
    let wait = Wait {
        timeout: Duration::ZERO,
        stop: &StopFlag::default(),
        announce: &mut |_| {},
    };
    let (was_drained, outcome) = balancer(&sandbox, nothing).undrain(wait).unwrap();
    assert!(was_drained);
    let why = text(outcome);
    assert!(why.contains("nothing listens on /run/none.sock"), "{why}");
    assert_eq!(Drain::load(&sandbox.host.root).unwrap(), None);
}

#[test]
fn host_without_a_pair_says_what_makes_one() {
    let sandbox = Sandbox::with_base_system();
    let open = || {
        Balancer::open(&sandbox.host.root, &*sandbox.host.clock, &no_ec2)
            .err()
            .unwrap()
    };
    assert!(
        open()
            .summary()
            .starts_with("this host is no balancer of a pair")
    );
    assert_eq!(open().exit(), Exit::Usage);
    sandbox.write("/etc/keepalived/keepalived.conf", "vrrp_instance a {\n}\n");
    assert!(
        open()
            .summary()
            .contains("does not ask `trueup balancer check`")
    );
}

#[test]
fn status_shows_state_addresses_and_haproxy() {
    let sandbox = sandbox(80, "127.0.0.2");
    record(
        &sandbox.host.root,
        "web",
        State::Master,
        Timestamp::UNIX_EPOCH,
    )
    .unwrap();
    let report = balancer(&sandbox, address).status().unwrap();
    assert_eq!(report.outcome, Exit::Failed);
    let [row] = &report.instances[..] else {
        panic!()
    };
    assert_eq!(
        (row.state, row.addresses[0].here),
        (Some(State::Master), true)
    );
    assert!(
        report
            .haproxy_failure
            .unwrap()
            .contains("nothing listens on /run/none.sock")
    );
}

#[test]
fn address_is_asked_with_the_scheme_and_port_of_the_check() {
    let sandbox = sandbox(8080, "127.0.0.2");
    let mut balancer = balancer(&sandbox, nothing);
    let url = |balancer: &Balancer<'_>, ip: &str| balancer.url_at(ip.parse().unwrap());
    assert_eq!(url(&balancer, "10.0.0.5"), "http://10.0.0.5:8080/");
    assert_eq!(url(&balancer, "2001:db8::5"), "http://[2001:db8::5]:8080/");
    balancer.haproxy.url = "https://127.0.0.1/x".into();
    assert_eq!(url(&balancer, "10.0.0.5"), "https://10.0.0.5/");
}

#[test]
fn elastic_ip_at_another_instance_has_moved_though_no_address_answers() {
    let sandbox = sandbox(serve_http(), "127.0.0.1");
    let script =
        "vrrp_instance web {\n notify_master \"trueup eip claim eipalloc-0a --instance web\"\n}\n";
    let config = sandbox.read("/etc/keepalived/keepalived.conf");
    sandbox.write("/etc/keepalived/keepalived.conf", config + script);
    let here = || -> Result<Box<dyn Ec2>, Ec2Error> {
        let ec2 = FakeEc2::new();
        ec2.holder.replace(THIS_INTERFACE.parse().ok());
        Ok(Box::new(ec2))
    };
    let elsewhere = || -> Result<Box<dyn Ec2>, Ec2Error> { Ok(Box::new(FakeEc2::new())) };
    let mut balancer = balancer(&sandbox, nothing);
    // As in a VPC.
    balancer.haproxy.url = "http://127.0.0.1:1/".into();
    balancer.open_ec2 = &here;
    let why = balancer.what_stays(true).unwrap().unwrap();
    assert!(
        why.ends_with("; EC2 shows eipalloc-0a still at this instance"),
        "{why}"
    );
    balancer.open_ec2 = &elsewhere;
    assert_eq!(balancer.what_stays(true).unwrap(), None);
}

#[test]
fn stopped_drain_is_undone_unless_one_is_in_force() {
    let sandbox = sandbox(serve_http(), "127.0.0.2");
    let root = &sandbox.host.root;
    let mut balancer = balancer(&sandbox, address);
    balancer.instances[0].peers = vec![IpAddr::from([127, 0, 0, 1])];
    let stopped = |force| {
        let stop = StopFlag::default();
        stop.set();
        let wait = Wait {
            timeout: Duration::from_secs(9),
            stop: &stop,
            announce: &mut |_| {},
        };
        let error = balancer.drain(wanted(), force, wait).err().unwrap();
        error.problems()[0].hint.clone().unwrap()
    };
    assert!(stopped(false).contains("is not drained"));
    assert_eq!(Drain::load(root).unwrap(), None);
    assert!(stopped(true).contains("stays drained"));
    assert_eq!(Drain::load(root).unwrap(), Some(wanted()));
}
