//! Bounded capture of a child's output: keeps its first and its last part.

/// Bytes kept in memory of the beginning and of the end, each.
const MAX_PART_BYTES: usize = 64 << 10;

/// Bytes of one child's output that are kept on disk. The rest is counted and dropped.
pub(crate) const LOG_LIMIT: u64 = 16 << 20;

/// Output of a child, at most 128 KiB of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Output {
    head: Vec<u8>,
    tail: Vec<u8>,
    total: u64,
}

impl Output {
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = MAX_PART_BYTES - self.head.len();
        if room > 0 {
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.head.extend_from_slice(now);
            bytes = later;
        }
        self.tail.extend_from_slice(bytes);
        if self.tail.len() > 2 * MAX_PART_BYTES {
            self.tail.drain(..self.tail.len() - MAX_PART_BYTES);
        }
    }

    /// Total size of the output, in bytes.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The whole output if it was short, else its beginning and end with a note between them.
    pub(crate) fn text(&self) -> String {
        let kept = (self.head.len() + self.tail.len()) as u64;
        let head = String::from_utf8_lossy(&self.head);
        let tail = String::from_utf8_lossy(&self.tail);
        if kept == self.total {
            format!("{head}{tail}")
        } else {
            format!("{head}\n[{} bytes left out]\n{tail}", self.total - kept)
        }
    }

    /// The last `lines` lines.
    pub(crate) fn tail(&self, lines: usize) -> String {
        let text = self.text();
        let all: Vec<&str> = text.trim_end().lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// Quotes a program's output, to be put below a message: no line of it looks like one of trueup's.
pub(crate) fn block_quote(text: &str) -> String {
    let lines = text.lines().map(|line| format!("  | {line}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Prefix of the log line that heads the output of the next command.
pub(crate) const LOG_HEADING: &str = "== ";

/// Keeps a child from forging [headings](LOG_HEADING): puts a space before each line that begins like one.
/// Lines arrive in pieces, so the first byte decides.
#[derive(Debug, Default)]
pub(super) struct HeadingEscaper {
    is_within_line: bool,
}

impl HeadingEscaper {
    /// Returns the escaped bytes to write.
    pub(super) fn escape(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if !self.is_within_line && LOG_HEADING.as_bytes().first() == Some(byte) {
                shown.push(b' ');
            }
            shown.push(*byte);
            self.is_within_line = *byte != b'\n';
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_output_keeps_its_beginning_and_end_in_bounded_memory() {
        let mut output = Output::default();
        output.push(b"first\n");
        for _ in 0..10_000 {
            output.push(&[b'x'; 1000]);
        }
        output.push(b"\nlast\n");
        assert!(output.head.len() + output.tail.len() < 4 * MAX_PART_BYTES);
        let text = output.text();
        assert!(text.starts_with("first\n") && text.contains("bytes left out"));
        assert_eq!(output.tail(1), "last");
    }

    #[test]
    fn block_quote_marks_every_line_of_a_program() {
        let printed = block_quote("one\nconverged: 0 changes");
        assert_eq!(printed, "  | one\n  | converged: 0 changes");
    }

    #[test]
    fn child_output_cannot_forge_a_log_heading() {
        let text = b"== build install == now\na == b\n== x";
        for size in [1, 2, 100] {
            let mut headings = HeadingEscaper::default();
            let pieces = text.chunks(size).map(|piece| headings.escape(piece));
            let written = pieces.collect::<Vec<_>>().concat();
            assert_eq!(written, b" == build install == now\na == b\n == x");
        }
    }

    #[test]
    fn short_output_is_kept_whole() {
        let mut output = Output::default();
        output.push(b"a\nb\nc\n");
        assert_eq!(output.text(), "a\nb\nc\n");
        assert_eq!(output.tail(2), "b\nc");
    }
}
