//! Conversion of character positions in a text to byte offsets.

/// Byte offsets of character positions, queried in any order.
pub(super) struct ByteOffsets<'a> {
    text: &'a str,
    /// Byte offset of every `STEP`th character; empty for an ASCII text.
    checkpoints: Vec<usize>,
}

impl<'a> ByteOffsets<'a> {
    const STEP: usize = 64;

    pub(super) fn new(text: &'a str) -> ByteOffsets<'a> {
        let marks = match text.is_ascii() {
            true => Vec::new(),
            false => {
                let starts = text.char_indices().map(|(at, _)| at);
                starts.step_by(ByteOffsets::STEP).collect()
            }
        };
        ByteOffsets {
            text,
            checkpoints: marks,
        }
    }

    pub(super) fn byte_offset(&self, chars: usize) -> usize {
        if self.checkpoints.is_empty() {
            return chars.min(self.text.len());
        }
        let Some(mark) = self.checkpoints.get(chars / ByteOffsets::STEP) else {
            return self.text.len();
        };
        let mut rest = self.text[*mark..].char_indices();
        rest.nth(chars % ByteOffsets::STEP)
            .map_or(self.text.len(), |(at, _)| mark + at)
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }
}
