//! The channels of notifications that this host may use. Only root's settings define them: the manifest names them, or
//! whoever writes in the store could run a command here, or read a secret address.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;

use super::name::{invalid_name, is_name};
use crate::ports::root::Root;
use crate::problem::Problem;
use crate::yaml::Node;

/// Most channels of one host.
const MAX_CHANNELS: usize = 20;

/// Most addresses of one channel of email.
const MAX_ADDRESSES: usize = 20;

/// Longest address of email, in bytes (RFC 5321, 4.5.3.1.3).
const MAX_ADDRESS_LENGTH: usize = 254;

/// Notifications about rollouts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct NotifySettings {
    /// Channels by the name under which the manifest names them, such as `{ops: {slack: {url_file: /etc/trueup/secrets/slack}}}`.
    #[serde(default)]
    pub channels: BTreeMap<String, Channel>,
}

/// A channel: exactly one of `slack`, `webhook`, `command` and `email`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Channel {
    /// A webhook of Slack, or of a server that takes the same, such as Mattermost.
    pub slack: Option<SlackChannel>,
    /// Any other webhook: it gets the notice as JSON.
    pub webhook: Option<WebhookChannel>,
    /// A program with its arguments, which gets the notice as JSON on its standard input.
    pub command: Option<Vec<String>>,
    /// The user that `command` runs as; root when not given.
    pub user: Option<String>,
    /// Email, through `/usr/sbin/sendmail` of this host.
    pub email: Option<EmailChannel>,
    /// The template of the text, below `templates/`; by default `notify/slack.txt` for `slack` and `notify/message.txt` for the others.
    pub template: Option<String>,
}

/// A webhook of Slack.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct SlackChannel {
    /// The address. It is a secret: better in a file of its own.
    pub url: Option<String>,
    /// A file with the address, which root alone may read.
    pub url_file: Option<PathBuf>,
    /// Whether the address may be one of a private network or of this host.
    #[serde(default)]
    pub allow_private: bool,
}

/// A webhook that gets JSON.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookChannel {
    /// The address.
    pub url: Option<String>,
    /// A file with the address, which root alone may read.
    pub url_file: Option<PathBuf>,
    /// A file with the secret that signs each request (HMAC-SHA256); unsigned when not given.
    pub secret_file: Option<PathBuf>,
    /// Whether the address may be one of a private network or of this host.
    #[serde(default)]
    pub allow_private: bool,
}

/// Email.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct EmailChannel {
    /// The recipients.
    pub to: Vec<String>,
    /// The sender; what sendmail uses for root when not given.
    pub from: Option<String>,
}

