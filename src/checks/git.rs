//! Whether an app's git server lets this host in.

use super::Check;
use crate::ports::Host;
use crate::problem::Problem;
use crate::release::{self, Spec};

/// `known` are lines of `known_hosts` that a pass will put in place before it fetches.
pub fn git(spec: &Spec, host: &Host, known: &[String]) -> Check {
    let about = format!("git {}", spec.app);
    match release::reach(spec, host, known) {
        Ok(0) => Check::note(
            about,
            Problem::new(format!("{} lets this host in and is empty", spec.repo))
                .hint("push something to it"),
        ),
        Ok(refs) => Check::good(
            about,
            format!("{} lets this host in, {refs} refs", spec.repo),
        ),
        Err(failure) => {
            let problem = Problem::new(failure.message);
            Check::bad(
                about,
                match failure.hint {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                },
            )
        }
    }
}
