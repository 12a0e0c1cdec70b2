//! The format of `node.yml`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::fleet::FleetSettings;
use super::notify::NotifySettings;
use crate::ports::ec2::Ec2Settings;
use crate::ports::services::ServiceManager;
use crate::ports::store::StoreSettings;

/// Settings as written, all files merged.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct SettingsFile {
    /// The environment of this node in the manifest: `production`, `staging`, …
    pub environment: String,
    /// The roles of this node, in this order; each is a file in `roles/`.
    pub roles: Vec<String>,
    /// Tags of this node, for overrides in the manifest and for finding peers.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The name of this node; the host name when not given.
    pub node: Option<String>,
    /// Where the manifest is.
    pub store: StoreSettings,
    /// The manifest's key in the store; `sha_number.yml` when not given.
    #[serde(default = "default_manifest")]
    pub manifest: String,
    /// The manager of services that do not name one: `auto`, `systemd`, `supervisor`, or
    /// `process` (plain processes, for sandboxes and containers).
    #[serde(default)]
    pub services: ServiceManager,
    /// Metrics of the passes, for monitoring.
    #[serde(default)]
    pub metrics: MetricsSettings,
    /// What this node publishes to its peers, and which peer lists it accepts.
    #[serde(default)]
    pub fleet: FleetSettings,
    /// How this host decrypts secrets.
    #[serde(default)]
    pub secrets: SecretSettings,
    /// Where the API of EC2 is, for hosts that claim its addresses.
    #[serde(default)]
    pub ec2: Ec2Settings,
    /// Channels for notifications about rollouts, which the manifest names.
    #[serde(default)]
    pub notify: NotifySettings,
    /// The file with the keys that may sign the manifest, in the `allowed_signers` format of ssh-keygen(1), such as
    /// `/etc/trueup/allowed_signers`: with it, a manifest without a valid signature changes nothing.
    pub signers: Option<PathBuf>,
    /// Parameters of the roles, over their defaults and the environment's file.
    #[serde(default = "default_attributes")]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, String>"))]
    #[allow(dead_code, reason = "decoded for its errors; read as a tree")]
    attributes: serde_json::Value,
}

/// How this host decrypts secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretSettings {
    /// The file with the private key: an age key, as `age-keygen` writes it, or an ssh key without a passphrase. Only
    /// root may read it. The ssh host keys when not given.
    pub identity: Option<PathBuf>,
}

/// Metrics of the passes, for monitoring.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct MetricsSettings {
    /// The folder of node_exporter's textfile collector, such as `/var/lib/prometheus/node-exporter`:
    /// every pass writes `trueup.prom` there. Nothing is written when not given.
    pub textfile: Option<PathBuf>,
}

/// Default key of the manifest.
pub(crate) fn default_manifest() -> String {
    "sha_number.yml".into()
}

fn default_attributes() -> serde_json::Value {
    serde_json::Value::Null
}
