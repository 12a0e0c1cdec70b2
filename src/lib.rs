//! trueup, a convergence agent: brings a host to the state that its roles describe.
//!
//! # The spine
//!
//! ```text
//! settings → roles (facts, peers) → desired → catalog → plan → apply → report
//! ```
//!
//! Data flows one way: each stage takes a value and returns the next, and only [`pass`] chains the
//! stages. The modules, in the order in which a pass reaches them:
//!
//! | module | purpose |
//! | --- | --- |
//! | [`cli`] | the command line: one file per command, and the only module that prints |
//! | [`operate`] | what commands decide; returns values and never prints |
//! | [`notify`] | messages about rollouts: which are due, who sends them, and through which channels |
//! | [`pass`] | one pass; `converge`, `plan` and `status` run the same chain up to different stages |
//! | [`settings`] | `node.yml`: reading, merging and validating it |
//! | [`desired`] | the manifest: reading it, caching the last good one, and editing it (`publish`) |
//! | [`policy`] | policy bundles: roles and templates of an environment as one object that the manifest names |
//! | [`fleet`] | the records that the hosts of an environment publish; `nodes(…)` in templates |
//! | [`secrets`] | secrets as age files: keys, the objects of an environment, and where hosts look them up |
//! | [`facts`] | facts of the host, gathered only when a template uses them |
//! | [`role`] | expands roles into a catalog of resources: parameters, rendering, ids, conflicts |
//! | [`plan`] | inspects every resource and compares it with its desired state |
//! | [`apply`] | applies the plan in order; sets of files that are checked together |
//! | [`owed`] | the restarts, reloads and runs that changes require |
//! | [`report`] | the result of a pass: as text, as JSON, kept on the host |
//! | [`resource`] | the values that describe a resource: fields, changes, failures, duties |
//! | [`kind`] | the traits that kinds implement |
//! | [`kinds`] | the list of kinds, one file each |
//! | [`release`] | the deploy pipeline of the kind `release`, one file per stage |
//! | [`balancer`] | a pair of balancers: what keepalived asks and reports, and an operator's drain |
//! | [`checks`] | checks of what a pass relies on, each with a remedy: store, git, services, disks, timer |
//! | [`ports`] | the host: filesystem, child processes, accounts, packages, services, store, EC2, HTTP, clock |
//! | [`yaml`], [`problem`], [`printable`], [`exit`] | YAML, mistakes in it, escaping, exit codes |
//!
//! # Invariants
//!
//! 1. trueup inspects the host only after it has read and rendered all roles and templates: a
//!    mistake anywhere in them changes nothing.
//! 2. A kind's `diff` has no access to the host, so it has no side effects. `inspect` reads every
//!    field that `apply` can set; the conformance test corrupts each in turn.
//! 3. Only [`ports`] calls the operating system; `.clippy.toml` bans the rest of the crate from it,
//!    each ban with its reason. Paths of the host go through [`ports::root::Root`], which follows no
//!    link that a user other than root could have created.
//! 4. A resource's failure is report data. Only the failure of a stage itself is an `Err`, and
//!    nothing changes after it.
//! 5. There are no notifications. trueup records what a service was last started with before anything
//!    under it changes, and owes a restart exactly while that record differs from the disk ([`owed`]).
//! 6. Time is an argument ([`ports::clock`]); every child process has an end ([`ports::exec`]), and a
//!    pass that hangs nevertheless ends itself ([`ports::watchdog`]).
//!
//! # Deliberate omissions
//!
//! No server and no daemon: a pass is one process that ends. No plug-ins: a kind is code, reviewed
//! like the rest. No async above the ports: a pass is sequential, and only the store and D-Bus enter
//! the runtime, for one call at a time.
//!
//! Both YAML libraries are behind [`yaml`]. `saphyr-parser` reads: serde_yaml keeps no locations for a tree
//! that is rendered before it is typed, and every error of trueup names its file, line and field. serde_yaml
//! writes: new files such as `node.yml` and a store's first manifest, and `--output yaml`.

#![warn(unreachable_pub)]
#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the map is for readers of the code: `cargo doc --document-private-items`"
)]
mod apply;
mod balancer;
mod checks;
pub mod cli;
mod desired;
pub mod digest;
#[cfg(test)]
mod docs_test;
pub mod exit;
mod facts;
mod fleet;
#[cfg(test)]
#[path = "../tests/fuzz/mod.rs"]
mod fuzz;
mod kind;
mod kinds;
mod notify;
mod operate;
mod owed;
mod pass;
mod plan;
mod policy;
mod ports;
pub mod printable;
mod problem;
mod release;
mod report;
mod resource;
mod role;
mod secrets;
mod settings;
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub mod simulation;
#[cfg(test)]
mod testing;
mod yaml;
