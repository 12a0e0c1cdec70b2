//! Renders plain references without Tera. Most strings of roles and many templates contain only `{{
//! name.field }}`, and compiling each of them in every run would dominate the cost of a quiet pass.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value;

use super::template_syntax::is_plain_path;

/// The references of a text that contains only plain ones. A template is rendered for each item of a role, so
/// its references are found once, and each value is looked up once for all references to it.
pub(super) struct PlainReferences {
    /// The distinct paths.
    paths: Vec<Range<usize>>,
    /// Each reference with its marks, and the index of its path.
    references: Vec<(Range<usize>, usize)>,
}

impl PlainReferences {
    /// `None`: the text needs Tera, which also produces the error messages.
    pub(super) fn find(text: &str) -> Option<PlainReferences> {
        let mut paths: Vec<Range<usize>> = Vec::new();
        let mut references = Vec::new();
        let mut from = 0;
        while let Some(start) = find_mark(text, from) {
            if !text[start..].starts_with("{{") {
                return None;
            }
            let inner = start + 2;
            let end = find_pair(text, inner, *b"}}")?;
            let path = text[inner..end].trim_matches(' ');
            if !is_plain_path(path) {
                return None;
            }
            let known = paths.iter().position(|known| text[known.clone()] == *path);
            let index = known.unwrap_or_else(|| {
                let at = inner + text[inner..end].find(|c| c != ' ').unwrap_or(0);
                paths.push(at..at + path.len());
                paths.len() - 1
            });
            references.push((start..end + 2, index));
            from = end + 2;
        }
        Some(PlainReferences { paths, references })
    }

    /// Substitutes the references of the text, if all are to strings and integers.
    pub(super) fn substitute<'v>(
        &self,
        text: &str,
        lookup: impl Fn(&str) -> Option<&'v Value>,
    ) -> Option<String> {
        let shown = |path: &Range<usize>| match lookup(&text[path.clone()])? {
            Value::String(word) => Some(Cow::Borrowed(word.as_str())),
            Value::Number(number) if number.is_i64() => Some(Cow::Owned(number.to_string())),
            _ => None,
        };
        let values: Vec<Cow<'v, str>> = self.paths.iter().map(shown).collect::<Option<_>>()?;
        let mut result = String::with_capacity(text.len() + text.len() / 2);
        let mut rest = 0;
        for (marks, index) in &self.references {
            result.push_str(&text[rest..marks.start]);
            result.push_str(&values[*index]);
            rest = marks.end;
        }
        result.push_str(&text[rest..]);
        Some(result)
    }
}

/// Substitutes the references of a text that contains only plain references to strings and integers. `None`:
/// the text needs Tera.
pub(super) fn interpolate<'v>(
    text: &str,
    lookup: impl Fn(&str) -> Option<&'v Value>,
) -> Option<String> {
    PlainReferences::find(text)?.substitute(text, lookup)
}

/// The next position at which something to render starts. Not `str::find`: the preparation of its search takes
/// longer than the search in most texts.
fn find_mark(text: &str, from: usize) -> Option<usize> {
    let mut pairs = text.as_bytes()[from..].windows(2);
    pairs
        .position(|pair| matches!(pair, b"{{" | b"{%" | b"{#"))
        .map(|at| from + at)
}

fn find_pair(text: &str, from: usize, wanted: [u8; 2]) -> Option<usize> {
    let mut pairs = text.as_bytes()[from..].windows(2);
    pairs.position(|pair| pair == wanted).map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn render(text: &str) -> Option<String> {
        let values = json!({"a": "<x>", "n": -3, "deep": {"b": "y"}, "f": 1.5, "none": null});
        interpolate(text, |path| {
            path.split('.')
                .try_fold(&values, |value, part| value.get(part))
        })
    }

    #[test]
    fn plain_references_are_put_in_and_all_else_is_left_to_tera() {
        assert_eq!(render("{{ a }}-{{n}}-{{ deep.b }}").unwrap(), "<x>--3-y");
        for left in [
            "{{ a | upper }}",
            "{{- a }}",
            "{% if a %}{% endif %}",
            "{# a #}",
            "{{ f }}",
            "{{ none }}",
            "{{ x }}",
            "{{ a",
            "{{ 1 }}",
            "{{ true }}",
        ] {
            assert_eq!(render(left), None, "{left}");
        }
    }

    proptest! {
        /// For a text that both accept, both give the same result.
        #[test]
        fn interpolation_renders_the_same_as_tera(parts in proptest::collection::vec(
            prop_oneof![
                "[ -z}\n\r]{0,6}",
                Just("{{ a }}".to_owned()), Just("{{n}}".to_owned()), Just("{{ deep.b }}".to_owned()),
            ], 0..8)) {
            let text = parts.concat();
            if let Some(rendered) = render(&text) {
                let mut context = tera::Context::new();
                context.insert("a", "<x>");
                context.insert("n", &-3);
                context.insert("deep", &json!({"b": "y"}));
                prop_assert_eq!(tera::Tera::default().render_str(&text, &context, false).unwrap(), rendered);
            }
        }
    }
}
