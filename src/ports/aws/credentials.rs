//! Credentials from the SDK's standard chain, within a deadline, and with an error that names the sources
//! that were tried.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::region::Region;
use tokio::sync::OnceCell;

use super::error_chain::error_chain;

/// The sources of the SDK's `DefaultCredentialsChain`, in its order, which does not say why each has none.
#[derive(Debug)]
pub(in crate::ports) struct CredentialsChain {
    http: SharedHttpClient,
    region: Region,
    limit: Duration,
    remote: OnceCell<RemoteSources>,
}

/// The sources that send requests. Creating them costs fifty times as much as reading keys from the environment.
#[derive(Debug)]
struct RemoteSources {
    web_identity: WebIdentityTokenCredentialsProvider,
    container: EcsCredentialsProvider,
    instance: ImdsCredentialsProvider,
}

impl CredentialsChain {
    pub(in crate::ports) fn new(
        http: SharedHttpClient,
        region: Region,
        limit: Duration,
    ) -> CredentialsChain {
        CredentialsChain {
            http,
            region,
            limit,
            remote: OnceCell::new(),
        }
    }

    async fn load(&self) -> provider::Result {
        let found = self.load_from_sources();
        let error = match tokio::time::timeout(self.limit, found).await {
            Ok(Ok(found)) => return found,
            Ok(Err(sources)) => CredentialsChainError::NotFound(sources),
            Err(_) => CredentialsChainError::TimedOut(self.limit),
        };
        Err(CredentialsError::provider_error(error))
    }

    /// What the first source with credentials says; else why each of the usual ones has none.
    async fn load_from_sources(&self) -> Result<provider::Result, String> {
        let config = ProviderConfig::without_region()
            .with_http_client(self.http.clone())
            .with_region(Some(self.region.clone()));
        let environment = EnvironmentVariableCredentialsProvider::new();
        let profile = ProfileFileCredentialsProvider::builder().configure(&config);
        let mut reasons = Vec::new();
        let found = environment.provide_credentials().await;
        if not_loaded(&found).is_none() {
            return Ok(configured(found));
        }
        reasons.push(format!("environment: {}", missing_variable()));
        let found = profile.build().provide_credentials().await;
        if not_loaded(&found).is_none() {
            return Ok(configured(found));
        }
        reasons.push(missing_profile());
        let remote = self.remote.get_or_init(async || RemoteSources {
            web_identity: WebIdentityTokenCredentialsProvider::builder()
                .configure(&config)
                .build(),
            container: EcsCredentialsProvider::builder().configure(&config).build(),
            instance: ImdsCredentialsProvider::builder()
                .configure(&config)
                .build(),
        });
        let remote = remote.await;
        // Without their variables, nothing points to these.
        let found = remote.web_identity.provide_credentials().await;
        if not_loaded(&found).is_none() {
            return Ok(configured(found));
        }
        let found = remote.container.provide_credentials().await;
        if not_loaded(&found).is_none() {
            return Ok(configured(found));
        }
        let found = remote.instance.provide_credentials().await;
        let Some(why) = not_loaded(&found) else {
            return Ok(configured(found));
        };
        reasons.push(format!("role of this instance: {why}"));
        Err(reasons.join("; "))
    }
}

/// Why a source has no credentials; `None`: it has some, or is configured and fails.
fn not_loaded(found: &provider::Result) -> Option<String> {
    match found {
        Err(error @ CredentialsError::CredentialsNotLoaded(_)) => {
            // The SDK's own sentence says no more than this.
            let source = error.source().map(error_chain);
            Some(source.unwrap_or_else(|| "none".to_owned()))
        }
        _ => None,
    }
}

/// The first of the two variables that is not set.
fn missing_variable() -> String {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    match names.iter().find(|name| !is_set(name)) {
        Some(name) => format!("{name} is not set"),
        None => "none".to_owned(),
    }
}

/// What the file of AWS's tools lacks, of the user who runs trueup.
fn missing_profile() -> String {
    let named = std::env::var("AWS_SHARED_CREDENTIALS_FILE").ok();
    let home = || std::env::var("HOME").unwrap_or_else(|_| "~".to_owned());
    let file = named.unwrap_or_else(|| format!("{}/.aws/credentials", home()));
    let profile = std::env::var("AWS_PROFILE").unwrap_or_else(|_| "default".to_owned());
    match std::path::Path::new(&file).exists() {
        true => format!("{file}: no credentials in the profile `{profile}`"),
        false => format!("{file}: no such file"),
    }
}

/// The result of a configured source.
fn configured(found: provider::Result) -> provider::Result {
    found.map_err(|error| {
        CredentialsError::provider_error(CredentialsChainError::Failed(error_chain(&error)))
    })
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
pub(in crate::ports) enum CredentialsChainError {
    /// No source has any; why each has none.
    NotFound(String),
    /// A configured source failed.
    Failed(String),
    TimedOut(Duration),
}

impl fmt::Display for CredentialsChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SOURCES: &str = "asked environment, AWS profile files, AWS_WEB_IDENTITY_TOKEN_FILE, \
            AWS_CONTAINER_CREDENTIALS_* and the role of this instance, in this order";
        match self {
            CredentialsChainError::NotFound(reasons) => f.write_str(reasons),
            CredentialsChainError::Failed(why) => {
                write!(f, "no AWS credentials: {why} ({SOURCES})")
            }
            CredentialsChainError::TimedOut(limit) => {
                write!(f, "no AWS credentials within {limit:?} ({SOURCES})")
            }
        }
    }
}

impl Error for CredentialsChainError {}
