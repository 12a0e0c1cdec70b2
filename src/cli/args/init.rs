//! What `trueup init` takes.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
#[command(
    after_help = "At a terminal it asks for missing options. It writes nothing unless all checks pass.\n\n\
                  A Rails app on a fresh host:\n\n  \
                  sudo trueup init --env production --role app \\\n    \
                  --store s3://acme-deploys --region eu-west-1 \\\n    \
                  --app shop=git@github.com:acme/shop.git \\\n    \
                  --set apps.shop.port=3000 \\\n    \
                  --set apps.shop.secrets.SECRET_KEY_BASE=@secret \\\n    \
                  --deploy-key deploy_key \\\n    \
                  --known-host \"$(cat known_hosts)\""
)]
pub struct InitArgs {
    /// Environment of this host in the manifest: production, staging, …
    #[arg(long, value_name = "ENV")]
    pub env: Option<String>,
    /// Roles of this host: app, python, web, …; separated by commas, in this order
    #[arg(long, value_name = "ROLE", value_delimiter = ',')]
    pub role: Vec<String>,
    /// Where the manifest is: `s3://bucket/prefix`, or `dir:/path` for one machine
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// The region of the store's bucket
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// The address of an S3-compatible server
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Put the bucket in the path instead of in the host name
    #[arg(long)]
    pub path_style: bool,
    /// The manifest's key in the store [default: sha_number.yml]
    #[arg(long, value_name = "KEY")]
    pub manifest: Option<String>,
    /// Name of this node [default: its host name]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// A tag of this host, for overrides and for finding peers
    #[arg(long, value_name = "KEY=VALUE")]
    pub tag: Vec<String>,
    /// An app of the role, and its repository
    #[arg(long, value_name = "NAME=REPO")]
    pub app: Vec<String>,
    /// A parameter of a role by its dotted key, such as apps.shop.port=3000; `@FILE` reads the value from a file, for secrets
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The private key for git over ssh; copied to /etc/trueup/deploy_key
    #[arg(long, value_name = "FILE")]
    pub deploy_key: Option<PathBuf>,
    /// The host key of a git server, as a line of known_hosts; at a terminal, init shows the key and asks
    #[arg(long, value_name = "LINE")]
    pub known_host: Vec<String>,
    /// Save the AWS keys of this environment to root's ~/.aws/credentials, for passes by the timer
    #[arg(long)]
    pub save_credentials: bool,
    /// Do not contact the store or git servers, for building an image
    #[arg(long, conflicts_with = "save_credentials")]
    pub unchecked: bool,
    /// Leave the timer as it is
    #[arg(long)]
    pub no_timer: bool,
    /// Replace existing settings; the old ones are kept beside the new ones
    #[arg(long)]
    pub force: bool,
}
