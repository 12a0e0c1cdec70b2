//! The wait of a drain, for connections of this machine.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{drain, end_all_drains, is_drained, return_from_drain, spec};
use crate::desired::Sha;
use crate::ports::clock::SystemClock;
use crate::ports::permission::Independent;
use crate::ports::testing::Sandbox;
use crate::release::ReleaseSpec;
use crate::resource::Failure;

fn drained_spec(port: Option<u16>, drain: &str) -> ReleaseSpec {
    let port = port.map_or(String::new(), |port| format!("port: {port}\n"));
    let text = format!(
        "app: shop\nrepo: /srv/shop.git\nhealth: {{url: \"http://127.0.0.1:3000/up\"}}\n{port}drain: {drain}\n"
    );
    spec(&text, &Sha::parse(&"4f2c9d0e".repeat(5)).unwrap())
}

/// A host on which time passes, with a port and a connection to it.
fn host_with_connection() -> (Sandbox, u16, TcpStream) {
    let mut sandbox = Sandbox::empty();
    sandbox.host.clock = Rc::new(SystemClock);
    let app = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = app.local_addr().unwrap();
    let client = TcpStream::connect(address).unwrap();
    std::thread::spawn(move || {
        let (mut connection, _) = app.accept().unwrap();
        let _ = std::io::copy(&mut connection, &mut std::io::sink());
    });
    (sandbox, address.port(), client)
}

fn timed_drain(sandbox: &Sandbox, spec: &ReleaseSpec) -> (u64, Result<(), Failure>) {
    let began = Instant::now();
    let drained = drain(spec, &sandbox.host);
    (began.elapsed().as_secs(), drained)
}

#[test]
fn drain_waits_for_the_last_connection_and_no_longer() {
    let (sandbox, port, client) = host_with_connection();
    let spec = drained_spec(Some(port), "{notice: 1s, wait: 30s}");
    let ender = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(3));
        drop(client);
    });
    let (seconds, drained) = timed_drain(&sandbox, &spec);
    ender.join().unwrap();
    assert!((4..20).contains(&seconds), "{seconds}");
    assert_eq!(drained, Ok(()));
    assert!(is_drained(&spec, &sandbox.host));
    // It is drained, and does not wait again.
    assert_eq!(timed_drain(&sandbox, &spec), (0, Ok(())));
    assert_eq!(end_all_drains(&sandbox.host).unwrap(), ["shop"]);
    assert!(!is_drained(&spec, &sandbox.host));
    let (seconds, _) = timed_drain(&sandbox, &spec);
    assert!((1..4).contains(&seconds), "nobody is connected: {seconds}");
}

#[test]
fn drain_ends_at_its_limit_whoever_is_connected() {
    let (sandbox, port, _client) = host_with_connection();
    for port in [Some(port), None] {
        let spec = drained_spec(port, "{notice: 1s, wait: 2s}");
        let (seconds, drained) = timed_drain(&sandbox, &spec);
        assert!((2..10).contains(&seconds), "{port:?}: {seconds}");
        assert_eq!(drained, Ok(()));
        let began = Instant::now();
        return_from_drain(&spec, &sandbox.host);
        let seconds = began.elapsed().as_secs();
        assert!((1..6).contains(&seconds), "it waits to be back: {seconds}");
        assert!(!is_drained(&spec, &sandbox.host));
    }
}

#[test]
fn stopped_drain_is_over_at_once() {
    let (sandbox, port, _client) = host_with_connection();
    let spec = drained_spec(Some(port), "{notice: 10m}");
    sandbox.host.stop.set();
    let (seconds, drained) = timed_drain(&sandbox, &spec);
    assert!(seconds < 5 && drained.is_err(), "{seconds}");
    assert!(!is_drained(&spec, &sandbox.host));
}

#[test]
fn app_without_a_drain_is_left_alone() {
    let sandbox = Sandbox::empty();
    let spec = drained_spec(None, "{enabled: false}");
    assert_eq!(drain(&spec, &sandbox.host), Ok(()));
    return_from_drain(&spec, &sandbox.host);
    assert!(!sandbox.machine_path("/run").exists());
}

#[test]
fn hosts_that_may_all_be_out_at_once_are_not_drained() {
    let spec = drained_spec(None, "{notice: 1s, wait: 1s}");
    for (others_serve, expected) in [(Some(false), false), (None, true)] {
        let mut sandbox = Sandbox::empty();
        sandbox.host.clock = Rc::new(SystemClock);
        let permission = Rc::new(Independent { others_serve });
        sandbox.host.permissions.set("shop", permission);
        assert_eq!(drain(&spec, &sandbox.host), Ok(()));
        assert_eq!(is_drained(&spec, &sandbox.host), expected);
    }
}
