//! What this host knows of the notices of an app, on its disk: which states it has noticed before, and which notices wait
//! until they are sent.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::board::Parcel;
use super::notice::{MAX_AGE, Notice, NoticeHold};
use crate::desired::Transition;
use crate::digest::digest;
use crate::fleet::rollout::Nonce;
use crate::ports::STATE_DIR;
use crate::ports::root::{Root, RootError};
use crate::ports::state::Document;

const VERSION: u32 = 1;
const DOCUMENT: Document = Document::new(VERSION, 1 << 20).private().compact();

/// Below the state of this host: a file for each app.
const FOLDER: &str = "notices";

/// Notices that wait at most.
const MAX_PENDING: usize = 20;

/// What a host remembers of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AppMemory {
    version: u32,
    /// Digest of the store and the environment: another one is another story.
    scope: String,
    /// States of before are no news; `None`: it has noticed nothing yet. By the store's clock.
    baseline: Option<Timestamp>,
    /// The sha that was published, and the ids of what else the manifest called for when this host last looked.
    manifest: BTreeSet<String>,
    /// The same of the register; `None`: it was not read since the baseline.
    register: Option<BTreeSet<String>>,
    /// The hold of the manifest, with its digest.
    hold: Option<(String, NoticeHold)>,
    /// Oldest first.
    pub(super) pending: Vec<Pending>,
    /// Sent by this host, and not yet marked as sent.
    pub(super) unmarked: Vec<Parcel>,
    /// The last claim of this host.
    pub(super) claim: Option<Nonce>,
}

/// A notice that may have to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub notice: Notice,
    /// By this host's clock.
    pub since: Timestamp,
    /// When this host tries next to send it, or to find out that it is sent.
    pub next: Timestamp,
    pub channels: BTreeSet<String>,
}

/// What a host has just read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observation {
    pub manifest: Vec<Notice>,
    pub hold: Option<(String, NoticeHold)>,
    /// The notice that the remembered hold is over, if it is.
    pub hold_ended: Option<Notice>,
    /// Names what is published, whatever else changes; empty: nothing is.
    pub published_key: String,
    /// `None`: this pass has not read the register.
    pub register: Option<Vec<Notice>>,
    /// When the rollout began, and now, both by the store's clock.
    pub opened: Option<Timestamp>,
    pub store_time: Option<Timestamp>,
    /// The ids of what another notice says already.
    pub implied: BTreeSet<String>,
    /// What this host itself has brought about: nobody knows it earlier.
    pub own: BTreeSet<String>,
}

/// How a new notice is to be handled.
#[derive(Debug, Clone)]
pub(crate) struct News {
    /// The channels of this host that are to know of it; none: it is not kept.
    pub channels: BTreeSet<String>,
    /// How long this host leaves it to others.
    pub delay: SignedDuration,
}

impl AppMemory {
    pub(crate) fn new(scope: &str) -> AppMemory {
        AppMemory {
            version: VERSION,
            scope: scope.to_owned(),
            baseline: None,
            manifest: BTreeSet::new(),
            register: None,
            hold: None,
            pending: Vec::new(),
            unmarked: Vec::new(),
            claim: None,
        }
    }

    /// `store` is its address: another store or environment is another story.
    pub(crate) fn load(root: &Root, app: &str, (store, environment): (&str, &str)) -> AppMemory {
        let scope = &digest(format!("{store}\n{environment}").as_bytes());
        let known: Option<AppMemory> = DOCUMENT.load_cache(root, &path(app));
        let known = known.filter(|known| known.scope == *scope);
        known.unwrap_or_else(|| AppMemory::new(scope))
    }

    pub(crate) fn save(&self, root: &Root, app: &str) -> Result<(), RootError> {
        DOCUMENT.save(root, &path(app), self)
    }

    /// Forgets every app but these. A host that does not look for news of an app cannot say later what is new, and the times
    /// in a manifest are by the clock of whoever published.
    pub(crate) fn forget_others(root: &Root, apps: &BTreeSet<&str>) -> Result<(), RootError> {
        let folder = PathBuf::from(STATE_DIR).join(FOLDER);
        for name in root.list(&folder)?.unwrap_or_default() {
            let app = name.to_str().and_then(|name| name.strip_suffix(".json"));
            // Other files begin with `_`, which no app does.
            if app.is_some_and(|app| !app.starts_with('_') && !apps.contains(app)) {
                root.remove_file(&folder.join(name))?;
            }
        }
        Ok(())
    }

