//! Delivers a notice through a channel of this host. Every way has a deadline, and prints no secret.

mod command;
mod email;
mod webhook;

use std::path::Path;
use std::time::Duration;

use super::notice::Notice;
use super::text;
use crate::ports::Host;
use crate::ports::deadline::Deadline;
use crate::ports::secrets;
use crate::problem::Problem;
use crate::settings::{Channel, ChannelKind, Lookup, check_url};

/// Maximum size of a file with an address or a secret, in bytes.
const MAX_SECRET: usize = 4096;

/// A shorter part of an address is taken for a word and not for a token.
const MIN_TOKEN: usize = 12;

/// Delivers notices from this host.
pub(crate) struct Courier<'a> {
    pub host: &'a Host,
    pub lookup: &'a Lookup,
}

impl Courier<'_> {
    /// Delivers a notice, within this time. Returns what the other side answered.
    pub(crate) fn deliver(
        &self,
        channel: &Channel,
        notice: &Notice,
        timeout: Duration,
    ) -> Result<String, Problem> {
        let Some(kind) = channel.kind() else {
            return Err(Problem::new("the channel has no kind"));
        };
        let deadline = Deadline::new(timeout, timeout, self.host.stop.clone());
        let text = text::render(self.lookup, channel, notice)?;
        match kind {
            ChannelKind::Slack(slack) => {
                let url = self.address(slack.url.as_deref(), slack.url_file.as_deref())?;
                webhook::post_slack(&url, slack.allow_private, &text, &deadline)
            }
            ChannelKind::Webhook(hook) => {
                let url = self.address(hook.url.as_deref(), hook.url_file.as_deref())?;
                let secret = hook
                    .secret_file
                    .as_deref()
                    .map(|file| self.read_secret(file));
                let secret = secret.transpose()?;
                let document = document(notice, &text);
                let signed = webhook::Signed {
                    id: &notice.message_id(),
                    at: self.host.clock.now(),
                    secret: secret.as_deref(),
                };
                webhook::post_json(&url, hook.allow_private, document, &signed, &deadline)
            }
            ChannelKind::Command(argv) => {
                let document = document(notice, &text);
                command::run(
                    self.host,
                    argv,
                    channel.user.as_deref(),
                    notice,
                    document,
                    &deadline,
                )
            }
            ChannelKind::Email(email) => email::send(self.host, email, notice, &text, &deadline),
        }
    }

    /// Why the channel cannot deliver, as far as that shows without a message.
    pub(crate) fn check(&self, channel: &Channel, notice: &Notice) -> Result<(), Problem> {
        text::render(self.lookup, channel, notice)?;
        match channel.kind() {
            None => Ok(()),
            Some(ChannelKind::Slack(slack)) => {
                let address = self.address(slack.url.as_deref(), slack.url_file.as_deref());
                address.map(drop)
            }
            Some(ChannelKind::Webhook(hook)) => {
                self.address(hook.url.as_deref(), hook.url_file.as_deref())?;
                let secret = hook
                    .secret_file
                    .as_deref()
                    .map(|file| self.read_secret(file));
                secret.transpose().map(drop)
            }
            Some(ChannelKind::Command(argv)) => {
                command::check(self.host, argv, channel.user.as_deref()).map(drop)
            }
            Some(ChannelKind::Email(_)) => email::check(self.host),
        }
    }

    fn address(&self, url: Option<&str>, file: Option<&Path>) -> Result<String, Problem> {
        let url = match (url, file) {
            (Some(url), _) => url.to_owned(),
            (None, Some(file)) => {
                let url = self.read_secret(file)?;
                check_url(&url).map_err(|why| {
                    let problem = Problem::new(format!("{}: {why}", file.display()));
                    problem.hint("expected the address of the webhook in one line")
                })?;
                url
            }
            (None, None) => return Err(Problem::new("the channel has no address")),
        };
        register_address(&url);
        Ok(url)
    }

    /// Reads a file that only root can change. Nothing shows its contents from now on.
    fn read_secret(&self, file: &Path) -> Result<String, Problem> {
        let found = self.host.root.read_trusted(file, MAX_SECRET, None);
        let found =
            found.map_err(|error| Problem::new(error.to_string()).optional_hint(error.hint()))?;
        let Some((_, body)) = found else {
            return Err(Problem::new(format!("there is no {}", file.display())));
        };
        let text = String::from_utf8(body).unwrap_or_default();
        let text = text.trim();
        if text.is_empty() || text.contains('\n') {
            let problem = format!("{} does not hold one line of text", file.display());
            return Err(Problem::new(problem).hint("expected the address or the secret alone"));
        }
        secrets::add_secret(text);
        Ok(text.to_owned())
    }
}

/// Keeps the address out of logs: whoever knows it can write there. Its parts that are words may be shown.
fn register_address(url: &str) {
    secrets::add_secret(url);
    let Ok(parsed) = url::Url::parse(url) else {
        return;
    };
    secrets::add_secret(parsed.as_str());
    let is_token = |part: &&str| {
        let is_word = part
            .chars()
            .all(|c| c.is_ascii_lowercase() || "_-.".contains(c));
        part.len() >= MIN_TOKEN && !is_word
    };
    let query = parsed.query().unwrap_or_default().split(['&', '=']);
    let parts = parsed.path().split('/').chain(query);
    parts.filter(is_token).for_each(secrets::add_secret);
}

/// The document that programs get.
fn document(notice: &Notice, text: &str) -> Vec<u8> {
    let mut document = serde_json::to_value(notice).unwrap_or_default();
    document["text"] = text.into();
    serde_json::to_vec(&document).unwrap_or_default()
}
