//! `trueup exec`: a command in a release. It takes trueup's place, so that the terminal, signals and
//! the exit code are its own.

use super::args::ExecArgs;
use super::rollback::refused;
use super::{edge, words};
use crate::exit::Exit;
use crate::pass::{Places, Session};
use crate::ports::exec::{Exec, StopFlag};
use crate::release;

pub(super) fn run(args: ExecArgs, places: &Places) -> Result<Exit, edge::Error> {
    let command = {
        let session = Session::open(places, StopFlag::default())?;
        let apps = session.apps()?;
        let spec = apps.find(&args.app)?.spec;
        let named = args.release.as_deref();
        release::inside(spec, &session.host, named, args.command, |key| {
            std::env::var_os(key)
        })
        .map_err(refused)?
    };
    Err(words::failed(Exec.replace(&command).into()))
}
