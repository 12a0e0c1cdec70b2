//! An S3 bucket as a store: AWS, or a server that speaks the same.
//!
//! The conditions of a write are checked by the server (`If-None-Match: *`, `If-Match`); this
//! file's part is to turn every way in which an answer can be late, lost, cut short or refused
//! into one of the port's own words, within a deadline.

mod connect;
mod credentials;
mod fault;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod live_tests;
mod many;

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::marker::PhantomData;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::SharedCredentialsProvider;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use jiff::Timestamp;

use self::connect::{Attempts, Deadlines, ServerClock};
use self::fault::Fault;
use super::{
    Answer, Etag, Fetched, Listed, MAX_ETAG, MAX_LISTED, MAX_OBJECT, Object, Put, Store,
    StoreError, When, check_key, check_prefix, check_size,
};
use crate::ports::runtime::block_on;
use crate::ports::watchdog;

/// How often a write is tried again after AWS's "a conditional operation on this key is going on"
/// (409), which says nothing about the condition itself.
const TURNS: u32 = 5;
/// A list has no more pages: ten for each that a server has to make, because some make shorter ones.
const MAX_PAGES: usize = MAX_LISTED / 100;
/// The name under which a write carries its own mark, to be known again.
const MARK: &str = "trueup-write";

/// Where the bucket is.
#[derive(Debug, Clone)]
pub struct S3Settings {
    pub bucket: String,
    /// Prepended to every key, with a slash; may be empty.
    pub prefix: String,
    /// Without it: `AWS_REGION`, `AWS_DEFAULT_REGION`, then the AWS profile.
    pub region: Option<String>,
    /// The address of an S3-compatible server, with its scheme; AWS without it.
    pub endpoint: Option<String>,
    /// The bucket goes in the path instead of in the host name.
    pub path_style: bool,
}

/// An S3 bucket as a store. Stays on its thread, because its connections live in the thread's
/// runtime: one that another thread picked up would never be served.
#[derive(Debug)]
pub struct S3Store {
    address: String,
    bucket: String,
    /// Empty, or ending in a slash.
    prefix: String,
    /// Said in errors, since the address does not tell.
    endpoint: Option<String>,
    client: Client,
    clock: ServerClock,
    deadlines: Deadlines,
    thread: PhantomData<*const ()>,
}

impl S3Store {
    /// Prepares the client. Contacts nothing; credentials are looked for when first needed, by
    /// the SDK's standard chain.
    pub fn open(settings: S3Settings) -> Result<S3Store, StoreError> {
        S3Store::prepare(settings, Deadlines::default(), None)
    }

    fn prepare(
        settings: S3Settings,
        deadlines: Deadlines,
        credentials: Option<SharedCredentialsProvider>,
    ) -> Result<S3Store, StoreError> {
        let bucket = &settings.bucket;
        let usual = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if bucket.is_empty() || !bucket.chars().all(usual) {
            return Err(StoreError::Settings(format!(
                "`{bucket}` is not the name of a bucket: expected letters, digits, dots and dashes, as in s3://bucket/prefix"
            )));
        }
        let prefix = settings.prefix.trim_end_matches('/');
        let (address, prefix) = if prefix.is_empty() {
            (format!("s3://{bucket}"), String::new())
        } else {
            check_key(prefix)?;
            (format!("s3://{bucket}/{prefix}"), format!("{prefix}/"))
        };
        let clock = ServerClock::default();
        Ok(S3Store {
            client: connect::client(&address, &settings, deadlines, credentials, &clock)?,
            clock,
            address,
            prefix,
            bucket: settings.bucket,
            endpoint: settings.endpoint,
            deadlines,
            thread: PhantomData,
        })
    }

    /// Runs one operation to its end or to its deadline, in the port's own words.
    fn run<T>(
        &self,
        key: &str,
        operation: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, StoreError> {
        let limit = self.deadlines.operation;
        let _operation = watchdog::begin(format!("{}: {key}", self.address), limit);
        let fault = match block_on(async { tokio::time::timeout(limit, operation).await }) {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(fault)) => fault,
            Err(_) => Fault::Late(limit),
        };
        Err(self.explain(fault, key))
    }

    fn explain(&self, fault: Fault, key: &str) -> StoreError {
        fault.explain(&self.address, key, self.endpoint.as_deref())
    }

