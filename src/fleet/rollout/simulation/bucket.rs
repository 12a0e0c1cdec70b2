//! A bucket in memory that is as slow as S3, and refuses as much.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Excluded, Unbounded};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;

use super::meter::{Meter, Request};
use super::random::Random;
use super::timeline::{Sleep, VirtualClock};
use crate::ports::backoff::delay_before_retry;
use crate::ports::store::{
    Etag, GetOutcome, GetResult, Object, ObjectMeta, PutOutcome, Store, StoreError, WriteCondition,
};

/// Medians of the time from a request to its answer, within a region.
const GET_LATENCY: Duration = Duration::from_millis(30);
const PUT_LATENCY: Duration = Duration::from_millis(60);
const LIST_LATENCY: Duration = Duration::from_millis(100);

/// What S3 serves a second under one prefix. Here this is all of a bucket: it divides a prefix that is busy for long,
/// and a rollout is short.
const MAX_READS: f64 = 5500.0;
const MAX_WRITES: f64 = 3500.0;

/// Writes that S3 serves a second for one key. It says no number; the busiest keys of other users suggest this order.
const MAX_KEY_WRITES: f64 = 50.0;

/// Keys in a page of a list, and the bytes of one.
const PAGE: usize = 1000;
const ROW_BYTES: u64 = 350;

/// As the client of the real store: attempts, and the first pause between two.
const ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const MAX_PUT_ATTEMPTS: u32 = 5;
const CONCURRENT_READS: u32 = 16;

/// Lets so many through in a second, and half as many at once after a silence.
struct Throttle {
    rate: f64,
    left: f64,
    last: Duration,
}

impl Throttle {
    fn new(rate: f64) -> Throttle {
        Throttle {
            rate,
            left: rate / 2.0,
            last: Duration::ZERO,
        }
    }

    fn admits(&mut self, now: Duration) -> bool {
        let gained = (now.saturating_sub(self.last)).as_secs_f64() * self.rate;
        self.left = (self.left + gained).min(self.rate / 2.0);
        self.last = now;
        let admits = self.left >= 1.0;
        if admits {
            self.left -= 1.0;
        }
        admits
    }
}

/// The objects, and what is known about the requests.
pub(super) struct Bucket {
    clock: VirtualClock,
    objects: RefCell<BTreeMap<String, Object>>,
    version: Cell<u64>,
    pub meter: RefCell<Meter>,
    reads: RefCell<Throttle>,
    writes: RefCell<Throttle>,
    key_writes: RefCell<HashMap<String, Throttle>>,
}

impl Bucket {
    pub(super) fn new(clock: &VirtualClock) -> Bucket {
        Bucket {
            clock: clock.clone(),
            objects: RefCell::default(),
            version: Cell::new(0),
            meter: RefCell::default(),
            reads: RefCell::new(Throttle::new(MAX_READS)),
            writes: RefCell::new(Throttle::new(MAX_WRITES)),
            key_writes: RefCell::default(),
        }
    }

    /// Reads an object without a request.
    pub(super) fn peek(&self, key: &str) -> Option<Object> {
        self.objects.borrow().get(key).cloned()
    }

    /// The bodies of the objects with this prefix, without a request.
    pub(super) fn bodies(&self, prefix: &str) -> Vec<Vec<u8>> {
        let objects = self.objects.borrow();
        let found = objects.range(prefix.to_owned()..);
        let found = found.take_while(|(key, _)| key.starts_with(prefix));
        found.map(|(_, object)| object.body.clone()).collect()
    }

    /// Writes an object without a request. Returns its version.
    pub(super) fn insert(&self, key: &str, body: &[u8]) -> Etag {
        // Not of the content, as S3's: nothing here relies on equal versions of equal contents.
        self.version.set(self.version.get() + 1);
        let etag = Etag(format!("{:032x}", self.version.get()));
        let object = Object {
            body: body.to_vec(),
            etag: etag.clone(),
            modified: self.clock.now(),
        };
        self.objects.borrow_mut().insert(key.to_owned(), object);
        etag
    }

    fn admits(&self, request: Request, key: &str) -> bool {
        let now = self.clock.elapsed();
        let of_bucket = match request {
            Request::Get | Request::List => &self.reads,
            Request::Put | Request::Delete => &self.writes,
        };
        let of_key = request != Request::Put || {
            let mut keys = self.key_writes.borrow_mut();
            let throttle = keys.entry(key.to_owned());
            let throttle = throttle.or_insert_with(|| Throttle::new(MAX_KEY_WRITES));
            throttle.admits(now)
        };
        of_key && of_bucket.borrow_mut().admits(now)
    }

    fn holds(&self, key: &str, when: WriteCondition<'_>) -> bool {
        let objects = self.objects.borrow();
        let current = objects.get(key).map(|object| &object.etag);
        match when {
            WriteCondition::Always => true,
            WriteCondition::Absent => current.is_none(),
            WriteCondition::Matches(etag) => current == Some(etag),
        }
    }
}

/// The bucket as one host sees it: each request takes time, in which others go on.
pub(super) struct Client<'a> {
    pub bucket: Rc<Bucket>,
    pub sleep: &'a Sleep<'a>,
    pub random: Random,
}

