//! One call of EC2's Query API: a signed form in, XML out, with the SDK's own retries.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_runtime::auth::SigV4OperationSigningConfig;
use aws_runtime::auth::sigv4::{SCHEME_ID, SigV4AuthScheme};
use aws_runtime::retries::classifiers::AwsErrorCodeClassifier;
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime::client::retries::classifiers::{
    HttpStatusCodeClassifier, TransientErrorClassifier,
};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::auth::AuthSchemeOptionResolverParams;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::identity::SharedIdentityResolver;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_smithy_runtime_api::client::runtime_plugin::StaticRuntimePlugin;
use aws_smithy_runtime_api::client::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::Layer;
use aws_smithy_types::error::ErrorMetadata;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SigningName;
use aws_types::region::{Region, SigningRegion};
use url::form_urlencoded;

use super::super::error::Refusal;
use super::answers::parse_refusal;

/// The version of the API that trueup knows; AWS keeps it for good.
const API_VERSION: &str = "2016-11-15";

/// Deadlines for EC2.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// To connect, name lookup included.
    pub connect: Duration,
    /// For one attempt, with its answer.
    pub attempt: Duration,
    /// For one request with its retries.
    pub request: Duration,
    /// To find credentials.
    pub credentials: Duration,
    /// For one question to the instance's metadata service, which is on the same machine.
    pub metadata: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines {
            connect: Duration::from_secs(3),
            attempt: Duration::from_secs(6),
            request: Duration::from_secs(20),
            credentials: Duration::from_secs(3),
            metadata: Duration::from_secs(3),
        }
    }
}

/// The parameters of a call.
pub(super) type Form = Vec<(String, String)>;

/// A call of the API. Returns the XML of the answer.
pub(super) type Query = Operation<Form, String, ApiError>;

/// An error that EC2 answered with, as the SDK's retries want it.
#[derive(Debug)]
pub(super) struct ApiError {
    meta: ErrorMetadata,
    pub refusal: Box<Refusal>,
}

impl ProvideErrorMetadata for ApiError {
    fn meta(&self) -> &ErrorMetadata {
        &self.meta
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.refusal.code)
    }
}

impl Error for ApiError {}

/// Why a query failed.
pub(super) type QueryError = SdkError<ApiError, HttpResponse>;

pub(super) fn build_query(
    endpoint: &str,
    region: &Region,
    http: SharedHttpClient,
    credentials: SharedCredentialsProvider,
    deadlines: Deadlines,
) -> Query {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(deadlines.connect)
        .operation_attempt_timeout(deadlines.attempt)
        .build();
    // With the SDK's own first delay of 1 s, three attempts would not fit the deadline.
    let retries = RetryConfig::standard()
        .with_max_attempts(3)
        .with_initial_backoff(Duration::from_millis(250));
    Operation::builder()
        .service_name("ec2")
        .operation_name("Query")
        .http_client(http)
        .endpoint_url(endpoint)
        .timeout_config(timeouts)
        .standard_retry(&retries)
        .retry_classifier(TransientErrorClassifier::<ApiError>::new())
        .retry_classifier(HttpStatusCodeClassifier::default())
        .retry_classifier(AwsErrorCodeClassifier::<ApiError>::new())
        // The deadline of the attempt covers this.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .with_connection_poisoning()
        .runtime_plugin(sign_requests(region, credentials))
        .serializer(build_request)
        .deserializer(parse_response)
        .build()
}

/// Signs requests with these credentials.
fn sign_requests(region: &Region, credentials: SharedCredentialsProvider) -> StaticRuntimePlugin {
    let mut config = Layer::new("ec2");
    config.store_put(AuthSchemeOptionResolverParams::new(()));
    config.store_put(SigV4OperationSigningConfig {
        name: Some(SigningName::from_static("ec2")),
        region: Some(SigningRegion::from(region.clone())),
        ..SigV4OperationSigningConfig::default()
    });
    let components = RuntimeComponentsBuilder::new("ec2")
        .with_auth_scheme(SigV4AuthScheme::new())
        .with_auth_scheme_option_resolver(Some(StaticAuthSchemeOptionResolver::new(vec![
            SCHEME_ID,
        ])))
        .with_identity_resolver(SCHEME_ID, SharedIdentityResolver::new(credentials));
    StaticRuntimePlugin::new()
        .with_config(config.freeze())
        .with_runtime_components(components)
}

fn build_request(form: Form) -> Result<HttpRequest, BoxError> {
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(&form)
        .append_pair("Version", API_VERSION)
        .finish();
    let mut request = HttpRequest::new(SdkBody::empty());
    request.set_method("POST")?;
    request.set_uri("/")?;
    let headers = request.headers_mut();
    headers.insert("content-type", "application/x-www-form-urlencoded");
    headers.insert("content-length", body.len().to_string());
    headers.insert("user-agent", concat!("trueup/", env!("CARGO_PKG_VERSION")));
    *request.body_mut() = SdkBody::from(body);
    Ok(request)
}

fn parse_response(response: &HttpResponse) -> Result<String, OrchestratorError<ApiError>> {
    let body = response.body().bytes().unwrap_or_default();
    if response.status().is_success() {
        let text =
            str::from_utf8(body).map_err(|error| OrchestratorError::response(error.into()))?;
        return Ok(text.to_owned());
    }
    let text = String::from_utf8_lossy(body);
    let refusal = Box::new(parse_refusal(response.status().as_u16(), &text));
    let meta = ErrorMetadata::builder().code(&refusal.code).build();
    Err(OrchestratorError::operation(ApiError { meta, refusal }))
}
