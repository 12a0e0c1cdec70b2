//! What a request writes: the entry of an app, and a whole first manifest.

use serde_json::{Map, Value};

use super::hold::{new_hold, whole_second};
use super::request::{PublishRequest, ShaChange};
use crate::yaml::serialize;

/// The text of a store's first manifest, without its generation.
pub(super) fn new_manifest(changes: &[ShaChange], order: &PublishRequest) -> String {
    let apps = new_entries(changes, order);
    serialize(Value::Object(Map::from_iter([(
        order.environment.clone(),
        apps,
    )])))
}

/// The entries of new apps, as a map.
pub(super) fn new_entries<'c>(
    changes: impl IntoIterator<Item = &'c ShaChange>,
    order: &PublishRequest,
) -> Value {
    let entries = changes.into_iter();
    Value::Object(
        entries
            .map(|one| (one.app.clone(), order.new_entry(one)))
            .collect(),
    )
}

impl PublishRequest {
    /// A new entry: the short form, unless there are more fields to write.
    pub(super) fn new_entry(&self, change: &ShaChange) -> Value {
        let hold = self.hold_of(&change.to, None);
        match self
            .references
            .get(&change.app)
            .map(|_| ())
            .or(hold.map(|_| ()))
        {
            None => Value::from(change.to.as_str()),
            Some(_) => self.long_entry(change),
        }
    }

    /// An entry in the long form.
    pub(super) fn long_entry(&self, change: &ShaChange) -> Value {
        let long = self.long_form(change).into_iter();
        let hold = self.hold_of(&change.to, None);
        let hold = hold.map(|hold| ("hold", new_hold(&hold)));
        let fields = long.chain(hold);
        Value::Object(fields.map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// The fields of the long form that the request sets.
    pub(super) fn long_form(&self, change: &ShaChange) -> Vec<(&'static str, Value)> {
        let previous = change.from.as_ref().filter(|from| **from != change.to);
        let previous = previous.filter(|_| !self.keeps_previous.contains(&change.app));
        let at = whole_second(self.at);
        [
            ("sha", Some(change.to.as_str().to_owned())),
            ("previous", previous.map(|sha| sha.as_str().to_owned())),
            ("ref", self.references.get(&change.app).cloned()),
            ("by", self.by.clone()),
            ("at", Some(at.to_string())),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, Value::from(value?))))
        .collect()
    }
}
