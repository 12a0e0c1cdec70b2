//! Notifications: one message for each transition of a rollout, for the whole fleet.
//!
//! ```text
//! manifest, register ──due──▶ notices ──memory──▶ pending ──board: claim──▶ channel ──board: sent──▶
//! ```
//!
//! A host computes from what it reads anyway which notices are due (`due`), each with an id that is the same on all hosts,
//! and keeps those that are new to it on its disk until it knows that they are sent (`memory`). The object
//! `notices/<env>/<app>.json` records who sends what (`board`): a host claims a notice by compare-and-swap, sends it, and
//! marks it as sent (`deliver`). A claim that is not marked after a minute may be taken by another host. So each message is
//! sent once while all hosts live, and at least once if its sender is killed.
//!
//! Nothing here fails or delays a pass: it comes after the report, and costs 5 s at most.

mod board;
mod channel;
mod deliver;
mod due;
mod health;
mod memory;
mod notice;
#[cfg(test)]
mod tests;
mod text;

pub(crate) use board::{Parcel, RecordState};
pub(crate) use channel::Courier;
pub(crate) use deliver::{Delivery, DeliveryStep, read_board};
pub(crate) use due::{
    OwnResult, Subject, Wanted, hold_ended, implied_ids, known_hold, manifest_notices, own_notices,
    published_id, published_key, register_notices,
};
pub(crate) use health::ChannelHealth;
pub(crate) use memory::{AppMemory, News, Observation};
pub(crate) use notice::{MAX_AGE, Notice};
