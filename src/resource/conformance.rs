//! What every kind must hold, checked by walking the list of kinds.
//!
//! A kind's example differs on an empty host, is applied, and is then right. And inspect sees
//! whatever apply can set: for every field a kind tells how to spoil it on the host ([`Probed`]),
//! after which a change must show it and applying must mend it. A field that a kind forgot to tell
//! about fails the test, so a new field cannot come without its probe. A kind that only looks has to
//! see by its stamp what was spoilt.

use std::collections::BTreeSet;

use super::{AnyKind, AnyResource, Change, Inputs, Outcome, Verb};
use crate::desired::Desired;
use crate::kinds::KINDS;
use crate::ports::testing::{Sandbox, skipped};
use crate::problem::Problem;
use crate::yaml::{Limits, parse};

/// How a kind takes part in the conformance test.
pub trait Probed {
    /// Brings what the example needs to be there first.
    fn prepare(_sandbox: &Sandbox) {}

    /// The example as it can be applied here, where the one in the reference names things that a
    /// test does not have.
    fn example_here(_sandbox: &Sandbox) -> Option<String> {
        None
    }

    /// Why the example cannot be applied here, by whoever runs the tests on this machine.
    fn cannot_run(_sandbox: &Sandbox) -> Option<&'static str> {
        None
    }

    /// Whether it never changes anything: it is there for those that depend on it.
    fn only_looks() -> bool {
        false
    }

    /// One for every field of the spec.
    fn probes() -> Vec<Probe>;
}

/// How one field of a spec is probed, on a host on which the example was applied.
pub struct Probe {
    field: &'static str,
    how: How,
}

enum How {
    NotSet(&'static str),
    Spoil {
        spoil: fn(&Sandbox),
        shows: Shows,
        as_root: bool,
    },
}

enum Shows {
    Field(&'static str),
    Verb(Verb),
    Stamp,
}

impl Probe {
    /// After `spoil` a change touches this field.
    pub fn spoil(field: &'static str, spoil: fn(&Sandbox)) -> Probe {
        Probe {
            field,
            how: How::Spoil {
                spoil,
                shows: Shows::Field(field),
                as_root: false,
            },
        }
    }

    /// After `spoil` the whole thing has to be made again.
    pub fn gone(field: &'static str, spoil: fn(&Sandbox)) -> Probe {
        Probe::spoil(field, spoil).showing(Shows::Verb(Verb::Create))
    }

    /// Apply never sets it on the host.
    pub fn not_set(field: &'static str, because: &'static str) -> Probe {
        Probe {
            field,
            how: How::NotSet(because),
        }
    }

    /// After `spoil` its stamp is another one.
    pub fn stamped(field: &'static str, spoil: fn(&Sandbox)) -> Probe {
        Probe::spoil(field, spoil).showing(Shows::Stamp)
    }

    /// The change is shown under another word than the field's.
    pub fn shown_as(self, field: &'static str) -> Probe {
        self.showing(Shows::Field(field))
    }

    /// What `spoil` leads to is this verb.
    pub fn leads_to(self, verb: Verb) -> Probe {
        self.showing(Shows::Verb(verb))
    }

    /// Only root can spoil it, or set it.
    pub fn as_root(mut self) -> Probe {
        if let How::Spoil { as_root, .. } = &mut self.how {
            *as_root = true;
        }
        self
    }

    fn showing(mut self, new: Shows) -> Probe {
        if let How::Spoil { shows, .. } = &mut self.how {
            *shows = new;
        }
        self
    }
}

/// Stands in for the role and the store.
pub struct StandIn(Desired);

impl Default for StandIn {
    fn default() -> StandIn {
        StandIn(Desired::nothing())
    }
}

impl Inputs for StandIn {
    fn template(&self, _: &str, _: Option<&serde_json::Value>) -> Result<String, Problem> {
        Ok("server { listen 80; }\n".to_owned())
    }

    fn source(&self, _: &str) -> Result<Vec<u8>, Problem> {
        Ok(b"as it is\n".to_vec())
    }

