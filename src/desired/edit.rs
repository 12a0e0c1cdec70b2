//! What `trueup publish` makes of a manifest: the same text with other shas in it.

use jiff::Timestamp;
use serde_json::{Map, Value};

use self::count::next_generation;
use super::generation::ActedOn;
use super::{Entry, Manifest, SHOWN, Sha, unshown};
use crate::problem::{Problem, nearest};
use crate::settings::is_name;
use crate::yaml::{Draft, Kind, Limits, Place, parse};

mod count;

/// What is to be in the manifest.
#[derive(Debug, Clone)]
pub struct Order {
    pub environment: String,
    /// By app; no app twice.
    pub shas: Vec<(String, Sha)>,
    /// Where the sha came from, for people. For one app only.
    pub reference: Option<String>,
    /// Who publishes.
    pub by: Option<String>,
    pub at: Timestamp,
    /// An environment, an app or the manifest itself may be new.
    pub create: bool,
    /// The generation goes past what these hosts have acted on, and not one up from what is there.
    pub above: Option<Vec<ActedOn>>,
}

/// One app of an order.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Move {
    pub app: String,
    /// `None`: the app is new in this environment.
    pub from: Option<Sha>,
    pub to: Sha,
}

/// What an order comes to.
#[derive(Debug, Clone)]
pub struct Edited {
    /// The new text; `None` when every app is at its sha already.
    pub body: Option<Vec<u8>>,
    pub generation: Option<u64>,
    pub moves: Vec<Move>,
    /// Why hosts may not go to the sha though it is published, and what else is worth a line.
    pub warnings: Vec<Problem>,
}

/// Why an order cannot be carried out. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The manifest that is there.
    #[error("{0}")]
    Manifest(Box<Problem>),
    /// The order: something unknown without [`Order::create`], or a name that cannot be.
    #[error("{0}")]
    Order(Box<Problem>),
}

impl EditError {
    fn manifest(problem: Problem) -> EditError {
        EditError::Manifest(Box::new(problem))
    }

    fn order(problem: Problem) -> EditError {
        EditError::Order(Box::new(problem))
    }
}

/// The text of a store's first manifest, before the order.
const FIRST: &[u8] = b"generation: 0\n";

/// Carries out an order on a manifest; `None`: there is none yet. `name` is how problems call it.
pub fn edit(name: &str, body: Option<&[u8]>, order: &Order) -> Result<Edited, EditError> {
    if body.is_none() && !order.create {
        return Err(EditError::order(
            Problem::new(format!("there is no manifest {name}"))
                .hint("add --create if this is to be the store's first one; else check the store and --manifest"),
        ));
    }
    let body = body.unwrap_or(FIRST);
    let manifest = Manifest::parse(name, body).map_err(EditError::manifest)?;
    let moves = moves(&manifest, name, order)?;
    let mut warnings = warnings(&manifest, order);
    let next = next_generation(&manifest, name, order, &mut warnings)?;
    let unmoved = moves.iter().all(|one| one.from.as_ref() == Some(&one.to));
    if unmoved && (order.above.is_none() || manifest.generation == Some(next)) {
        return Ok(Edited {
            body: None,
            generation: manifest.generation,
            moves,
            warnings,
        });
    }
    let edited = Writer::new(name, body, &manifest, order)
        .and_then(|writer| writer.write(&moves, next))
        .map_err(EditError::manifest)?;
    let generation = proven(name, &edited, order).map_err(EditError::manifest)?;
    warnings.extend(stale_reference(&manifest, order, &moves));
    Ok(Edited {
        body: Some(edited),
        generation: Some(generation),
        moves,
        warnings,
    })
}

