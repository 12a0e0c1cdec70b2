//! Parts of what haproxy replies.

/// Most characters of a reply that a message shows.
const MAX_SHOWN_CHARS: usize = 200;

/// The first line of a reply, safe to show.
pub(super) fn shown(reply: &str) -> String {
    let mut lines = reply.lines().map(str::trim);
    let line = lines.find(|line| !line.is_empty());
    let line = line.unwrap_or("an empty reply").chars();
    let visible = |c: char| if c.is_control() { '?' } else { c };
    line.take(MAX_SHOWN_CHARS).map(visible).collect()
}

/// A value of the reply to `show info`.
pub(super) fn info_value<'r>(reply: &'r str, key: &str) -> Option<&'r str> {
    let mut lines = reply.lines();
    lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
}
