//! Converts a blob to the content of its file, as `git archive` does.

use std::borrow::Cow;

use git2::{Commit, Oid, Time};
use jiff::Timestamp;
use jiff::tz::Offset;

use super::attributes::{Conversion, Crlf};

/// The commit placeholders that files marked `export-subst` may use.
#[derive(Debug, Clone, Default)]
pub(super) struct CommitPlaceholders(Vec<(&'static str, String)>);

impl CommitPlaceholders {
    pub(super) fn from_commit(commit: &Commit<'_>) -> Result<CommitPlaceholders, git2::Error> {
        let short = |object: &git2::Object<'_>| -> Result<String, git2::Error> {
            Ok(object.short_id()?.as_str().unwrap_or_default().to_owned())
        };
        let tree = commit.tree()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (mut parents, mut short_parents) = (Vec::new(), Vec::new());
        for id in commit.parent_ids() {
            parents.push(id.to_string());
            // The mirror may lack some of the parents.
            let parent = commit.parent(short_parents.len()).ok();
            let parent = parent.map(|parent| short(parent.as_object())).transpose()?;
            short_parents.push(parent.unwrap_or_else(|| id.to_string()));
        }
        let mut placeholders = vec![
            ("H", commit.id().to_string()),
            ("h", short(commit.as_object())?),
            ("T", tree.id().to_string()),
            ("t", short(tree.as_object())?),
            ("P", parents.join(" ")),
            ("p", short_parents.join(" ")),
            ("s", text(commit.summary_bytes().unwrap_or_default())),
            ("n", "\n".into()),
            ("%", "%".into()),
        ];
        let names = [
            ("an", "ae", "at", "ai", "aI", "as"),
            ("cn", "ce", "ct", "ci", "cI", "cs"),
        ];
        for (names, person) in names.into_iter().zip([commit.author(), commit.committer()]) {
            let (name, mail, seconds, iso, strict, short) = names;
            placeholders.push((name, text(person.name_bytes())));
            placeholders.push((mail, text(person.email_bytes())));
            placeholders.push((seconds, person.when().seconds().to_string()));
            placeholders.push((iso, format_date(person.when(), "%Y-%m-%d %H:%M:%S %z")));
            let zulu = person.when().offset_minutes() == 0;
            let form = if zulu {
                "%Y-%m-%dT%H:%M:%SZ"
            } else {
                "%Y-%m-%dT%H:%M:%S%:z"
            };
            placeholders.push((strict, format_date(person.when(), form)));
            placeholders.push((short, format_date(person.when(), "%Y-%m-%d")));
        }
        Ok(CommitPlaceholders(placeholders))
    }

    /// Appends a format with its placeholders expanded; unknown placeholders stay as written. `None`: the
    /// output exceeds `max_bytes` bytes.
    fn expand(&self, format: &str, out: &mut Vec<u8>, max_bytes: usize) -> Option<()> {
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            out.extend_from_slice(&rest.as_bytes()[..at]);
            rest = &rest[at..];
            let known = self.0.iter().find(|(name, _)| rest[1..].starts_with(name));
            let (value, used) = match known {
                Some((name, value)) => (value.as_str(), 1 + name.len()),
                None => ("%", 1),
            };
            out.extend_from_slice(value.as_bytes());
            if out.len() > max_bytes {
                return None;
            }
            rest = &rest[used..];
        }
        out.extend_from_slice(rest.as_bytes());
        Some(())
    }
}

fn format_date(time: Time, form: &str) -> String {
    let at = Timestamp::from_second(time.seconds()).unwrap_or(Timestamp::UNIX_EPOCH);
    let offset = Offset::from_seconds(time.offset_minutes() * 60).unwrap_or(Offset::UTC);
    at.to_zoned(offset.to_time_zone())
        .strftime(form)
        .to_string()
}

/// Maximum size of a file as a multiple of its blob.
const MAX_GROWTH_FACTOR: u64 = 16;

/// Size in bytes that a file may reach however small its blob is.
const SMALL_FILE_SIZE: u64 = 64 << 10;

/// Maximum size of the file for a blob of this size, in bytes.
pub(super) fn max_size(blob: u64, max_file: u64) -> u64 {
    blob.saturating_mul(MAX_GROWTH_FACTOR)
        .max(SMALL_FILE_SIZE)
        .min(max_file)
}