    async fn fetch(&self, key: &str, known: Option<&Etag>) -> Result<Fetched, Fault> {
        let answer = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(format!("{}{key}", self.prefix))
            .set_if_none_match(known.map(quoted))
            .send()
            .await;
        fetched(answer.map_err(Fault::from), known, MAX_OBJECT).await
    }

    async fn write(&self, key: &str, body: &[u8], when: When<'_>) -> Result<Put, Fault> {
        let key = format!("{}{key}", self.prefix);
        let mark = mark();
        let attempts = Attempts::default();
        for turn in 1.. {
            let request = self
                .client
                .put_object()
                .bucket(&self.bucket)
                .key(&key)
                .metadata(MARK, &mark)
                .body(ByteStream::from(body.to_vec()));
            let request = match when {
                When::Always => request,
                When::Absent => request.if_none_match("*"),
                // Unquoted: AWS takes both, radosgw never matches a quoted one.
                When::Matches(etag) => request.if_match(&etag.0),
            };
            let answer = request
                .customize()
                .interceptor(attempts.clone())
                .send()
                .await;
            let fault = match answer.map_err(Fault::from) {
                Ok(answer) => return Ok(Put::Written(etag(answer.e_tag.as_deref())?)),
                Err(fault) => fault,
            };
            let conditional = !matches!(when, When::Always);
            match fault.status() {
                // A missing key is a 404 to some servers and a 412 to others.
                _ if conditional && fault.condition_failed() => {
                    // An attempt whose answer was lost may have been carried out, and then it is
                    // this very write that the next attempt ran into.
                    if attempts.count() > 1
                        && let Some(etag) = self.written_as(&key, &mark).await?
                    {
                        return Ok(Put::Written(etag));
                    }
                    return Ok(Put::Conflict);
                }
                Some(409) if turn < TURNS => tokio::time::sleep(pause(turn)).await,
                Some(409) if conditional => return Ok(Put::Conflict),
                _ => return Err(fault),
            }
        }
        unreachable!("the last turn returns")
    }

