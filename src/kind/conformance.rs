//! Conformance test for all kinds, driven by the list of kinds.
//!
//! A kind's example differs on an empty host, can be applied, and then no longer differs. Inspect sees
//! everything that apply can set: for every field a kind provides a probe that makes it drift on the host
//! ([`ConformanceProbes`]); a change must then show the field, and applying it must repair it. A field
//! without a probe fails the test, so that no new field comes without one. The stamp of a read-only kind must
//! show the drift.

use std::collections::BTreeSet;

use super::{AnyKind, AnyResource, Kind, KindEntry, Observation};
use serde_json::Value;

use crate::desired::DesiredState;
use crate::kinds::KINDS;
use crate::ports::testing::{Sandbox, skip_test};
use crate::problem::Problem;
use crate::resource::{ApplyOutcome, Change, RenderedTemplate, ResolveInputs, Verb};
use crate::yaml::{Node, ParseLimits, parse};

/// Each kind's part of the conformance test.
pub(crate) trait ConformanceProbes {
    /// Creates the prerequisites of the example.
    fn prepare(_sandbox: &Sandbox) {}

    /// The example to apply in the sandbox, where the one in the reference names things that a test does not
    /// have.
    fn sandbox_example(_sandbox: &Sandbox) -> Option<String> {
        None
    }

    /// Why the example cannot be applied on this machine by the user who runs the tests.
    fn skip_reason(_sandbox: &Sandbox) -> Option<&'static str> {
        None
    }

    /// Whether the kind never changes anything and exists only for the resources that depend on it.
    fn is_read_only() -> bool {
        false
    }

    /// One probe for every field of the spec.
    fn probes() -> Vec<Probe>;

    /// Probes of what `apply` changes beside what a field names: a running state, a live value, a link.
    fn effects() -> Vec<Probe> {
        Vec::new()
    }
}

/// What the tests of kinds need of one kind, without its type.
pub(crate) struct TestProbes {
    pub about: &'static str,
    pub example: &'static str,
    pub schema: schemars::Schema,
    fields: Vec<Probe>,
    effects: Vec<Probe>,
    is_read_only: bool,
    prepare: fn(&Sandbox),
    sandbox_example: fn(&Sandbox) -> Option<String>,
    skip_reason: fn(&Sandbox) -> Option<&'static str>,
}

impl TestProbes {
    pub(super) fn of<K: Kind>() -> TestProbes {
        TestProbes {
            about: K::ABOUT,
            example: K::EXAMPLE,
            schema: schemars::schema_for!(K::Spec),
            fields: K::probes(),
            effects: K::effects(),
            is_read_only: K::is_read_only(),
            prepare: K::prepare,
            sandbox_example: K::sandbox_example,
            skip_reason: K::skip_reason,
        }
    }
}

/// The probe of one field, run on a host on which the example was applied.
pub(crate) struct Probe {
    field: &'static str,
    method: ProbeMethod,
}

enum ProbeMethod {
    NotSet(&'static str),
    Drift {
        cause: fn(&Sandbox),
        expected: ExpectedEffect,
        as_root: bool,
    },
}

enum ExpectedEffect {
    Change,
    Field(&'static str),
    Verb(Verb),
    Stamp,
}

impl Probe {
    /// After `spoil` a change touches this field.
    pub(crate) fn drift(field: &'static str, spoil: fn(&Sandbox)) -> Probe {
        Probe {
            field,
            method: ProbeMethod::Drift {
                cause: spoil,
                expected: ExpectedEffect::Field(field),
                as_root: false,
            },
        }
    }

    /// After `spoil` some change is due, whatever fields it shows.
    pub(crate) fn effect(name: &'static str, spoil: fn(&Sandbox)) -> Probe {
        Probe::drift(name, spoil).expecting(ExpectedEffect::Change)
    }

    /// After `spoil` the whole resource has to be created again.
    pub(crate) fn removal(field: &'static str, spoil: fn(&Sandbox)) -> Probe {
        Probe::drift(field, spoil).expecting(ExpectedEffect::Verb(Verb::Create))
    }

    /// A field that apply never sets on the host.
    pub(crate) fn not_set(field: &'static str, because: &'static str) -> Probe {
        Probe {
            field,
            method: ProbeMethod::NotSet(because),
        }
    }

    /// After `spoil` the stamp differs.
    pub(crate) fn stamp_change(field: &'static str, spoil: fn(&Sandbox)) -> Probe {
        Probe::drift(field, spoil).expecting(ExpectedEffect::Stamp)
    }

    /// Expects the change under another name than the field's.
    pub(crate) fn reported_as(self, field: &'static str) -> Probe {
        self.expecting(ExpectedEffect::Field(field))
    }

