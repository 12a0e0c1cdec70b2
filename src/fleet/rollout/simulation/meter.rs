//! What the hosts ask of the store, and what that costs.

use std::collections::HashMap;
use std::time::Duration;

/// S3's prices of a request in USD, of the first region: PUT and LIST, and GET. A DELETE is free.
const PUT_PRICE: f64 = 0.005 / 1000.0;
const GET_PRICE: f64 = 0.0004 / 1000.0;

/// The kinds of requests that differ in price or speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Get,
    Put,
    List,
    Delete,
}

/// Requests of all hosts in some time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub gets: u64,
    pub puts: u64,
    /// One for each page.
    pub lists: u64,
    pub deletes: u64,
    /// Writes whose condition did not hold.
    pub conflicts: u64,
    /// Requests that S3 did not serve because there were too many. They cost nothing.
    pub throttled: u64,
    /// Of bodies and lists, in both directions.
    pub bytes: u64,
}

impl Usage {
    /// In USD.
    #[must_use]
    pub fn price(&self) -> f64 {
        (self.puts + self.lists) as f64 * PUT_PRICE + self.gets as f64 * GET_PRICE
    }

    #[must_use]
    pub fn requests(&self) -> u64 {
        self.gets + self.puts + self.lists + self.deletes
    }

    pub(super) fn since(&self, before: &Usage) -> Usage {
        Usage {
            gets: self.gets - before.gets,
            puts: self.puts - before.puts,
            lists: self.lists - before.lists,
            deletes: self.deletes - before.deletes,
            conflicts: self.conflicts - before.conflicts,
            throttled: self.throttled - before.throttled,
            bytes: self.bytes - before.bytes,
        }
    }
}

/// Requests of one second: of all, and the writes to each key.
#[derive(Default)]
struct Second {
    number: u64,
    reads: u64,
    writes: HashMap<String, u64>,
}

/// Counts requests.
#[derive(Default)]
pub(super) struct Meter {
    pub total: Usage,
    second: Second,
    /// The most reads in a second.
    pub peak_reads: u64,
    /// The most writes to one key in a second, and the key.
    pub peak_writes: (u64, String),
}

impl Meter {
    pub(super) fn count(&mut self, at: Duration, request: Request, key: &str) {
        if self.second.number != at.as_secs() {
            self.second = Second {
                number: at.as_secs(),
                ..Second::default()
            };
        }
        match request {
            Request::Get => {
                self.total.gets += 1;
                self.second.reads += 1;
                self.peak_reads = self.peak_reads.max(self.second.reads);
            }
            Request::Put => {
                self.total.puts += 1;
                let writes = self.second.writes.entry(key.to_owned()).or_default();
                *writes += 1;
                if *writes > self.peak_writes.0 {
                    self.peak_writes = (*writes, key.to_owned());
                }
            }
            Request::List => self.total.lists += 1,
            Request::Delete => self.total.deletes += 1,
        }
    }
}
