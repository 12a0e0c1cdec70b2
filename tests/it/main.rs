//! Tests of the binary as people run it. One test binary for all of them: it
//! links once.
//!
//! - [`acts`]: commands that change the manifest: questions, misspelt names, documents
//! - [`adopt`]: hosts that another tool deployed to before
//! - [`scenario`]: folders in `tests/scenarios`: the host before, the pass, the host after
//! - [`bad_input`]: invalid input, and the exact errors
//! - [`caller`]: children inherit nothing from the caller of trueup
//! - [`completion`]: completions in a shell
//! - [`crash`]: a pass killed at any change loses nothing and repeats nothing
//! - [`demo`]: the demo uses only a folder of its own
//! - [`documents`], [`host_documents`]: the documents of `--json` against their page
//! - [`durable`]: git objects are synced before anything refers to them
//! - [`eip`]: addresses of EC2 that move to the master of a pair
//! - [`fleet`]: hosts that share a store and find each other in it
//! - [`followers`]: services that start with a new release after its gate
//! - [`gate`]: releases that fail their gate
//! - [`printed`]: text of others on an operator's terminal
//! - [`progress`]: what a long step is at
//! - [`release_crash`]: a deploy killed at every stage
//! - [`git_http`]: git over http: proxies and certificates
//! - [`git_memory`]: memory that a git server can make a pass use
//! - [`ci`]: the samples of `packaging/ci`, run line by line
//! - [`publishers`]: many publishers at once, and killed ones
//! - [`init`]: setting up a host
//! - [`maintenance`]: apps behind a maintenance page
//! - [`operate`]: the commands for releases on one host
//! - [`output`]: documents for programs, in JSON and YAML
//! - [`doctor`]: faults around a pass, each with a remedy
//! - [`secrets`]: secrets in program output and in state files
//! - [`status`]: the status of a host, its login message and metrics
//! - [`services`]: the commands for the services of an app: processes, logs, restart
//! - [`waiting`]: waiting for another pass, and holds
//! - [`widths`]: tables and texts at terminals of several widths
//! - [`cli`]: exit codes, help, JSON and colours of every command
//! - [`package`]: man pages and completions
//! - [`roles`]: the shipped roles
//! - [`tidy`]: the layout of the source itself
//!
//! Every sandbox is a folder of its own, so tests run in parallel, and end the processes that they start.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests do not use the ports, and fail by a panic"
)]

mod acts;
mod adopt;
mod app;
mod bad_input;
mod bake;
mod caller;
mod ci;
mod cli;
mod completion;
mod crash;
mod demo;
mod doctor;
mod documents;
mod drain;
mod durable;
mod eip;
mod fleet;
mod followers;
mod gate;
mod git_http;
mod git_memory;
mod host_documents;
mod init;
#[path = "../json_docs/mod.rs"]
mod json_docs;
mod locked;
mod maintenance;
mod notify;
mod operate;
mod output;
mod package;
mod policy;
mod preflight;
mod printed;
mod privilege;
mod processes;
mod progress;
mod publish;
mod publishers;
mod python_role;
mod release_crash;
mod resume;
mod role_values;
mod roles;
mod s3;
mod sandbox;
mod scenario;
mod secret_command;
mod secret_prompts;
mod secrets;
mod services;
mod signed;
mod status;
mod terminal;
mod tidy;
mod tree;
mod waiting;
mod widths;