    /// The hold that this host knows, with its digest.
    pub(crate) fn known_hold(&self) -> Option<&(String, NoticeHold)> {
        self.hold.as_ref()
    }

    /// Notices what is new. `was_away`: this host did not look for an hour, so it cannot say what is.
    pub(crate) fn notice(
        &mut self,
        observation: Observation,
        (now, was_away): (Timestamp, bool),
        news: &dyn Fn(&Notice, bool) -> News,
    ) {
        let Observation {
            manifest,
            hold,
            hold_ended,
            published_key,
            register,
            opened,
            store_time,
            implied,
            own,
        } = observation;
        self.pending.retain(|pending| {
            let age = now.duration_since(pending.since);
            age <= MAX_AGE && !pending.channels.is_empty()
        });
        let is_first = self.baseline.is_none() || was_away;
        if is_first {
            self.baseline = Some(store_time.unwrap_or(now));
            self.register = None;
        }
        let is_publication = |notice: &Notice| {
            matches!(notice.transition, Transition::Published)
                || notice.transition == Transition::RolledBack
        };
        let key = |notice: &Notice| match is_publication(notice) {
            true => published_key.clone(),
            false => notice.id.clone(),
        };
        let is_new = |notice: &Notice| {
            let was_known = self.manifest.contains(&key(notice)) || implied.contains(&notice.id);
            !is_first && !was_known || own.contains(&notice.id)
        };
        let keys = manifest.iter().map(key).collect();
        let mut new: Vec<Notice> = manifest.into_iter().filter(|n| is_new(n)).collect();
        self.manifest = keys;
        new.extend(hold_ended.filter(|_| !is_first));
        self.hold = hold;
        if let Some(register) = register {
            self.drop_outdated(&register);
            let is_recent = opened.is_some_and(|at| self.baseline.is_some_and(|base| at >= base));
            let is_new = |notice: &Notice| {
                let is_new = match &self.register {
                    Some(known) => !known.contains(&notice.id),
                    None => is_recent,
                };
                is_new || own.contains(&notice.id)
            };
            let ids = ids(&register);
            new.extend(register.into_iter().filter(|notice| is_new(notice)));
            self.register = Some(ids);
        }
        for notice in new {
            let is_own = own.contains(&notice.id);
            let News { channels, delay } = news(&notice, is_own);
            let is_known = self
                .pending
                .iter()
                .any(|known| known.notice.id == notice.id);
            if channels.is_empty() || is_known || self.pending.len() >= MAX_PENDING {
                continue;
            }
            self.pending.push(Pending {
                notice,
                since: now,
                next: now + delay,
                channels,
            });
        }
    }

    /// Renews notices that wait with what is known now, and drops those that something else has come after.
    fn drop_outdated(&mut self, register: &[Notice]) {
        let passes = |transition| {
            matches!(
                transition,
                Transition::Started | Transition::CanaryOk | Transition::Failed
            )
        };
        self.pending.retain_mut(|pending| {
            let current = register
                .iter()
                .find(|notice| notice.id == pending.notice.id);
            match current {
                Some(current) => {
                    let at = pending.notice.at;
                    pending.notice = Notice {
                        at,
                        ..current.clone()
                    };
                    true
                }
                None => !passes(pending.notice.transition),
            }
        });
    }

    /// Whether something is to be sent, or to be marked as sent.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        !self.unmarked.is_empty() || self.due(now).next().is_some()
    }

    /// What this host is to try now.
    pub(super) fn due(&self, now: Timestamp) -> impl Iterator<Item = &Pending> {
        // A clock that was set back must not keep it for long.
        let is_due = move |pending: &&Pending| {
            pending.next <= now || pending.next.duration_since(now) > MAX_AGE
        };
        self.pending.iter().filter(is_due)
    }

    /// A notice needs no channel any more: it is sent.
    pub(super) fn settle(&mut self, parcel: &Parcel) {
        for pending in &mut self.pending {
            if pending.notice.id == parcel.id {
                pending.channels.remove(&parcel.channel);
            }
        }
        self.pending.retain(|pending| !pending.channels.is_empty());
    }

    /// This host tries a notice again after so long.
    pub(super) fn postpone(&mut self, id: &str, until: Timestamp) {
        for pending in &mut self.pending {
            if pending.notice.id == id {
                pending.next = until;
            }
        }
    }
}

fn ids(notices: &[Notice]) -> BTreeSet<String> {
    notices.iter().map(|notice| notice.id.clone()).collect()
}

fn path(app: &str) -> PathBuf {
    PathBuf::from(STATE_DIR)
        .join(FOLDER)
        .join(format!("{app}.json"))
}
