//! Random manifests: whatever their layout, publishing changes what was requested and no other byte.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::desired::environment::SETTINGS_KEY;
use crate::yaml::{ParseLimits, parse};

/// The YAML style of an entry or an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Block,
    Flow,
}

#[derive(Debug, Clone)]
struct App {
    long: Option<Style>,
    quote: &'static str,
    comment: &'static str,
    above: &'static str,
    /// Its `rollout`, in the long form.
    rollout: &'static str,
}

#[derive(Debug, Clone)]
struct Sample {
    /// Of each environment, if any.
    settings: &'static str,
    environments: Vec<(Style, Vec<App>)>,
    generation: Option<u64>,
    unit: usize,
    newline: &'static str,
    ends: bool,
    mark: bool,
}

fn app() -> impl Strategy<Value = App> {
    (
        prop::sample::select(&[None, None, Some(Style::Block), Some(Style::Flow)][..]),
        prop::sample::select(&["", "", "'", "\""][..]),
        prop::sample::select(&["", "", "  # größe: {a}", " # x"][..]),
        prop::sample::select(&["", "", "# - above", " # ü\n", "\n\n"][..]),
        prop::sample::select(
            &[
                "none",
                "~",
                "{}",
                "{max_unavailable: 1, per: 'zone', canary: {hosts: 2}}",
            ][..],
        ),
    )
        .prop_map(|(long, quote, comment, above, rollout)| App {
            long,
            quote,
            comment,
            above,
            rollout,
        })
}

fn sample() -> impl Strategy<Value = Sample> {
    let form = prop::sample::select(&[Style::Block, Style::Block, Style::Flow][..]);
    let environment = (form, prop::collection::vec(app(), 1..5));
    let settings = [
        "",
        "_settings: ~",
        "_settings: {rollout: none}",
        "_settings: {rollout: {per: zone}}",
    ];
    (
        prop::sample::select(settings.to_vec()),
        prop::collection::vec(environment, 1..4),
        prop::option::of(0..100_000_u64),
        1..5_usize,
        prop::sample::select(&["\n", "\n", "\r\n"][..]),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(settings, environments, generation, unit, newline, ends, mark)| Sample {
                settings,
                environments,
                generation,
                unit,
                newline,
                ends,
                mark,
            },
        )
}

/// A sha that occurs nowhere else.
fn sha(environment: usize, app: usize) -> String {
    format!("{environment:020x}{app:020x}")
}

const NEW: &str = "fedcba9876543210fedcba9876543210fedcba98";

impl Sample {
    fn text(&self) -> String {
        let mut lines: Vec<String> = vec!["# head".into(), String::new()];
        lines.extend(self.generation.map(|n| format!("generation: {n} # n")));
        for (number, (form, apps)) in self.environments.iter().enumerate() {
            lines.push(format!("# environment {number}"));
            match form {
                Style::Block => {
                    lines.push(format!("env-{number}: # live"));
                    if !self.settings.is_empty() {
                        let pad = " ".repeat(self.unit);
                        lines.push(format!("{pad}{} # for all", self.settings));
                    }
                    for (index, app) in apps.iter().enumerate() {
                        self.block(app, index, &sha(number, index), &mut lines);
                    }
                }
                Style::Flow => {
                    let settings = Some(self.settings.to_owned());
                    let settings = settings.filter(|settings| !settings.is_empty());
                    let apps = apps.iter().enumerate();
                    let apps = apps.map(|(index, app)| app.flow(index, &sha(number, index)));
                    let rows: Vec<String> = settings.into_iter().chain(apps).collect();
                    lines.push(format!("env-{number}: {{{}}} # flow", rows.join(", ")));
                }
            }
        }
        if self.ends {
            lines.extend(["# end".into(), String::new()]);
        }
        let mark = if self.mark { "\u{feff}" } else { "" };
        format!("{mark}{}", lines.join(self.newline))
    }

    fn block(&self, app: &App, index: usize, sha: &str, lines: &mut Vec<String>) {
        lines.extend(app.above.lines().map(|line| line.trim_start().to_owned()));
        let pad = " ".repeat(self.unit);
        let App {
            quote,
            comment,
            rollout,
            ..
        } = app;
        let sha = format!("{quote}{sha}{quote}");
        lines.extend(match app.long {
            None => vec![format!("{pad}app-{index}:   {sha}{comment}")],
            Some(Style::Flow) => vec![format!(
                "{pad}app-{index}: {{sha: {sha}, rollout: {rollout}}}{comment}"
            )],
            Some(Style::Block) => vec![
                format!("{pad}app-{index}:{comment}"),
                format!("{pad}{pad}rollout: {rollout}{comment}"),
                format!("{pad}{pad}# inside"),
                format!("{pad}{pad}sha: {sha}{comment}"),
            ],
        });
    }
}

impl App {
    fn flow(&self, index: usize, sha: &str) -> String {
        let sha = format!("{0}{sha}{0}", self.quote);
        match self.long {
            None => format!("app-{index}: {sha}"),
            Some(_) => format!("app-{index}: {{sha: {sha}, rollout: {}}}", self.rollout),
        }
    }
}

