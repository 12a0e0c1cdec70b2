//! Compares the credentials of the shell with those of the timer.

use std::path::Path;

use super::{
    ACCESS_KEY_ID, CREDENTIAL_SOURCES, CREDENTIALS_FILE, ENVIRONMENT_FILE, KEYS, ROOT_HOME,
    ShellEnvironment, TimerEnvironment,
};
use crate::ports::root::Root;
use crate::problem::Problem;

/// Why the store was checked with credentials other than those of the timer, with the files in the shell's home.
pub(in crate::operate::init) fn find_mismatch(
    shell: &ShellEnvironment,
    timer: &TimerEnvironment,
) -> Option<Problem> {
    shell.find_mismatch(timer, |home| {
        let meta = |name| Root::real().and_then(|root| root.meta(&home.join(name)));
        [".aws/credentials", ".aws/config"]
            .into_iter()
            .any(|name| matches!(meta(name), Ok(Some(_))))
    })
}

impl ShellEnvironment {
    /// Why the store was checked with credentials other than those of the timer.
    pub(super) fn find_mismatch(
        &self,
        timer: &TimerEnvironment,
        has_files: impl Fn(&Path) -> bool,
    ) -> Option<Problem> {
        self.key_mismatch(timer)
            .or_else(|| self.source_mismatch(timer))
            .or_else(|| self.home_mismatch(has_files))
    }

    fn key_mismatch(&self, timer: &TimerEnvironment) -> Option<Problem> {
        let keys = self.only_here(timer, KEYS.iter().map(|(name, _)| *name));
        if keys.is_empty() || self.has_keys_of_file(timer) {
            return None;
        }
        let without = format!("{} trueup init …", env_without(&keys));
        Some(match &timer.credentials {
            Some(_) => Problem::new(format!(
                "the keys in this environment are not those in {CREDENTIALS_FILE}, which the timer uses: the store was checked with the wrong keys"
            ))
            .hint(format!("`{without}` checks with the keys of the file; or change the file")),
            None => Problem::new(
                "the keys for the store are only in the environment of this shell, which the timer does not inherit",
            )
            .hint(format!(
                "--save-credentials saves them to {CREDENTIALS_FILE}; if the instance has a role, `{without}` checks with that"
            )),
        })
    }

    fn source_mismatch(&self, timer: &TimerEnvironment) -> Option<Problem> {
        let sources = self.only_here(timer, CREDENTIAL_SOURCES.into_iter());
        if sources.is_empty() {
            return None;
        }
        let problem = Problem::new(format!(
            "{} in the environment of this shell selects other credentials than the timer's",
            sources.join(", ")
        ));
        Some(problem.hint(format!(
            "`{} trueup init …` checks as the timer does; the timer also gets the variables in {ENVIRONMENT_FILE}",
            env_without(&sources)
        )))
    }

    fn home_mismatch(&self, has_files: impl Fn(&Path) -> bool) -> Option<Problem> {
        let home = self
            .home
            .as_deref()
            .filter(|home| *home != Path::new(ROOT_HOME))?;
        (!self.variables.contains_key(ACCESS_KEY_ID) && has_files(home)).then(|| {
            Problem::new(format!(
                "HOME is {}: the check used the credentials there, and the timer uses those of {ROOT_HOME}",
                home.display()
            ))
            .hint("`sudo -H trueup init …`")
        })
    }

    /// The variables whose values are not those of the timer's unit.
    fn only_here<'n>(
        &self,
        timer: &TimerEnvironment,
        names: impl Iterator<Item = &'n str>,
    ) -> Vec<&'n str> {
        let is_only_here = |name: &&str| {
            let here = self.variables.get(*name);
            here.is_some() && here != timer.variables.get(*name)
        };
        names.filter(is_only_here).collect()
    }

    fn has_keys_of_file(&self, timer: &TimerEnvironment) -> bool {
        let of_file = |key: &str| timer.credentials.as_ref()?.get(key);
        KEYS.iter().all(|(name, key)| {
            self.variables.get(*name).map(|value| value.trim()) == of_file(key).map(String::as_str)
        })
    }
}

fn env_without(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("-u {name}")).collect();
    format!("env {}", names.join(" "))
}
