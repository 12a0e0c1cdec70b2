//! Compares a configuration with the servers of the running process. Without access to either.

use std::net::SocketAddr;

use super::config::Configuration;
use super::loaded::{LoadedConfig, options_fingerprint};
use crate::ports::haproxy::{ServerId, ServerTable};

/// One step to the servers of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServerChange {
    Add {
        id: ServerId,
        address: SocketAddr,
        options: String,
        has_check: bool,
    },
    /// Finish an addition that was interrupted, or bring back a server that left and is still there.
    Return {
        id: ServerId,
        has_check: bool,
    },
    SetAddress {
        id: ServerId,
        address: SocketAddr,
    },
    Leave {
        id: ServerId,
    },
}

impl ServerChange {
    pub(super) fn id(&self) -> &ServerId {
        match self {
            ServerChange::Add { id, .. }
            | ServerChange::Return { id, .. }
            | ServerChange::SetAddress { id, .. }
            | ServerChange::Leave { id } => id,
        }
    }

    /// In a few characters: `+shop/web4`.
    pub(super) fn summary(&self) -> String {
        match self {
            ServerChange::Add { id, .. } | ServerChange::Return { id, .. } => format!("+{id}"),
            ServerChange::SetAddress { id, address } => format!("{id} at {address}"),
            ServerChange::Leave { id } => format!("-{id}"),
        }
    }
}

/// The changes after which the running process has the servers of `wanted`. Those that leave come last, so that a backend
/// never has fewer servers than before and after. `Err`: why only a reload leads there.
pub(super) fn diff(
    wanted: &Configuration,
    loaded: &LoadedConfig,
    running: &ServerTable,
) -> Result<Vec<ServerChange>, String> {
    if let Some(blocker) = wanted.blocker {
        return Err(blocker.to_owned());
    }
    if wanted.rest != loaded.rest {
        return Err("more differs than the servers of its backends".to_owned());
    }
    check_expected(loaded, running)?;
    let mut come = Vec::new();
    let mut move_to = Vec::new();
    for (id, server) in &wanted.servers {
        let known = loaded.servers.get(id);
        if known.is_some_and(|known| *known != options_fingerprint(&server.options)) {
            return Err(format!("the options of {id} differ"));
        }
        let has_check = server.has_check();
        let Some(state) = running.servers.get(id) else {
            let address = server.address.filter(|_| server.can_be_added());
            let address = address.ok_or_else(|| {
                format!("{id} has an address or options that haproxy takes only from its file")
            })?;
            come.push(ServerChange::Add {
                id: id.clone(),
                address,
                options: server.options.clone(),
                has_check,
            });
            continue;
        };
        if let Some(address) = server.address
            && state.address != Some(address)
        {
            move_to.push(ServerChange::SetAddress {
                id: id.clone(),
                address,
            });
        }
        if loaded.is_own_change(id) {
            come.push(ServerChange::Return {
                id: id.clone(),
                has_check,
            });
        }
    }
    let leave = running.servers.iter().filter(|(id, state)| {
        let has_left = loaded.leaving.contains(id) && state.is_in_maintenance();
        !wanted.servers.contains_key(id) && !has_left
    });
    let leave = leave.map(|(id, _)| ServerChange::Leave { id: id.clone() });
    // An address first: a server that comes back must not get requests at its old one.
    let changes: Vec<ServerChange> = move_to.into_iter().chain(come).chain(leave).collect();
    check_order(wanted, &changes)?;
    Ok(changes)
}

/// Refuses a process that has other servers than trueup knows of: then somebody else changes them too.
fn check_expected(loaded: &LoadedConfig, running: &ServerTable) -> Result<(), String> {
    let unknown = |id: &&ServerId| !loaded.servers.contains_key(id);
    if let Some(id) = running.servers.keys().find(unknown) {
        return Err(format!("haproxy has a server {id} that it was not given"));
    }
    let missing = |id: &&ServerId| !running.servers.contains_key(id) && !loaded.is_own_change(id);
    match loaded.servers.keys().find(missing) {
        Some(id) => Err(format!("haproxy no longer has the server {id}")),
        None => Ok(()),
    }
}

/// Refuses changes of a backend in which the place of a server decides which requests it gets.
fn check_order(wanted: &Configuration, changes: &[ServerChange]) -> Result<(), String> {
    for change in changes {
        let backend = &change.id().backend;
        let mut servers = wanted.servers.iter();
        let in_backend = servers.find(|(id, _)| id.backend == *backend);
        // If its last server leaves, nothing is spread any more.
        if in_backend.is_some_and(|(_, server)| !server.is_orderless) {
            return Err(format!("the backend {backend} has a static `balance`"));
        }
    }
    Ok(())
}

/// Checks that the running process has the servers of `wanted`, and none besides but those that leave.
pub(super) fn verify(
    wanted: &Configuration,
    loaded: &LoadedConfig,
    running: &ServerTable,
) -> Result<(), String> {
    for (id, server) in &wanted.servers {
        let state = running.servers.get(id);
        let state = state.ok_or_else(|| format!("haproxy does not have the server {id}"))?;
        if server.address.is_some() && state.address != server.address {
            return Err(format!("{id} has another address than it was given"));
        }
        // What somebody has drained by hand stays as it is.
        if !loaded.joining.contains(id) {
            continue;
        }
        if state.is_in_maintenance() {
            return Err(format!("{id} is still in maintenance"));
        }
        if server.has_check() && !state.has_running_check() {
            return Err(format!("{id} is not checked"));
        }
    }
    let others = running
        .servers
        .iter()
        .filter(|(id, _)| !wanted.servers.contains_key(id));
    for (id, state) in others {
        if !loaded.leaving.contains(id) {
            return Err(format!("haproxy has a server {id} that it was not given"));
        }
        if !state.is_in_maintenance() {
            return Err(format!("{id} is not in maintenance"));
        }
    }
    Ok(())
}