/// Every app of the order with what it is at now, judged before anything is edited.
fn moves(manifest: &Manifest, name: &str, order: &Order) -> Result<Vec<Move>, EditError> {
    let Order {
        environment,
        create,
        ..
    } = order;
    let known = manifest.environments.get(environment);
    if known.is_none() && !order.shas.is_empty() {
        let listed = manifest.environments.keys().map(String::as_str);
        let problem = Problem::new(format!("{name} has no environment `{environment}`"));
        may_be_new(problem, environment, listed, *create)?;
    }
    let mut moves = Vec::new();
    for (app, to) in &order.shas {
        let from = match known.and_then(|apps| apps.get(app)) {
            Some(Ok(entry)) => Some(entry.sha.clone()),
            Some(Err(problem)) => return Err(EditError::manifest(problem.clone())),
            None => {
                let listed = known.into_iter().flatten().map(|(app, _)| app.as_str());
                let problem = Problem::new(format!("{name} has no app `{app}` in {environment}"));
                may_be_new(problem, app, listed, *create)?;
                None
            }
        };
        moves.push(Move {
            app: app.clone(),
            from,
            to: to.clone(),
        });
    }
    Ok(moves)
}

fn may_be_new<'a>(
    unknown: Problem,
    word: &str,
    known: impl Iterator<Item = &'a str>,
    create: bool,
) -> Result<(), EditError> {
    if !create {
        return Err(EditError::order(match nearest(word, known) {
            Some(near) => {
                unknown.hint(format!("did you mean `{near}`? If it is new, add --create"))
            }
            None => unknown.hint("add --create if it is new"),
        }));
    }
    if !is_name(word) || word == "generation" {
        return Err(EditError::order(Problem::new(format!(
            "`{word}` cannot be the name of something new: expected letters, digits, `-`, `_` or `.`, starting with a letter or digit, and not `generation`"
        ))));
    }
    Ok(())
}

/// What keeps hosts from a published sha, and bad entries of others.
fn warnings(manifest: &Manifest, order: &Order) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let environment = &order.environment;
    for (app, sha) in &order.shas {
        let entry = manifest
            .environments
            .get(environment)
            .and_then(|apps| apps.get(app)?.as_ref().ok());
        let Some(entry) = entry else { continue };
        if let Some(hold) = entry.hold_at(order.at) {
            let until = hold
                .until
                .map_or("it is taken away".into(), |until| until.to_string());
            warnings.push(Problem::new(format!(
                "{environment}/{app} is held by {} until {until}: {}; no host goes to the new sha before that",
                hold.by, hold.reason
            )));
        }
        for over in entry.overrides.iter().filter(|over| over.sha != *sha) {
            let tags: Vec<String> = over.tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
            warnings.push(Problem::new(format!(
                "{environment}/{app}: an override keeps the nodes with {} at {}",
                tags.join(", "),
                over.sha.short()
            )));
        }
    }
    let touched =
        |name: &str, app: &str| name == environment && order.shas.iter().any(|(own, _)| own == app);
    let mut bad = 0;
    for (name, apps) in &manifest.environments {
        let others = apps.iter().filter(|(app, _)| !touched(name, app));
        for problem in others.filter_map(|(_, entry)| entry.as_ref().err()) {
            bad += 1;
            if bad <= SHOWN {
                warnings.push(problem.clone());
            }
        }
    }
    warnings.extend(unshown("the manifest", bad));
    warnings
}

/// A `ref` that was right for the old sha stays when no other is given.
fn stale_reference(manifest: &Manifest, order: &Order, moves: &[Move]) -> Vec<Problem> {
    if order.reference.is_some() {
        return Vec::new();
    }
    let apps = manifest.environments.get(&order.environment);
    let changed = moves
        .iter()
        .filter(|one| one.from.as_ref() != Some(&one.to));
    changed
        .filter_map(|one| {
            let entry = apps?.get(&one.app)?.as_ref().ok()?;
            let reference = entry.reference.as_ref()?;
            Some(Problem::new(format!(
                "{}/{} keeps `ref: {reference}` from before: --ref says where the new sha came from",
                order.environment, one.app
            )))
        })
        .collect()
}

