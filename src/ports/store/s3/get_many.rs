//! Reads many objects concurrently.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::response::parse_get_response;
use super::{S3Error, S3Store};
use crate::ports::runtime::block_on;
use crate::ports::store::{GetOutcome, GetResult, check_key};
use crate::ports::watchdog;

/// Maximum number of concurrent requests: enough to hide the round-trip time, few enough for a small host and
/// a small server.
const MAX_CONCURRENT: usize = 16;

impl S3Store {
    pub(super) fn fetch_many(
        &self,
        keys: &[String],
        limit: usize,
        take: &mut dyn FnMut(usize, GetResult),
    ) {
        let operation = format!("{}: {} objects", self.address, keys.len());
        let _operation = watchdog::begin(operation, self.deadlines.get_many);
        let mut unanswered: Vec<bool> = keys.iter().map(|_| true).collect();
        block_on(self.fetch_all(keys, limit, &mut |number, answer| {
            unanswered[number] = false;
            take(
                number,
                answer.map_err(|error| self.store_error(error, &keys[number])),
            );
        }));
        for (number, key) in keys
            .iter()
            .enumerate()
            .filter(|(number, _)| unanswered[*number])
        {
            let late = || self.store_error(S3Error::TimedOut(self.deadlines.get_many), key);
            take(number, check_key(key).and_then(|()| Err(late())));
        }
    }

    /// Passes each answer to `take` as it arrives; skips keys that are invalid or still unread at the
    /// deadline.
    async fn fetch_all(
        &self,
        keys: &[String],
        limit: usize,
        take: &mut dyn FnMut(usize, Result<GetOutcome, S3Error>),
    ) {
        let end = Instant::now() + self.deadlines.get_many;
        let mut waiting = keys.iter().enumerate();
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < MAX_CONCURRENT
                && let Some((number, key)) = waiting.next()
            {
                if check_key(key).is_ok() {
                    under_way.spawn(self.fetch_one(number, key, limit));
                }
            }
            match timeout_at(end, under_way.join_next()).await {
                Ok(Some(Ok((number, answer)))) => take(number, answer),
                // A panic in a request is a bug; it counts as no answer.
                Ok(Some(Err(_))) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn fetch_one(
        &self,
        number: usize,
        key: &str,
        limit: usize,
    ) -> impl Future<Output = (usize, Result<GetOutcome, S3Error>)> + Send + 'static {
        let request = self.client.get_object().bucket(&self.bucket);
        let request = request.key(format!("{}{key}", self.prefix));
        let time: Duration = self.deadlines.operation;
        async move {
            let answer = async { request.send().await.map_err(S3Error::from) };
            let read = async { parse_get_response(answer.await, None, limit).await };
            let answer = timeout(time, read).await;
            (number, answer.unwrap_or(Err(S3Error::TimedOut(time))))
        }
    }
}
