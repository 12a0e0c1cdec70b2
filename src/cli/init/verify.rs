//! Runs all checks before anything is written.

use std::path::Path;

use super::answers::Answers;
use super::credentials::{ShellEnvironment, TimerEnvironment};
use super::deploy_key::{DEPLOY_KEY, STAGED_DEPLOY_KEY};
use super::{InitRun, credentials, deploy_key, is_s3, option_errors, ports, prompt};
use crate::checks::{self, Check};
use crate::cli::error;
use crate::pass::{PassError, Session};
use crate::ports::root::Root;
use crate::ports::signals;
use crate::problem::Problem;
use crate::release;
use crate::settings::Settings;

impl InitRun<'_> {
    /// Runs every check; returns the credentials to save.
    pub(super) fn verify(
        &mut self,
        answers: &mut Answers,
        key: Option<&[u8]>,
    ) -> Result<Option<String>, error::CliError> {
        let session = self.session(answers, key.map(|_| DEPLOY_KEY))?;
        let resources = session
            .validate()
            .map_err(|error| option_errors::attribute_pass_error(error, &self.paths.config))?;
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
                let problem = Problem::new(format!("{} does not deploy an app yet", list.role));
                let hint = "`--app NAME=REPO` names one, or `attributes` in node.yml later";
                self.checks
                    .push(Check::note("settings", problem.hint(hint)));
            }
            let missing = ports::check_ports(&session.settings, list, &names);
            self.checks.extend(missing);
        }
        if self.args.unchecked {
            return Ok(None);
        }
        if prompt::is_interactive() && !self.output.is_document() {
            for line in unknown_host_keys(&self.session(answers, None)?)? {
                if prompt::confirm_host_key(&line).map_err(error::CliError::Usage)? {
                    answers
                        .add_known_hosts(&[line])
                        .map_err(error::CliError::Usage)?;
                }
            }
        }
        // No questions follow: from here on, Ctrl-C sets the stop flag so that the command can clean up.
        signals::stop_on_termination(&self.stop);
        if let Some(key) = key {
            deploy_key::install(&self.root, STAGED_DEPLOY_KEY, key)?;
        }
        let session = self.session(answers, key.map(|_| STAGED_DEPLOY_KEY))?;
        let apps = session.apps()?;
        let names: Vec<String> = apps.all().iter().map(|app| app.spec.app.clone()).collect();
        let store = session.open_store()?;
        let Settings {
            manifest,
            environment,
            ..
        } = &session.settings;
        let found = checks::check_store(store.as_ref(), manifest, environment, &names);
        let answered = found.first().is_some_and(|check| !check.is_bad());
        self.checks.extend(found);
        let known = checks::known_hosts(&session.settings);
        for app in apps.all() {
            self.check_stop()?;
            self.checks
                .push(checks::check_git(app.spec, &session.host, &known));
        }
        self.check_stop()?;
        self.check_credentials(&session.settings, answered)
    }

    fn check_stop(&self) -> Result<(), error::CliError> {
        match self.stop.is_set() {
            true => Err(error::CliError::Stopped(Problem::new(
                "ended by a signal: nothing was written",
            ))),
            false => Ok(()),
        }
    }

    /// Checks that the timer will use the same credentials for the store; returns the keys to save for it.
    fn check_credentials(
        &mut self,
        settings: &Settings,
        answered: bool,
    ) -> Result<Option<String>, error::CliError> {
        if !is_s3(&settings.store.url) {
            return Ok(None);
        }
        let about = "credentials";
        let shell = ShellEnvironment::current();
        let timer = TimerEnvironment::read(&self.root)?;
        if self.args.save_credentials {
            let keys = shell.render_keys().map_err(error::CliError::Usage)?;
            if credentials::matches_timer(&keys, &timer) {
                let said = format!("{} already has them", credentials::CREDENTIALS_FILE);
                self.checks.push(Check::good(about, said));
                return Ok(None);
            }
            if timer.credentials.is_some() {
                let problem = Problem::new(format!(
                    "{} already exists, with other keys",
                    credentials::CREDENTIALS_FILE
                ))
                .hint("edit it, and omit --save-credentials");
                self.checks.push(Check::bad(about, problem));
                return Ok(None);
            }
            let ends = shell
                .expiry_warning()
                .map(|problem| Check::note(about, problem));
            self.checks.extend(ends);
            return Ok(Some(keys));
        }
        let has_files = |home: &Path| {
            let there = |name| Root::real().and_then(|root| root.meta(&home.join(name)));
            [".aws/credentials", ".aws/config"]
                .into_iter()
                .any(|name| matches!(there(name), Ok(Some(_))))
        };
        let differs = shell.find_mismatch(&timer, has_files);
        let check = match differs {
            // A check with credentials other than those of the passes proves nothing.
            Some(problem) if self.root.is_real() && !self.args.no_timer => {
                Some(Check::bad(about, problem))
            }
            Some(problem) => Some(Check::note(about, problem)),
            None if !answered => shell
                .sudo_warning()
                .map(|problem| Check::note(about, problem)),
            None => None,
        };
        self.checks.extend(check);
        Ok(None)
    }
}

/// One line for each git server whose host key is unknown.
fn unknown_host_keys(session: &Session) -> Result<Vec<String>, error::CliError> {
    let known = checks::known_hosts(&session.settings);
    let apps = session
        .apps()
        .map_err(|error: PassError| error::CliError::from(error))?;
    let mut lines = Vec::new();
    for app in apps.all() {
        let line = release::unknown_host_key(app.spec, &session.host, &known);
        lines.extend(line.map_err(error::command_failed)?);
    }
    lines.sort();
    lines.dedup();
    Ok(lines)
}
