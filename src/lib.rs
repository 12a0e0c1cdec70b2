//! trueup brings a host to the state described for it.
//!
//! # The spine
//!
//! ```text
//! settings → desired → facts → plan → apply → report
//! ```
//!
//! Data flows one way: each stage takes a value and returns the next, and [`pass`] is the only place
//! that strings them together. The modules, in the order in which a pass meets them:
//!
//! | module | what it is about |
//! | --- | --- |
//! | [`cli`] | the command line: one file per command, and the only place that prints |
//! | [`pass`] | one pass; `converge`, `plan` and `status` are this string cut at different places |
//! | [`settings`] | `node.yml` as written, then as meant |
//! | [`desired`] | the manifest: reading it, the last good one, and editing it (`publish`) |
//! | [`fleet`] | what the hosts of an environment know of each other; `nodes(…)` in templates |
//! | [`facts`] | what the host is, looked at only when a template asks |
//! | [`role`] | from roles to a catalog of resources: parameters, rendering, ids, conflicts |
//! | [`plan`] | what a pass would do: every resource looked at and compared |
//! | [`apply`] | making it so, in order; sets of files that are checked together |
//! | [`owed`] | restarts, reloads and runs that changes made necessary |
//! | [`report`] | what happened: for people, as JSON, kept on the host |
//! | [`resource`] | the trait that every kind implements, and the values around it |
//! | [`kinds`] | the list of kinds, one file each |
//! | [`release`] | the pipeline behind the kind `release`, one stage per file |
//! | [`checks`] | whether what a pass relies on works from here, each with what to do: store, git, services, disks, timer |
//! | [`ports`] | the host: filesystem, children, accounts, packages, services, store, http, clock |
//! | [`yaml`], [`problem`], [`printable`], [`exit`] | input with places, what is wrong with it, texts of others fit for a terminal, how a command ended |
//!
//! # What always holds
//!
//! 1. Nothing is looked at on the host before all roles and templates were read and rendered: a
//!    mistake anywhere in them changes nothing.
//! 2. A kind's `diff` has no host, so it cannot do anything. `inspect` reads every field that `apply`
//!    can set; the conformance test spoils each in turn.
//! 3. Only [`ports`] touches the operating system; `.clippy.toml` bans the rest of the crate from it,
//!    each ban with its reason. Paths of the host go through [`ports::root::Root`], which follows no
//!    link that somebody other than root could have put there.
//! 4. A resource's failure is report data. Only a stage's own failure is an `Err`, and before one
//!    nothing more is changed.
//! 5. Nothing is notified. What a service was last started with is on record before anything under
//!    it changes, and a restart is owed exactly while that differs from the disk ([`owed`]).
//! 6. Time is an argument ([`ports::clock`]); a child always ends ([`ports::exec`]), and a
//!    pass that hangs all the same ends itself ([`ports::watchdog`]).
//!
//! # What is not here, on purpose
//!
//! No server and no daemon: a pass is one process that ends. No plug-ins: a kind is code, reviewed
//! like the rest. No async above the ports: a pass is sequential, and only the store and D-Bus enter
//! the runtime, for one call at a time.
//!
//! The YAML reader is `saphyr-parser`, behind [`yaml`]: the usual serde crates give no places for a
//! tree that is rendered before it is typed, and every error here names its file, line and field.

pub mod apply;
pub mod checks;
pub mod cli;
pub mod desired;
pub mod digest;
#[cfg(test)]
mod docs_test;
pub mod exit;
pub mod facts;
pub mod fleet;
#[cfg(test)]
#[path = "../tests/fuzz/mod.rs"]
mod fuzz;
pub mod kinds;
pub mod owed;
pub mod pass;
pub mod plan;
pub mod ports;
pub mod printable;
pub mod problem;
pub mod release;
pub mod report;
pub mod resource;
pub mod role;
pub mod settings;
#[cfg(test)]
mod testing;
pub mod yaml;
