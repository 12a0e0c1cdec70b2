//! `trueup validate`: are settings, roles and templates good?

use serde_json::json;

use super::{Output, edge};
use crate::exit::Exit;
use crate::pass::{Places, Session};
use crate::ports::exec::StopFlag;

pub(super) fn run(places: &Places, output: &Output) -> Result<Exit, edge::Error> {
    let session = Session::open(places, StopFlag::default())?;
    let resources = session.validate()?;
    let roles = &session.settings.roles;
    if output.json {
        output.document(&json!({
            "version": crate::report::VERSION,
            "outcome": Exit::Converged,
            "roles": roles,
            "resources": resources,
        }));
    } else {
        let paint = output.paint;
        output.line(format!(
            "{}: {} describe {resources} resources for {} in {}",
            paint.good("good"),
            roles.join(", "),
            session.node(),
            session.settings.environment
        ));
    }
    Ok(Exit::Converged)
}
