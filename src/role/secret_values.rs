//! `secret("name")` in roles and templates.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tera::{Kwargs, State, TeraResult, Value};

use crate::digest::digest;
use crate::problem::{Problem, Problems};

/// The letters of placeholders, one alphabet for each expansion of the roles. None has a letter of another, so that
/// texts with different placeholders differ in every part of them.
const ALPHABETS: [&[u8; 8]; 3] = [b"abcdefgh", b"klmnopqr", b"stuvwxyz"];

/// Which placeholders stand for the secrets without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placeholders {
    /// Those of the first expansion, before the manifest says which secrets there are.
    First,
    /// Others, to find out what depends on secrets.
    Second,
    /// Others again, to find out what depends on one secret.
    Third,
}

/// The values of secrets during one expansion of the roles. A secret without a value has a placeholder.
#[derive(Debug, Clone)]
pub(crate) struct SecretValues {
    known: BTreeMap<String, String>,
    placeholders: Placeholders,
    /// The one that has the third placeholder.
    exception: Option<String>,
    used: Arc<Mutex<BTreeSet<String>>>,
    /// The names in the calls since [`SecretValues::take_called`].
    called: Arc<Mutex<BTreeSet<String>>>,
}

impl SecretValues {
    /// Placeholders for all secrets.
    pub(crate) fn placeholders(placeholders: Placeholders) -> SecretValues {
        SecretValues::new(BTreeMap::new(), placeholders)
    }

    pub(crate) fn new(known: BTreeMap<String, String>, placeholders: Placeholders) -> SecretValues {
        SecretValues {
            known,
            placeholders,
            exception: None,
            used: Arc::default(),
            called: Arc::default(),
        }
    }

    /// The same values, but the third placeholder for this secret.
    pub(super) fn except(&self, name: &str) -> SecretValues {
        SecretValues {
            known: self.known.clone(),
            placeholders: self.placeholders,
            exception: Some(name.to_owned()),
            used: Arc::default(),
            called: Arc::default(),
        }
    }

    /// The names of the secrets that were rendered since the last call of this function: what depends on them may be equal
    /// for two placeholders, as a comparison with a word is.
    pub(super) fn take_called(&self) -> BTreeSet<String> {
        let mut called = self.called.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *called)
    }

    /// The names of the secrets that were rendered.
    pub(super) fn used(&self) -> BTreeSet<String> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.clone()
    }

    /// Whether a secret was rendered.
    pub(super) fn is_used(&self) -> bool {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        !used.is_empty()
    }

    fn value(&self, name: &str) -> String {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.insert(name.to_owned());
        let mut called = self.called.lock().unwrap_or_else(PoisonError::into_inner);
        called.insert(name.to_owned());
        if self.exception.as_deref() == Some(name) {
            return placeholder(name, Placeholders::Third);
        }
        let known = self.known.get(name).cloned();
        known.unwrap_or_else(|| placeholder(name, self.placeholders))
    }

    /// The function in Tera.
    pub(super) fn function(
        &self,
    ) -> impl Fn(Kwargs, &State<'_>) -> TeraResult<Value> + Send + Sync + 'static {
        let values = self.clone();
        move |kwargs, _| {
            let name = kwargs.must_get::<&Value>("name")?.as_str();
            let name = name.ok_or_else(|| {
                tera::Error::message("secret(…): expected the name of a secret as a text")
            })?;
            Ok(Value::from(values.value(name)))
        }
    }

    /// The same problem with names in place of placeholders, which nobody wrote.
    fn rename(&self, problem: Problem) -> Problem {
        let rename = |text: String| {
            self.used().iter().fold(text, |text, name| {
                let shown = format!("secret(\"{name}\")");
                text.replace(&placeholder(name, self.placeholders), &shown)
            })
        };
        Problem {
            message: rename(problem.message),
            hint: problem.hint.map(rename),
            ..problem
        }
    }

    /// The problems of an expansion, without values of secrets. An expansion with placeholders shows their names. One with
    /// values, which comes after it, failed because of a value, so its message may quote one in any form.
    pub(super) fn conceal(&self, Problems(problems): Problems) -> Problems {
        let hidden = problems.into_iter().map(|problem| self.hide(problem));
        Problems(hidden.collect())
    }

    /// The same for one problem.
    pub(super) fn hide(&self, problem: Problem) -> Problem {
        match self.known.is_empty() {
            true => self.rename(problem),
            false => Problem {
                message: "with the value of its secrets, this cannot be rendered or is invalid"
                    .to_owned(),
                hint: Some(
                    "the reason is hidden, because it may quote them: compare the values with what the role and its template do with them"
                        .to_owned(),
                ),
                ..problem
            },
        }
    }
}

/// What stands for the value of a secret: letters, which are valid almost everywhere.
fn placeholder(name: &str, placeholders: Placeholders) -> String {
    let letters = ALPHABETS[placeholders as usize];
    let digits = digest(name.as_bytes());
    let digits = digits.bytes().take(40);
    digits
        .map(|digit| char::from(letters[usize::from(digit) % letters.len()]))
        .collect()
}

/// Whether a text is exactly one call of `secret` with a literal name. Only this form is rendered in the values of
/// operators.
pub(super) fn is_secret_call(text: &str) -> bool {
    let inner = text
        .strip_prefix("{{")
        .and_then(|text| text.strip_suffix("}}"));
    let call = inner.map(str::trim).and_then(|call| {
        let arguments = call.strip_prefix("secret")?.trim_start();
        let arguments = arguments.strip_prefix('(')?.strip_suffix(')')?.trim();
        Some(arguments.strip_prefix("name=").unwrap_or(arguments))
    });
    let quoted = call.and_then(|name| {
        let quote = name.chars().next().filter(|c| "\"'".contains(*c))?;
        name.strip_prefix(quote)?.strip_suffix(quote)
    });
    quoted.is_some_and(|name| !name.contains(['"', '\'', '\\', '{', '}']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_of_different_expansions_have_no_letter_in_common() {
        let all = [
            Placeholders::First,
            Placeholders::Second,
            Placeholders::Third,
        ];
        let texts = all.map(|placeholders| placeholder("db-password", placeholders));
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            assert!(!texts[a].contains(|c| texts[b].contains(c)), "{texts:?}");
        }
        let other = placeholder("other", Placeholders::First);
        assert_ne!(other, texts[0]);
        assert_eq!(other.len(), 40);
    }

    #[test]
    fn only_a_whole_call_with_a_literal_name_is_a_reference() {
        for call in [
            "{{ secret(\"a\") }}",
            "{{secret('a')}}",
            "{{ secret(name=\"a\") }}",
        ] {
            assert!(is_secret_call(call), "{call}");
        }
        for other in [
            "x{{ secret(\"a\") }}",
            "{{ secret(\"a\") | upper }}",
            "{{ secret(name) }}",
            "{{ secret(\"a\") }}{{ secret(\"b\") }}",
            "{{ facts.hostname }}",
            "secret(\"a\")",
        ] {
            assert!(!is_secret_call(other), "{other}");
        }
    }
}
