//! The S3 client: deadlines, retries and limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, ConfigBag, Intercept, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, RuntimeComponents, SharedCredentialsProvider, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use jiff::Timestamp;

use super::location::S3Settings;
use crate::ports::aws::{CredentialsChain, SchemeHttpClient, configured_region};
use crate::ports::store::{MAX_OBJECT_SIZE, StoreError};

/// Deadlines for the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// To connect, name lookup included.
    pub connect: Duration,
    /// For one attempt, up to the head of its answer.
    pub attempt: Duration,
    /// For everything in one operation of the port: attempts, pauses, pages and bodies.
    pub operation: Duration,
    /// For [`Store::get_many`](crate::ports::store::Store::get_many).
    pub get_many: Duration,
    /// To find credentials.
    pub credentials: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines {
            connect: Duration::from_secs(3),
            attempt: Duration::from_secs(6),
            operation: Duration::from_secs(20),
            get_many: Duration::from_secs(60),
            credentials: Duration::from_secs(3),
        }
    }
}

pub(super) fn build_client(
    address: &str,
    settings: &S3Settings,
    deadlines: Deadlines,
    credentials: Option<SharedCredentialsProvider>,
    clock: &ServerClock,
) -> Result<Client, StoreError> {
    let region = match &settings.region {
        Some(region) => Region::new(region.clone()),
        None => configured_region().ok_or_else(|| {
            StoreError::Settings(format!(
                "no region for {address}: set `region:` beside the store's url, or set AWS_REGION (an AWS profile's region counts too)"
            ))
        })?,
    };
    let http = SharedHttpClient::new(SchemeHttpClient::new(max_response));
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(deadlines.connect)
        .operation_attempt_timeout(deadlines.attempt)
        .build();
    // With the SDK's own first pause of 1 s, three attempts would not fit the deadline.
    let retries = RetryConfig::standard()
        .with_max_attempts(3)
        .with_initial_backoff(Duration::from_millis(250));
    let credentials = credentials.unwrap_or_else(|| {
        let chain = CredentialsChain::new(http.clone(), region.clone(), deadlines.credentials);
        SharedCredentialsProvider::new(chain)
    });
    let mut config = Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .region(region)
        .credentials_provider(credentials)
        .http_client(http)
        .timeout_config(timeouts)
        .retry_config(retries)
        .force_path_style(settings.path_style)
        .interceptor(clock.clone())
        // The operation's deadline covers this, also when a body trickles in.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // The signature already covers the body; many compatible servers support no other checksum.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &settings.endpoint {
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(StoreError::Settings(format!(
                "`{endpoint}` is not an endpoint for {address}: expected http://host:port or https://host:port"
            )));
        }
        config = config.endpoint_url(endpoint);
    }
    Ok(Client::from_conf(config.build()))
}

/// Counts the attempts that were sent to the server.
#[derive(Debug, Clone, Default)]
pub(super) struct AttemptCounter(Arc<AtomicU32>);

impl AttemptCounter {
    pub(super) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Intercept for AttemptCounter {
    fn name(&self) -> &'static str {
        "Attempts"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// The server's clock, from the `Date` header of its last answer.
#[derive(Debug, Clone)]
pub(super) struct ServerClock(Arc<AtomicI64>);

/// No answer yet.
const UNKNOWN_TIME: i64 = i64::MIN;

impl Default for ServerClock {
    fn default() -> ServerClock {
        ServerClock(Arc::new(AtomicI64::new(UNKNOWN_TIME)))
    }
}

impl ServerClock {
    pub(super) fn time(&self) -> Option<Timestamp> {
        let seconds = self.0.load(Ordering::Relaxed);
        (seconds != UNKNOWN_TIME).then(|| Timestamp::from_second(seconds).ok())?
    }
}

impl Intercept for ServerClock {
    fn name(&self) -> &'static str {
        "ServerClock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
        if let Some(date) = date {
            self.0.store(date.secs(), Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Maximum size of an answer, in bytes: an object and a little more.
const MAX_RESPONSE: usize = MAX_OBJECT_SIZE + (64 << 10);

/// Maximum size of a page of a list, in bytes: a thousand keys of maximum length with their attributes. The
/// SDK's representation of a page takes many times its bytes.
const MAX_LIST_PAGE: usize = 3 << 19;

/// Maximum size of the answer to a request.
fn max_response(request: &HttpRequest) -> usize {
    match request.uri().contains("list-type=2") {
        true => MAX_LIST_PAGE,
        false => MAX_RESPONSE,
    }
}
