//! Signs the environment of a request.

use std::cell::RefCell;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::error::PublishError;
use super::history::{HistoryFacts, history_key_prefix};
use crate::desired::Manifest;
use crate::desired::edit::EditError;
use crate::desired::manifest::SIGNATURES_KEY;
use crate::desired::signature::{
    Verification, check_signature, namespace, own_signer, signed_lines, verified_manifest,
    written_signature,
};
use crate::ports::store::Store;
use crate::problem::Problem;
use crate::settings::Signers;
use crate::yaml::{InsertPosition, ParseLimits, YamlEditor, parse};

/// How a publisher signs.
pub(crate) struct Signing<'a> {
    /// Signs a text in a namespace; the result is a signature in the armored format of OpenSSH.
    pub sign: &'a dyn Fn(&str, &str) -> Result<String, Problem>,
    /// Who else than the publisher may have signed what the manifest says now.
    pub signers: Option<&'a Signers>,
    /// The publisher has read what the manifest says now, and signs it whoever wrote it.
    pub trusts_current: bool,
}

/// The manifest before an edit, and what the history knows of it.
pub(super) struct CurrentManifest<'a> {
    pub body: &'a [u8],
    pub history: HistoryFacts,
}

/// The last signature of a request. An attempt that an act on another environment beats signs the same lines again, and
/// without the time that it takes to sign (an agent, a key to be touched) it is as short as one that does not sign.
#[derive(Debug, Default)]
pub(super) struct LastSignature(RefCell<Option<(String, String)>>);

impl LastSignature {
    /// The signature of these lines: the last one, if it is of the same, or else a new one.
    fn of(
        &self,
        lines: &str,
        sign: impl FnOnce() -> Result<String, Problem>,
    ) -> Result<String, Problem> {
        let known = self.0.borrow().clone();
        if let Some((_, signature)) = known.filter(|(signed, _)| signed == lines) {
            return Ok(signature);
        }
        let signature = sign()?;
        *self.0.borrow_mut() = Some((lines.to_owned(), signature.clone()));
        Ok(signature)
    }
}

