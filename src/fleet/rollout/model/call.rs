//! The calls of hosts and operators as data, so that they can be interrupted at each of them.

use crate::desired::Sha;
use crate::fleet::rollout::once::OnceResult;
use crate::fleet::rollout::quarantine::Quarantine;
use crate::fleet::rollout::register::{Register, WantedShas};
use crate::fleet::rollout::slot::Slot;
use crate::fleet::rollout::store::{AppHost, Swap, Versioned};
use crate::ports::store::Etag;

/// A call that is about to be made.
#[expect(
    clippy::large_enum_variant,
    reason = "most calls that are kept are writes"
)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Call {
    Register,
    Slot(u32),
    Quarantine(Sha),
    Once(Sha, String),
    Marks(Sha),
    Hosts,
    Wanted,
    Write(Write),
    /// How much time has passed since the last assessment.
    Clock,
    Local(LocalStep),
}

/// A write, which may be lost, late or double.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Write {
    Register(Register, Option<Etag>),
    Slot(u32, Slot, Option<Etag>),
    Quarantine(Sha, Quarantine, Option<Etag>),
    Once(Sha, String, OnceResult, Option<Etag>),
    Mark(Sha, String),
    Unmark(Sha, String),
}

/// What a host does on itself. It may be killed before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum LocalStep {
    Drain,
    Switch,
    Gate,
    RunStep,
    Restore,
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Reply {
    Register(Option<Versioned<Register>>),
    Slot(Option<Versioned<Slot>>),
    Quarantine(Option<Versioned<Quarantine>>),
    Once(Option<Versioned<OnceResult>>),
    Marks(Vec<String>),
    Hosts(Vec<AppHost>),
    Wanted(WantedShas),
    Swapped(Swap),
    Done,
    /// More than 5 s have passed.
    IsLate(bool),
    Works(bool),
    /// No answer in time.
    Lost,
}
