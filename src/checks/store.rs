//! Checks that the store answers, and what its manifest says about the apps of a host.

use super::{ABOUT_ROLLOUTS, Check, bad_store, note, note_for_root};
use crate::desired::{Manifest, RolloutMode};
use crate::ports::store::{GetOutcome, Store, StoreError};
use crate::problem::Problem;

/// Reads the manifest `key`. Also reports the apps that `environment` does not name. A refusal of an ordinary user, who
/// has other credentials than a pass, is a note.
pub(crate) fn check_store(
    store: &dyn Store,
    key: &str,
    environment: &str,
    apps: &[String],
    is_ordinary_user: bool,
) -> Vec<Check> {
    let address = store.address();
    let about = format!("store {address}");
    let body = match store.get(key, None) {
        Ok(GetOutcome::Object(object)) => object.body,
        Ok(GetOutcome::Missing | GetOutcome::Unchanged) => {
            return vec![
                Check::good(about, "answers"),
                not_published(
                    format!("there is no {key} in {address} yet"),
                    environment,
                    apps,
                ),
            ];
        }
        Err(error @ (StoreError::Refused { .. } | StoreError::NoCredentials { .. }))
            if is_ordinary_user =>
        {
            return vec![note_for_root(about, format!("this user: {error}"))];
        }
        Err(error) => return vec![bad_store(about, &error)],
    };
    let mut checks = vec![Check::good(about, "answers")];
    let manifest = match Manifest::parse(&format!("{address}/{key}"), &body) {
        Ok(manifest) => manifest,
        Err(problem) => {
            checks.push(Check::bad("manifest", problem));
            return checks;
        }
    };
    let named = manifest.environments.get(environment);
    let missing: Vec<String> = apps
        .iter()
        .filter(|app| named.is_none_or(|named| !named.has_app(app)))
        .cloned()
        .collect();
    if !missing.is_empty() {
        let message = format!(
            "{key} does not name {} in {environment}",
            missing.join(", ")
        );
        checks.push(not_published(message, environment, &missing));
    }
    if let Some(Err(problem)) = named.map(|named| &named.settings) {
        // No entry of the environment is in force without them.
        checks.push(Check::bad("manifest", problem.clone()));
        return checks;
    }
    for app in apps {
        match named.and_then(|named| named.entry(app)) {
            Some(Ok(entry)) => {
                let message = format!("{app} is wanted at {} in {environment}", entry.sha.short());
                checks.push(Check::good("manifest", message));
                let rollout = named.map(|named| named.rollout(app));
                if !address.starts_with("dir:") && rollout == Some(RolloutMode::Independent) {
                    let message = format!(
                        "{app}: `rollout: none`: each host takes up a new sha by itself, and a bad one reaches all of them at once"
                    );
                    checks.push(note(ABOUT_ROLLOUTS, message));
                }
            }
            Some(Err(problem)) => checks.push(Check::bad("manifest", problem.clone())),
            None => {}
        }
    }
    checks
}

fn not_published(message: String, environment: &str, apps: &[String]) -> Check {
    let app = apps.first().map_or("APP", String::as_str);
    let hint =
        format!("`trueup publish {environment} {app}=SHA --create` publishes the sha of {app}");
    Check::note("manifest", Problem::new(message).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::ports::store::{Etag, MemoryStore, WriteCondition, double};

    fn check_lines(store: &MemoryStore) -> Vec<String> {
        let apps = ["blog".to_owned(), "shop".to_owned()];
        let checks = check_store(store, "sha_number.yml", "production", &apps, false);
        let line = |check: &Check| match &check.verdict {
            Verdict::Good { message } => format!("good {}: {message}", check.about),
            Verdict::Note(problem) => format!("note {}: {problem}", check.about),
            Verdict::Bad(problem) => format!("bad {}: {problem}", check.about),
        };
        checks.iter().map(line).collect()
    }

    /// A store that refuses every read.
    #[derive(Debug)]
    struct Refusing(MemoryStore);

    impl double::StoreDouble for Refusing {
        fn inner(&self) -> &dyn Store {
            &self.0
        }

        fn get(&self, key: &str, _: Option<&Etag>) -> Result<GetOutcome, StoreError> {
            Err(StoreError::Refused {
                store: "s3://b".into(),
                key: key.into(),
                why: "no AWS credentials".into(),
                hint: "as the test says",
            })
        }
    }

    #[test]
    fn refused_store_is_a_note_for_an_ordinary_user_only() {
        let store = Refusing(MemoryStore::new());
        let verdict = |is_ordinary_user| {
            let checks = check_store(
                &store,
                "sha_number.yml",
                "production",
                &[],
                is_ordinary_user,
            );
            checks.into_iter().next().unwrap().verdict
        };
        assert!(matches!(verdict(false), Verdict::Bad(_)));
        let Verdict::Note(problem) = verdict(true) else {
            panic!("not a note");
        };
        assert!(problem.hint.unwrap().contains("sudo trueup doctor"));
    }

    #[test]
    fn store_check_lists_wanted_shas_and_missing_apps() {
        let memory = MemoryStore::new();
        let lines = check_lines(&memory);
        assert!(lines[0].starts_with("good store "), "{lines:?}");
        assert!(
            lines[1].contains("no sha_number.yml")
                && lines[1].contains("trueup publish production blog=SHA --create"),
            "{lines:?}"
        );
        let sha = "4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203";
        let put =
            |body: &str| memory.put("sha_number.yml", body.as_bytes(), WriteCondition::Always);
        put(&format!("production: {{shop: {sha}}}\n")).unwrap();
        let lines = check_lines(&memory);
        assert!(
            lines[1].starts_with("note manifest: sha_number.yml does not name blog in production"),
            "{lines:?}"
        );
        assert_eq!(
            lines[2],
            "good manifest: shop is wanted at 4f2c9d0 in production"
        );
        put("production: [\n").unwrap();
        assert!(check_lines(&memory)[1].starts_with("bad manifest: "));
        memory.set_unreachable(true);
        let lines = check_lines(&memory);
        assert!(
            lines.len() == 1 && lines[0].starts_with("bad store "),
            "{lines:?}"
        );
    }
}
