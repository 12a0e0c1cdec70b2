//! Selects the store of a command that also works on a machine without settings.

use clap::Args;

use crate::operate::CommandError;
use crate::pass::Paths;
use crate::ports::store::StoreSettings;
use crate::problem::Problem;
use crate::settings::{self, FleetSettings, Signers};

/// A store that is not, or not only, that of the settings.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// The store, `s3://bucket/prefix` or `dir:/path`, where there are no settings, such as in CI [default: the settings' own]
    #[arg(long, value_name = "URL", env = "TRUEUP_STORE", hide_env_values = true)]
    pub store: Option<String>,
    /// The region of the store's bucket
    #[arg(long, value_name = "REGION", requires = "store")]
    pub region: Option<String>,
    /// The address of an S3-compatible server
    #[arg(
        long,
        value_name = "URL",
        requires = "store",
        env = "TRUEUP_ENDPOINT",
        hide_env_values = true
    )]
    pub endpoint: Option<String>,
    /// Put the bucket in the path instead of in the host name
    #[arg(long, requires = "store")]
    pub path_style: bool,
    /// The manifest's key in the store [default: the settings' own, else sha_number.yml]
    #[arg(long, value_name = "KEY")]
    pub manifest: Option<String>,
}

/// A store and the keys in it.
pub(super) struct StoreTarget {
    pub store: StoreSettings,
    /// The manifest's key.
    pub manifest: String,
    /// The node's own environment, if the machine has settings.
    pub environment: Option<String>,
    pub fleet: FleetSettings,
    /// Who may sign the manifest, if the machine has settings that name them.
    pub signers: Option<Signers>,
}

impl StoreTarget {
    /// Takes the options, else the node's settings. `command` names the caller for error messages.
    pub(super) fn resolve(
        args: &StoreArgs,
        paths: &Paths,
        command: &str,
    ) -> Result<StoreTarget, CommandError> {
        let manifest = args.manifest.as_deref();
        if let Some(url) = &args.store {
            return Ok(StoreTarget {
                store: StoreSettings {
                    url: url.clone(),
                    region: args.region.clone(),
                    endpoint: args.endpoint.clone(),
                    path_style: args.path_style,
                },
                manifest: manifest.map_or_else(settings::default_manifest, str::to_owned),
                environment: None,
                fleet: FleetSettings::default(),
                signers: None,
            });
        }
        let written = settings::load(&paths.config, &paths.share).map_err(|mut problems| {
            let needs = Problem::new(format!("{command} needs the settings of a node, or --store"));
            problems.0.push(needs.hint(format!(
                "without a node.yml, such as in CI: `trueup {command} … --store s3://bucket --region REGION`"
            )));
            problems
        })?;
        Ok(StoreTarget {
            store: written.store,
            manifest: manifest.map_or(written.manifest, str::to_owned),
            environment: Some(written.environment),
            fleet: written.fleet,
            signers: written.signers,
        })
    }
}
