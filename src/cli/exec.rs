//! `trueup exec`: runs a command in a release, with its own terminal. The command replaces the trueup process
//! (`exec`), so that input, signals and the exit code are its own.

use clap::Args;

use crate::exit::Exit;
use crate::operate::CommandError;
use crate::pass::{Paths, Session};
use crate::ports::exec::{Exec, StopFlag};
use crate::release;
use crate::resource::Failure;

#[derive(Debug, Args)]
#[command(
    after_help = "Example: `trueup exec shop -- bin/rails console`. The command replaces trueup: it receives the input and the \
                  signals, and the caller sees its exit code. At a terminal it gets one of its own, as with ssh: it cannot \
                  type into the shell that started it, and its output is not escaped. In a pipeline (`| less`) it gets no \
                  keyboard input. Passes can run meanwhile; they do not remove the release that it runs in."
)]
pub struct ExecArgs {
    /// Which app
    #[arg(value_name = "APP")]
    pub app: String,
    /// In this release, as `trueup releases` shows it [default: the active one]
    #[arg(long, value_name = "RELEASE")]
    pub release: Option<String>,
    /// The command and its arguments, after `--`
    #[arg(value_name = "CMD", last = true, required = true)]
    pub command: Vec<std::ffi::OsString>,
}

#[expect(
    clippy::disallowed_methods,
    reason = "an operator's command inherits some variables"
)]
pub(super) fn run(args: ExecArgs, paths: &Paths) -> Result<Exit, CommandError> {
    let command = {
        let session = Session::open(paths, StopFlag::default())?;
        let apps = session.apps()?;
        let spec = apps.find(&args.app)?.spec;
        let named = args.release.as_deref();
        release::exec_command(spec, &session.host, named, args.command, |key| {
            std::env::var_os(key)
        })?
    };
    Err(Failure::from(Exec.run_interactive(&command)).into())
}