impl Client<'_> {
    /// Makes a request. `act` is what happens in the bucket, halfway between request and answer.
    fn exchange<T>(
        &self,
        request: Request,
        key: &str,
        act: impl Fn() -> T,
    ) -> Result<T, StoreError> {
        for attempt in 0..ATTEMPTS {
            let half = self.random.latency(median(request)) / 2;
            self.sleep.sleep(half);
            if self.bucket.admits(request, key) {
                let now = self.bucket.clock.elapsed();
                self.bucket.meter.borrow_mut().count(now, request, key);
                let answer = act();
                self.sleep.sleep(half);
                return Ok(answer);
            }
            self.bucket.meter.borrow_mut().total.throttled += 1;
            let pause = FIRST_PAUSE * 2_u32.pow(attempt);
            self.sleep
                .sleep(half + self.random.within(Duration::ZERO, pause));
        }
        Err(StoreError::Unreachable {
            store: self.address().to_owned(),
            why: "503 SlowDown".to_owned(),
            hint: "",
        })
    }

    fn add_bytes(&self, bytes: usize) {
        self.bucket.meter.borrow_mut().total.bytes += bytes as u64;
    }

    fn read(&self, key: &str, known: Option<&Etag>) -> GetOutcome {
        match self.bucket.peek(key) {
            None => GetOutcome::Missing,
            Some(object) if known == Some(&object.etag) => GetOutcome::Unchanged,
            Some(object) => {
                self.add_bytes(object.body.len());
                GetOutcome::Object(object)
            }
        }
    }

    /// A write. `None`: it is conditional, and the key was written while it was under way (409).
    fn write(
        &self,
        key: &str,
        body: &[u8],
        when: WriteCondition<'_>,
    ) -> Result<Option<PutOutcome>, StoreError> {
        let is_conditional = when != WriteCondition::Always;
        let before = self.version(key);
        self.exchange(Request::Put, key, || {
            if is_conditional && self.version(key) != before {
                return None;
            }
            if !self.bucket.holds(key, when) {
                self.bucket.meter.borrow_mut().total.conflicts += 1;
                return Some(PutOutcome::Conflict);
            }
            self.add_bytes(body.len());
            Some(PutOutcome::Written(self.bucket.insert(key, body)))
        })
    }

    fn version(&self, key: &str) -> Option<Etag> {
        let objects = self.bucket.objects.borrow();
        objects.get(key).map(|object| object.etag.clone())
    }

    fn page(&self, prefix: &str, after: &str) -> Vec<ObjectMeta> {
        let objects = self.bucket.objects.borrow();
        let found = objects.range::<str, _>((Excluded(after), Unbounded));
        let found = found.take_while(|(key, _)| key.starts_with(prefix));
        let rows = found.take(PAGE).map(|(key, object)| ObjectMeta {
            key: key.clone(),
            etag: object.etag.clone(),
            modified: object.modified,
            size: object.body.len() as u64,
        });
        rows.collect()
    }
}

fn median(request: Request) -> Duration {
    match request {
        Request::Get => GET_LATENCY,
        Request::Put | Request::Delete => PUT_LATENCY,
        Request::List => LIST_LATENCY,
    }
}

impl Store for Client<'_> {
    fn address(&self) -> &str {
        "s3://simulated"
    }

    fn get(&self, key: &str, known: Option<&Etag>) -> Result<GetOutcome, StoreError> {
        self.exchange(Request::Get, key, || self.read(key, known))
    }

    fn put(
        &self,
        key: &str,
        body: &[u8],
        when: WriteCondition<'_>,
    ) -> Result<PutOutcome, StoreError> {
        for turn in 1..MAX_PUT_ATTEMPTS {
            if let Some(outcome) = self.write(key, body, when)? {
                return Ok(outcome);
            }
            self.sleep.sleep(delay_before_retry(turn + 1));
        }
        Ok(PutOutcome::Conflict)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        let mut rows: Vec<ObjectMeta> = Vec::new();
        loop {
            let after = rows
                .last()
                .map_or(prefix, |row| row.key.as_str())
                .to_owned();
            let page = self.exchange(Request::List, prefix, || self.page(prefix, &after))?;
            self.bucket.meter.borrow_mut().total.bytes += page.len() as u64 * ROW_BYTES;
            let is_last = page.len() < PAGE;
            rows.extend(page);
            if is_last {
                return Ok(rows);
            }
        }
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.exchange(Request::Delete, key, || {
            self.bucket.objects.borrow_mut().remove(key);
        })
    }

    fn get_many(&self, keys: &[String], _limit: usize, take: &mut dyn FnMut(usize, GetResult)) {
        for (number, key) in keys.iter().enumerate() {
            // So many are under way at a time.
            let pause = self.random.latency(GET_LATENCY) / CONCURRENT_READS;
            self.sleep.sleep(pause);
            while !self.bucket.admits(Request::Get, key) {
                self.bucket.meter.borrow_mut().total.throttled += 1;
                self.sleep.sleep(FIRST_PAUSE / CONCURRENT_READS);
            }
            let now = self.bucket.clock.elapsed();
            self.bucket.meter.borrow_mut().count(now, Request::Get, key);
            take(number, Ok(self.read(key, None)));
        }
    }

    fn server_time(&self) -> Option<Timestamp> {
        Some(self.bucket.clock.now())
    }
}
