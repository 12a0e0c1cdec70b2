//! Validates the release settings: what their types cannot express.

use std::path::{Path, PathBuf};

use super::inputs;
use super::spec::ReleaseSpec;
use crate::ports::root::Root;
use crate::problem::Problem;
use crate::resource::check_variables;

/// Folders that hold other things than one app, by the Filesystem Hierarchy Standard.
const SYSTEM_FOLDERS: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/srv/www",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/local",
    "/usr/share",
    "/var",
    "/var/lib",
    "/var/log",
    "/var/tmp",
    "/var/www",
];

fn is_system_folder(path: &Path) -> bool {
    let path: PathBuf = path.components().collect();
    SYSTEM_FOLDERS
        .iter()
        .any(|folder| path == Path::new(folder))
}

impl ReleaseSpec {
    /// Checks what the types cannot express.
    pub(crate) fn validate(&self) -> Result<(), Problem> {
        let usable = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.app.is_empty() || !self.app.chars().all(usable) || self.app.starts_with(['.', '-'])
        {
            return Err(Problem::new(format!("`{}` is not an app name", self.app))
                .field("app")
                .hint(
                    "expected letters, digits, `.`, `_` and `-`, starting with a letter or digit",
                ));
        }
        for (field, path) in [
            ("deploy_to", &self.deploy_to),
            ("deploy_key", &self.deploy_key),
            ("known_hosts", &self.known_hosts),
            ("git_crypt_key", &self.git_crypt_key),
        ] {
            if let Some(path) = path {
                Root::check_path(path)
                    .map_err(|error| Problem::new(error.to_string()).field(field))?;
            }
        }
        let deploy_to = self.deploy_to.as_deref().unwrap_or(Path::new(""));
        if is_system_folder(deploy_to) {
            return Err(Problem::new(format!(
                "`{}` is a folder of the system: an app needs one of its own",
                deploy_to.display()
            ))
            .field("deploy_to")
            .hint(format!("such as /srv/www/{}", self.app)));
        }
        if self.keep_releases == 0 {
            return Err(
                Problem::new("expected at least 1: the active release is one")
                    .field("keep_releases"),
            );
        }
        // A build cannot use files that deny access to their own user.
        if let Some(umask) = self.umask.filter(|umask| umask.0 & !0o077 != 0) {
            return Err(Problem::new(format!("`{umask}` is not a umask for a build"))
                .field("umask")
                .hint("expected bits to withhold from group and others, \"000\" to \"077\": \"022\" is usual, \"002\" for a group that shares files"));
        }
        if self.lfs_url.as_ref().is_some_and(|url| url.ssh().is_some()) {
            return Err(
                Problem::new("expected an address with `https://` or `http://`")
                    .field("lfs_url")
                    .hint("omit it for ssh: trueup asks the server of `repo` for its LFS address"),
            );
        }
        self.validate_variables()?;
        self.selection().validate()?;
        self.hooks.validate()?;
        inputs::validate(
            &self.selection(),
            &self.steps,
            self.assets.as_ref(),
            self.migrate.as_ref(),
            &self.links(),
        )?;
        if let Some(health) = &self.health {
            health.validate()?;
        }
        if let Some(preflight) = self.preflight() {
            preflight.validate(self.health.as_ref())?;
        }
        if let Some(drain) = self.drain() {
            drain.validate(self.health.as_ref(), self.port)?;
        }
        self.validate_paths()
    }

    /// Checks the environment variables of all commands.
    fn validate_variables(&self) -> Result<(), Problem> {
        let own = [
            ("env".to_owned(), &self.env),
            ("secrets".to_owned(), &self.secrets),
        ];
        let steps = self.steps.iter().enumerate();
        let steps = steps.map(|(i, step)| (format!("steps[{i}].env"), &step.env));
        let assets = self
            .assets
            .iter()
            .map(|assets| ("assets.env".to_owned(), &assets.env));
        let migrate = self
            .migrate
            .iter()
            .map(|migrate| ("migrate.env".to_owned(), &migrate.env));
        let preflight = self.preflight.iter();
        let preflight = preflight.map(|preflight| ("preflight.env".to_owned(), &preflight.env));
        let mut all = own
            .into_iter()
            .chain(steps)
            .chain(assets)
            .chain(migrate)
            .chain(preflight);
        all.try_for_each(|(field, variables)| {
            check_variables(variables).map_err(|problem| problem.field(field))
        })
    }
}
