//! `trueup validate`: checks settings, roles and templates for mistakes.

use serde_json::json;

use super::Output;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::pass::{Paths, Session};
use crate::ports::exec::StopFlag;

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
            "{}: {resources} resources for {} in {} (roles: {})",
            paint.good("good"),
            session.node(),
            session.settings.environment,
            roles.join(", "),
        ));
    }
    Ok(Exit::Converged)
}
