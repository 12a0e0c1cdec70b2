//! An S3 bucket as a store: AWS or a compatible server.
//!
//! The server checks the conditions of a write (`If-None-Match: *`, `If-Match`); this module maps every way
//! in which an answer can be late, lost, truncated or refused to a [`StoreError`], within a deadline.

mod client;
mod error;
#[cfg(test)]
mod fault_tests;
mod get_many;
#[cfg(test)]
mod live_tests;
mod location;
mod response;

use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::SharedCredentialsProvider;
use aws_sdk_s3::primitives::ByteStream;
use jiff::Timestamp;

use self::client::{AttemptCounter, Deadlines, ServerClock};
use self::error::S3Error;
use self::response::{parse_etag, parse_get_response, parse_time, quote_etag};
use super::{
    Etag, GetOutcome, GetResult, MAX_LIST_LENGTH, MAX_OBJECT_SIZE, ObjectMeta, PutOutcome, Store,
    StoreError, WriteCondition, check_key, check_prefix, check_size,
};
use crate::ports::backoff::delay_before_retry;
use crate::ports::random::random_u64;
use crate::ports::runtime::block_on;
use crate::ports::watchdog;

pub(crate) use self::location::S3Settings;

/// Maximum attempts at a write after AWS's "a conditional operation on this key is going on" (409), which
/// says nothing about the condition itself.
const MAX_PUT_ATTEMPTS: u32 = 5;
/// Maximum pages of a list: ten times as many as needed, because some servers make shorter ones.
const MAX_PAGES: usize = MAX_LIST_LENGTH / 100;
/// The metadata key of a write's own id, by which a write with a lost answer is recognised.
const WRITE_ID_KEY: &str = "trueup-write";

/// An S3 bucket as a store. Stays on its thread, whose runtime serves its connections.
#[derive(Debug)]
pub(crate) struct S3Store {
    address: String,
    bucket: String,
    /// Empty, or ending in a slash.
    prefix: String,
    /// For errors, since `address` does not contain it.
    endpoint: Option<String>,
    client: Client,
    clock: ServerClock,
    deadlines: Deadlines,
    thread: PhantomData<*const ()>,
}

impl S3Store {
    /// Creates the client. Contacts nothing; the SDK's standard chain looks for credentials when first
    /// needed.
    pub(crate) fn open(settings: S3Settings) -> Result<S3Store, StoreError> {
        S3Store::with_options(settings, Deadlines::default(), None)
    }

