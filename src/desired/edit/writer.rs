//! Writes a request into the text of a manifest.

use std::time::Duration;

use serde_json::Value;

use super::entry::new_entries;
use super::hold::{hold_fields, new_hold, whole_second};
use super::request::{NoteChange, NoteEdit, PublishRequest, ShaChange};
use crate::desired::note::{next_number, number_notes};
use crate::desired::{DeployNote, Manifest, Sha};
use crate::problem::Problem;
use crate::yaml::{InsertPosition, Node, NodeKind, ParseLimits, YamlEditor, decode, parse};

/// Applies a request to the text.
pub(super) struct ManifestWriter<'a> {
    draft: YamlEditor,
    manifest: &'a Manifest,
    tree: Node,
    request: &'a PublishRequest,
}

impl<'a> ManifestWriter<'a> {
    pub(super) fn new(
        name: &str,
        body: &[u8],
        manifest: &'a Manifest,
        order: &'a PublishRequest,
    ) -> Result<ManifestWriter<'a>, Problem> {
        Ok(ManifestWriter {
            draft: YamlEditor::new(name, body)?,
            tree: parse(name, body, ParseLimits::default())?,
            manifest,
            request: order,
        })
    }

    pub(super) fn write(mut self, changes: &[ShaChange]) -> Result<Vec<u8>, Problem> {
        let environment = self.request.environment.as_str();
        for one in changes {
            match &one.from {
                None => {}
                Some(from) if *from != one.to => self.change_sha(one)?,
                Some(_) => self.change_hold(one)?,
            }
        }
        let new = changes.iter().filter(|one| one.from.is_none());
        if changes.is_empty() {
            // No app changes.
        } else if self.tree.get(environment).is_none() {
            let apps = new_entries(new, self.request);
            self.draft
                .insert_entry(&[], InsertPosition::Last, environment, &apps)?;
        } else {
            for one in new {
                let value = self.request.new_entry(one);
                self.draft
                    .insert_entry(&[environment], InsertPosition::Last, &one.app, &value)?;
            }
        }
        if let Some(app) = &self.request.restart {
            self.request_restart(app)?;
        }
        for (app, sha) in &self.request.next {
            self.set_next(app, sha)?;
        }
        for edit in &self.request.notes {
            self.change_notes(edit)?;
        }
        self.draft.finish()
    }

    fn request_restart(&mut self, app: &str) -> Result<(), Problem> {
        const KEY: &str = "restart_requested_at";
        let path = [self.request.environment.as_str(), app];
        let environment = self.manifest.environments.get(path[0]);
        let entry = environment.and_then(|known| known.own_entry(app)?.ok());
        let last = entry.and_then(|entry| entry.restart_requested_at);
        // Another request, also within a second or by a clock that is behind.
        let next = last.and_then(|last| last.checked_add(Duration::from_secs(1)).ok());
        let at = next.map_or(self.request.at, |next| next.max(self.request.at));
        let value = Value::from(whole_second(at).to_string());
        self.put_field(app, KEY, &value)
    }

    fn set_next(&mut self, app: &str, sha: &Sha) -> Result<(), Problem> {
        self.put_field(app, "next", &Value::from(sha.as_str()))
    }

    /// Sets a field of an app's entry, which may be in the short form.
    fn put_field(&mut self, app: &str, key: &str, value: &Value) -> Result<(), Problem> {
        let path = [self.request.environment.as_str(), app];
        let draft = self.draft.tree()?;
        let node = draft.get(path[0]).and_then(|apps| apps.get(app));
        match node.map(|node| &node.kind) {
            Some(NodeKind::Scalar { .. }) => {
                let environment = self.manifest.environments.get(path[0]);
                let entry = environment.and_then(|known| known.own_entry(app)?.ok());
                let sha = entry.map(|entry| Value::from(entry.sha.as_str()));
                let long = [("sha", sha), (key, Some(value.clone()))].into_iter();
                let long = long.filter_map(|(key, value)| Some((key.to_owned(), value?)));
                let long = Value::Object(long.collect());
                self.draft.replace_with_map(&path, &long)
            }
            _ => {
                let position = InsertPosition::After("sha");
                self.draft.put_entry(&path, position, key, value)
            }
        }
    }

    fn change_notes(&mut self, edit: &NoteEdit) -> Result<(), Problem> {
        const KEY: &str = "notes";
        let path = [self.request.environment.as_str(), edit.app.as_str()];
        let draft = self.draft.tree()?;
        let entry = draft.get(path[0]).and_then(|apps| apps.get(path[1]));
        let known = entry.and_then(|entry| entry.get(KEY));
        let mut notes: Vec<DeployNote> = match known {
            Some(known) => decode(known)?,
            None => Vec::new(),
        };
        number_notes(&mut notes);
        match &edit.change {
            NoteChange::Add(text) => {
                let number = next_number(&notes);
                notes.push(self.request.new_note(number, text));
            }
            NoteChange::Done(number) => notes.retain(|note| note.number != *number),
        }
        match notes.is_empty() {
            true => self.draft.remove_entry(&path, KEY),
            false => {
                let notes = serde_json::to_value(notes).expect("notes are plain data");
                self.put_field(&edit.app, KEY, &notes)
            }
        }
    }

    fn change_sha(&mut self, change: &ShaChange) -> Result<(), Problem> {
        let path = [self.request.environment.as_str(), change.app.as_str()];
        let entry = self.tree.get(path[0]).and_then(|apps| apps.get(path[1]));
        match entry.map(|entry| &entry.kind) {
            Some(NodeKind::Map(_)) => {}
            _ => {
                let long = self.request.long_entry(change);
                return self.draft.replace_with_map(&path, &long);
            }
        }
        // That of the sha before says nothing about this one.
        if !self.request.references.contains_key(&change.app) {
            self.draft.remove_entry(&path, "ref")?;
        }
        // In the order of the long form, each below the previous one.
        let mut above = "sha";
        for (key, value) in self.request.long_form(change) {
            let field_path = [path[0], path[1], key];
            if entry.is_some_and(|entry| entry.get(key).is_some()) {
                self.draft.set(&field_path, &value)?;
            } else {
                self.draft
                    .insert_entry(&path, InsertPosition::After(above), key, &value)?;
            }
            above = key;
        }
        self.change_hold(change)
    }

    /// Writes the hold of the request, if it has one.
    fn change_hold(&mut self, change: &ShaChange) -> Result<(), Problem> {
        let path = [self.request.environment.as_str(), change.app.as_str()];
        let known = self.manifest.environments.get(path[0]);
        let before = known.and_then(|known| known.own_entry(path[1])?.ok()?.hold.as_ref());
        let Some(hold) = self.request.hold_of(&change.to, before) else {
            return Ok(());
        };
        let entry = self.tree.get(path[0]).and_then(|apps| apps.get(path[1]));
        let is_long = entry.is_some_and(|entry| matches!(entry.kind, NodeKind::Map(_)));
        if !is_long {
            let long = self.request.long_entry(change);
            return self.draft.replace_with_map(&path, &long);
        }
        let Some(node) = entry.and_then(|entry| entry.get("hold")) else {
            return self
                .draft
                .insert_entry(&path, InsertPosition::Last, "hold", &new_hold(&hold));
        };
        let path = [path[0], path[1], "hold"];
        for (key, value) in hold_fields(&hold) {
            let known = node.get(key);
            if known.is_some() {
                self.draft.set(&[path[0], path[1], path[2], key], &value)?;
            } else if !value.is_null() {
                self.draft
                    .insert_entry(&path, InsertPosition::Last, key, &value)?;
            }
        }
        Ok(())
    }
}
