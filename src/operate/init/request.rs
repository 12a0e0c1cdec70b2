//! A request to set up a host.

use serde_json::Value;

use super::credentials::ShellEnvironment;
use super::deploy_key::DeployKey;
use crate::ports::store::StoreSettings;

/// What a host should be. Problems name the options of `trueup init`. Not `Debug`: parameters and addresses of
/// repositories hold secrets.
#[derive(Clone)]
pub(crate) struct InitRequest {
    pub environment: String,
    pub roles: Vec<String>,
    pub tags: Vec<(String, String)>,
    pub node: Option<String>,
    pub store: StoreSettings,
    pub manifest: Option<String>,
    /// Names and repositories.
    pub apps: Vec<(String, String)>,
    /// Host keys of git servers, as lines of `known_hosts`.
    pub known_hosts: Vec<String>,
    /// Parameters of the roles, by their dotted key.
    pub parameters: Vec<(String, Value)>,
    /// A parameter is a secret, whatever its key and value look like.
    pub has_secret: bool,
    pub deploy_key: Option<DeployKey>,
    pub shell: ShellEnvironment,
    /// Save the keys of the shell for the timer.
    pub save_credentials: bool,
    pub start_timer: bool,
    /// Replace the existing settings.
    pub replace: bool,
}
