//! One attempt to publish: reads the manifest, edits it, and writes it back unless somebody else wrote in between.

use super::access::check_access;
use super::canary::check_canaries;
use super::error::PublishError;
use super::history::{HistoryFacts, HistoryMemory, is_same_environment, record_history};
use super::previous::keep_previous;
use super::remembered::Remembered;
use super::reports::FleetReports;
use super::sign::{CurrentManifest, LastSignature, Signing, check_signing, sign_environment};
use super::summary::{ManifestTexts, PublishSummary};
use super::versions::outdated_hosts;
use crate::desired::Manifest;
use crate::desired::edit::{EditError, ManifestEdit, PublishRequest, edit_manifest};
use crate::ports::store::{GetOutcome, Object, PutOutcome, Store, StoreError, WriteCondition};

/// A request, and what its attempts have found out: the next one asks no more than it has to.
pub(super) struct Publication<'a> {
    store: &'a dyn Store,
    key: &'a str,
    /// As an operator writes it: the store and the key.
    pub manifest: String,
    request: &'a PublishRequest,
    signing: Option<&'a Signing<'a>>,
    fleet: Remembered<'a>,
    last_signature: LastSignature,
    history: HistoryMemory,
    /// The last attempt only prepared this one.
    is_prepared: bool,
}

/// How an attempt ended.
pub(super) enum Attempt {
    Done(Box<PublishSummary>),
    /// Somebody changed another environment. What takes long is done, so the next attempt is short.
    Prepared,
    /// Somebody else was faster.
    Lost,
}

/// An edit of the manifest as it was found.
struct Draft {
    found: Option<Object>,
    request: PublishRequest,
    edit: ManifestEdit,
}