/// The generation of the new text, which must say to hosts what was ordered.
fn proven(name: &str, body: &[u8], order: &Order) -> Result<u64, Problem> {
    let manifest = Manifest::parse(name, body)?;
    let apps = manifest.environments.get(&order.environment);
    for (app, sha) in &order.shas {
        match apps.and_then(|apps| apps.get(app)) {
            Some(Ok(Entry { sha: found, .. })) if found == sha => {}
            Some(Err(problem)) => return Err(problem.clone()),
            _ => {
                return Err(Problem::new(format!(
                    "internal error: the edited manifest would not have {app} at {sha}; nothing was written"
                )));
            }
        }
    }
    manifest.generation.ok_or_else(|| {
        Problem::new(
            "internal error: the edited manifest would have no generation; nothing was written",
        )
    })
}

/// Writes an order into the text.
struct Writer<'a> {
    draft: Draft,
    manifest: &'a Manifest,
    tree: crate::yaml::Node,
    order: &'a Order,
}

impl<'a> Writer<'a> {
    fn new(
        name: &str,
        body: &[u8],
        manifest: &'a Manifest,
        order: &'a Order,
    ) -> Result<Writer<'a>, Problem> {
        Ok(Writer {
            draft: Draft::of(name, body)?,
            tree: parse(name, body, Limits::default())?,
            manifest,
            order,
        })
    }

    fn write(mut self, moves: &[Move], generation: u64) -> Result<Vec<u8>, Problem> {
        let environment = self.order.environment.as_str();
        let moved = |one: &&Move| one.from.as_ref().is_some_and(|from| *from != one.to);
        for one in moves.iter().filter(moved) {
            self.move_app(one)?;
        }
        let new = moves.iter().filter(|one| one.from.is_none());
        if moves.is_empty() {
            // Only the generation is to change.
        } else if self.tree.get(environment).is_none() {
            let apps: Map<String, Value> =
                new.map(|one| (one.app.clone(), self.fresh(one))).collect();
            self.draft
                .add(&[], Place::Last, environment, &Value::Object(apps))?;
        } else {
            for one in new {
                let value = self.fresh(one);
                self.draft
                    .add(&[environment], Place::Last, &one.app, &value)?;
            }
        }
        self.count(generation)?;
        self.draft.finish()
    }

    fn move_app(&mut self, one: &Move) -> Result<(), Problem> {
        let path = [self.order.environment.as_str(), one.app.as_str()];
        let entry = self.tree.get(path[0]).and_then(|apps| apps.get(path[1]));
        match entry.map(|entry| &entry.kind) {
            Some(Kind::Map(_)) => {}
            _ if self.order.reference.is_some() => {
                return self.draft.widen(&path, &self.fresh(one));
            }
            _ => return self.draft.set(&path, &Value::from(one.to.as_str())),
        }
        // In the order of the design, each below the one before it.
        let mut above = "sha";
        for (key, value) in self.long(one) {
            let whole = [path[0], path[1], key];
            if entry.is_some_and(|entry| entry.get(key).is_some()) {
                self.draft.set(&whole, &value)?;
            } else {
                self.draft.add(&path, Place::After(above), key, &value)?;
            }
            above = key;
        }
        Ok(())
    }

    /// An entry that is written anew: short, unless there is something to say about it.
    fn fresh(&self, one: &Move) -> Value {
        if self.order.reference.is_none() {
            return Value::from(one.to.as_str());
        }
        let long = self.long(one).into_iter();
        Value::Object(long.map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// The fields of the long form that an order sets.
    fn long(&self, one: &Move) -> Vec<(&'static str, Value)> {
        let order = self.order;
        let at = Timestamp::from_second(order.at.as_second()).unwrap_or(order.at);
        [
            ("sha", Some(one.to.as_str().to_owned())),
            ("ref", order.reference.clone()),
            ("by", order.by.clone()),
            ("at", Some(at.to_string())),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, Value::from(value?))))
        .collect()
    }

    fn count(&mut self, generation: u64) -> Result<(), Problem> {
        let value = Value::from(generation);
        match self.manifest.generation {
            Some(_) => self.draft.set(&["generation"], &value),
            None => self.draft.add(&[], Place::First, "generation", &value),
        }
    }
}

#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;
