//! Check that a service listens on the ports that it should.
//!
//! A service that runs may answer nobody: another program had the port when it loaded its configuration, and it went on
//! with the old one.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::ports::Host;
use crate::ports::listeners::{self, Listener};
use crate::ports::services::Services;
use crate::resource::Failure;

/// How long a service that has just started or reloaded may take to listen.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Waits until the service listens on all of its ports, for a limited time. Whether it does is part of its state: a start or
/// reload that succeeded is not repeated because of it, which would be so in each pass.
pub(super) fn wait(
    services: &dyn Services,
    name: &str,
    ports: &[u16],
    host: &Host,
) -> Result<(), Failure> {
    let started = host.clock.monotonic_now();
    while check(services, name, ports)?.is_err() {
        let waited = host.clock.monotonic_now() - started;
        if waited >= LISTEN_TIMEOUT || host.stop.is_set() {
            break;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

/// Whether the service listens on all of its ports now. The outer `Err`: that cannot be seen.
pub(super) fn check(
    services: &dyn Services,
    name: &str,
    ports: &[u16],
) -> Result<Result<(), Failure>, Failure> {
    if ports.is_empty() {
        return Ok(Ok(()));
    }
    let mut own = services.process_ids(name)?;
    // The newest first: older ones may only end their many connections.
    own.sort_unstable_by_key(|pid| std::cmp::Reverse(*pid));
    for &port in ports {
        let found = listeners::on_port(port).map_err(|error| {
            Failure::new(format!(
                "cannot read the listening sockets of this host: {error}"
            ))
        })?;
        // Whoever may not see who listens takes the one who does for the service.
        let may_hold = |listener: &Listener| {
            let mut held = own.iter().map(|pid| listener.is_held_by(*pid));
            held.any(|held| held != Some(false))
        };
        if !found.iter().any(may_hold) {
            return Ok(Err(not_listening(name, port, &found)));
        }
    }
    Ok(Ok(()))
}

fn not_listening(name: &str, port: u16, found: &[Listener]) -> Failure {
    let holder = found.iter().find_map(Listener::process);
    match holder {
        Some((pid, program)) => Failure::new(format!(
            "{name} does not listen on port {port}: {program} (process {pid}) does"
        ))
        .hint(format!(
            "stop {program}, or give one of them another port; then `systemctl restart {name}`"
        )),
        None => Failure::new(format!("{name} does not listen on port {port}")).hint(format!(
            "see what it says: `journalctl -u {name}`; `systemctl restart {name}` makes it try again"
        )),
    }
}

/// Numbers, or texts that a template made, of which an empty one is none.
pub(super) fn deserialize_ports<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u16>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    let given = texts.iter().map(|text| text.trim());
    let given = given.filter(|text| !text.is_empty());
    let port = |text: &str| match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(D::Error::custom(format!(
            "expected ports from 1 to 65535, found `{text}`"
        ))),
    };
    given.map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Ports(#[serde(deserialize_with = "deserialize_ports")] Vec<u16>);

    fn ports(yaml: &str) -> Result<Vec<u16>, String> {
        let node = crate::yaml::parse("test", yaml.as_bytes(), Default::default()).unwrap();
        let decoded = crate::yaml::decode::<Ports>(&node);
        decoded
            .map(|ports| ports.0)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn ports_may_be_numbers_or_texts_and_empty_ones_are_none() {
        assert_eq!(ports("[80, '443', '', ' ']").unwrap(), [80, 443]);
        for wrong in ["[0]", "[65536]", "[http]", "80"] {
            assert!(ports(wrong).is_err(), "{wrong}");
        }
    }
}
