//! The command line: one file per command, and the only module that prints.

mod act;
mod args;
mod balancer;
mod ci;
mod commits;
mod complete;
mod confirm;
mod converge;
mod demo;
mod diff;
mod doctor;
mod eip;
mod error;
mod exec;
mod facts;
mod fleet;
mod format;
pub(crate) mod help;
mod history;
mod init;
mod locked;
mod logging;
mod logs;
mod maintenance;
mod notify;
mod output;
mod plan;
mod policy;
mod progress;
mod ps;
mod publish;
mod releases;
mod repositories;
mod restart;
mod roles;
mod rollback;
mod rollout;
mod secret;
mod status;
mod table;
mod target;
mod validate;

use std::ffi::OsString;

use clap::{CommandFactory, Parser};

use crate::exit::Exit;
use crate::operate::CommandError;
use crate::pass::Paths;

pub use args::{Cli, Command, CompletionShell};
pub use complete::completion_script;
pub(crate) use output::Output;

/// Parses the command line, runs the command and returns its outcome.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    crate::ports::exec::reset_inherited_attributes();
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) if help::is_help(error.kind()) => {
            let help = help::command().try_get_matches_from(&args);
            return error::print_clap_message(&help.err().unwrap_or(error));
        }
        Err(error) => return error::print_clap_message(&error),
    };
    if let Command::Complete(args) = &cli.command {
        // Before anything is set up: it runs at each TAB.
        let root = cli.global.root.clone();
        return complete::print_candidates(args, root.unwrap_or_else(|| "/".into()));
    }
    let format = match cli.global.output.format(Cli::command) {
        Ok(format) => format,
        Err(error) => return error::print_clap_message(&error),
    };
    let journalled = logging::init(cli.global.log, cli.global.verbose);
    let output = Output::new(format, journalled);
    let global = &cli.global;
    let paths = crate::pass::resolve_paths(
        global.config.as_deref(),
        global.root.as_deref(),
        global.share.as_deref(),
    );
    match dispatch(cli.command, &paths, &output) {
        Ok(exit) => exit,
        Err(error) => error::print_error(&error, &output),
    }
}

fn dispatch(command: Command, paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    match command {
        Command::Init(args) => init::run(*args, paths, output),
        Command::Converge(args) => converge::run(&args, paths, output),
        Command::Plan(args) => plan::run(&args, paths, output),
        Command::Status => status::run(paths, output),
        Command::Doctor => doctor::run(paths, output),
        Command::History(args) => history::run(&args, paths, output),
        Command::Releases(args) => releases::run(&args, paths, output),
        Command::Rollback(args) => rollback::run(&args, paths, output),
        Command::Exec(args) => exec::run(args, paths),
        Command::Maintenance(args) => maintenance::run(&args, paths, output),
        Command::Restart(args) => restart::run(&args, paths, output),
        Command::Logs(args) => logs::run(&args, paths, output),
        Command::Ps(args) => ps::run(&args, paths, output),
        Command::Notify(args) => notify::run(&args, paths, output),
        Command::Validate => validate::run(paths, output),
        Command::Publish(args) => publish::run(&args, paths, output),
        Command::Promote(args) => act::promote::run(&args, paths, output),
        Command::Hold(args) => act::hold::hold(&args, paths, output),
        Command::Unhold(args) => act::hold::unhold(&args, paths, output),
        Command::Now(args) => act::now::run(&args, paths, output),
        Command::Note(args) => act::note::run(&args, paths, output),
        Command::Diff(args) => diff::run(&args, paths, output),
        Command::Fleet(args) => fleet::run(&args, paths, output),
        Command::Rollout(args) => rollout::run(&args, paths, output),
        Command::Secret(args) => secret::run(args, paths, output),
        Command::Policy(args) => policy::run(&args, paths, output),
        Command::Balancer(args) => balancer::run(&args, paths, output),
        Command::Eip(args) => eip::run(&args, paths, output),
        Command::Roles(args) => roles::run(&args, paths, output),
        Command::Facts => facts::run(paths, output),
        Command::Demo(args) => match &args.stop {
            Some(folder) => demo::stop_kept_demo(folder, output),
            None => demo::run(&args, output, run),
        },
        Command::Completions(args) => Ok(complete::print_script(&args)),
        // It ended in `run`.
        Command::Complete(_) => Ok(Exit::Converged),
        Command::DemoApp(args) => demo::serve(args.port),
    }
}