impl<'a> Publication<'a> {
    pub(super) fn new(
        (store, key): (&'a dyn Store, &'a str),
        request: &'a PublishRequest,
        signing: Option<&'a Signing<'a>>,
        fleet: &'a mut dyn FleetReports,
    ) -> Publication<'a> {
        Publication {
            store,
            key,
            manifest: format!("{}/{key}", store.address()),
            request,
            signing,
            fleet: Remembered::new(fleet),
            last_signature: LastSignature::default(),
            history: HistoryMemory::default(),
            is_prepared: false,
        }
    }

    pub(super) fn attempt(&mut self) -> Result<Attempt, PublishError> {
        let mut draft = self.draft()?;
        let Some(new) = draft.edit.body.take() else {
            return Ok(self.done(draft, None, false));
        };
        let signed = match self.sign(&draft, &new) {
            // Another publisher has come first, and the history knows of it already.
            Err(PublishError::Edit(_)) if self.newer(&draft)?.is_some() => {
                return Ok(Attempt::Lost);
            }
            signed => signed?,
        };
        let Some(signed) = signed else {
            return Ok(self.done(draft, Some(&new), false));
        };
        let environment = &self.request.environment;
        // That of the generation which ends now may be missing.
        let incomplete = draft.found.as_ref().and_then(|found| {
            self.history
                .record(self.store, &self.manifest, &found.body, environment)
        });
        // All this takes time, above all a signature. Who has changed another environment meanwhile is found here, and what was
        // done for this one is remembered: so those for whom it takes long come first as often as others.
        if !std::mem::take(&mut self.is_prepared)
            && let Some(newer) = self.newer(&draft)?
        {
            let is_same =
                is_same_environment(&self.manifest, draft.current(), &newer.body, environment);
            self.is_prepared = is_same;
            return Ok(if is_same {
                Attempt::Prepared
            } else {
                Attempt::Lost
            });
        }
        let when = match &draft.found {
            Some(found) => WriteCondition::Matches(&found.etag),
            None => WriteCondition::Absent,
        };
        match self.store.put(self.key, &signed, when) {
            Ok(PutOutcome::Written(_)) => {
                let unrecorded =
                    record_history(self.store, &self.manifest, &signed, environment).or(incomplete);
                draft.edit.warnings.extend(unrecorded);
                Ok(self.done(draft, Some(&new), true))
            }
            Ok(PutOutcome::Conflict) => Ok(Attempt::Lost),
            Err(error @ StoreError::Unreachable { .. }) => Err(PublishError::Unconfirmed(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// Edits the manifest as it is now.
    fn draft(&mut self) -> Result<Draft, PublishError> {
        let found = match self.store.get(self.key, None)? {
            GetOutcome::Object(object) => Some(object),
            GetOutcome::Missing | GetOutcome::Unchanged => None,
        };
        let body = found.as_ref().map(|object| object.body.as_slice());
        let mut request = PublishRequest {
            now: self.store.server_time().unwrap_or(self.request.now),
            signed_for: self.signing.map(|_| self.manifest.clone()),
            ..self.request.clone()
        };
        let fleet = &mut self.fleet;
        let mut edit = edit_manifest(&self.manifest, body, &request)?;
        if edit.body.is_some() {
            let before = body.and_then(|body| Manifest::parse(&self.manifest, body).ok());
            let (kept, warnings) = keep_previous(before.as_ref(), &edit, &request, fleet);
            if !kept.is_empty() {
                request.keeps_previous = kept;
                edit = edit_manifest(&self.manifest, body, &request)?;
            }
            edit.warnings.extend(warnings);
            let current = (&*self.manifest, body.unwrap_or_default());
            check_canaries(current, &mut edit, &request, fleet)
                .and_then(|()| check_access(&edit, &request, fleet))
                .map_err(EditError::manifest)?;
            let outdated = outdated_hosts(before.as_ref(), &edit, &request, fleet);
            edit.warnings.extend(outdated);
        }
        Ok(Draft {
            found,
            request,
            edit,
        })
    }

    /// The new text as it is to be written, with its signature if there has to be one; `None`: it is not to be written.
    fn sign(&mut self, draft: &Draft, new: &[u8]) -> Result<Option<Vec<u8>>, PublishError> {
        let (body, environment) = (draft.current(), &self.request.environment);
        check_signing(self.store, &self.manifest, body, environment, self.signing)?;
        if self.request.dry_run {
            return Ok(None);
        }
        let Some(signing) = self.signing else {
            return Ok(Some(new.to_vec()));
        };
        let history = match signing.trusts_current {
            true => HistoryFacts::default(),
            false => self
                .history
                .facts(self.store, &self.manifest, body, environment)?,
        };
        let signed = sign_environment(
            &self.manifest,
            (&CurrentManifest { body, history }, new),
            environment,
            (signing, &self.last_signature),
            draft.request.now,
        );
        let signed = signed.map_err(EditError::manifest)?;
        Ok(Some(signed))
    }

    /// What others have made of the manifest since it was read.
    fn newer(&self, draft: &Draft) -> Result<Option<Object>, StoreError> {
        let known = draft.found.as_ref().map(|found| &found.etag);
        Ok(match self.store.get(self.key, known)? {
            GetOutcome::Object(newer) => Some(newer),
            GetOutcome::Missing | GetOutcome::Unchanged => None,
        })
    }

    /// `new`: what is written, or would be, without its signature.
    fn done(&self, draft: Draft, new: Option<&[u8]>, written: bool) -> Attempt {
        let text = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
        let texts = new.map(|after| ManifestTexts {
            before: text(draft.current()),
            after: text(after),
        });
        Attempt::Done(Box::new(PublishSummary {
            manifest: self.manifest.clone(),
            written,
            generation: draft.edit.generation,
            changes: draft.edit.changes,
            warnings: draft.edit.warnings,
            texts,
            desired: draft.edit.manifest,
        }))
    }
}

impl Draft {
    /// The manifest before the edit; empty if there was none.
    fn current(&self) -> &[u8] {
        self.found.as_ref().map_or(&[], |found| &found.body)
    }
}
