//! Sends what waits: claims it, sends it, marks it as sent.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::board::{Availability, Board, BoardError, MAX_BOARD, Parcel};
use super::memory::AppMemory;
use super::notice::Notice;
use crate::fleet::rollout::Nonce;
use crate::ports::backoff;
use crate::ports::clock::Clock;
use crate::ports::store::{Etag, GetOutcome, PutOutcome, Store, StoreError, WriteCondition};

/// Attempts at a write while others come first.
const MAX_ATTEMPTS: u32 = 5;

/// A claim is used at once or not at all: another host takes it after [`super::board::CLAIM_EXPIRES`].
const CLAIM_IS_GOOD_FOR: Duration = Duration::from_secs(20);

/// How long this host leaves a notice alone after it found no way to send it.
const RETRY_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// How long after the store refused a write.
const REFUSED_RETRY: SignedDuration = SignedDuration::from_mins(15);

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryStep {
    Sent,
    Failed,
    /// There is no time left in this pass, or the channel rests.
    NotTried,
}

/// Sends the notices of one app.
pub(crate) struct Delivery<'a> {
    pub store: &'a dyn Store,
    pub environment: &'a str,
    pub app: &'a str,
    pub node: &'a str,
    pub clock: &'a dyn Clock,
    pub random: &'a dyn Fn() -> u64,
    /// Whether a channel may be used now.
    pub is_ready: &'a dyn Fn(&str) -> bool,
    pub send: &'a mut dyn FnMut(&str, &Notice) -> DeliveryStep,
    /// Saves the memory; the notices go on without: at worst one is sent twice.
    pub save: &'a mut dyn FnMut(&AppMemory),
}

/// The key of the object that records what has been sent of an app.
pub(crate) fn board_key(environment: &str, app: &str) -> String {
    format!("notices/{environment}/{app}.json")
}

/// Reads the object. `None`: a newer trueup wrote it. One that no trueup wrote counts as empty, and is written anew.
pub(crate) fn read_board(
    store: &dyn Store,
    environment: &str,
    app: &str,
) -> Result<Option<(Board, BoardVersion)>, StoreError> {
    let found = match store.get(&board_key(environment, app), None) {
        Ok(GetOutcome::Object(found)) => found,
        Ok(GetOutcome::Missing | GetOutcome::Unchanged) => {
            return Ok(Some((Board::empty(), BoardVersion::Absent)));
        }
        Err(StoreError::TooLarge { .. }) => {
            return Ok(Some((Board::empty(), BoardVersion::Unusable)));
        }
        Err(error) => return Err(error),
    };
    let version = BoardVersion::Known(found.etag);
    match Board::parse(&found.body) {
        Ok(board) => Ok(Some((board, version))),
        Err(BoardError::Damaged) => Ok(Some((Board::empty(), version))),
        Err(BoardError::Newer) => Ok(None),
    }
}

/// What a write of the object replaces.
#[derive(Debug, Clone)]
pub(crate) enum BoardVersion {
    Absent,
    Known(Etag),
    /// Too large to be read: it has no version that this host could know.
    Unusable,
}

impl BoardVersion {
    fn condition(&self) -> WriteCondition<'_> {
        match self {
            BoardVersion::Absent => WriteCondition::Absent,
            BoardVersion::Known(etag) => WriteCondition::Matches(etag),
            BoardVersion::Unusable => WriteCondition::Always,
        }
    }
}

