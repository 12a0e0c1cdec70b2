//! Tries a channel of notifications.

use std::time::Duration;

use serde::Serialize;

use super::CommandError;
use crate::desired::Transition;
use crate::notify::{ChannelHealth, Courier, Notice};
use crate::pass::Session;
use crate::problem::{Problem, one_of};

/// As in a pass.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The document of `notify test --output`.
#[derive(Debug, Serialize)]
pub(crate) struct ChannelTest {
    version: u32,
    pub channel: String,
    /// What the other side answered.
    pub answer: String,
}

/// Sends a test message through a channel of this host.
pub(crate) fn test_channel(
    session: &Session,
    name: &str,
    by: &str,
) -> Result<ChannelTest, CommandError> {
    let settings = &session.settings;
    let channels = &settings.notify.channels;
    let Some(channel) = channels.get(name) else {
        let problem = Problem::new(format!(
            "the settings of this host define no channel `{name}`"
        ));
        let names: Vec<&String> = channels.keys().collect();
        let hint = match names.is_empty() {
            true => "`notify: {channels: {…}}` in node.yml defines them".to_owned(),
            false => format!("expected {}", one_of(&names)),
        };
        let known = channels.keys().map(String::as_str);
        return Err(CommandError::Usage(problem.suggest(name, known).hint(hint)));
    };
    let courier = Courier {
        host: &session.host,
        lookup: &settings.lookup,
    };
    let now = session.host.clock.now();
    let notice = test_notice(session, by);
    let sent = courier.deliver(channel, &notice, TIMEOUT);
    let answer = sent.map_err(|problem| {
        let message = format!("the channel {name} does not work: {}", problem.message);
        CommandError::Failed(Problem { message, ..problem })
    })?;
    // Passes use it again at once.
    let mut health = ChannelHealth::load(&session.host.root);
    if session.host.root.is_privileged() && health.failure(name).is_some() {
        health.record(name, Ok(()), now);
        if let Err(error) = health.save(&session.host.root) {
            tracing::warn!("how the channels do: {error}");
        }
    }
    Ok(ChannelTest {
        version: crate::report::VERSION,
        channel: name.to_owned(),
        answer,
    })
}

fn test_notice(session: &Session, by: &str) -> Notice {
    let environment = &session.settings.environment;
    let (node, now) = (session.node(), session.host.clock.now());
    let mut notice = Notice::new(
        "test".into(),
        Transition::Note,
        (environment, "trueup"),
        now,
    );
    notice.test = true;
    node.clone_into(&mut notice.node);
    notice.by = Some(by.to_owned());
    notice.summary = format!("{environment}: a test message from {node}");
    notice
}
