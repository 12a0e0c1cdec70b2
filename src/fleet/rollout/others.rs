//! Whether a host may be missed: other hosts of the app serve it meanwhile, however many of them are out as well.

use super::journal::JournalStore;
use super::object::RolloutError;
use super::participant::Participant;
use super::store::{AppHost, RolloutStore};

impl<S: RolloutStore, J: JournalStore> Participant<'_, S, J> {
    /// Whether other hosts serve the app in any case while this one is out. `None`: no rollout of it was counted.
    pub(super) fn others_serve(&self) -> Result<Option<bool>, RolloutError> {
        let register = self.store.register()?.map(|found| found.object);
        let Some(register) = register else {
            return Ok(None);
        };
        // Spares a large fleet the records of all hosts. Those of a new entry are still being counted when the first ones
        // go out.
        match register.newest_count() {
            Some(count) if count.serving > register.slots => return Ok(Some(true)),
            Some(count) if count.hosts <= register.slots => return Ok(Some(false)),
            _ => {}
        }
        // The count is as old as the entry, and that of the first one is of hosts that served nothing yet.
        let hosts = self.store.hosts()?;
        Ok(Some(are_enough(&hosts, &self.member.node, register.slots)))
    }
}

/// Whether more hosts than those that may be out beside this one serve the app.
fn are_enough(hosts: &[AppHost], own: &str, slots: u32) -> bool {
    let others = hosts
        .iter()
        .filter(|host| host.is_live && host.serves && host.node != own);
    u32::try_from(others.count()).unwrap_or(u32::MAX) >= slots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_live_hosts_that_serve_stand_in_for_another() {
        let host = |node: &str, is_live, serves| AppHost {
            node: node.to_owned(),
            is_live,
            serves,
            matches_canary: true,
            wanted: None,
        };
        let mut hosts = vec![host("web1", true, true)];
        assert!(!are_enough(&hosts, "web1", 1), "it is alone");
        hosts.extend([host("web2", false, true), host("web3", true, false)]);
        assert!(!are_enough(&hosts, "web1", 1));
        hosts.push(host("web4", true, true));
        assert!(are_enough(&hosts, "web1", 1));
        assert!(!are_enough(&hosts, "web1", 2), "both may be out at a time");
    }
}
