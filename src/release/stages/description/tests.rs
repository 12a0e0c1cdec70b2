use super::*;
use crate::desired::Sha;
use crate::kind::conformance::FakeInputs;
use crate::release::record::entry::{ReleaseStatus, StageStatus};
use crate::yaml;

/// A spec with these fields.
fn spec(fields: &str) -> ReleaseSpec {
    let text = format!("{{app: shop, repo: /repo, {fields}}}");
    let node = yaml::parse("r", text.as_bytes(), yaml::ParseLimits::default()).unwrap();
    let mut spec: ReleaseSpec = yaml::decode(&node).unwrap();
    for file in &mut spec.files {
        file.resolve(0, &FakeInputs).unwrap();
    }
    spec
}

/// A release in this state that was built as `spec` says: with its first steps, and the assets if these are
/// more than it has.
fn built(spec: &ReleaseSpec, state: ReleaseStatus, steps: usize) -> ReleaseEntry {
    let description = BuildDescription::of(spec);
    let at = jiff::Timestamp::UNIX_EPOCH;
    let sha = Sha::parse(&"4f2c9d0e".repeat(5)).unwrap();
    let mut entry = ReleaseEntry::new("r", &sha, at);
    entry.state = state;
    let mut put = |stage, step: Option<&str>, definition: Option<&String>| {
        entry.put_stage(StageEntry {
            step: step.map(str::to_owned),
            definition: definition.cloned(),
            ..StageEntry::done(stage, at)
        });
    };
    put(Stage::Materialise, None, Some(&description.materialise));
    put(Stage::Link, None, Some(&description.link));
    if let Some(files) = &description.files {
        put(Stage::Link, Some(FILES_STEP), Some(files));
    }
    put(Stage::Build, None, None);
    for (name, definition) in description.steps.iter().take(steps) {
        put(Stage::Build, Some(name), Some(definition));
    }
    if steps > description.steps.len() {
        put(Stage::Assets, None, description.assets.as_ref());
    }
    entry
}

