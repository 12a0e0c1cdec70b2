//! What trueup promises, held against the binary as people run it. One binary for all of it: it
//! links once.
//!
//! - [`adopt`]: hosts that another tool deployed to before
//! - [`scenario`]: folders in `tests/scenarios`: what is there, what a pass does, what is there then
//! - [`bad_input`]: what people and broken machines hand in, and what they are told
//! - [`caller`]: what children have of whoever started trueup: nothing
//! - [`crash`]: killed at every change, a pass loses nothing and repeats nothing
//! - [`demo`]: the demo keeps to a folder of its own
//! - [`durable`]: what is on disk before something else is made of it
//! - [`fleet`]: hosts that share a store and learn of each other
//! - [`gate`]: releases that do not work in service
//! - [`printed`]: what others write, as text on an operator's terminal
//! - [`release_crash`]: a deploy that is killed at every stage
//! - [`git_http`]: how a repository behind http is reached
//! - [`git_memory`]: what a git server can make a pass take of memory
//! - [`init`]: how a host is set up
//! - [`operate`]: what an operator does with releases at a host
//! - [`output`]: documents for programs, in JSON and YAML
//! - [`doctor`]: what can be wrong round a pass, named with what to do
//! - [`secrets`]: what programs print of secrets, and who may read what they print
//! - [`status`]: how a host stands, as an operator reads it
//! - [`waiting`]: what a pass waits for: another pass, a hold
//! - [`cli`]: what every command owes to scripts and pipes
//! - [`package`]: the manual that packages bring
//! - [`roles`]: the shipped roles
//! - [`tidy`]: the layout of the source itself
//!
//! Every sandbox is a folder of its own, so tests run side by side; what they start ends with them.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stands outside of the ports, and its failure is a panic"
)]

mod adopt;
mod app;
mod bad_input;
mod caller;
mod cli;
mod crash;
mod demo;
mod doctor;
mod durable;
mod fleet;
mod gate;
mod git_http;
mod git_memory;
mod init;
mod locked;
mod operate;
mod output;
mod package;
mod printed;
mod privilege;
mod processes;
mod release_crash;
mod roles;
mod sandbox;
mod scenario;
mod secrets;
mod status;
mod terminal;
mod tidy;
mod tree;
mod waiting;
