//! The transitions of the objects, their bounds, and their formats: what the model does not say.

mod bounds;
mod decide;
mod format;
mod hosts;
mod register;
mod remedy;

use jiff::Timestamp;

use super::counted::Counted;
use super::entry::{HaltRecord, HostCount, HostFailure};
use super::identity::{EntryId, Member};
use super::register::{Opener, Register, WantedShas};
use crate::desired::Sha;

/// A sha that consists of one digit.
fn sha(digit: char) -> Sha {
    Sha::parse(&digit.to_string().repeat(40)).unwrap()
}

fn wanted(generation: u64, digits: &str) -> WantedShas {
    WantedShas {
        generation,
        shas: digits.chars().map(sha).collect(),
        hold: None,
    }
}

const OPENER: Opener<'_> = Opener {
    node: "web1",
    at: Timestamp::UNIX_EPOCH,
};

/// A register in which the sha `1` was opened with generation 2.
fn opened() -> (Register, EntryId) {
    let mut register = Register::new("production", "shop");
    register.open(&sha('1'), &wanted(2, "1"), OPENER);
    let id = register.current(&sha('1')).unwrap().id.clone();
    (register, id)
}

fn failure(node: &str, attempt: u64) -> HostFailure {
    HostFailure {
        member: Member {
            node: node.to_owned(),
            machine: "m".to_owned(),
        },
        attempt,
        reason: "the gate failed".to_owned(),
        log_tail: "last line".to_owned(),
    }
}

fn counted(hosts: u32, canaries: &[&str]) -> Counted {
    Counted {
        count: HostCount {
            hosts,
            serving: hosts,
        },
        slots: 2,
        canaries: Ok(canaries.iter().map(|node| (*node).to_owned()).collect()),
        gone_canaries: Vec::new(),
    }
}

fn halt(cause: super::entry::HaltCause) -> HaltRecord {
    HaltRecord::new(cause, "web1", "why")
}