fn tree(text: &str) -> Value {
    parse("m", text.as_bytes(), ParseLimits::default())
        .unwrap()
        .to_json()
}

/// Whether all characters of `old` are in `new`, in order.
fn is_kept(old: &str, new: &str) -> bool {
    let mut new = new.chars();
    old.chars().all(|wanted| new.any(|found| found == wanted))
}

fn order(environment: usize, app: &str) -> PublishRequest {
    PublishRequest {
        shas: vec![(app.into(), Sha::parse(NEW).unwrap())],
        ..PublishRequest::new(
            &format!("env-{environment}"),
            "2026-11-21T04:43:01Z".parse().unwrap(),
        )
    }
}

fn publish(text: &str, order: &PublishRequest) -> String {
    let edited = edit_manifest("m", Some(text.as_bytes()), order)
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    let stamped = String::from_utf8(edited.body.expect("something to write")).unwrap();
    let body = text.as_bytes();
    let manifest = Manifest::parse("m", body).unwrap();
    let written = write_changes("m", Some(body), &manifest, order, &edited.changes).unwrap();
    let written = String::from_utf8(written).unwrap();
    // The generation and the change are all that comes to it, but for a comment in the change before.
    let mut expected = tree(&written);
    let settings = &mut expected[&order.environment][SETTINGS_KEY];
    if settings.is_null() {
        *settings = json!({});
    }
    settings["generation"] = json!(edited.generation);
    settings["change"] = tree(&stamped)[&order.environment][SETTINGS_KEY]["change"].clone();
    assert_eq!(tree(&stamped), expected, "{written}\nbecame\n{stamped}");
    assert!(is_kept(&written, &stamped) || text.contains("_settings: ~"));
    written
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn publishing_a_sha_changes_only_its_own_bytes(sample in sample(), pick in any::<(prop::sample::Index, prop::sample::Index)>()) {
        let text = sample.text();
        let environment = pick.0.index(sample.environments.len());
        let (form, apps) = &sample.environments[environment];
        let app = pick.1.index(apps.len());
        let name = format!("app-{app}");
        let new = publish(&text, &order(environment, &name));
        let old = sha(environment, app);
        let App { quote, comment, long, .. } = apps[app];
        let mut expected_tree = tree(&text);
        let entry = &mut expected_tree[format!("env-{environment}")][&name];
        if long.is_none() {
            *entry = json!({});
        }
        entry["sha"] = json!(NEW);
        entry["previous"] = json!(old);
        entry["at"] = json!("2026-11-21T04:43:01Z");
        // These two are added, and a short entry becomes a long one; nothing else changes.
        let added = [format!("previous: {old}"), "at: 2026-11-21T04:43:01Z".to_owned()];
        let written = format!("{quote}{old}{quote}");
        let pad = " ".repeat(2 * sample.unit);
        let lines = |words: &[String]| -> String {
            words.iter().map(|word| format!("{}{pad}{word}", sample.newline)).collect()
        };
        let sha_field = format!("sha: {NEW}");
        let (from, to) = match (long, form) {
            (None, Style::Block) => {
                let all = [&[sha_field], &added[..]].concat();
                (format!("   {written}{comment}"), format!("{comment}{}", lines(&all)))
            }
            (None, Style::Flow) => (written, format!("{{{sha_field}, {}}}", added.join(", "))),
            (Some(Style::Block), Style::Block) => {
                let new = format!("{quote}{NEW}{quote}{comment}");
                (format!("{written}{comment}"), format!("{new}{}", lines(&added)))
            }
            (Some(_), _) => {
                let new = format!("{quote}{NEW}{quote}, {}", added.join(", "));
                (written, new)
            }
        };
        let expected = text.replacen(&from, &to, 1);
        prop_assert_eq!(&new, &expected);
        prop_assert_eq!(tree(&new), expected_tree);
    }

    #[test]
    fn adding_an_app_changes_no_other_byte(sample in sample(), pick in any::<prop::sample::Index>(), fresh in any::<bool>(), named in any::<bool>()) {
        let text = sample.text();
        let count = sample.environments.len();
        let environment = if fresh { count } else { pick.index(count) };
        let mut order = order(environment, "new");
        order.create = true;
        if named {
            order.references.insert("new".into(), "v 1".into());
        }
        let new = publish(&text, &order);
        let mut expected_tree = tree(&text);
        let value = if named {
            json!({"sha": NEW, "ref": "v 1", "at": "2026-11-21T04:43:01Z"})
        } else {
            json!(NEW)
        };
        expected_tree[format!("env-{environment}")]["new"] = value;
        prop_assert_eq!(tree(&new), expected_tree);
        prop_assert!(is_kept(&text, &new), "{}\nbecame\n{}", text, new);
        // No line end of the other kind was added.
        let bare = new.replace("\r\n", "").contains('\n');
        prop_assert_eq!(bare, sample.newline == "\n");
        prop_assert_eq!(new.ends_with('\n'), text.ends_with('\n'));
    }
}