impl Delivery<'_> {
    /// Sends what is due. An error of the store leaves the rest to a later pass.
    pub(crate) fn run(&mut self, memory: &mut AppMemory) -> Result<(), StoreError> {
        let now = self.clock.now();
        let before = memory.clone();
        self.postpone_resting(memory, now);
        let done = match memory.is_due(now) {
            true => self.claim_and_send(memory),
            false => Ok(()),
        };
        if let Err(error) = &done {
            let retry = match error {
                StoreError::Refused { .. } => {
                    // It would be refused in each pass.
                    memory.unmarked.clear();
                    REFUSED_RETRY
                }
                _ => RETRY_AFTER,
            };
            self.postpone_due(memory, retry);
        }
        if *memory != before {
            (self.save)(memory);
        }
        done
    }

    /// What only channels need that rest is not worth a request.
    fn postpone_resting(&self, memory: &mut AppMemory, now: Timestamp) {
        let is_resting = |channels: &std::collections::BTreeSet<String>| {
            !channels.iter().any(|channel| (self.is_ready)(channel))
        };
        let resting = memory
            .due(now)
            .filter(|pending| is_resting(&pending.channels));
        let ids: Vec<String> = resting.map(|pending| pending.notice.id.clone()).collect();
        let until = now + self.jittered(RETRY_AFTER);
        ids.iter().for_each(|id| memory.postpone(id, until));
    }

    fn postpone_due(&self, memory: &mut AppMemory, time: SignedDuration) {
        let now = self.clock.now();
        let due: Vec<String> = memory
            .due(now)
            .map(|pending| pending.notice.id.clone())
            .collect();
        let until = now + self.jittered(time);
        due.iter().for_each(|id| memory.postpone(id, until));
    }

    fn claim_and_send(&mut self, memory: &mut AppMemory) -> Result<(), StoreError> {
        for attempt in 1..=MAX_ATTEMPTS {
            let Some((mut board, version)) = read_board(self.store, self.environment, self.app)?
            else {
                // Newer hosts send.
                memory.unmarked.clear();
                self.postpone_due(memory, REFUSED_RETRY);
                return Ok(());
            };
            let read_at = self.clock.monotonic_now();
            let now = self.store.server_time().unwrap_or_else(|| self.clock.now());
            let parcels = self.choose(memory, &board, now);
            if parcels.is_empty() && memory.unmarked.is_empty() {
                return Ok(());
            }
            let nonce = Nonce((self.random)());
            if !parcels.is_empty() {
                memory.claim = Some(nonce);
                (self.save)(memory);
            }
            self.mark(&mut board, memory, now);
            board.claim(&parcels, self.node, nonce, now);
            let Some(etag) = self.write(&mut board, &version)? else {
                backoff::wait_before_retry(attempt);
                continue;
            };
            memory.unmarked.clear();
            if parcels.is_empty() {
                return Ok(());
            }
            let results = self.send_all(memory, &parcels, read_at);
            return self.settle(memory, (board, etag), &results, nonce);
        }
        self.postpone_due(memory, RETRY_AFTER);
        Ok(())
    }

    /// What this host sends now. Notes what is sent already, and what it has to leave to others for a while.
    fn choose(&self, memory: &mut AppMemory, board: &Board, now: Timestamp) -> Vec<Parcel> {
        let local = self.clock.now();
        let due: Vec<(String, Vec<String>)> = memory
            .due(local)
            .map(|pending| {
                (
                    pending.notice.id.clone(),
                    pending.channels.iter().cloned().collect(),
                )
            })
            .collect();
        let mut parcels = Vec::new();
        for (id, channels) in due {
            let mut retry: Option<SignedDuration> = None;
            let mut is_chosen = false;
            for channel in channels {
                let parcel = Parcel {
                    id: id.clone(),
                    channel,
                };
                match board.availability(&parcel, memory.claim, now) {
                    Availability::Sent => memory.settle(&parcel),
                    Availability::Free if (self.is_ready)(&parcel.channel) => {
                        is_chosen = true;
                        parcels.push(parcel);
                    }
                    Availability::Free => retry = retry.max(Some(RETRY_AFTER)),
                    Availability::Busy(left) => retry = retry.max(Some(left)),
                }
            }
            if let Some(retry) = retry.filter(|_| !is_chosen) {
                let later = self.jittered(retry);
                memory.postpone(&id, local + later);
            }
        }
        parcels
    }

    /// Sends the parcels in turn, as long as the claim is good.
    fn send_all(
        &mut self,
        memory: &mut AppMemory,
        parcels: &[Parcel],
        since: Instant,
    ) -> Vec<(Parcel, DeliveryStep)> {
        let mut results = Vec::new();
        for parcel in parcels {
            let mut pending = memory.pending.iter();
            let notice = pending.find(|pending| pending.notice.id == parcel.id);
            let Some(notice) = notice.map(|pending| pending.notice.clone()) else {
                continue;
            };
            let passed = self.clock.monotonic_now().saturating_duration_since(since);
            let result = match passed < CLAIM_IS_GOOD_FOR {
                true => (self.send)(&parcel.channel, &notice),
                // It was suspended meanwhile.
                false => DeliveryStep::NotTried,
            };
            if result == DeliveryStep::Sent {
                memory.settle(parcel);
                memory.unmarked.push(parcel.clone());
                (self.save)(memory);
            }
            results.push((parcel.clone(), result));
        }
        results
    }

    /// Records in the object how the deliveries ended.
    fn settle(
        &mut self,
        memory: &mut AppMemory,
        written: (Board, Etag),
        results: &[(Parcel, DeliveryStep)],
        nonce: Nonce,
    ) -> Result<(), StoreError> {
        self.postpone_due(memory, RETRY_AFTER);
        let (mut board, mut version) = (written.0, BoardVersion::Known(written.1));
        for attempt in 1..=MAX_ATTEMPTS {
            let now = self.store.server_time().unwrap_or_else(|| self.clock.now());
            for (parcel, result) in results {
                match result {
                    DeliveryStep::Sent => {}
                    DeliveryStep::Failed => board.settle(parcel, false, (self.node, nonce), now),
                    DeliveryStep::NotTried => board.release(parcel, nonce),
                }
            }
            self.mark(&mut board, memory, now);
            if self.write(&mut board, &version)?.is_some() {
                memory.unmarked.clear();
                return Ok(());
            }
            backoff::wait_before_retry(attempt);
            match read_board(self.store, self.environment, self.app)? {
                Some((read, read_version)) => (board, version) = (read, read_version),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Marks as sent what this host has sent.
    fn mark(&self, board: &mut Board, memory: &AppMemory, now: Timestamp) {
        let claim = memory.claim.unwrap_or(Nonce(0));
        for parcel in &memory.unmarked {
            board.settle(parcel, true, (self.node, claim), now);
        }
    }

    /// Writes the object. `None`: somebody else came first.
    fn write(&self, board: &mut Board, version: &BoardVersion) -> Result<Option<Etag>, StoreError> {
        board.nonce = Nonce((self.random)());
        let key = board_key(self.environment, self.app);
        let body = board.encode();
        debug_assert!(body.len() <= MAX_BOARD, "records are evicted");
        match self.store.put(&key, &body, version.condition())? {
            PutOutcome::Written(etag) => Ok(Some(etag)),
            PutOutcome::Conflict => Ok(None),
        }
    }

    /// Between this and one and a half times this: hosts that wait for the same must not ask at the same moment.
    fn jittered(&self, time: SignedDuration) -> SignedDuration {
        let spread = u64::try_from(time.as_millis() / 2).unwrap_or(0);
        let extra = (self.random)() % (spread + 1);
        time + SignedDuration::from_millis(i64::try_from(extra).unwrap_or(0))
    }
}