/// The text with the signature of an environment. All of `current` that stays is signed too, so it has to be what somebody
/// trusted has signed, and the newest of it.
pub(super) fn sign_environment(
    name: &str,
    (current, edited): (&CurrentManifest<'_>, &[u8]),
    environment: &str,
    (signing, last): (&Signing<'_>, &LastSignature),
    now: Timestamp,
) -> Result<Vec<u8>, Problem> {
    let lines = signed_lines(name, edited, environment)?;
    let armored = last.of(&lines, || (signing.sign)(&namespace(environment), &lines))?;
    let signature = written_signature(&armored)?;
    let own = own_signer(&signature)?;
    if !signing.trusts_current && has_environment(name, current.body, environment) {
        let known = signing.signers.into_iter().flat_map(|known| &known.signers);
        let trusted = Signers {
            path: match signing.signers {
                Some(signers) => signers.path.clone(),
                None => "the keys that this publisher knows".to_owned(),
            },
            signers: known.cloned().chain([own.clone()]).collect(),
        };
        check_current(name, current, environment, &trusted, now)?;
    }
    let tree = parse(name, edited, ParseLimits::default())?;
    let mut draft = YamlEditor::new(name, edited)?;
    let value = Value::from(signature);
    match tree.get(SIGNATURES_KEY) {
        Some(known) if !known.is_null() => {
            let last = InsertPosition::Last;
            draft.put_entry(&[SIGNATURES_KEY], last, environment, &value)?;
        }
        _ => {
            let value = Value::Object(Map::from_iter([(environment.to_owned(), value)]));
            draft.put_entry(&[], InsertPosition::Last, SIGNATURES_KEY, &value)?;
        }
    }
    let signed = draft.finish()?;
    // Hosts must not be locked out, neither by a mistake in signing nor by a key that is not for this environment.
    let own = Signers {
        path: "this publisher".into(),
        signers: vec![own],
    };
    let verification = Verification {
        signers: signing.signers.unwrap_or(&own),
        at: now,
        location: Some(name),
    };
    verified_manifest(name, &signed, environment, verification)
        .map_err(|problem| problem.hint("nothing was written, because hosts would refuse it"))?;
    Ok(signed)
}

/// Refuses what no trusted key has signed, and what is older than the history.
fn check_current(
    name: &str,
    current: &CurrentManifest<'_>,
    environment: &str,
    trusted: &Signers,
    now: Timestamp,
) -> Result<(), Problem> {
    let verification = Verification {
        signers: trusted,
        // A key that has expired since signed it in time, if the copy was there by then.
        at: current.history.copied.unwrap_or(now).min(now),
        location: Some(name),
    };
    check_signature(name, current.body, environment, verification).map_err(|problem| Problem {
        message: format!(
            "what the manifest says of {environment} now is not to be trusted: {}",
            problem.message
        ),
        hint: Some(
            "signing an edit of it would sign all of it: name the keys of other publishers with `--signers FILE`; or read it, and sign it as it is with `--trust-current`"
                .into(),
        ),
        ..problem
    })?;
    let Some(next) = &current.history.next else {
        return Ok(());
    };
    let verification = Verification {
        at: next.modified.min(now),
        ..verification
    };
    match verified_manifest(name, &next.body, environment, verification) {
        // Whoever may write there can put anything; what a trusted key has signed was the manifest once.
        Ok(newer) if is_newer(&newer, name, current.body, environment) => Err(Problem::new(format!(
            "{name} is older than the history: {environment} was at generation {} already",
            newer.generation_of(environment).unwrap_or_default()
        ))
        .hint(format!(
            "somebody restored an older manifest: put the newest environment of `history/{environment}/` back, or sign this one as it is with `--trust-current`"
        ))),
        _ => Ok(()),
    }
}

fn is_newer(newer: &Manifest, name: &str, body: &[u8], environment: &str) -> bool {
    let current = Manifest::parse(name, body).ok();
    let current = current.and_then(|current| current.generation_of(environment));
    newer.generation_of(environment) > current
}

/// Refuses an edit that would break a signature, and one that nobody should sign: of an environment that somebody removed.
pub(super) fn check_signing(
    store: &dyn Store,
    name: &str,
    current: &[u8],
    environment: &str,
    signing: Option<&Signing<'_>>,
) -> Result<(), PublishError> {
    let refuse = |problem| Err(EditError::request(problem).into());
    let Some(signing) = signing else {
        return match is_signed(name, current, environment) {
            true => refuse(unsigned_problem(name, environment)),
            false => Ok(()),
        };
    };
    if signing.trusts_current || has_environment(name, current, environment) {
        return Ok(());
    }
    match store.list(&history_key_prefix(environment))?.is_empty() {
        true => Ok(()),
        false => refuse(deleted_problem(environment)),
    }
}

/// Whether a signature of the environment stands in a text, which an edit without one would break.
fn is_signed(name: &str, body: &[u8], environment: &str) -> bool {
    let tree = parse(name, body, ParseLimits::default());
    tree.is_ok_and(|tree| {
        let signatures = tree.get(SIGNATURES_KEY);
        signatures.and_then(|all| all.get(environment)).is_some()
    })
}

fn unsigned_problem(name: &str, environment: &str) -> Problem {
    Problem::new(format!(
        "{name}: {environment} is signed, and hosts would refuse an edit without a signature"
    ))
    .hint("add `--sign KEY`; nothing was written")
}

/// Records could name any generation, and a signed one is there for good.
pub(super) fn above_fleet_problem(environment: &str) -> Problem {
    Problem::new(format!(
        "--above-fleet is for an environment that is not signed: nobody without a key can make hosts of {environment} take a generation"
    ))
    .hint("publish without it; if hosts refuse the generation, put the newest environment of the history back first")
}

fn deleted_problem(environment: &str) -> Problem {
    Problem::new(format!(
        "the manifest has no environment `{environment}`, and the history knows it: somebody removed it"
    ))
    .hint(format!(
        "put the newest of `history/{environment}/` back; `--trust-current` begins the environment anew"
    ))
}

fn has_environment(name: &str, body: &[u8], environment: &str) -> bool {
    let tree = parse(name, body, ParseLimits::default());
    tree.is_ok_and(|tree| tree.get(environment).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_lines_are_signed_once() {
        let last = LastSignature::default();
        let mut count = 0;
        for lines in ["a", "a", "b", "b", "a"] {
            let signature = last.of(lines, || {
                count += 1;
                Ok(format!("signature of {lines}"))
            });
            assert_eq!(signature.unwrap(), format!("signature of {lines}"));
        }
        assert_eq!(count, 3);
        assert!(last.of("c", || Err(Problem::new("no agent"))).is_err());
    }
}
