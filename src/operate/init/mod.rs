//! Sets up a host: checks that the requested settings work, writes them and starts the timer.
//!
//! The caller makes each step, so that it can ask an operator between them: [`Target::open`] refuses a host that
//! must not be set up, [`Init::check_settings`] and [`Init::check_connections`] change nothing, and
//! [`Init::finish`] writes the files unless a check failed.

mod connections;
mod credentials;
mod deploy_key;
mod install;
mod node_settings;
mod node_yml;
mod ports;
mod request;
mod secrets;
mod timer;

use std::rc::Rc;

use serde::Serialize;

use self::deploy_key::DEPLOY_KEY;
use self::node_settings::NodeSettings;
use super::CommandError;
use crate::checks::Check;
use crate::exit::Exit;
use crate::pass::{Paths, Session};
use crate::ports::exec::StopFlag;
use crate::ports::root::Root;
use crate::problem::{Problem, Problems};
use crate::role::{self, ItemList};
use crate::settings::{self, Settings};

pub(crate) use credentials::ShellEnvironment;
pub(crate) use deploy_key::DeployKey;
pub(crate) use node_settings::app_list;
pub(crate) use request::InitRequest;

/// A host that may be set up.
pub(crate) struct Target<'a> {
    paths: &'a Paths,
    root: Rc<Root>,
}

/// A host that is being set up.
pub(crate) struct Init<'a> {
    target: Target<'a>,
    request: InitRequest,
    settings: NodeSettings,
    /// The item lists of the roles.
    lists: Vec<ItemList>,
    stop: StopFlag,
    checks: Vec<Check>,
    /// Keys to save for the timer, as a credentials file.
    new_credentials: Option<String>,
}

/// The document of `init --output`.
#[derive(Debug, Serialize)]
pub(crate) struct InitReport {
    version: u32,
    pub outcome: Exit,
    pub checks: Vec<Check>,
    /// Written files; empty if a check failed.
    pub written: Vec<String>,
    /// Whether the timer is active.
    pub timer: bool,
}

impl<'a> Target<'a> {
    /// `replace`: existing settings may be replaced.
    pub(crate) fn open(paths: &'a Paths, replace: bool) -> Result<Target<'a>, CommandError> {
        let root = Rc::new(Root::at(&paths.root)?);
        if root.is_real() && !root.is_privileged() {
            return Err(CommandError::Usage(
                Problem::new("`trueup init` on this host needs root")
                    .hint("`sudo trueup init`, or `--root DIR` for a sandbox"),
            ));
        }
        let configured = settings::configured_by(&paths.config).map_err(CommandError::input)?;
        if let Some(why) = configured.filter(|_| !replace) {
            return Err(CommandError::Usage(Problem::new(why).hint(
                "edit it, or write node.yml with --force: an old one is kept beside it",
            )));
        }
        Ok(Target { paths, root })
    }
}

impl<'a> Init<'a> {
    /// `lists` are the item lists of the roles. Removes the key that a killed run left. `stop` ends the checks.
    pub(crate) fn new(
        target: Target<'a>,
        mut request: InitRequest,
        lists: Vec<ItemList>,
        stop: StopFlag,
    ) -> Result<Init<'a>, CommandError> {
        deploy_key::remove_staged(&target.root)?;
        if is_s3(&request.store.url) {
            // The timer does not inherit this environment.
            let region = &mut request.store.region;
            *region = region.take().or_else(|| request.shell.region.clone());
        } else if request.save_credentials {
            return Err(CommandError::Usage(
                Problem::new("--save-credentials: only an S3 store needs keys")
                    .hint("as in `--store s3://bucket/prefix`"),
            ));
        }
        let settings = NodeSettings::new(&request, &lists).map_err(CommandError::Usage)?;
        Ok(Init {
            target,
            request,
            settings,
            lists,
            stop,
            checks: Vec::new(),
            new_credentials: None,
        })
    }

    /// Validates the settings against the roles, without inspecting the host or contacting a server.
    pub(crate) fn check_settings(&mut self) -> Result<(), CommandError> {
        let session = self.session(self.deploy_key_path())?;
        let resources = session
            .validate()
            .map_err(|error| self.name_missing_ports(&session.settings, error.into()))?;
        let described = role::describe_resources(&session.settings.roles, resources);
        let node = session.node().to_owned();
        self.checks
            .push(Check::good("settings", format!("{described} for {node}")));
        for list in &self.lists {
            let names = self.settings.item_names(list);
            if names.is_empty() && node_settings::has_repo(list) {
                let problem = Problem::new(format!("{} does not deploy an app yet", list.role));
                let hint = "`--app NAME=REPO` names one, or `attributes` in node.yml later";
                self.checks
                    .push(Check::note("settings", problem.hint(hint)));
            }
            self.checks
                .extend(ports::check_ports(&session.settings, list, &names));
        }
        Ok(())
    }

    /// Replaces an error by missing ports, the most likely cause, with the options that set them.
    fn name_missing_ports(&self, settings: &Settings, error: CommandError) -> CommandError {
        let lists = self.lists.iter();
        let missing: Vec<Problem> = lists
            .flat_map(|list| ports::missing_ports(settings, list, &self.settings.item_names(list)))
            .collect();
        match missing.is_empty() {
            true => error,
            false => CommandError::Input(Problems(missing)),
        }
    }

    /// A session with these settings, validated. `key` is the path of the deploy key.
    fn session(&self, key: Option<&str>) -> Result<Session, CommandError> {
        let paths = self.target.paths;
        let body = self.settings.render(key);
        let settings = settings::load_from_body(&paths.config, body.as_bytes(), &paths.share)?;
        Ok(Session::with_settings(settings, paths, self.stop.clone())?)
    }

    /// Where the deploy key will be, if there is one.
    fn deploy_key_path(&self) -> Option<&'static str> {
        self.request.deploy_key.as_ref().map(|_| DEPLOY_KEY)
    }
}

/// Whether the URL of a store names an S3 bucket, for which passes need credentials.
pub(crate) fn is_s3(url: &str) -> bool {
    url.starts_with("s3://")
}