    /// The version of the object, if it is the one that a write with this mark made.
    async fn written_as(&self, key: &str, mark: &str) -> Result<Option<Etag>, Fault> {
        let request = self.client.head_object().bucket(&self.bucket).key(key);
        match request.send().await.map_err(Fault::from) {
            Ok(head) => {
                let found = head.metadata.as_ref().and_then(|meta| meta.get(MARK));
                if found.is_some_and(|found| found == mark) {
                    return etag(head.e_tag.as_deref()).map(Some);
                }
                Ok(None)
            }
            Err(fault) if fault.status() == Some(404) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    async fn rows(&self, prefix: &str) -> Result<Vec<Listed>, Fault> {
        let mut rows = Vec::new();
        let mut next: Option<String> = None;
        let mut keys = 0;
        for _ in 0..MAX_PAGES {
            let page = self
                .client
                .list_objects_v2()
                .bucket(&self.bucket)
                .prefix(format!("{}{prefix}", self.prefix))
                .set_continuation_token(next.clone())
                .send()
                .await
                .map_err(Fault::from)?;
            let contents = page.contents.unwrap_or_default();
            // Those that are left out below count as well.
            keys += contents.len();
            if keys > MAX_LISTED {
                return Err(Fault::TooMany);
            }
            for object in contents {
                let key = object.key.unwrap_or_default();
                let Some(key) = key.strip_prefix(&self.prefix) else {
                    return Err(Fault::answer("a list with a key outside of its prefix"));
                };
                // Not ours: the empty objects that consoles make as folders, mostly.
                if check_key(key).is_err() {
                    continue;
                }
                rows.push(Listed {
                    key: key.to_owned(),
                    etag: etag(object.e_tag.as_deref())?,
                    modified: time(object.last_modified)?,
                    size: u64::try_from(object.size.unwrap_or_default()).unwrap_or_default(),
                });
            }
            let after = page.next_continuation_token;
            match (page.is_truncated.unwrap_or_default(), after) {
                (false, _) => {
                    rows.sort_unstable_by(|a: &Listed, b| a.key.cmp(&b.key));
                    return Ok(rows);
                }
                (true, Some(token)) if next.as_ref() != Some(&token) => next = Some(token),
                (true, _) => return Err(Fault::answer("a cut list without its continuation")),
            }
        }
        Err(Fault::answer("a list of pages without an end"))
    }

    async fn remove(&self, key: &str) -> Result<(), Fault> {
        let request = self.client.delete_object().bucket(&self.bucket);
        let key = format!("{}{key}", self.prefix);
        match request.key(key).send().await.map_err(Fault::from) {
            Err(fault) if !fault.no_such_key() => Err(fault),
            _ => Ok(()),
        }
    }
}

impl Store for S3Store {
    fn address(&self) -> &str {
        &self.address
    }

    fn get(&self, key: &str, known: Option<&Etag>) -> Result<Fetched, StoreError> {
        check_key(key)?;
        self.run(key, self.fetch(key, known))
    }

    fn put(&self, key: &str, body: &[u8], when: When<'_>) -> Result<Put, StoreError> {
        check_key(key)?;
        check_size(&self.address, key, body.len() as u64)?;
        self.run(key, self.write(key, body, when))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        check_prefix(prefix)?;
        self.run(prefix, self.rows(prefix))
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key(key)?;
        self.run(key, self.remove(key))
    }

    fn get_many(&self, keys: &[String], limit: usize, take: &mut dyn FnMut(usize, Answer)) {
        self.fetch_many(keys, limit, take);
    }

    fn now(&self) -> Option<Timestamp> {
        self.clock.told()
    }
}

/// What the answer to a read says.
async fn fetched(
    answer: Result<GetObjectOutput, Fault>,
    known: Option<&Etag>,
    limit: usize,
) -> Result<Fetched, Fault> {
    match answer {
        Ok(answer) => {
            let etag = etag(answer.e_tag.as_deref())?;
            // Some servers send the object whatever the condition says.
            if known == Some(&etag) {
                return Ok(Fetched::Unchanged);
            }
            let modified = time(answer.last_modified)?;
            let body = whole(answer, limit).await?;
            Ok(Fetched::Object(Object {
                body,
                etag,
                modified,
            }))
        }
        Err(fault) if fault.status() == Some(304) => match known {
            Some(_) => Ok(Fetched::Unchanged),
            None => Err(Fault::answer(
                "\"not modified\" where all of an object was asked for",
            )),
        },
        Err(fault) if fault.no_such_key() => Ok(Fetched::Missing),
        Err(fault) => Err(fault),
    }
}

/// The body, if it is all there and not too large.
async fn whole(answer: GetObjectOutput, limit: usize) -> Result<Vec<u8>, Fault> {
    // Without its length, a body that ends early could pass for a short object.
    let Some(length) = answer.content_length.and_then(|n| usize::try_from(n).ok()) else {
        return Err(Fault::answer("an object without its length"));
    };
    if length > limit {
        return Err(Fault::TooLarge(limit));
    }
    let mut stream = answer.body;
    let mut body = Vec::with_capacity(length);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| Fault::cut(&error))?;
        if body.len() + chunk.len() > length {
            return Err(Fault::answer("more of an object than its length"));
        }
        body.extend_from_slice(&chunk);
    }
    if body.len() < length {
        return Err(Fault::answer("less of an object than its length"));
    }
    Ok(body)
}

fn etag(quoted: Option<&str>) -> Result<Etag, Fault> {
    let quoted = quoted.ok_or_else(|| Fault::answer("an object without its ETag"))?;
    if quoted.len() > MAX_ETAG {
        return Err(Fault::answer("an ETag of more than 256 bytes"));
    }
    let plain = quoted.strip_prefix('"').and_then(|e| e.strip_suffix('"'));
    Ok(Etag(plain.unwrap_or(quoted).to_owned()))
}

/// As HTTP wants it, for reads; a weak ETag was kept with its quotes.
fn quoted(etag: &Etag) -> String {
    if etag.0.contains('"') {
        return etag.0.clone();
    }
    format!("\"{}\"", etag.0)
}

fn time(modified: Option<DateTime>) -> Result<Timestamp, Fault> {
    modified
        .and_then(|time| Timestamp::new(time.secs(), time.subsec_nanos().cast_signed()).ok())
        .ok_or_else(|| Fault::answer("an object without its time"))
}

/// A mark that no other write has.
fn mark() -> String {
    format!("{:016x}{:016x}", random(), random())
}

/// The standard library seeds its hash maps from the system's randomness.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A pause that grows, and differs between hosts that ran into each other.
fn pause(turn: u32) -> Duration {
    let longest = 50_u64 << turn.min(6);
    Duration::from_millis(longest / 2 + random() % (longest / 2))
}