    /// Expects this verb of the change.
    pub(crate) fn expect_verb(self, verb: Verb) -> Probe {
        self.expecting(ExpectedEffect::Verb(verb))
    }

    /// Only root can run `spoil` or set the field.
    pub(crate) fn needs_root(mut self) -> Probe {
        if let ProbeMethod::Drift { as_root, .. } = &mut self.method {
            *as_root = true;
        }
        self
    }

    fn expecting(mut self, effect: ExpectedEffect) -> Probe {
        if let ProbeMethod::Drift { expected, .. } = &mut self.method {
            *expected = effect;
        }
        self
    }
}

/// Replaces the role in tests.
pub(crate) struct FakeInputs;

impl ResolveInputs for FakeInputs {
    fn render_template(&self, _: &str, _: Option<&Value>) -> Result<RenderedTemplate, Problem> {
        Ok(RenderedTemplate {
            text: "server { listen 80; }\n".to_owned(),
            is_secret: false,
        })
    }

    fn read_source(&self, _: &str) -> Result<Vec<u8>, Problem> {
        Ok(b"as it is\n".to_vec())
    }

    fn is_secret(&self, _: &[&str]) -> bool {
        false
    }
}

/// Parses and resolves the resource in `kind: {field: value, …}`.
pub(crate) fn parse_resource(text: &str) -> Result<Box<dyn AnyResource>, Problem> {
    let node = parse("example", text.as_bytes(), ParseLimits::default())?;
    let entries = node.expect_map("a resource")?;
    let [entry] = entries else {
        return Err(Problem::new("expected one kind"));
    };
    let Some(kind) = crate::kinds::find(&entry.key) else {
        return Err(Problem::new(format!("`{}` is no kind", entry.key)));
    };
    decode_resolved(kind, &entry.value)
}

fn decode_resolved(kind: &dyn AnyKind, fields: &Node) -> Result<Box<dyn AnyResource>, Problem> {
    let mut resource = kind.decode(fields)?;
    resource.resolve(&FakeInputs)?;
    if let Some(release) = resource.release_mut() {
        release.set_desired(&DesiredState::empty());
    }
    Ok(resource)
}

fn pending_change(resource: &dyn AnyResource, sandbox: &Sandbox) -> Result<Option<Change>, String> {
    sandbox.invalidate_caches();
    let observed = resource.inspect(&sandbox.host);
    let observed = observed.map_err(|failure| format!("inspecting: {failure}"))?;
    Ok(observed.change().cloned())
}

/// Applies the pending change, then checks that nothing differs, both at once and in the next pass.
fn apply_and_verify(resource: &dyn AnyResource, sandbox: &Sandbox) -> Result<(), String> {
    let inspect = || {
        let observed = resource.inspect(&sandbox.host);
        observed.map_err(|failure| failure.to_string())
    };
    sandbox.invalidate_caches();
    let observed = inspect()?;
    let change = observed.change();
    let outcome = observed.apply(&sandbox.host);
    let outcome = outcome.map_err(|failure| format!("applying {change:?}: {failure}"))?;
    if outcome != ApplyOutcome::Done {
        return Err(format!("applying {change:?} ended in {outcome:?}"));
    }
    let release = resource.release();
    let on_trial = |observed: &dyn Observation| {
        let condition = observed.condition().release();
        condition.is_some_and(|release| release.trial.is_some())
    };
    if let Some(spec) = release.filter(|_| inspect().is_ok_and(|observed| on_trial(&*observed))) {
        crate::release::record_proven(spec, &sandbox.host)
            .map_err(|failure| failure.to_string())?;
    }
    let at_once = inspect()?.change().cloned();
    for (when, left) in [
        ("at once", at_once),
        ("in the next pass", pending_change(resource, sandbox)?),
    ] {
        if let Some(left) = left {
            return Err(format!("{when} this was left of {change:?}: {left:?}"));
        }
    }
    Ok(())
}

/// Checks a read-only kind: it never reports a change, and its stamp shows every drift.
fn check_read_only_kind(
    probes: Vec<Probe>,
    resource: &dyn AnyResource,
    sandbox: &Sandbox,
) -> Result<(), String> {
    let stamp = || {
        let observed = resource.inspect(&sandbox.host);
        let observed = observed.map_err(|failure| format!("inspecting: {failure}"))?;
        match observed.change() {
            Some(change) => Err(format!("it would change something: {change:?}")),
            None => Ok(observed.stamp().map(|stamp| stamp.fingerprint)),
        }
    };
    for Probe { field, method } in probes {
        let ProbeMethod::Drift { cause, .. } = method else {
            continue;
        };
        let before = stamp()?.ok_or("it has no stamp")?;
        cause(sandbox);
        if stamp()? == Some(before) {
            return Err(format!("`{field}`: the stamp does not show it"));
        }
    }
    Ok(())
}

/// Runs the conformance test of one kind.
pub(crate) fn check_kind(kind: &dyn AnyKind) -> Result<(), String> {
    let sandbox = Sandbox::with_base_system();
    let tested = kind.test_probes();
    if let Some(reason) = (tested.skip_reason)(&sandbox) {
        skip_test(&format!("conformance of `{}`", kind.name()), reason);
        return Ok(());
    }
    (tested.prepare)(&sandbox);
    let sandbox_example = (tested.sandbox_example)(&sandbox);
    let resource = decode_example(kind, sandbox_example.as_deref().unwrap_or(tested.example))?;
    let resource = resource.as_ref();
    if tested.is_read_only {
        return check_read_only_kind(tested.fields, resource, &sandbox);
    }
    pending_change(resource, &sandbox)?.ok_or("nothing differs on an empty host")?;
    apply_and_verify(resource, &sandbox).map_err(|why| format!("the example: {why}"))?;
    for Probe { field, method } in tested.fields.into_iter().chain(tested.effects) {
        match method {
            ProbeMethod::NotSet(_) => {}
            ProbeMethod::Drift { as_root: true, .. } if !sandbox.can_set_owners() => {
                skip_test(&format!("`{}`.{field}", kind.name()), "needs root");
            }
            ProbeMethod::Drift {
                cause, expected, ..
            } => {
                cause(&sandbox);
                check_drift_is_repaired(resource, &sandbox, &expected)
                    .map_err(|why| format!("`{field}`: {why}"))?;
            }
        }
    }
    Ok(())
}

fn decode_example(kind: &dyn AnyKind, example: &str) -> Result<Box<dyn AnyResource>, String> {
    let node = parse("example", example.as_bytes(), ParseLimits::default());
    let node = node.map_err(|problem| problem.to_string())?;
    let fields = node
        .get(kind.name())
        .ok_or("the example is of another kind")?;
    decode_resolved(kind, fields).map_err(|problem| problem.to_string())
}

/// Checks that the pending change shows the expected effect, and that applying it repairs the drift.
fn check_drift_is_repaired(
    resource: &dyn AnyResource,
    sandbox: &Sandbox,
    expected: &ExpectedEffect,
) -> Result<(), String> {
    let change = pending_change(resource, sandbox)?.ok_or("spoilt, and nothing differs")?;
    let is_shown = match expected {
        ExpectedEffect::Change => true,
        ExpectedEffect::Field(field) => change.touches(field),
        ExpectedEffect::Verb(verb) => change.verb == *verb,
        ExpectedEffect::Stamp => {
            return Err("only a read-only kind has probes of its stamp".to_owned());
        }
    };
    if !is_shown {
        return Err(format!("the change does not show it: {change:?}"));
    }
    apply_and_verify(resource, sandbox)
}

#[test]
fn every_kind_applies_its_example_and_detects_drift() {
    let mut wrong = Vec::new();
    for kind in KINDS {
        if let Err(why) = check_kind(*kind) {
            wrong.push(format!("{}: {why}", kind.name()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn example_of_the_guide_to_the_code_is_a_valid_kind() {
    check_kind(&KindEntry::<crate::kinds::timezone::Timezone>::new()).unwrap();
}

#[test]
fn every_field_has_a_description_and_a_probe() {
    for kind in KINDS {
        let tested = kind.test_probes();
        let schema = serde_json::to_value(tested.schema).unwrap();
        let properties = schema["properties"].as_object().unwrap();
        for (field, property) in properties {
            let described = property["description"].as_str().unwrap_or_default();
            assert!(
                described.ends_with('.') || described.ends_with(')'),
                "{}.{field} needs a doc comment of whole sentences: {described:?}",
                kind.name()
            );
        }
        let probes = tested.fields;
        let fields: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        let probed: BTreeSet<&str> = probes.iter().map(|probe| probe.field).collect();
        assert_eq!(probed, fields, "probes of `{}`", kind.name());
        assert_eq!(probes.len(), probed.len(), "a field is probed twice");
        for probe in &probes {
            if let ProbeMethod::NotSet(because) = probe.method {
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
        let name = kind.name();
        let TestProbes { about, example, .. } = kind.test_probes();
        assert!(about.ends_with('.'), "{name}: {about}");
        assert!(
            example.starts_with(&format!("{name}:")),
            "{name}: its example is of something else"
        );
        let resource =
            parse_resource(example).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        assert_eq!(resource.kind(), name);
        assert!(!resource.subject().is_empty(), "{name}");
    }
}
