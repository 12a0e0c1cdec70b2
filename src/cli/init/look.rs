//! Looking whether all of it works, before anything is written.

use std::path::Path;

use super::answers::Answers;
use super::credentials::{Shell, Timer};
use super::key::{KEY, NEW_KEY};
use super::{Work, ask, credentials, in_s3, key, options, ports};
use crate::checks::{self, Check};
use crate::cli::{edge, words};
use crate::pass::{PassError, Session};
use crate::ports::root::Root;
use crate::ports::signals;
use crate::problem::Problem;
use crate::release;
use crate::settings::Settings;

impl Work<'_> {
    /// Every check there is; credentials that are to be kept.
    pub(super) fn look(
        &mut self,
        answers: &mut Answers,
        key: Option<&[u8]>,
    ) -> Result<Option<String>, edge::Error> {
        let session = self.session(answers, key.map(|_| KEY))?;
        let resources = session
            .validate()
            .map_err(|error| options::blamed_by_pass(error, &self.places.config))?;
        let (roles, node) = (session.settings.roles.join(", "), session.node().to_owned());
        self.checks.push(Check::good(
            "settings",
            format!("{roles} describe {resources} resources for {node}"),
        ));
        for list in &self.lists {
            let apps = answers.attributes.get(&list.name);
            let apps = apps.and_then(serde_json::Value::as_object);
            let names: Vec<String> = apps
                .into_iter()
                .flat_map(|map| map.keys().cloned())
                .collect();
            if names.is_empty() && list.settings.iter().any(|(name, _)| name == "repo") {
                let problem = Problem::new(format!("{} deploys no app yet", list.role));
                let hint = "`--app NAME=REPO` names one, or `attributes` in node.yml later";
                self.checks
                    .push(Check::note("settings", problem.hint(hint)));
            }
            let missing = ports::missing(&session.settings, list, &names);
            self.checks.extend(missing);
        }
        if self.args.unchecked {
            return Ok(None);
        }
        if ask::somebody() && !self.output.json {
            for line in strangers(&self.session(answers, None)?)? {
                if ask::is_its_key(&line).map_err(edge::Error::Usage)? {
                    answers.know(&[line]).map_err(edge::Error::Usage)?;
                }
            }
        }
        // Nobody is asked any more: from here on Ctrl-C leaves time to clear up.
        signals::stop_on_termination(&self.stop);
        if let Some(key) = key {
            key::place(&self.root, NEW_KEY, key)?;
        }
        let session = self.session(answers, key.map(|_| NEW_KEY))?;
        let apps = session.apps()?;
        let names: Vec<String> = apps.all().iter().map(|app| app.spec.app.clone()).collect();
        let store = session.store()?;
        let Settings {
            manifest,
            environment,
            ..
        } = &session.settings;
        let found = checks::store(store.as_ref(), manifest, environment, &names);
        let answered = found.first().is_some_and(|check| !check.is_bad());
        self.checks.extend(found);
        let known = checks::known_hosts(&session.settings);
        for app in apps.all() {
            self.go_on()?;
            self.checks
                .push(checks::git(app.spec, &session.host, &known));
        }
        self.go_on()?;
        self.credentials(&session.settings, answered)
    }

    fn go_on(&self) -> Result<(), edge::Error> {
        match self.stop.is_set() {
            true => Err(edge::Error::Stopped(Problem::new(
                "ended by a signal: nothing was written",
            ))),
            false => Ok(()),
        }
    }

    /// Whether the store was asked as the timer will ask it; the keys that are to be kept for it.
    fn credentials(
        &mut self,
        settings: &Settings,
        answered: bool,
    ) -> Result<Option<String>, edge::Error> {
        if !in_s3(&settings.store.url) {
            return Ok(None);
        }
        let about = "credentials";
        let shell = Shell::this();
        let timer = Timer::on(&self.root)?;
        if self.args.save_credentials {
            let keys = shell.keys().map_err(edge::Error::Usage)?;
            if credentials::is_same(&keys, &timer) {
                let said = format!("{} has them already", credentials::FILE);
                self.checks.push(Check::good(about, said));
                return Ok(None);
            }
            if timer.file.is_some() {
                let problem = Problem::new(format!(
                    "{} is there already, with others",
                    credentials::FILE
                ))
                .hint("make it right by hand, and leave --save-credentials away");
                self.checks.push(Check::bad(about, problem));
                return Ok(None);
            }
            let ends = shell.ends().map(|problem| Check::note(about, problem));
            self.checks.extend(ends);
            return Ok(Some(keys));
        }
        let has_files = |home: &Path| {
            let there = |name| Root::real().and_then(|root| root.meta(&home.join(name)));
            [".aws/credentials", ".aws/config"]
                .into_iter()
                .any(|name| matches!(there(name), Ok(Some(_))))
        };
        let differs = shell.differs(&timer, has_files);
        let check = match differs {
            // A check with other credentials than every pass will have says nothing.
            Some(problem) if self.root.is_real() && !self.args.no_timer => {
                Some(Check::bad(about, problem))
            }
            Some(problem) => Some(Check::note(about, problem)),
            None if !answered => shell
                .left_behind()
                .map(|problem| Check::note(about, problem)),
            None => None,
        };
        self.checks.extend(check);
        Ok(None)
    }
}

/// One line for each git server that nothing here knows.
fn strangers(session: &Session) -> Result<Vec<String>, edge::Error> {
    let known = checks::known_hosts(&session.settings);
    let apps = session
        .apps()
        .map_err(|error: PassError| edge::Error::from(error))?;
    let mut lines = Vec::new();
    for app in apps.all() {
        let line = release::unknown_server(app.spec, &session.host, &known);
        lines.extend(line.map_err(words::failed)?);
    }
    lines.sort();
    lines.dedup();
    Ok(lines)
}
