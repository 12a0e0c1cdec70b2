//! Rollouts: the hosts of an app take up a new sha with permission, without a server. Only the store is shared.
//!
//! ```text
//! a pass ──request──▶ Participant ──decide──▶ Permit        (participant, permission, slots, outcome, once_step)
//!                        │   ▲
//!                  compare-and-swap                          (store: the objects, each with its pure transitions)
//!                        ▼   │
//! an operator ──────▶ register, slots, quarantines, once     (operator, remedy)
//! ```
//!
//! What each host may do follows from the objects in the store alone; `docs/fleet.md` describes the protocol and what
//! the model of it (`model`) has shown.
mod access;
mod app_host;
mod blocked;
mod count;
mod counted;
mod decide;
mod entry;
mod fit;
mod fleet_host;
mod host_rollout;
mod identity;
mod journal;
mod journal_file;
mod list_failure;
mod local_failure;
#[cfg(test)]
mod model;
mod mutation;
mod node_slots;
mod object;
mod objects;
mod observer;
mod once;
mod once_step;
mod operator;
mod others;
mod outcome;
mod participant;
mod permission;
mod polling;
mod quarantine;
mod quarantines;
mod register;
mod remedy;
mod restarts;
mod service_slot;
mod settle;
#[cfg(any(test, feature = "simulation"))]
#[cfg_attr(
    not(feature = "simulation"),
    allow(unreachable_pub, reason = "only `benches/fleet.rs` reaches it")
)]
pub(crate) mod simulation;
mod slot;
mod slots;
mod store;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use access::{may_take_part, may_take_part_lately, may_take_slots, rollout_folders};
pub(crate) use entry::{Entry, EntryState, HaltCause, HaltRecord};
pub(crate) use fleet_host::FleetHost;
pub(crate) use host_rollout::HostRollout;
pub(crate) use identity::{Member, Nonce};
pub(crate) use local_failure::LocalFailure;
pub(crate) use object::RolloutError;
pub(crate) use objects::{RolloutContext, StoreObjects, marks_prefix, register_key};
pub(crate) use observer::RegisterObserver;
pub(crate) use once::OnceOutcome;
pub(crate) use operator::{Operator, OperatorError, SignText};
pub(crate) use polling::Polling;
pub(crate) use quarantine::Quarantine;
pub(crate) use quarantines::list_quarantined;
#[cfg(test)]
pub(crate) use register::{Act, Opener};
pub(crate) use register::{Register, WantedHold, WantedShas};
pub(crate) use remedy::halt_command;
pub(crate) use restarts::RestartProgress;
pub(crate) use service_slot::ServiceSlot;
pub(crate) use settle::{AppPosition, Settled};
pub(crate) use store::RolloutStore;
#[cfg(test)]
pub(crate) use view::HeldSlot;
pub(crate) use view::{
    AppRollout, Bake, RolloutView, headline, rollout_summary, rollout_view, service_view,
};
