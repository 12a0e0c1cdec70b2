//! Where credentials come from: the SDK's standard chain, within a deadline, and with an error
//! that says where they were looked for.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use aws_sdk_s3::config::{Region, SharedHttpClient};
use tokio::sync::OnceCell;

use super::fault::chain;

/// The standard chain, made when credentials are first needed.
#[derive(Debug)]
pub(super) struct Chain {
    http: SharedHttpClient,
    region: Region,
    limit: Duration,
    chain: OnceCell<DefaultCredentialsChain>,
}

impl Chain {
    pub fn new(http: SharedHttpClient, region: Region, limit: Duration) -> Chain {
        Chain {
            http,
            region,
            limit,
            chain: OnceCell::new(),
        }
    }

    async fn find(&self) -> provider::Result {
        let sources = self.chain.get_or_init(async || {
            let config = ProviderConfig::without_region().with_http_client(self.http.clone());
            DefaultCredentialsChain::builder()
                .configure(config)
                .region(self.region.clone())
                .build()
                .await
        });
        let found = async { sources.await.provide_credentials().await };
        let trouble = match tokio::time::timeout(self.limit, found).await {
            Ok(Ok(credentials)) => return Ok(credentials),
            Ok(Err(CredentialsError::CredentialsNotLoaded(_))) => Trouble::None,
            Ok(Err(error)) => Trouble::Failed(chain(&error)),
            Err(_) => Trouble::Late(self.limit),
        };
        Err(CredentialsError::provider_error(trouble))
    }
}

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.find())
    }
}

/// Why there are no credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No source has any.
    None,
    /// A source that should have some could not give them.
    Failed(String),
    Late(Duration),
}

const TRIED: &str = "tried AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the AWS profile files, \
    AWS_WEB_IDENTITY_TOKEN_FILE, the container's credentials (AWS_CONTAINER_CREDENTIALS_*) and the \
    instance's metadata";

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::None => write!(f, "no AWS credentials: {TRIED}"),
            Trouble::Failed(why) => write!(f, "no AWS credentials: {why} ({TRIED}, in this order)"),
            Trouble::Late(limit) => {
                write!(f, "no AWS credentials within {limit:?}: {TRIED}")
            }
        }
    }
}

impl Error for Trouble {}