    fn desired(&self) -> &Desired {
        &self.0
    }
}

/// The resource in `kind: {field: value, …}`, complete.
pub fn resource(text: &str) -> Result<Box<dyn AnyResource>, Problem> {
    let node = parse("example", text.as_bytes(), Limits::default())?;
    let entries = node.map("a resource")?;
    let [entry] = entries else {
        return Err(Problem::new("expected one kind"));
    };
    let Some(kind) = crate::kinds::find(&entry.key) else {
        return Err(Problem::new(format!("`{}` is no kind", entry.key)));
    };
    let mut resource = kind.decode(&entry.value)?;
    resource.resolve(&StandIn::default())?;
    Ok(resource)
}

fn look(resource: &dyn AnyResource, sandbox: &Sandbox) -> Result<Option<Change>, String> {
    sandbox.forget();
    let seen = resource.look(&sandbox.host, false);
    Ok(seen
        .map_err(|failure| format!("looking: {failure}"))?
        .change)
}

/// Applies a change; afterwards nothing may differ, at once and in the next pass.
fn mend(resource: &dyn AnyResource, change: &Change, sandbox: &Sandbox) -> Result<(), String> {
    let outcome = resource.apply(change, &sandbox.host);
    let outcome = outcome.map_err(|failure| format!("applying {change:?}: {failure}"))?;
    if outcome != Outcome::Done {
        return Err(format!("applying {change:?} ended in {outcome:?}"));
    }
    let see = || {
        resource
            .look(&sandbox.host, false)
            .map_err(|f| f.to_string())
    };
    if see()?.trial.is_some() {
        resource.confirm(&sandbox.host).map_err(|f| f.to_string())?;
    }
    let at_once = see()?;
    for (when, left) in [
        ("at once", at_once.change),
        ("in the next pass", look(resource, sandbox)?),
    ] {
        if let Some(left) = left {
            return Err(format!("{when} this was left of {change:?}: {left:?}"));
        }
    }
    Ok(())
}

/// For a kind that only looks: nothing ever differs, and what was spoilt shows in the stamp.
fn walk_looking(
    kind: &dyn AnyKind,
    resource: &dyn AnyResource,
    sandbox: &Sandbox,
) -> Result<(), String> {
    let stamp = || {
        let seen = resource.look(&sandbox.host, true);
        let seen = seen.map_err(|failure| format!("looking: {failure}"))?;
        match seen.change {
            Some(change) => Err(format!("it would change something: {change:?}")),
            None => Ok(seen.stamp.map(|stamp| stamp.fingerprint)),
        }
    };
    for Probe { field, how } in kind.probes() {
        let How::Spoil { spoil, .. } = how else {
            continue;
        };
        let before = stamp()?.ok_or("it has no stamp")?;
        spoil(sandbox);
        if stamp()? == Some(before) {
            return Err(format!("`{field}`: the stamp does not show it"));
        }
    }
    Ok(())
}

fn walk(kind: &dyn AnyKind) -> Result<(), String> {
    let sandbox = Sandbox::with_basics();
    if let Some(why) = kind.cannot_run(&sandbox) {
        skipped(&format!("conformance of `{}`", kind.name()), why);
        return Ok(());
    }
    kind.prepare(&sandbox);
    let here = kind.example_here(&sandbox);
    let example = here.as_deref().unwrap_or(kind.example());
    let resource = resource(example).map_err(|problem| problem.to_string())?;
    let resource = resource.as_ref();
    if kind.only_looks() {
        return walk_looking(kind, resource, &sandbox);
    }
    let change = look(resource, &sandbox)?.ok_or("nothing differs on an empty host")?;
    mend(resource, &change, &sandbox).map_err(|why| format!("the example: {why}"))?;
    for Probe { field, how } in kind.probes() {
        let (spoil, shows) = match how {
            How::NotSet(_) => continue,
            How::Spoil { as_root: true, .. } if !sandbox.is_privileged() => {
                skipped(&format!("`{}`.{field}", kind.name()), "needs root");
                continue;
            }
            How::Spoil { spoil, shows, .. } => (spoil, shows),
        };
        spoil(&sandbox);
        let change = look(resource, &sandbox)
            .and_then(|change| change.ok_or_else(|| "spoilt, and nothing differs".to_owned()))
            .map_err(|why| format!("`{field}`: {why}"))?;
        let shown = match shows {
            Shows::Field(shown) => change.touches(shown),
            Shows::Verb(verb) => change.verb == verb,
            Shows::Stamp => {
                return Err(format!(
                    "`{field}`: only what only looks is told by its stamp"
                ));
            }
        };
        if !shown {
            return Err(format!(
                "`{field}`: the change does not show it: {change:?}"
            ));
        }
        mend(resource, &change, &sandbox).map_err(|why| format!("`{field}`: {why}"))?;
    }
    Ok(())
}

#[test]
fn every_kind_applies_its_example_and_detects_drift() {
    let mut wrong = Vec::new();
    for kind in KINDS {
        if let Err(why) = walk(*kind) {
            wrong.push(format!("{}: {why}", kind.name()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_field_has_a_description_and_a_probe() {
    for kind in KINDS {
        let schema = serde_json::to_value(kind.schema()).unwrap();
        let properties = schema["properties"].as_object().unwrap();
        for (field, property) in properties {
            let described = property["description"].as_str().unwrap_or_default();
            assert!(
                described.ends_with('.') || described.ends_with(')'),
                "{}.{field} needs a doc comment of whole sentences: {described:?}",
                kind.name()
            );
        }
        let probes = kind.probes();
        let fields: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        let probed: BTreeSet<&str> = probes.iter().map(|probe| probe.field).collect();
        assert_eq!(probed, fields, "probes of `{}`", kind.name());
        assert_eq!(probes.len(), probed.len(), "a field is probed twice");
        for probe in &probes {
            if let How::NotSet(because) = probe.how {
                assert!(because.len() > 10, "{}.{}: why?", kind.name(), probe.field);
            }
        }
    }
}

#[test]
fn every_kind_has_a_unique_name_a_sentence_and_an_example() {
    let names: BTreeSet<&str> = KINDS.iter().map(|kind| kind.name()).collect();
    assert_eq!(names.len(), KINDS.len(), "a name is used twice");
    for kind in KINDS {
        let (name, about) = (kind.name(), kind.about());
        assert!(about.ends_with('.'), "{name}: {about}");
        assert!(
            kind.example().starts_with(&format!("{name}:")),
            "{name}: its example is of something else"
        );
        let example =
            resource(kind.example()).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        assert_eq!(example.kind(), name);
        assert!(!example.subject().is_empty(), "{name}");
    }
}
