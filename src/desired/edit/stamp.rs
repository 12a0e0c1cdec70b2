//! The generation of a change, and who made it when and why.

use serde_json::{Map, Value};

use super::hold::whole_second;
use super::request::{PublishRequest, ShaChange};
use crate::desired::change::{AppChange, ManifestChange};
use crate::desired::environment::SETTINGS_KEY;
use crate::problem::Problem;
use crate::yaml::{InsertPosition, Node, ParseLimits, YamlEditor, parse};

const GENERATION: &str = "generation";
const CHANGE: &str = "change";
const SIGNED_FOR: &str = "signed_for";

/// Writes a generation and the change that made it into the settings of the request's environment.
pub(super) fn stamp(
    name: &str,
    body: &[u8],
    generation: u64,
    change: &ManifestChange,
    order: &PublishRequest,
) -> Result<Vec<u8>, Problem> {
    let environment = order.environment.as_str();
    let tree = parse(name, body, ParseLimits::default())?;
    let settings = tree
        .get(environment)
        .and_then(|apps| apps.get(SETTINGS_KEY));
    let mut draft = YamlEditor::new(name, body)?;
    let change = change_value(change);
    let generation = Value::from(generation);
    let path = [environment, SETTINGS_KEY];
    let Some(settings) = settings else {
        let both = stamp_value(generation, change, order);
        match tree.get(environment) {
            Some(_) => {
                draft.insert_entry(&[environment], InsertPosition::First, SETTINGS_KEY, &both)?;
            }
            None => {
                let settings = Value::Object(Map::from_iter([(SETTINGS_KEY.to_owned(), both)]));
                draft.insert_entry(&[], InsertPosition::Last, environment, &settings)?;
            }
        }
        return draft.finish();
    };
    if settings.get(GENERATION).is_some() {
        draft.set(&[environment, SETTINGS_KEY, GENERATION], &generation)?;
    } else {
        draft.insert_entry(&path, first_or_only(settings), GENERATION, &generation)?;
    }
    draft.remove_entry(&path, CHANGE)?;
    draft.insert_entry(&path, InsertPosition::After(GENERATION), CHANGE, &change)?;
    if let Some(location) = &order.signed_for {
        let location = Value::from(location.as_str());
        draft.put_entry(
            &path,
            InsertPosition::After(GENERATION),
            SIGNED_FOR,
            &location,
        )?;
    }
    draft.finish()
}

/// The settings of a new environment.
fn stamp_value(generation: Value, change: Value, order: &PublishRequest) -> Value {
    let location = order.signed_for.as_deref().map(Value::from);
    let all = [
        (GENERATION, Some(generation)),
        (SIGNED_FOR, location),
        (CHANGE, Some(change)),
    ];
    let all = all.into_iter();
    Value::Object(
        all.filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect(),
    )
}

fn first_or_only(settings: &Node) -> InsertPosition<'static> {
    match settings.as_map() {
        Some(entries) if !entries.is_empty() => InsertPosition::First,
        _ => InsertPosition::Last,
    }
}

/// A change as it is written.
pub(super) fn change_value(change: &ManifestChange) -> Value {
    let written = serde_json::to_value(change);
    let mut written = written.expect("a change is plain data whose keys are texts");
    if let Some(map) = written.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    written
}

impl PublishRequest {
    /// The commits of a move, unless somebody else moved the app first.
    fn commits_of(&self, change: &ShaChange) -> Vec<String> {
        let list = self.commits.get(&change.app);
        let list = list.filter(|list| Some(&list.from) == change.from.as_ref());
        list.map_or_else(Vec::new, |list| list.lines.clone())
    }

    /// The change that this request makes, with these moves of shas.
    pub(super) fn change(&self, changes: &[ShaChange]) -> ManifestChange {
        let moved = changes.iter().map(|one| {
            let is_move = one.from.as_ref() != Some(&one.to);
            let app = AppChange {
                from: one.from.clone().filter(|_| is_move),
                to: Some(one.to.clone()).filter(|_| is_move),
                next: None,
                reference: self.references.get(&one.app).cloned().filter(|_| is_move),
                commits: self.commits_of(one),
            };
            (one.app.clone(), app)
        });
        let mut change = ManifestChange {
            action: self.action,
            by: self.by.clone(),
            at: Some(whole_second(self.at)),
            reason: self.reason.clone(),
            apps: moved.collect(),
            settings: self
                .settings
                .iter()
                .map(|edit| edit.path.join("."))
                .collect(),
        };
        for (app, next) in &self.next {
            change.apps.entry(app.clone()).or_default().next = Some(next.clone());
        }
        for app in self.others() {
            change.apps.entry(app.to_owned()).or_default();
        }
        change
    }
}
