//! What depends on a secret whatever its value is: all that is rendered with a call of `secret`, and with the values that
//! such a call made. The difference of two expansions does not show it where a secret is compared with a word.

use std::collections::BTreeSet;

use crate::problem::Problem;

/// Where a value is: keys of maps and numbers of list items, from the outside to the inside.
pub(super) type FieldPath = Vec<String>;

/// A rendered value that depends on secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SecretLeaf {
    pub path: FieldPath,
    /// The names of the secrets.
    pub names: BTreeSet<String>,
}

/// The expressions and statements of a template, without their marks.
pub(super) fn marked_expressions(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let start = rest.find('{')?;
            let after = &rest[start + 1..];
            let end = match after.as_bytes().first() {
                Some(b'{') => "}}",
                Some(b'%') => "%}",
                Some(b'#') => {
                    rest = after.split_once("#}").map_or("", |(_, rest)| rest);
                    continue;
                }
                _ => {
                    rest = after;
                    continue;
                }
            };
            let (inner, after) = after[1..].split_once(end).unwrap_or((&after[1..], ""));
            rest = after;
            return Some(inner.trim_matches('-'));
        }
    })
}

/// Why a secret may not decide what there is to do.
pub(super) fn deciding_secret() -> Problem {
    Problem::new(
        "a secret decides which resources there are, or what their ids are: everybody can read those",
    )
    .hint("decide by a parameter in `when`, `for_each`, `id` and `requires`")
}

/// Why no check may have a secret in its command.
pub(super) fn secret_argument(check: &str) -> Problem {
    Problem::new(
        "the arguments of a command are visible to all users of the host, so they may hold no secret",
    )
    .field(format!("checks.{check}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_what_the_marks_enclose() {
        let text = "p: {a} {{ x }}{# {{ no }} #}{%- if y == 'z' -%}{ {{z";
        let found: Vec<&str> = marked_expressions(text).map(str::trim).collect();
        assert_eq!(found, ["x", "if y == 'z'", "z"]);
    }
}
