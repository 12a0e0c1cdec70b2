//! `trueup validate`: checks settings, roles and templates for mistakes.

use serde_json::json;

use super::Output;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::pass::{Paths, Session};
use crate::ports::exec::StopFlag;
use crate::role;

pub(super) fn run(paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    let session = Session::open(paths, StopFlag::default())?;
    let resources = session.validate()?;
    let roles = &session.settings.roles;
    if output.is_document() {
        output.print_document(&json!({
            "version": crate::report::VERSION,
            "outcome": Exit::Converged,
            "roles": roles,
            "resources": resources,
        }));
    } else {
        let paint = output.paint;
        output.print_line(format!(
            "{}: {} for {} in {}",
            paint.good("good"),
            role::describe_resources(roles, resources),
            session.node(),
            session.settings.environment,
        ));
    }
    Ok(Exit::Converged)
}
