//! Reads the samples of `packaging/ci` as their CI systems do, as far as they use it: variables, and the scripts of a job.

use std::collections::BTreeMap;
use std::path::Path;

use serde_yaml::Value;

/// A job of a sample.
#[derive(Debug, Clone)]
pub struct Job {
    /// Those that the sample sets for it.
    pub variables: BTreeMap<String, String>,
    /// Each is run by a shell of its own, in this order.
    pub scripts: Vec<Script>,
}

#[derive(Debug, Clone)]
pub struct Script {
    /// Those that the sample sets for this script alone.
    pub variables: BTreeMap<String, String>,
    pub text: String,
}

pub fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/ci");
    std::fs::read_to_string(path.join(name)).unwrap()
}

fn yaml(name: &str) -> Value {
    let mut value: Value = serde_yaml::from_str(&file(name)).unwrap();
    value.apply_merge().unwrap();
    value
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_mapping().into_iter().flatten();
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => panic!("{other:?}: GitHub and GitLab take texts here"),
    };
    entries
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

/// A job of GitHub Actions. `expressions`: the values of `${{ … }}`, each of which has to be known.
pub fn github(job: &str, expressions: &BTreeMap<&str, String>) -> Job {
    let workflow = yaml("github-actions.yml");
    let steps = workflow["jobs"][job]["steps"].as_sequence().unwrap();
    let scripts = steps.iter().filter_map(|step| {
        let text = step.get("run")?.as_str().unwrap();
        assert!(!text.contains("${{"), "nobody may inject a script: {text}");
        let mut variables = step.get("env").map(texts).unwrap_or_default();
        for value in variables.values_mut() {
            while let Some((before, rest)) = value.clone().split_once("${{ ") {
                let (name, after) = rest.split_once(" }}").unwrap();
                *value = format!("{before}{}{after}", expressions[name]);
            }
        }
        Some(Script {
            variables,
            text: text.to_owned(),
        })
    });
    Job {
        variables: texts(&workflow["env"]),
        scripts: scripts.collect(),
    }
}

/// A job of GitLab CI: one shell for all of its lines.
pub fn gitlab(job: &str) -> Job {
    let pipeline = yaml("gitlab-ci.yml");
    let base = &pipeline[pipeline[job]["extends"].as_str().unwrap()];
    let lines = |value: &Value| -> Vec<String> {
        let lines = value.as_sequence().unwrap().iter();
        lines
            .map(|line| line.as_str().unwrap().to_owned())
            .collect()
    };
    let all = [
        lines(&base["before_script"]),
        lines(&pipeline[job]["script"]),
    ]
    .concat();
    Job {
        variables: texts(&pipeline["variables"]),
        scripts: vec![Script {
            variables: BTreeMap::new(),
            text: all.join("\n"),
        }],
    }
}

/// A stage of a Jenkinsfile: the texts of `sh '''…'''`, and the variables of `environment`.
pub fn jenkins(stage: &str) -> Job {
    let text = file("Jenkinsfile");
    let (_, rest) = text.split_once("  environment {\n").unwrap();
    let (environment, _) = rest.split_once("\n  }\n").unwrap();
    let variable = |line: &str| {
        let (name, value) = line.trim().split_once(" = '").unwrap();
        let (value, _) = value.split_once('\'').unwrap();
        (name.to_owned(), value.to_owned())
    };
    let (_, rest) = text
        .split_once(&format!("    stage('{stage}') {{\n"))
        .unwrap();
    let (body, _) = rest.split_once("\n    }\n").unwrap();
    let scripts = body.split("sh '''").skip(1).map(|part| Script {
        variables: BTreeMap::new(),
        text: part.split_once("'''").unwrap().0.to_owned(),
    });
    Job {
        variables: environment.lines().map(variable).collect(),
        scripts: scripts.collect(),
    }
}