    fn with_options(
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
        // Other servers allow names and regions that AWS does not, and old buckets have any name in a path.
        if settings.endpoint.is_none() && !settings.path_style {
            location::check_aws_names(bucket, settings.region.as_deref())
                .map_err(StoreError::Settings)?;
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
            client: client::build_client(&address, &settings, deadlines, credentials, &clock)?,
            clock,
            address,
            prefix,
            bucket: settings.bucket,
            endpoint: settings.endpoint,
            deadlines,
            thread: PhantomData,
        })
    }

    /// Runs one operation to its end or to its deadline, and maps its error.
    fn run_within<T>(
        &self,
        limit: Duration,
        key: &str,
        operation: impl Future<Output = Result<T, S3Error>>,
    ) -> Result<T, StoreError> {
        let _operation = watchdog::begin(format!("{}: {key}", self.address), limit);
        let fault = match block_on(async { tokio::time::timeout(limit, operation).await }) {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(fault)) => fault,
            Err(_) => S3Error::TimedOut(limit),
        };
        Err(self.store_error(fault, key))
    }

    fn store_error(&self, fault: S3Error, key: &str) -> StoreError {
        fault.into_store_error(&self.address, key, self.endpoint.as_deref())
    }

    async fn get_object(&self, key: &str, known: Option<&Etag>) -> Result<GetOutcome, S3Error> {
        let answer = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(format!("{}{key}", self.prefix))
            .set_if_none_match(known.map(quote_etag))
            .send()
            .await;
        parse_get_response(answer.map_err(S3Error::from), known, MAX_OBJECT_SIZE).await
    }

    async fn put_object(
        &self,
        key: &str,
        body: &[u8],
        when: WriteCondition<'_>,
    ) -> Result<PutOutcome, S3Error> {
        let key = format!("{}{key}", self.prefix);
        let mark = new_write_id();
        let attempts = AttemptCounter::default();
        for turn in 1.. {
            let request = self
                .client
                .put_object()
                .bucket(&self.bucket)
                .key(&key)
                .metadata(WRITE_ID_KEY, &mark)
                .body(ByteStream::from(body.to_vec()));
            let request = match when {
                WriteCondition::Always => request,
                WriteCondition::Absent => request.if_none_match("*"),
                // Unquoted: AWS accepts both, radosgw never matches a quoted one.
                WriteCondition::Matches(etag) => request.if_match(&etag.0),
            };
            let answer = request
                .customize()
                .interceptor(attempts.clone())
                .send()
                .await;
            let fault = match answer.map_err(S3Error::from) {
                Ok(answer) => return Ok(PutOutcome::Written(parse_etag(answer.e_tag.as_deref())?)),
                Err(fault) => fault,
            };
            let conditional = !matches!(when, WriteCondition::Always);
            match fault.status() {
                // A missing key is a 404 to some servers and a 412 to others.
                _ if conditional && fault.is_condition_failed() => {
                    // The server may have executed an attempt whose answer was lost, and then the next
                    // attempt conflicts with this very write.
                    if attempts.count() > 1
                        && let Some(etag) = self.find_own_write(&key, &mark).await?
                    {
                        return Ok(PutOutcome::Written(etag));
                    }
                    return Ok(PutOutcome::Conflict);
                }
                Some(409) if turn < MAX_PUT_ATTEMPTS => {
                    tokio::time::sleep(delay_before_retry(turn + 1)).await
                }
                Some(409) if conditional => return Ok(PutOutcome::Conflict),
                _ => return Err(fault),
            }
        }
        unreachable!("the last turn returns")
    }

    /// The version of the object, if the write with this id made it.
    async fn find_own_write(&self, key: &str, mark: &str) -> Result<Option<Etag>, S3Error> {
        let request = self.client.head_object().bucket(&self.bucket).key(key);
        match request.send().await.map_err(S3Error::from) {
            Ok(head) => {
                let found = head
                    .metadata
                    .as_ref()
                    .and_then(|meta| meta.get(WRITE_ID_KEY));
                if found.is_some_and(|found| found == mark) {
                    return parse_etag(head.e_tag.as_deref()).map(Some);
                }
                Ok(None)
            }
            Err(fault) if fault.status() == Some(404) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    async fn list_objects(&self, prefix: &str) -> Result<Vec<ObjectMeta>, S3Error> {
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
                .map_err(S3Error::from)?;
            let contents = page.contents.unwrap_or_default();
            // Including those that are skipped below.
            keys += contents.len();
            if keys > MAX_LIST_LENGTH {
                return Err(S3Error::ListTooLong);
            }
            for object in contents {
                let key = object.key.unwrap_or_default();
                let Some(key) = key.strip_prefix(&self.prefix) else {
                    return Err(S3Error::invalid_response(
                        "a list with a key outside its prefix",
                    ));
                };
                // Not trueup's: mostly the empty objects that consoles create as folders.
                if check_key(key).is_err() {
                    continue;
                }
                rows.push(ObjectMeta {
                    key: key.to_owned(),
                    etag: parse_etag(object.e_tag.as_deref())?,
                    modified: parse_time(object.last_modified)?,
                    size: u64::try_from(object.size.unwrap_or_default()).unwrap_or_default(),
                });
            }
            let after = page.next_continuation_token;
            match (page.is_truncated.unwrap_or_default(), after) {
                (false, _) => {
                    rows.sort_unstable_by(|a: &ObjectMeta, b| a.key.cmp(&b.key));
                    return Ok(rows);
                }
                (true, Some(token)) if next.as_ref() != Some(&token) => next = Some(token),
                (true, _) => {
                    return Err(S3Error::invalid_response(
                        "a truncated list without a continuation token",
                    ));
                }
            }
        }
        Err(S3Error::invalid_response("a list of pages without an end"))
    }

    async fn delete_object(&self, key: &str) -> Result<(), S3Error> {
        let request = self.client.delete_object().bucket(&self.bucket);
        let key = format!("{}{key}", self.prefix);
        match request.key(key).send().await.map_err(S3Error::from) {
            Err(fault) if !fault.is_no_such_key() => Err(fault),
            _ => Ok(()),
        }
    }
}

impl Store for S3Store {
    fn address(&self) -> &str {
        &self.address
    }

    fn get(&self, key: &str, known: Option<&Etag>) -> Result<GetOutcome, StoreError> {
        self.get_within(self.deadlines.operation, key, known)
    }

    fn get_within(
        &self,
        limit: Duration,
        key: &str,
        known: Option<&Etag>,
    ) -> Result<GetOutcome, StoreError> {
        check_key(key)?;
        self.run_within(limit, key, self.get_object(key, known))
    }

    fn put(
        &self,
        key: &str,
        body: &[u8],
        when: WriteCondition<'_>,
    ) -> Result<PutOutcome, StoreError> {
        self.put_within(self.deadlines.operation, key, body, when)
    }

    fn put_within(
        &self,
        limit: Duration,
        key: &str,
        body: &[u8],
        when: WriteCondition<'_>,
    ) -> Result<PutOutcome, StoreError> {
        check_key(key)?;
        check_size(&self.address, key, body.len() as u64)?;
        self.run_within(limit, key, self.put_object(key, body, when))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        self.list_within(self.deadlines.operation, prefix)
    }

    fn list_within(&self, limit: Duration, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        check_prefix(prefix)?;
        self.run_within(limit, prefix, self.list_objects(prefix))
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.delete_within(self.deadlines.operation, key)
    }

    fn delete_within(&self, limit: Duration, key: &str) -> Result<(), StoreError> {
        check_key(key)?;
        self.run_within(limit, key, self.delete_object(key))
    }

    fn get_many(&self, keys: &[String], limit: usize, take: &mut dyn FnMut(usize, GetResult)) {
        self.fetch_many(keys, limit, take);
    }

    fn server_time(&self) -> Option<Timestamp> {
        self.clock.time()
    }
}

/// A random id for a write.
fn new_write_id() -> String {
    format!("{:016x}{:016x}", random_u64(), random_u64())
}
