//! Cuts the output of a program, which arrives in pieces, into lines of bounded length.

/// Longest line, in bytes; a longer one continues in the next.
pub(crate) const MAX_LINE_BYTES: usize = 32 << 10;

#[derive(Debug, Default)]
pub(crate) struct LineSplitter {
    /// The beginning of a line.
    partial_line: Vec<u8>,
}

impl LineSplitter {
    /// Takes the next piece, and returns the lines that end in it.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            for part in text.chunks(MAX_LINE_BYTES) {
                if self.partial_line.len() + part.len() > MAX_LINE_BYTES {
                    lines.push(self.take_line());
                }
                self.partial_line.extend_from_slice(part);
            }
            if ends {
                lines.push(self.take_line());
            }
        }
        lines
    }

    /// The beginning of a line that has not ended yet.
    pub(crate) fn partial_line(&self) -> String {
        String::from_utf8_lossy(&self.partial_line).into_owned()
    }

    /// Ends the stream, and returns the rest, if there is one.
    pub(crate) fn finish(&mut self) -> Option<String> {
        (!self.partial_line.is_empty()).then(|| self.take_line())
    }

    fn take_line(&mut self) -> String {
        let line = std::mem::take(&mut self.partial_line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        String::from_utf8_lossy(line).into_owned()
    }
}
