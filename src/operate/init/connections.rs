//! Checks the servers that passes will contact, and the credentials that they will use.

use super::deploy_key::{self, STAGED_DEPLOY_KEY};
use super::{Init, credentials, is_s3};
use crate::checks::{self, Check, Verdict};
use crate::operate::CommandError;
use crate::pass::{DeployedApp, Session};
use crate::problem::Problem;
use crate::release;

impl Init<'_> {
    /// One line of `known_hosts` for each git server whose host key is unknown, as the server presents it.
    pub(crate) fn unknown_host_keys(&self) -> Result<Vec<String>, CommandError> {
        let session = self.session(None)?;
        let known = checks::known_hosts(&session.settings);
        let mut lines = Vec::new();
        for app in session.apps()?.all() {
            lines.extend(release::unknown_host_key(app.spec, &session.host, &known)?);
        }
        lines.sort();
        lines.dedup();
        Ok(lines)
    }

    /// Adds the host key of a git server to the settings.
    pub(crate) fn trust_host_key(&mut self, line: String) -> Result<(), CommandError> {
        self.settings
            .add_known_hosts(&[line])
            .map_err(CommandError::Usage)
    }

    /// Checks the store, the git servers and the credentials. The deploy key is on the host only meanwhile.
    pub(crate) fn check_connections(&mut self) -> Result<(), CommandError> {
        let staged = match &self.request.deploy_key {
            Some(key) => key.install(&self.target.root, STAGED_DEPLOY_KEY),
            None => Ok(()),
        };
        let checked = staged.map_err(CommandError::from).and_then(|()| {
            let key = self.deploy_key_path().map(|_| STAGED_DEPLOY_KEY);
            let session = self.session(key)?;
            let apps = session.apps()?;
            let is_answered = self.check_store(&session, &apps.all())?;
            self.check_git_servers(&session, &apps.all())?;
            self.check_credentials(&session, is_answered)
        });
        deploy_key::remove_staged(&self.target.root)?;
        checked
    }

    /// Returns whether the store answered.
    fn check_store(
        &mut self,
        session: &Session,
        apps: &[DeployedApp<'_>],
    ) -> Result<bool, CommandError> {
        let names: Vec<String> = apps.iter().map(|app| app.spec.app.clone()).collect();
        let store = session.open_store()?;
        let settings = &session.settings;
        let checks = checks::check_store(
            store.as_ref(),
            &settings.manifest,
            &settings.environment,
            &names,
            false,
        );
        let is_answered = checks.first().is_some_and(|check| !check.is_bad());
        self.checks.extend(checks);
        Ok(is_answered)
    }

    fn check_git_servers(
        &mut self,
        session: &Session,
        apps: &[DeployedApp<'_>],
    ) -> Result<(), CommandError> {
        let known = checks::known_hosts(&session.settings);
        for app in apps {
            self.check_stop()?;
            let mut check = checks::check_git(app.spec, &session.host, &known);
            if let Verdict::Bad(problem) = &mut check.verdict
                && release::is_unknown_host_key(&problem.message)
                && let Ok(Some(line)) = release::unknown_host_key(app.spec, &session.host, &known)
            {
                problem.hint = Some(known_host_option(&line));
            }
            self.checks.push(check);
        }
        self.check_stop()
    }

    fn check_stop(&self) -> Result<(), CommandError> {
        match self.stop.is_set() {
            true => Err(CommandError::Stopped(Problem::new(
                "ended by a signal: nothing was written",
            ))),
            false => Ok(()),
        }
    }

    /// Checks that the timer will use the same credentials for the store, or selects the keys to save for it.
    fn check_credentials(
        &mut self,
        session: &Session,
        is_answered: bool,
    ) -> Result<(), CommandError> {
        if !is_s3(&session.settings.store.url) {
            return Ok(());
        }
        let shell = &self.request.shell;
        let timer = credentials::TimerEnvironment::read(&self.target.root)?;
        if self.request.save_credentials {
            let (keys, check) =
                credentials::check_keys_to_save(shell, &timer).map_err(CommandError::Usage)?;
            self.new_credentials = keys;
            self.checks.extend(check);
            return Ok(());
        }
        // A check with credentials other than those of the passes proves nothing.
        let is_required = self.target.root.is_real() && self.request.start_timer;
        let check = match credentials::find_mismatch(shell, &timer) {
            Some(problem) if is_required => Some(Check::bad(credentials::ABOUT, problem)),
            Some(problem) => Some(Check::note(credentials::ABOUT, problem)),
            None if !is_answered => shell
                .sudo_warning()
                .map(|problem| Check::note(credentials::ABOUT, problem)),
            None => None,
        };
        self.checks.extend(check);
        Ok(())
    }
}

/// The user whose file of host keys a pass reads need not exist yet: the settings are the place of the line.
fn known_host_option(line: &str) -> String {
    format!(
        "compare the key with the one that its owner publishes; if it is the same, repeat the command with this option, or run it at a terminal, where it asks:\n--known-host '{}'",
        line.replace('\'', "")
    )
}
