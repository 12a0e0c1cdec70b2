use std::collections::{BTreeMap, BTreeSet};

use super::super::tests::{report, row};
use super::super::{AppReport, ResourceStatus};
use super::*;

/// Parses the text format as strictly as promtool: HELP and TYPE before the samples of each metric, no
/// duplicate metric or sample, valid names and label values. Returns the samples.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut known: BTreeSet<String> = BTreeSet::new();
    let mut current = String::new();
    assert!(text.ends_with('\n'), "the last line has no end");
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(help.ends_with('.'), "{line}");
            assert!(known.insert(name.to_owned()), "{name} is listed twice");
            assert_eq!(lines.next().unwrap(), format!("# TYPE {name} gauge"));
            name.clone_into(&mut current);
            let sample = lines.peek().is_some_and(|next| next.starts_with(name));
            assert!(sample, "{name} has no sample");
            continue;
        }
        let end = line.find(['{', ' ']).unwrap();
        assert_eq!(&line[..end], current, "{line}: of another metric");
        let usable = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(line[..end].chars().all(usable), "{line}");
        let rest = match line[end..].strip_prefix('{') {
            Some(labels) => after_labels(labels),
            None => &line[end..],
        };
        let value: f64 = rest.strip_prefix(' ').unwrap().parse().unwrap();
        let key = line[..line.len() - rest.len()].to_owned();
        assert!(samples.insert(key, value).is_none(), "twice: {line}");
    }
    samples
}

/// The text after `name="value",…}`.
fn after_labels(mut text: &str) -> &str {
    let mut names = BTreeSet::new();
    loop {
        let (name, rest) = text.split_once("=\"").unwrap();
        let usable = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(!name.is_empty() && name.chars().all(usable), "{name}");
        assert!(names.insert(name), "{name} twice");
        let mut escaped = false;
        let end = rest.char_indices().find(|(_, c)| {
            let ends = *c == '"' && !escaped;
            if escaped {
                assert!(['\\', '"', 'n'].contains(c), "\\{c}");
            }
            escaped = *c == '\\' && !escaped;
            ends
        });
        text = &rest[end.unwrap().0 + 1..];
        match text.strip_prefix(',') {
            Some(more) => text = more,
            None => return text.strip_prefix('}').unwrap(),
        }
    }
}

fn last() -> PassSummary {
    PassSummary {
        version: 1,
        started: "2026-11-21T04:43:01Z".parse().unwrap(),
        took_ms: 7,
        why: None,
        textfile: None,
        outcome: Exit::Converged,
        store_answered: Some("2026-11-21T04:43:01Z".parse().unwrap()),
        good: None,
        ended_ms: None,
        could_not_run: false,
        rhythm: Some(crate::report::pass_summary::TimerPeriod::new(
            Some(Duration::from_secs(19)),
            Duration::ZERO,
        )),
        journalled: None,
    }
}

fn failed() -> Report {
    let mut report = report(vec![row(ResourceStatus::Failed)]);
    report.apps = vec![AppReport {
        app: "shop".into(),
        wanted: Some("4f2c".into()),
        actual: None,
        reference: Some("feature/\"a\\b\"\n{x}\u{7}=,ü".into()),
        held: None,
        maintenance: None,
        state: AppState::Failed,
        why: None,
    }];
    report
}

/// Every metric with its labels and its help text, for the reference in `docs/`.
pub(crate) fn reference() -> Vec<(&'static str, Vec<&'static str>, &'static str)> {
    let (report, last) = (failed(), last());
    let pass = PassMetrics {
        environment: None,
        started: last.started,
        took: Duration::ZERO,
        outcome: Exit::Failed,
        last: Some(&last),
        report: Some(&report),
    };
    let labels = |metric: &Metric| {
        let first = metric.values.first();
        let labels = first.into_iter().flat_map(|(labels, _)| labels);
        labels.map(|(name, _)| *name).collect()
    };
    let all = metrics(&pass).into_iter();
    all.map(|metric| (metric.name, labels(&metric), metric.help))
        .collect()
}

#[test]
fn metrics_file_is_valid_for_any_label_values() {
    let (report, last) = (failed(), last());
    let pass = PassMetrics {
        environment: Some("production"),
        started: "2026-11-21T04:43:01.123Z".parse().unwrap(),
        took: Duration::from_millis(1234),
        outcome: Exit::Failed,
        last: Some(&last),
        report: Some(&report),
    };
    let samples = parse(&render(metrics(&pass)));
    let value = |key: &str| samples.get(key).copied();
    assert_eq!(
        value("trueup_last_pass_timestamp_seconds"),
        Some(1_795_236_181.123)
    );
    assert_eq!(value("trueup_last_pass_duration_seconds"), Some(1.234));
    assert_eq!(
        value("trueup_last_pass_outcome{outcome=\"failed\"}"),
        Some(1.0)
    );
    assert_eq!(
        value("trueup_last_pass_outcome{outcome=\"converged\"}"),
        Some(0.0)
    );
    assert_eq!(value("trueup_resources{status=\"failed\"}"), Some(1.0));
    assert_eq!(
        value("trueup_app_state{app=\"shop\",state=\"failed\"}"),
        Some(1.0)
    );
    assert_eq!(
        value(
            "trueup_app_info{app=\"shop\",sha=\"\",wanted=\"4f2c\",ref=\"feature/\\\"a\\\\b\\\"\\n{x}=,ü\"}"
        ),
        Some(1.0)
    );
    assert_eq!(value("trueup_store_stale"), Some(0.0));
    assert_eq!(value("trueup_owed"), Some(0.0));
    assert_eq!(value("trueup_last_good_pass_timestamp_seconds"), None);
}

#[test]
fn failed_start_writes_its_outcome_and_no_resource_metrics() {
    let pass = PassMetrics {
        environment: Some("production"),
        started: Timestamp::UNIX_EPOCH,
        took: Duration::ZERO,
        outcome: Exit::BadInput,
        last: None,
        report: None,
    };
    let samples = parse(&render(metrics(&pass)));
    assert_eq!(
        samples.get("trueup_last_pass_outcome{outcome=\"bad_input\"}"),
        Some(&1.0)
    );
    let about = |name: &str| samples.keys().any(|key| key.starts_with(name));
    assert!(!about("trueup_resources") && !about("trueup_app") && !about("trueup_store"));
}
