//! Email through the sendmail of this host, which every mail server brings.

use std::fmt::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::command::{require_trusted, run_program};
use crate::digest::digest;
use crate::notify::notice::Notice;
use crate::ports::Host;
use crate::ports::deadline::Deadline;
use crate::ports::exec::Command;
use crate::problem::Problem;
use crate::settings::EmailChannel;

const SENDMAIL: &str = "/usr/sbin/sendmail";

/// Bytes of a line of base64 (RFC 2045, 6.8).
const MAX_BASE64_LINE: usize = 76;

/// Bytes of text in an encoded-word: with its marks it has at most 75 characters (RFC 2047, 2).
const MAX_WORD: usize = 42;

/// Longest subject, in characters.
const MAX_SUBJECT: usize = 150;

/// Hands a message to sendmail.
pub(super) fn send(
    host: &Host,
    email: &EmailChannel,
    notice: &Notice,
    text: &str,
    deadline: &Deadline,
) -> Result<String, Problem> {
    check(host)?;
    // `-i`: a line with a dot does not end the message. `-t`: the recipients are those of the header.
    let program = host.root.machine_path(Path::new(SENDMAIL));
    let mut program = Command::new([program.as_os_str(), "-t".as_ref(), "-i".as_ref()])
        .timeout(deadline.remaining());
    program.input = message(email, notice, text, host.clock.now()).into_bytes();
    run_program(host, program)
}

/// Refuses a host without sendmail.
pub(super) fn check(host: &Host) -> Result<(), Problem> {
    require_trusted(host, Path::new(SENDMAIL))
        .map_err(|problem| problem.hint("install a mail server, such as `apt install postfix`"))
}

/// The whole message. No value of the notice can add a header: those that others wrote are in the subject, as one line or
/// encoded, and in the body, in base64.
fn message(email: &EmailChannel, notice: &Notice, text: &str, now: jiff::Timestamp) -> String {
    let mut message = String::new();
    let mut header = |name: &str, value: &str| {
        let _ = writeln!(message, "{name}: {value}");
    };
    if let Some(from) = &email.from {
        header("From", from);
    }
    header("To", &email.to.join(",\n "));
    header("Subject", &encode_header(&notice.summary));
    let zoned = now.to_zoned(jiff::tz::TimeZone::UTC);
    header(
        "Date",
        &zoned.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string(),
    );
    // A doubled message has the same, and most clients show it once.
    let id = digest(format!("{}/{}", notice.message_id(), notice.test).as_bytes());
    let unique = if notice.test {
        now.as_nanosecond().to_string()
    } else {
        String::new()
    };
    header(
        "Message-ID",
        &format!("<{}{unique}@trueup.invalid>", &id[..32]),
    );
    header("Auto-Submitted", "auto-generated");
    header("MIME-Version", "1.0");
    header("Content-Type", "text/plain; charset=utf-8");
    header("Content-Transfer-Encoding", "base64");
    message.push('\n');
    let body = STANDARD.encode(format!("{text}\n"));
    for chunk in body.as_bytes().chunks(MAX_BASE64_LINE) {
        message.push_str(&String::from_utf8_lossy(chunk));
        message.push('\n');
    }
    message
}

/// A text as the value of a header: one line, folded, with encoded-words unless it is plain ASCII.
fn encode_header(text: &str) -> String {
    let text: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_SUBJECT)
        .collect();
    let is_plain = text.is_ascii() && !text.contains("=?") && text.len() <= MAX_WORD;
    if is_plain {
        return text;
    }
    let mut words: Vec<String> = vec![String::new()];
    for character in text.chars() {
        let last = words.last_mut().expect("it is never empty");
        if last.len() + character.len_utf8() > MAX_WORD {
            words.push(character.into());
        } else {
            last.push(character);
        }
    }
    let words = words
        .iter()
        .map(|word| format!("=?utf-8?B?{}?=", STANDARD.encode(word)));
    words.collect::<Vec<_>>().join("\n ")
}
