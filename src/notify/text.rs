//! The text of a notice, from a template.

use std::io::{self, Write};
use std::path::Path;

use serde_json::Value;
use tera::{Context, ErrorKind, Tera};

use super::notice::Notice;
use crate::problem::{Location, Problem};
use crate::settings::{Channel, ChannelKind, Lookup};

/// The templates that ship, for a host without the package's files.
const SHIPPED: [(&str, &str); 2] = [
    (
        "notify/message.txt",
        include_str!("../../templates/notify/message.txt"),
    ),
    (
        "notify/slack.txt",
        include_str!("../../templates/notify/slack.txt"),
    ),
];

/// Longest text, in bytes. Slack cuts at 40,000 characters, Mattermost at 16,383; a screen has less.
const MAX_TEXT: usize = 6000;

/// Renders the text of a notice for a channel.
pub(crate) fn render(
    lookup: &Lookup,
    channel: &Channel,
    notice: &Notice,
) -> Result<String, Problem> {
    let name = channel.template_name();
    let (path, source) = read_template(lookup, name)?;
    let mut tera = Tera::new();
    tera.autoescape_on(Vec::<&'static str>::new());
    let is_slack = matches!(channel.kind(), Some(ChannelKind::Slack(_)));
    if is_slack {
        tera.autoescape_on([""]);
        tera.set_escape_fn(escape_slack);
    }
    let explain = |error: &tera::Error| explain(error, &path);
    tera.add_raw_template(name, &source)
        .map_err(|error| explain(&error))?;
    let context = context(notice)?;
    let text = tera
        .render(name, &context)
        .map_err(|error| explain(&error))?;
    Ok(shorten(text.trim()))
}

/// The values that a template can use: the fields of the document, and short shas.
fn context(notice: &Notice) -> Result<Context, Problem> {
    let mut values = serde_json::to_value(notice).unwrap_or_default();
    let short = |sha: Option<&crate::desired::Sha>| {
        sha.map_or(Value::Null, |sha| Value::String(sha.short().to_owned()))
    };
    values["from_short"] = short(notice.from.as_ref());
    values["to_short"] = short(notice.to.as_ref());
    values["title"] = Value::String(title(notice).to_owned());
    Context::from_serialize(&values).map_err(|error| Problem::new(error.to_string()))
}

/// What happened, in two words.
fn title(notice: &Notice) -> &'static str {
    use crate::desired::Transition;
    match notice.transition {
        _ if notice.test => "test",
        Transition::Published => "published",
        Transition::Started => "started",
        Transition::CanaryOk => "canary ok",
        Transition::Done => "done",
        Transition::Halted => "halted",
        Transition::RolledBack => "rolled back",
        Transition::Failed => "failed",
        Transition::Held => "held",
        Transition::HoldEnded => "hold ended",
        Transition::Note => "to do",
    }
}

fn read_template(lookup: &Lookup, name: &str) -> Result<(String, String), Problem> {
    if let Some((path, body)) = lookup.read("templates", name)? {
        let path = path.display().to_string();
        let text = String::from_utf8(body);
        let text = text.map_err(|_| Problem::new(format!("{path} is not UTF-8")))?;
        return Ok((path, text));
    }
    let shipped = SHIPPED.iter().find(|(known, _)| *known == name);
    match shipped {
        Some((_, text)) => Ok((
            Path::new("templates").join(name).display().to_string(),
            (*text).to_owned(),
        )),
        None => {
            let folders = lookup.searched_folders("templates");
            let problem = Problem::new(format!("there is no template `{name}` in {folders}"));
            Err(problem.suggest(name, SHIPPED.map(|(known, _)| known)))
        }
    }
}

fn explain(error: &tera::Error, path: &str) -> Problem {
    let hint = "docs/notifications.md lists the values that a template can use";
    match error.kind() {
        ErrorKind::SyntaxError(report) | ErrorKind::RenderingError(report) => {
            let message = report.message().split(". Available variables").next();
            let span = report.span();
            Problem::new(format!("template error: {}", message.unwrap_or_default()))
                .at(&Location {
                    file: path.into(),
                    line: u32::try_from(span.start_line).unwrap_or(u32::MAX),
                    column: u32::try_from(span.start_col + 1).unwrap_or(u32::MAX),
                })
                .hint(hint)
        }
        _ => Problem::new(format!("{path}: template error: {error}")).hint(hint),
    }
}

/// Cuts at the end of a character.
fn shorten(text: &str) -> String {
    match text.len() > MAX_TEXT {
        true => format!("{}…", &text[..text.floor_char_boundary(MAX_TEXT)]),
        false => text.to_owned(),
    }
}

/// A value in a text of Slack. `<!channel>` would ping everybody, and so would `@channel` on the servers that take the same
/// messages (Mattermost, Rocket.Chat, Discord); three backticks would end a block of code, and `](` make a link.
fn escape_slack(value: &str, out: &mut dyn Write) -> io::Result<()> {
    const WIDTHLESS: char = '\u{200b}';
    let value = value.replace("```", "'''").replace("](", "]\u{200b}(");
    for character in value.chars() {
        match character {
            '&' => out.write_all(b"&amp;")?,
            '<' => out.write_all(b"&lt;")?,
            '>' => out.write_all(b"&gt;")?,
            '@' => write!(out, "@{WIDTHLESS}")?,
            other => write!(out, "{other}")?,
        }
    }
    Ok(())
}
