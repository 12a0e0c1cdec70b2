//! The object `notices/<env>/<app>.json`: which notices have been sent, and by whom. All changes of it are pure functions;
//! the one who sends writes the result by compare-and-swap.
//!
//! Whoever may write in the store may have written it: nothing in it is shown unescaped, and the worst that it can do is
//! that a message is missing or doubled.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::due::same_publication;
use super::notice::MAX_AGE;
use crate::fleet::rollout::Nonce;
use crate::printable;

/// Format version of the object.
const VERSION: u32 = 1;

/// Maximum size of the object, in bytes.
pub(super) const MAX_BOARD: usize = 64 << 10;

/// Records that an object keeps: those of some days.
const MAX_RECORDS: usize = 150;

/// Longest id, and longest name of a channel or host, in bytes.
const MAX_NAME: usize = 200;

/// After so long, somebody else may send what was claimed and not sent.
pub(super) const CLAIM_EXPIRES: SignedDuration = SignedDuration::from_secs(60);

/// How long nobody tries again after the first failure; it doubles with each.
const FIRST_RETRY: SignedDuration = SignedDuration::from_secs(60);
const LAST_RETRY: SignedDuration = SignedDuration::from_mins(15);

/// One notice through one channel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Parcel {
    pub id: String,
    pub channel: String,
}

/// What has been sent of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Board {
    pub version: u32,
    /// No two writes have the same bytes, and so the same ETag.
    pub nonce: Nonce,
    /// Oldest first.
    #[serde(default)]
    pub records: Vec<Record>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(flatten)]
    pub parcel: Parcel,
    /// The host.
    pub by: String,
    /// The claim is of the host that noted this number before it wrote it.
    pub claim: Nonce,
    /// By the store's clock.
    pub at: Timestamp,
    pub state: RecordState,
    /// How often it could not be sent.
    #[serde(default)]
    pub failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RecordState {
    Claimed,
    Sent,
    Failed,
}

/// Whether a host may send a parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Availability {
    Free,
    /// It has been sent.
    Sent,
    /// Somebody else is at it, or nobody is to try again for so long.
    Busy(SignedDuration),
}

/// Why an object cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BoardError {
    /// A newer trueup wrote it: nothing may be written over it.
    Newer,
    /// No trueup wrote it.
    Damaged,
}

impl Board {
    pub(crate) fn empty() -> Board {
        Board {
            version: VERSION,
            nonce: Nonce(0),
            records: Vec::new(),
        }
    }

    pub(super) fn parse(body: &[u8]) -> Result<Board, BoardError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        if body.len() > MAX_BOARD {
            return Err(BoardError::Damaged);
        }
        let head: Head = serde_json::from_slice(body).map_err(|_| BoardError::Damaged)?;
        if head.version > VERSION {
            return Err(BoardError::Newer);
        }
        let mut board: Board = serde_json::from_slice(body).map_err(|_| BoardError::Damaged)?;
        let fits = |text: &str| text.len() <= MAX_NAME;
        board.records.retain(|record| {
            fits(&record.parcel.id) && fits(&record.parcel.channel) && fits(&record.by)
        });
        for record in &mut board.records {
            record.by = printable::line(&record.by).into_owned();
        }
        Ok(board)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data is always JSON")
    }

    pub(crate) fn record(&self, parcel: &Parcel) -> Option<&Record> {
        let mut records = self.records.iter().rev();
        records.find(|record| record.parcel == *parcel)
    }

    /// The same, or that of a parcel about the same publication.
    fn similar_record(&self, parcel: &Parcel, now: Timestamp) -> Option<&Record> {
        let is_similar = |record: &&Record| {
            let Parcel { id, channel } = &record.parcel;
            let age = now.duration_since(record.at);
            *channel == parcel.channel && same_publication(id, &parcel.id) && age <= MAX_AGE
        };
        let similar = || self.records.iter().rev().find(is_similar);
        self.record(parcel).or_else(similar)
    }

    /// Whether the host whose last claim is `own` may send a parcel.
    pub(crate) fn availability(
        &self,
        parcel: &Parcel,
        own: Option<Nonce>,
        now: Timestamp,
    ) -> Availability {
        let Some(record) = self.similar_record(parcel, now) else {
            return Availability::Free;
        };
        let left = |lasts: SignedDuration| {
            let left = lasts - now.duration_since(record.at);
            // A time in the future lasts no longer than one of now.
            match left.is_positive() && left <= lasts + CLAIM_EXPIRES {
                true => Availability::Busy(left),
                false => Availability::Free,
            }
        };
        match record.state {
            RecordState::Sent => Availability::Sent,
            // Its sender was killed, and it is this host.
            RecordState::Claimed if own == Some(record.claim) => Availability::Free,
            RecordState::Claimed => left(CLAIM_EXPIRES),
            RecordState::Failed => {
                let doubled = 2_i32.saturating_pow(record.failures.saturating_sub(1).min(10));
                left((FIRST_RETRY * doubled).min(LAST_RETRY))
            }
        }
    }

    /// Claims parcels.
    pub(crate) fn claim(&mut self, parcels: &[Parcel], by: &str, claim: Nonce, now: Timestamp) {
        for parcel in parcels {
            let failures = self.record(parcel).map_or(0, |record| record.failures);
            self.set(Record {
                parcel: parcel.clone(),
                by: by.to_owned(),
                claim,
                at: now,
                state: RecordState::Claimed,
                failures,
            });
        }
    }

    /// Records how the delivery of a parcel ended. One that somebody else has sent meanwhile stays sent.
    pub(crate) fn settle(
        &mut self,
        parcel: &Parcel,
        is_sent: bool,
        by: (&str, Nonce),
        now: Timestamp,
    ) {
        let known = self.record(parcel);
        if known.is_some_and(|known| known.state == RecordState::Sent) {
            return;
        }
        // After a failure somebody else may have claimed it.
        if !is_sent && known.is_some_and(|known| known.claim != by.1) {
            return;
        }
        let failures = known.map_or(0, |known| known.failures);
        self.set(Record {
            parcel: parcel.clone(),
            by: by.0.to_owned(),
            claim: by.1,
            at: now,
            state: match is_sent {
                true => RecordState::Sent,
                false => RecordState::Failed,
            },
            failures: failures.saturating_add(u32::from(!is_sent)),
        });
    }

    /// Gives back a claim of a parcel that its host did not try to send.
    pub(crate) fn release(&mut self, parcel: &Parcel, claim: Nonce) {
        let is_own = |record: &Record| {
            let is_claimed = record.state == RecordState::Claimed;
            record.parcel == *parcel && record.claim == claim && is_claimed
        };
        self.records.retain(|record| !is_own(record));
    }

    fn set(&mut self, record: Record) {
        self.records.retain(|known| known.parcel != record.parcel);
        self.records.push(record);
        let surplus = self.records.len().saturating_sub(MAX_RECORDS);
        self.records.drain(..surplus);
        while self.records.len() > 1 && self.encode().len() > MAX_BOARD {
            self.records.remove(0);
        }
    }
}
