//! Checks the channels of notifications without sending anything.

use super::{Check, note};
use crate::desired::{DesiredState, Transition};
use crate::notify::{ChannelHealth, Courier, Notice};
use crate::pass::Session;
use crate::problem::Problem;

/// Checks each channel of this host, and that it has those that the manifest names. `desired`: as this host last knew it.
pub(super) fn check_channels(
    session: &Session,
    desired: &DesiredState,
    announce: &mut dyn FnMut(Check),
) {
    let channels = &session.settings.notify.channels;
    let health = ChannelHealth::load(&session.host.root);
    let courier = Courier {
        host: &session.host,
        lookup: &session.settings.lookup,
    };
    let environment = &session.settings.environment;
    let now = session.host.clock.now();
    let example = Notice::new(
        "test".into(),
        Transition::Note,
        (environment, "trueup"),
        now,
    );
    for (name, channel) in channels {
        let about = format!("channel {name}");
        let is_named = desired.notify.channels().any(|named| named == name);
        announce(
            match (courier.check(channel, &example), health.failure(name)) {
                // Its files are for root.
                (Err(problem), _) if session.host.root.is_ordinary_user() => {
                    super::note_for_root(about, problem.message)
                }
                (Err(problem), _) => Check::bad(about, problem),
                (Ok(()), Some((times, why))) => {
                    let count = if times == 1 {
                        "once".into()
                    } else {
                        format!("{times} times in a row")
                    };
                    let problem = Problem::new(format!("it failed {count}: {why}"));
                    Check::bad(
                        about,
                        problem.hint(format!("`trueup notify test {name}` tries it")),
                    )
                }
                (Ok(()), None) if is_named => {
                    let message =
                        format!("the manifest names it; `trueup notify test {name}` tries it");
                    Check::good(about, message)
                }
                (Ok(()), None) => note(
                    about,
                    format!(
                        "unused: `_settings: {{notify: [{name}]}}` in {environment} of the manifest names it"
                    ),
                ),
            },
        );
    }
    for name in desired.notify.channels() {
        if !channels.contains_key(name) {
            let message =
                "the manifest names it, and this host does not define it: other hosts have to send";
            announce(note(format!("channel {name}"), message));
        }
    }
}
