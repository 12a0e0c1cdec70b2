//! A mistake in something that a person wrote, with what is needed to fix it: file, line, resource and field,
//! what was expected, and the next step.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::printable;

/// A position in a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Location {
    /// A path, or the address of an object in the store.
    #[serde(serialize_with = "as_text")]
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
}

fn as_text<S: serde::Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One mistake in an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Location>,
    /// The affected resource, with its id in the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The field, dotted: `apps.shop.port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is wrong and what was expected.
    pub message: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    pub fn new(message: impl Into<String>) -> Problem {
        Problem {
            at: None,
            resource: None,
            field: None,
            // The message may quote foreign text.
            message: printable::text(&message.into()).into_owned(),
            hint: None,
        }
    }

    pub fn at(mut self, at: &Location) -> Problem {
        self.at.get_or_insert_with(|| at.clone());
        self
    }

    pub fn resource(mut self, resource: impl Into<String>) -> Problem {
        self.resource
            .get_or_insert_with(|| printable::line(&resource.into()).into_owned());
        self
    }

    pub fn field(mut self, field: impl Into<String>) -> Problem {
        self.field
            .get_or_insert_with(|| printable::line(&field.into()).into_owned());
        self
    }

    /// Puts the field that the value is of before the one in it.
    pub(crate) fn within_field(mut self, outer: &str) -> Problem {
        let inner = self.field.take();
        self.field(match inner {
            Some(inner) => format!("{outer}.{inner}"),
            None => outer.to_owned(),
        })
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint
            .get_or_insert_with(|| printable::text(&hint.into()).into_owned());
        self
    }

    pub(crate) fn optional_hint(self, hint: Option<String>) -> Problem {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// Adds "did you mean" if a known word is close, or else the known ones if they are few.
    pub(crate) fn suggest_or_list<'a>(
        self,
        word: &str,
        known: impl Iterator<Item = &'a str>,
    ) -> Problem {
        const MAX_LISTED: usize = 12;
        let known: Vec<&str> = known.collect();
        let problem = self.suggest(word, known.iter().copied());
        match known.len() {
            1..=MAX_LISTED => problem.hint(format!("it has {}", known.join(", "))),
            _ => problem,
        }
    }

    /// Adds "did you mean" if a known word is close.
    pub fn suggest<'a>(self, word: &str, known: impl IntoIterator<Item = &'a str>) -> Problem {
        match nearest(word, known) {
            Some(near) => self.hint(format!("did you mean `{near}`?")),
            None => self,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        match (&self.resource, &self.field) {
            (Some(resource), Some(field)) => write!(f, "{resource}: {field}: ")?,
            (Some(one), None) | (None, Some(one)) => write!(f, "{one}: ")?,
            (None, None) => {}
        }
        write!(f, "{}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// A value that its type refuses: what is wrong with it, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidValue {
    pub message: String,
    pub hint: String,
}

/// Precedes message and hint where only text can be passed on. The message may quote a value that holds this
/// character, so it is escaped there; a text that does not begin with it has no hint.
const PART_MARK: char = '\u{1e}';

impl InvalidValue {
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> InvalidValue {
        InvalidValue {
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// The problem that an error of serde stands for. serde passes only text on: `{:#}` of an invalid value
    /// holds its hint.
    pub fn problem_from_text(text: &str) -> Problem {
        let parts = text.strip_prefix(PART_MARK);
        match parts.and_then(|parts| parts.split_once(PART_MARK)) {
            Some((message, hint)) => Problem::new(message).hint(hint),
            None => Problem::new(text),
        }
    }
}

/// The message; with `{:#}` the hint as well, for [`InvalidValue::problem_from_text`].
impl fmt::Display for InvalidValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return f.write_str(&self.message);
        }
        let message = printable::text(&self.message);
        write!(f, "{PART_MARK}{message}{PART_MARK}{}", self.hint)
    }
}

impl std::error::Error for InvalidValue {}

impl From<InvalidValue> for Problem {
    fn from(invalid: InvalidValue) -> Problem {
        Problem::new(invalid.message).hint(invalid.hint)
    }
}

/// All mistakes found in one run. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Problems(pub Vec<Problem>);

impl Problems {
    /// Fails unless there are none.
    pub(crate) fn none(found: Vec<Problem>) -> Result<(), Problems> {
        match found.is_empty() {
            true => Ok(()),
            false => Err(Problems(found)),
        }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Problems {
        Problems(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The known word closest to a mistyped `word`. Very long words and very long lists get no suggestion: each
/// comparison costs the product of both lengths.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 100;
    const MOST: usize = 2000;
    let limit = (word.chars().count() / 3).clamp(1, 3);
    if word.len() > LONGEST {
        return None;
    }
    known
        .into_iter()
        .take(MOST)
        .filter(|candidate| candidate.len() <= LONGEST)
        .filter(|candidate| *candidate != word)
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A list of words for a sentence: "`a`, `b` or `c`".
pub(crate) fn one_of<S: AsRef<str>>(words: &[S]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("`{}`", w.as_ref())).collect();
    match quoted.split_last() {
        None => "nothing".into(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_word_is_suggested_and_a_far_one_is_not() {
        assert_eq!(
            nearest("evironment", ["environment", "roles"]),
            Some("environment")
        );
        assert_eq!(nearest("roels", ["environment", "roles"]), Some("roles"));
        assert_eq!(nearest("xyz", ["environment", "roles"]), None);
    }

    #[test]
    fn few_known_words_are_listed_where_none_is_near() {
        let hint = |known: &[&str]| {
            let problem = Problem::new("no such thing");
            problem.suggest_or_list("xyz", known.iter().copied()).hint
        };
        assert_eq!(hint(&["a", "b"]).as_deref(), Some("it has a, b"));
        assert_eq!(hint(&["a", "xyy"]).as_deref(), Some("did you mean `xyy`?"));
        assert_eq!(hint(&[]), None);
        assert_eq!(hint(&["a"; 13]), None);
    }

    #[test]
    fn problem_shows_file_line_resource_field_message_and_hint() {
        let at = Location {
            file: "a.yml".into(),
            line: 3,
            column: 5,
        };
        let problem = Problem::new("wrong")
            .at(&at)
            .resource("r")
            .field("f")
            .hint("mend it");
        assert_eq!(
            problem.to_string(),
            "a.yml:3:5: r: f: wrong\n  hint: mend it"
        );
    }

    #[test]
    fn quoted_value_cannot_replace_the_hint() {
        let invalid = InvalidValue::new("`a\u{1e}b` is wrong", "expected c");
        let problem = InvalidValue::problem_from_text(&format!("{invalid:#}"));
        assert_eq!(problem.message, "`a\\x1eb` is wrong");
        assert_eq!(problem.hint.as_deref(), Some("expected c"));

        let problem = InvalidValue::problem_from_text("`a\u{1e}b` is unknown");
        assert_eq!(problem.message, "`a\\x1eb` is unknown");
        assert_eq!(problem.hint, None);
    }
}
