//! The first half of a pass: from settings to a catalog of resources. Changes nothing but what the host
//! remembers of the store.

use super::{Options, PassError, Session, Source};
use crate::desired::{self, Desired, For};
use crate::fleet::{Peers, Unanswered};
use crate::problem::Problem;
use crate::report::History;
use crate::role::{self, Catalog};

impl Session {
    /// Everything that is described for this host, with what was last known to be wanted. Asks nobody.
    pub fn known(&self) -> Result<(Catalog, Desired), PassError> {
        self.describe(Source::Nobody, &Options::default())
    }

    /// The resources of this host and what is wanted of it, whatever they take from peers.
    pub(super) fn describe(
        &self,
        source: Source,
        options: &Options,
    ) -> Result<(Catalog, Desired), PassError> {
        let (settings, host) = (&self.settings, &self.host);
        let (peers, keep) = match source {
            Source::Store(ask) => {
                let store = self.opened()?;
                let peers = Peers::of_store(settings, host, store, options.accept_shrink)
                    .apart_from(self.node(), self.own_addresses());
                (peers, ask.keep)
            }
            Source::Nobody => (Peers::known(settings, host), false),
        };
        let described = self.described(source, options, &peers);
        if keep {
            peers.keep(described.is_ok())?;
        }
        match described {
            Ok((catalog, mut desired)) => {
                let notes = peers.notes().into_iter().chain(peers.accepted());
                desired.warnings.extend(notes.map(Problem::new));
                desired.kept_lists = peers.kept();
                Ok((catalog, desired))
            }
            Err(PassError::Input(problems)) => Err(match peers.unanswered() {
                Some(Unanswered::Store(source)) => PassError::Peers { source },
                Some(Unanswered::Lists(why)) => PassError::Lists(why),
                None => PassError::Input(problems),
            }),
            Err(error) => Err(error),
        }
    }

    fn described(
        &self,
        source: Source,
        options: &Options,
        peers: &Peers<'_>,
    ) -> Result<(Catalog, Desired), PassError> {
        let expanded = role::expand(&self.settings, &self.facts, peers, &self.root_word())?;
        let apps = expanded.apps();
        let whom = For {
            environment: &self.settings.environment,
            tags: &self.settings.tags,
            apps: &apps,
            now: self.host.clock.now(),
            last_answer: History::new(&self.host)
                .last()
                .and_then(|last| last.store_answered),
        };
        let key = &self.settings.manifest;
        let mut desired = match source {
            Source::Store(ask) => desired::read(self.opened()?, key, ask, &self.host, &whom)?,
            Source::Nobody => {
                desired::last_known(key, &self.host, &whom).unwrap_or_else(Desired::nothing)
            }
        };
        desired.environment.clone_from(&self.settings.environment);
        desired.take_up = options.take_up();
        if options.over_holds {
            desired.lift_holds();
        }
        let catalog = expanded.resolve(&desired)?;
        Ok((catalog, desired))
    }
}
