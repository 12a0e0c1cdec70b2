//! Credentials from the SDK's standard chain, within a deadline, and with an error that names the sources
//! that were tried.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use aws_sdk_s3::config::{Region, SharedHttpClient};
use tokio::sync::OnceCell;

use super::error_chain::error_chain;

/// The standard chain, created when credentials are first needed.
#[derive(Debug)]
pub(super) struct CredentialsChain {
    http: SharedHttpClient,
    region: Region,
    limit: Duration,
    chain: OnceCell<DefaultCredentialsChain>,
}

impl CredentialsChain {
    pub(super) fn new(http: SharedHttpClient, region: Region, limit: Duration) -> CredentialsChain {
        CredentialsChain {
            http,
            region,
            limit,
            chain: OnceCell::new(),
        }
    }

    async fn load(&self) -> provider::Result {
        let found = self.load_from_sources();
        let error = match tokio::time::timeout(self.limit, found).await {
            Ok(Ok(credentials)) => return Ok(credentials),
            Ok(Err(CredentialsError::CredentialsNotLoaded(_))) => CredentialsChainError::NotFound,
            Ok(Err(error)) => CredentialsChainError::Failed(error_chain(&error)),
            Err(_) => CredentialsChainError::TimedOut(self.limit),
        };
        Err(CredentialsError::provider_error(error))
    }

    /// Asks the first two sources of the chain before it creates the whole chain, which costs fifty times as
    /// much as reading keys from the environment.
    async fn load_from_sources(&self) -> provider::Result {
        let config = ProviderConfig::without_region()
            .with_http_client(self.http.clone())
            .with_region(Some(self.region.clone()));
        let environment = EnvironmentVariableCredentialsProvider::new();
        let found = environment.provide_credentials().await;
        if !is_not_loaded(&found) {
            return found;
        }
        let profile = ProfileFileCredentialsProvider::builder().configure(&config);
        let found = profile.build().provide_credentials().await;
        if !is_not_loaded(&found) {
            return found;
        }
        let chain = self.chain.get_or_init(async || {
            DefaultCredentialsChain::builder()
                .configure(config)
                .region(self.region.clone())
                .build()
                .await
        });
        chain.await.provide_credentials().await
    }
}

fn is_not_loaded(found: &provider::Result) -> bool {
    matches!(found, Err(CredentialsError::CredentialsNotLoaded(_)))
}

impl ProvideCredentials for CredentialsChain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.load())
    }
}

/// Why there are no credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CredentialsChainError {
    /// No source has any.
    NotFound,
    /// A configured source failed.
    Failed(String),
    TimedOut(Duration),
}

const SOURCES: &str = "tried AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the AWS profile files, \
    AWS_WEB_IDENTITY_TOKEN_FILE, the container's credentials (AWS_CONTAINER_CREDENTIALS_*) and the \
    instance's metadata";

impl fmt::Display for CredentialsChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CredentialsChainError::NotFound => write!(f, "no AWS credentials: {SOURCES}"),
            CredentialsChainError::Failed(why) => {
                write!(f, "no AWS credentials: {why} ({SOURCES}, in this order)")
            }
            CredentialsChainError::TimedOut(limit) => {
                write!(f, "no AWS credentials within {limit:?}: {SOURCES}")
            }
        }
    }
}

impl Error for CredentialsChainError {}
