//! The command line: one file per command, and the only place that prints.

mod args;
mod converge;
mod demo;
mod doctor;
mod edge;
mod exec;
mod facts;
mod fleet;
mod hands;
mod history;
mod init;
mod logging;
mod output;
mod plan;
mod publish;
mod releases;
mod rollback;
mod status;
mod target;
mod validate;
mod words;

use std::ffi::OsString;

use clap::Parser;

use crate::exit::Exit;
use crate::pass::Places;

pub use args::{Cli, Command};
pub(crate) use output::Output;

/// Parses the command line and runs it. `tools` are the commands of the binary itself, which need
/// more than a library may assume.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    crate::ports::exec::reset_own();
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return edge::usage(&error),
    };
    let journalled = logging::start(cli.global.log, cli.global.verbose);
    let output = Output::new(cli.global.json, journalled);
    let global = &cli.global;
    let places = crate::pass::places(
        global.config.as_deref(),
        global.root.as_deref(),
        global.share.as_deref(),
    );
    match dispatch(cli.command, &places, &output) {
        Ok(exit) => exit,
        Err(error) => edge::print(&error, &output),
    }
}

fn dispatch(command: Command, places: &Places, output: &Output) -> Result<Exit, edge::Error> {
    match command {
        Command::Init(args) => init::run(*args, places, output),
        Command::Converge(args) => converge::run(&args, places, output),
        Command::Plan(args) => plan::run(&args, places, output),
        Command::Status => status::run(places, output),
        Command::Doctor => doctor::run(places, output),
        Command::History(args) => history::run(&args, places, output),
        Command::Releases(args) => releases::run(&args, places, output),
        Command::Rollback(args) => rollback::run(&args, places, output),
        Command::Exec(args) => exec::run(args, places),
        Command::Validate => validate::run(places, output),
        Command::Publish(args) => publish::run(&args, places, output),
        Command::Fleet(args) => fleet::run(&args, places, output),
        Command::Facts => facts::run(places, output),
        Command::Demo(args) => match &args.stop {
            Some(folder) => demo::end(folder, output),
            None => demo::run(&args, output),
        },
        Command::DemoApp(args) => demo::serve(args.port),
    }
}