/// How a channel delivers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ChannelKind<'a> {
    Slack(&'a SlackChannel),
    Webhook(&'a WebhookChannel),
    Command(&'a [String]),
    Email(&'a EmailChannel),
}

impl Channel {
    /// How it delivers; `None` for a channel without a kind, which [`NotifySettings::validate`] refuses.
    pub(crate) fn kind(&self) -> Option<ChannelKind<'_>> {
        let slack = self.slack.as_ref().map(ChannelKind::Slack);
        let webhook = self.webhook.as_ref().map(ChannelKind::Webhook);
        let command = self.command.as_deref().map(ChannelKind::Command);
        let email = self.email.as_ref().map(ChannelKind::Email);
        slack.or(webhook).or(command).or(email)
    }

    /// The name of its template below `templates/`.
    pub(crate) fn template_name(&self) -> &str {
        match (&self.template, self.kind()) {
            (Some(name), _) => name,
            (None, Some(ChannelKind::Slack(_))) => "notify/slack.txt",
            (None, _) => "notify/message.txt",
        }
    }
}

impl NotifySettings {
    /// Validates what the types cannot. `tree` is all settings.
    pub(super) fn validate(&self, tree: &Node) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut add = |path: &[&str], problem: Problem| {
            let (mut node, mut field) = (tree, String::new());
            for part in ["notify", "channels"].iter().chain(path) {
                node = node.get(part).unwrap_or(node);
                let dot = if field.is_empty() { "" } else { "." };
                field.push_str(dot);
                field.push_str(part);
            }
            found.push(problem.at(&node.at).field(field));
        };
        if self.channels.len() > MAX_CHANNELS {
            let problem = Problem::new(format!("expected at most {MAX_CHANNELS} channels"));
            add(&[], problem);
        }
        for (name, channel) in &self.channels {
            if !is_name(name) {
                add(&[name], Problem::new(invalid_name(name)));
            }
            for (path, problem) in channel.problems() {
                let path: Vec<&str> = [name.as_str()].into_iter().chain(path).collect();
                add(&path, problem);
            }
        }
        found
    }
}

type FieldProblem = (Vec<&'static str>, Problem);

impl Channel {
    fn problems(&self) -> Vec<FieldProblem> {
        let kinds = [
            self.slack.is_some(),
            self.webhook.is_some(),
            self.command.is_some(),
            self.email.is_some(),
        ];
        let count = kinds.iter().filter(|is_set| **is_set).count();
        let mut found: Vec<FieldProblem> = Vec::new();
        if count != 1 {
            let problem = Problem::new(format!(
                "expected one of `slack`, `webhook`, `command` and `email`, found {count}"
            ));
            found.push((
                vec![],
                problem.hint(
                    "such as `{email: {to: [ops@example.com]}}`; another way is another channel",
                ),
            ));
        }
        if self.user.is_some() && self.command.is_none() {
            found.push((
                vec!["user"],
                Problem::new("only a `command` runs as a user"),
            ));
        }
        if let Some(slack) = &self.slack {
            found.extend(address_problems(
                "slack",
                slack.url.as_deref(),
                slack.url_file.as_deref(),
            ));
        }
        if let Some(webhook) = &self.webhook {
            let (url, file) = (webhook.url.as_deref(), webhook.url_file.as_deref());
            found.extend(address_problems("webhook", url, file));
            found.extend(path_problem(
                &["webhook", "secret_file"],
                webhook.secret_file.as_deref(),
            ));
        }
        if let Some(argv) = &self.command {
            found.extend(command_problem(argv));
        }
        if let Some(email) = &self.email {
            found.extend(email_problems(email));
        }
        found
    }
}

fn address_problems(
    kind: &'static str,
    url: Option<&str>,
    file: Option<&Path>,
) -> Vec<FieldProblem> {
    let mut found: Vec<FieldProblem> = path_problem(&[kind, "url_file"], file)
        .into_iter()
        .collect();
    match (url, file) {
        (Some(url), None) => {
            if let Err(why) = check_url(url) {
                found.push((vec![kind, "url"], Problem::new(why)));
            }
        }
        (None, Some(_)) => {}
        _ => {
            let problem = Problem::new("expected either `url` or `url_file`");
            found.push((
                vec![kind],
                problem.hint("the address of a webhook is a secret: better in a file"),
            ));
        }
    }
    found
}

/// Why a text is not the address of a webhook. Does not quote it: it is a secret.
pub(crate) fn check_url(text: &str) -> Result<(), String> {
    let url = Url::parse(text).ok();
    let is_usable =
        url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    match is_usable {
        true => Ok(()),
        false => Err("it is not an http or https URL".into()),
    }
}

fn path_problem(path: &[&'static str], file: Option<&Path>) -> Option<FieldProblem> {
    let error = Root::check_path(file?).err()?;
    Some((path.to_vec(), Problem::new(error.to_string())))
}

fn command_problem(argv: &[String]) -> Option<FieldProblem> {
    let why = match argv.first() {
        None => "expected a program with its arguments".to_owned(),
        Some(program) => Root::check_path(Path::new(program)).err()?.to_string(),
    };
    let problem = Problem::new(why).hint("such as `[/usr/local/bin/page, ops]`: no shell reads it");
    Some((vec!["command"], problem))
}

fn email_problems(email: &EmailChannel) -> Vec<FieldProblem> {
    let mut found = Vec::new();
    if email.to.is_empty() || email.to.len() > MAX_ADDRESSES {
        let problem = Problem::new(format!("expected 1 to {MAX_ADDRESSES} addresses"));
        found.push((vec!["email", "to"], problem));
    }
    let invalid = email.to.iter().find(|address| !is_email_address(address));
    if let Some(address) = invalid {
        found.push((vec!["email", "to"], invalid_address(address)));
    }
    if let Some(from) = email.from.as_ref().filter(|from| !is_email_address(from)) {
        found.push((vec!["email", "from"], invalid_address(from)));
    }
    found
}

fn invalid_address(address: &str) -> Problem {
    let problem = Problem::new(format!("`{address}` is not an address of email"));
    problem
        .hint("expected the plain form, such as `ops@example.com`, or a local name, such as `root`")
}

/// A plain address, or the name of a local mailbox: nothing that a header or an option could be made of.
fn is_email_address(address: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._+=@-".contains(c);
    let parts: Vec<&str> = address.split('@').collect();
    let is_whole = parts.len() <= 2 && parts.iter().all(|part| !part.is_empty());
    is_whole
        && address.len() <= MAX_ADDRESS_LENGTH
        && address.chars().all(is_plain)
        && !address.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn email_address_holds_nothing_that_a_header_is_made_of() {
        for good in ["ops@example.com", "root", "a.b+c@x-y.example"] {
            assert!(is_email_address(good), "{good}");
        }
        for bad in [
            "",
            "@x",
            "a@",
            "a@b@c",
            "-oQ/tmp@x",
            "a b@x",
            "a@x\nBcc: b@x",
            "a@x,b@x",
            "<a@x>",
            "ä@x",
        ] {
            assert!(!is_email_address(bad), "{bad}");
        }
    }
}