/// The fields that a release was begun with; its state, and how many of its steps (then the assets) were begun;
/// its fields now; the first difference. `$` stands for the first fields.
const TABLE: &str = "
steps: [{name: one, run: a}, {name: two, run: b}] | failed 1 | $ |
steps: [{name: one, run: a}, {name: two, run: b}] | built 2 | $ |
# A step that was begun.
steps: [{name: one, run: a}] | failed 1 | steps: [{name: one, run: b}] | the step `one`
steps: [{name: one, run: a}] | failed 1 | steps: [{name: new, run: a}] | the step `one`
steps: [{name: one, run: a}] | failed 1 | steps: [] | the step `one`
steps: [{name: one, run: a}] | failed 1 | steps: [{run: b}, {name: one, run: a}] | the step `one`
steps: [{name: one, run: a}] | failed 1 | $, env: {A: b} | the step `one`
steps: [{name: one, run: a}] | failed 1 | $, umask: \"002\" | the step `one`
steps: [{name: one, run: a}, {name: two, run: b}] | failed 2 | steps: [{name: one, run: a}] | the step `two`
steps: [{name: one, run: a}, {name: two, run: b}] | failed 2 | steps: [{name: two, run: b}, {name: one, run: a}] | the step `one`
steps: [{run: a, when_changed: [x], outputs: [y]}] | failed 1 | steps: [{run: a, when_changed: [x], outputs: [y, z]}] | the step `1`
# One that was not, and what leaves nothing behind.
steps: [{name: one, run: a}, {name: two, run: b}] | failed 1 | steps: [{name: one, run: a}, {name: two, run: c}] |
steps: [{name: one, run: a}, {name: two, run: b}] | failed 1 | steps: [{name: one, run: a}] |
steps: [{name: one, run: a}] | failed 1 | steps: [{name: one, run: a}, {name: two, run: c}] |
steps: [{name: one, run: a}] | failed 0 | steps: [{name: one, run: b}] |
steps: [{name: one, run: a}] | failed 1 | steps: [{name: one, run: a, timeout: 1s}] |
steps: [{name: one, run: a}, {name: one, run: b}] | failed 1 | $ |
# A complete release has all steps, and no other.
steps: [{name: one, run: a}] | built 1 | steps: [{name: one, run: a}, {name: two, run: c}] | the step `two`
steps: [{name: one, run: a}, {name: two, run: b}] | built 2 | steps: [{name: one, run: a}] | the step `two`
steps: [] | built 0 | steps: [{name: one, run: a}] | the step `one`
# Links, owners, hooks.
steps: [] | failed 0 | $, linked_dirs: [log] | the stage `link`
linked_dirs: [log] | built 0 | linked_dirs: [] | the stage `link`
steps: [] | built 0 | $, linked_files: [.env] | the stage `link`
steps: [] | failed 0 | $, hooks: {before_build: [{run: x}]} | the stage `link`
steps: [] | failed 0 | $, hooks: {after_gate: [{run: x}]} |
steps: [] | failed 0 | $, filters: ignore | the stage `materialise`
steps: [] | built 0 | $, user: deploy | the stage `materialise`
steps: [] | built 0 | $, migrate: {run: x}, keep_releases: 9 |
# The assets.
assets: {run: x} | failed 0 | assets: {run: y} |
assets: {run: x} | failed 1 | assets: {run: y} | the stage `assets`
assets: {run: x} | built 1 | assets: {run: y} | the stage `assets`
assets: {run: x} | built 1 | assets: {run: x} |
assets: {run: x} | failed 0 | assets: {run: x, path: dist} | the stage `link`
steps: [] | built 0 | assets: {run: x} | the stage `link`
# Rendered files: the steps that ran used them; those of a complete release are rewritten.
steps: [{run: a}], files: [{path: e, content: a}] | failed 0 | steps: [{run: a}], files: [{path: e, content: b}] |
steps: [{run: a}], files: [{path: e, content: a}] | failed 1 | steps: [{run: a}], files: [{path: e, content: b}] | the rendered files
steps: [{run: a}], files: [{path: e, content: a}] | built 1 | steps: [{run: a}], files: [{path: e, content: b}] |
steps: [{run: a}], files: [{path: e, content: a}] | failed 1 | $ |
steps: [{run: a}], files: [{path: e, content: a}] | built 1 | steps: [{run: a}] | the stage `link`
";

#[test]
fn release_goes_on_only_if_all_that_was_begun_is_described_the_same() {
    let is_case = |line: &&str| !line.is_empty() && !line.starts_with('#');
    for line in TABLE.lines().filter(is_case) {
        let [before, progress, after, expected] = line
            .split('|')
            .map(str::trim)
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
        let (state, steps) = progress.split_once(' ').unwrap();
        let state = match state {
            "built" => ReleaseStatus::Built,
            "failed" => ReleaseStatus::Failed,
            other => panic!("{other}"),
        };
        let entry = built(&spec(before), state, steps.parse().unwrap());
        let after = spec(&after.replace('$', before));
        let difference = BuildDescription::of(&after).first_difference(&entry);
        assert_eq!(difference.unwrap_or_default(), expected, "{line}");
    }
}

#[test]
fn only_a_complete_release_of_an_earlier_version_counts_as_described() {
    let spec = spec("linked_dirs: [log], assets: {run: x}, steps: [{name: one, run: a}]");
    for (state, expected) in [
        (ReleaseStatus::Built, None),
        (ReleaseStatus::Failed, Some("the stage `materialise`")),
    ] {
        let mut entry = built(&spec, state, 2);
        for stage in &mut entry.stages {
            (stage.definition, stage.status) = (None, StageStatus::Done);
        }
        let difference = BuildDescription::of(&spec).first_difference(&entry);
        assert_eq!(difference.as_deref(), expected);
    }
}

#[test]
fn secrets_are_in_no_fingerprint() {
    let with = |secret: &str| {
        spec(&format!(
            "secrets: {{KEY: {secret}-of-the-app}}, files: [{{path: .env, content: '{secret}-of-the-file', secret: true}}]"
        ))
    };
    let (one, other) = (with("hunter2"), with("hunter3"));
    assert_eq!(BuildDescription::of(&one), BuildDescription::of(&other));
    assert_eq!(attempt_fingerprint(&one), attempt_fingerprint(&other));
}
