//! Reading many objects, several at a time.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Fault, S3Store, fetched};
use crate::ports::runtime::block_on;
use crate::ports::store::{Fetched, StoreError, check_key};

/// How many requests are under way at most: enough to hide the way to the server and back, few
/// enough that a small host and a small server bear it.
const AT_ONCE: usize = 16;

type Answers = Vec<Option<Result<Fetched, Fault>>>;

impl S3Store {
    pub(super) fn fetch_many(&self, keys: &[String]) -> Vec<Result<Fetched, StoreError>> {
        let answers = block_on(self.answers(keys));
        keys.iter()
            .zip(answers)
            .map(|(key, answer)| {
                check_key(key)?;
                let late = || Err(Fault::Late(self.deadlines.many));
                answer
                    .unwrap_or_else(late)
                    .map_err(|fault| self.explain(fault, key))
            })
            .collect()
    }

    /// The answers in the order of the questions; `None`: there was no time left, or the key is none.
    async fn answers(&self, keys: &[String]) -> Answers {
        let end = Instant::now() + self.deadlines.many;
        let mut answers: Answers = keys.iter().map(|_| None).collect();
        let mut waiting = keys.iter().enumerate();
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < AT_ONCE
                && let Some((number, key)) = waiting.next()
            {
                if check_key(key).is_ok() {
                    under_way.spawn(self.one(number, key));
                }
            }
            match timeout_at(end, under_way.join_next()).await {
                Ok(Some(Ok((number, answer)))) => answers[number] = Some(answer),
                // A request cannot panic on purpose; it counts as one without an answer.
                Ok(Some(Err(_))) => {}
                Ok(None) | Err(_) => return answers,
            }
        }
    }

    fn one(
        &self,
        number: usize,
        key: &str,
    ) -> impl Future<Output = (usize, Result<Fetched, Fault>)> + Send + 'static {
        let request = self.client.get_object().bucket(&self.bucket);
        let request = request.key(format!("{}{key}", self.prefix));
        let limit: Duration = self.deadlines.operation;
        async move {
            let read = async { fetched(request.send().await.map_err(Fault::from), None).await };
            let answer = timeout(limit, read).await;
            (number, answer.unwrap_or(Err(Fault::Late(limit))))
        }
    }
}