/// The content of the file for a blob. `None`: it exceeds `max_bytes` bytes, which a few markers in a crafted
/// file can cause.
pub(super) fn convert_blob<'a>(
    blob: &'a [u8],
    id: Oid,
    conversion: Conversion,
    placeholders: &CommitPlaceholders,
    max_bytes: u64,
) -> Option<Cow<'a, [u8]>> {
    let most = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    let mut content = Cow::Borrowed(blob);
    if conversion.ident && find_bytes(&content, b"$Id").is_some() {
        content = Cow::Owned(expand_ident(&content, id, most)?);
    }
    if conversion.crlf != Crlf::Never
        && let Some(changed) = convert_crlf(&content, conversion.crlf)
    {
        content = Cow::Owned(changed);
    }
    if conversion.export_subst && find_bytes(&content, FORMAT_MARKER).is_some() {
        content = Cow::Owned(expand_subst(&content, placeholders, most)?);
    }
    (content.len() <= most).then_some(content)
}

/// Start of a marker that `export-subst` expands.
const FORMAT_MARKER: &[u8] = b"$Format:";

fn find_bytes(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|part| part == wanted)
}

/// Expands `$Id$`, and an `$Id: …$` that git expanded before, to the id of the blob.
fn expand_ident(text: &[u8], id: Oid, max_bytes: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some(dollar) = find_bytes(rest, b"$") {
        if out.len() > max_bytes {
            return None;
        }
        out.extend_from_slice(&rest[..=dollar]);
        rest = &rest[dollar + 1..];
        if rest.starts_with(b"Id$") {
            rest = &rest[3..];
        } else if rest.starts_with(b"Id:") {
            let Some(end) = find_bytes(&rest[3..], b"$").map(|end| end + 3) else {
                break;
            };
            if rest[3..end].contains(&b'\n') {
                continue;
            }
            // More than one word: an identifier of another version control system.
            let inner = rest.get(4..end).unwrap_or_default();
            if find_bytes(inner, b" ").is_some_and(|space| space + 4 < end - 1) {
                continue;
            }
            rest = &rest[end + 1..];
        } else {
            continue;
        }
        out.extend_from_slice(format!("Id: {id} $").as_bytes());
    }
    out.extend_from_slice(rest);
    Some(out)
}

/// Converts LF to CR LF, with git's heuristic for text.
fn convert_crlf(text: &[u8], mode: Crlf) -> Option<Vec<u8>> {
    let (mut lone_lf, mut lone_cr, mut pairs) = (0_usize, 0_usize, 0_usize);
    let (mut printable, mut odd, mut nul) = (0_usize, 0_usize, false);
    let mut bytes = text.iter().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' if bytes.next_if(|next| **next == b'\n').is_some() => pairs += 1,
            b'\r' => lone_cr += 1,
            b'\n' => lone_lf += 1,
            // Backspace, tab, form feed, escape.
            8 | 9 | 12 | 27 => printable += 1,
            0 => {
                nul = true;
                odd += 1;
            }
            1..32 | 127 => odd += 1,
            _ => printable += 1,
        }
    }
    // The CP/M and DOS end-of-file character.
    if text.last() == Some(&26) {
        odd -= 1;
    }
    let binary = lone_cr > 0 || nul || (printable >> 7) < odd;
    if lone_lf == 0 || (mode == Crlf::IfText && (binary || pairs > 0)) {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() + lone_lf);
    let mut last = 0;
    for byte in text {
        if *byte == b'\n' && last != b'\r' {
            out.push(b'\r');
        }
        out.push(*byte);
        last = *byte;
    }
    Some(out)
}

fn expand_subst(
    text: &[u8],
    placeholders: &CommitPlaceholders,
    max_bytes: usize,
) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = find_bytes(rest, FORMAT_MARKER) {
        let inner = &rest[at + FORMAT_MARKER.len()..];
        let Some(end) = find_bytes(inner, b"$") else {
            break;
        };
        out.extend_from_slice(&rest[..at]);
        // A format that is not UTF-8 contains no known placeholder.
        match std::str::from_utf8(&inner[..end]) {
            Ok(format) => placeholders.expand(format, &mut out, max_bytes)?,
            Err(_) => out.extend_from_slice(&inner[..end]),
        }
        rest = &inner[end + 1..];
    }
    out.extend_from_slice(rest);
    Some(out)
}
