//! Where characters of a text are, in bytes.

/// Byte offsets of character positions, in any order.
pub(super) struct Offsets<'a> {
    text: &'a str,
    /// Of every so many characters, the byte that it begins at; empty if every character is a byte.
    marks: Vec<usize>,
}

impl<'a> Offsets<'a> {
    const STEP: usize = 64;

    pub(super) fn new(text: &'a str) -> Offsets<'a> {
        let marks = match text.is_ascii() {
            true => Vec::new(),
            false => {
                let starts = text.char_indices().map(|(at, _)| at);
                starts.step_by(Offsets::STEP).collect()
            }
        };
        Offsets { text, marks }
    }

    pub(super) fn of(&self, chars: usize) -> usize {
        if self.marks.is_empty() {
            return chars.min(self.text.len());
        }
        let Some(mark) = self.marks.get(chars / Offsets::STEP) else {
            return self.text.len();
        };
        let mut rest = self.text[*mark..].char_indices();
        rest.nth(chars % Offsets::STEP)
            .map_or(self.text.len(), |(at, _)| mark + at)
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }
}
