//! An HTTP client for the SDK that sets up TLS only when needed, and whose answers are limited in size.

use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};

/// Two HTTP clients, one with and one without TLS. Setting up TLS reads the system's certificates, which
/// takes longer than a whole pass without changes; so each client is created at its first request. A
/// credential source may need TLS where the service does not, and vice versa.
#[derive(Debug)]
pub(in crate::ports) struct SchemeHttpClient {
    plain: SharedHttpClient,
    tls: SharedHttpClient,
    max_response: MaxResponse,
}

/// The maximum size of the answer to a request, in bytes. The SDK reads most bodies whole, such as that of an error.
pub(in crate::ports) type MaxResponse = fn(&HttpRequest) -> usize;

impl SchemeHttpClient {
    pub(in crate::ports) fn new(max_response: MaxResponse) -> Self {
        let ring = tls::Provider::Rustls(CryptoMode::Ring);
        SchemeHttpClient {
            plain: aws_smithy_http_client::Builder::new().build_http(),
            tls: aws_smithy_http_client::Builder::new()
                .tls_provider(ring)
                .build_https(),
            max_response,
        }
    }
}

impl HttpClient for SchemeHttpClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(SchemeConnector {
            plain: self.plain.clone(),
            tls: self.tls.clone(),
            max_response: self.max_response,
            settings: settings.clone(),
            components: components.clone(),
        })
    }
}

#[derive(Debug)]
struct SchemeConnector {
    plain: SharedHttpClient,
    tls: SharedHttpClient,
    max_response: MaxResponse,
    settings: HttpConnectorSettings,
    components: RuntimeComponents,
}

impl HttpConnector for SchemeConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = if request.uri().starts_with("http:") {
            &self.plain
        } else {
            &self.tls
        };
        let limit = (self.max_response)(&request);
        let answer = client
            .http_connector(&self.settings, &self.components)
            .call(request);
        HttpConnectorFuture::new(
            async move { Ok(answer.await?.map(|body| limit_body(body, limit))) },
        )
    }
}

/// Makes a body fail where it exceeds the limit.
fn limit_body(body: SdkBody, limit: usize) -> SdkBody {
    let body =
        Limited::new(body, limit).map_err(move |error| match error.is::<LengthLimitError>() {
            true => format!("the answer is longer than {limit} bytes").into(),
            false => error,
        });
    SdkBody::from_body_1_x(body)
}
