//! EC2's Query API, in a few calls.
//!
//! Every call has a deadline, a limit on the length of its answer, and errors that say what to do.

mod answers;
mod endpoint;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod live_tests;
mod metadata;
mod query;

use std::future::Future;
use std::marker::PhantomData;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_types::region::Region;

use self::metadata::Metadata;
use self::query::{Deadlines, Form, Query, QueryError, build_query};
use super::error::{CREDENTIALS_HINT, NETWORK_HINT};
use super::{
    AllocationId, Association, Ec2, Ec2Error, Ec2Settings, ElasticIp, Filter, Instance, Interface,
    InterfaceId, Mode, ThisInstance,
};
use crate::ports::aws::{
    CredentialsChain, CredentialsChainError, SchemeHttpClient, configured_region, error_chain,
};
use crate::ports::error_sources::find_source;
use crate::ports::runtime::block_on;
use crate::ports::watchdog;

/// Maximum size of an answer, in bytes: a page of instances with twenty times as much text as usual.
const MAX_RESPONSE: usize = 4 << 20;
/// Instances in a page.
const PAGE_SIZE: usize = 200;
/// Maximum number of instances in a list; longer ones are refused, never truncated.
const MAX_INSTANCES: usize = 10_000;
/// Maximum length of the tags of a list, in bytes: ten times as much as usual.
const MAX_TAGS: usize = 32 << 20;
/// Maximum pages of a list: twice as many as needed, because EC2 may make shorter ones.
const MAX_PAGES: usize = 2 * MAX_INSTANCES / PAGE_SIZE;

/// A client of the API. Stays on its thread, whose runtime serves its connections.
#[derive(Debug)]
pub(super) struct ApiClient {
    address: String,
    query: Query,
    metadata: Metadata,
    deadlines: Deadlines,
    /// When all calls must have ended.
    ends_at: Instant,
    thread: PhantomData<*const ()>,
}

impl ApiClient {
    pub(super) fn open(settings: &Ec2Settings, limit: Duration) -> Result<ApiClient, Ec2Error> {
        ApiClient::with_options(settings, limit, Deadlines::default(), None)
    }

    fn with_options(
        settings: &Ec2Settings,
        limit: Duration,
        deadlines: Deadlines,
        credentials: Option<SharedCredentialsProvider>,
    ) -> Result<ApiClient, Ec2Error> {
        let ends_at = Instant::now() + limit;
        let http = SharedHttpClient::new(SchemeHttpClient::new(|_| MAX_RESPONSE));
        let metadata = Metadata::new(http.clone(), deadlines.metadata);
        let region = match &settings.region {
            Some(region) => Region::new(region.clone()),
            None => find_region(&metadata)?,
        };
        let configured = settings.endpoint.clone();
        let configured = configured.or_else(endpoint::endpoint_of_environment);
        let endpoint = endpoint::endpoint(configured.as_deref(), region.as_ref())?;
        let credentials = credentials.unwrap_or_else(|| {
            let chain = CredentialsChain::new(http.clone(), region.clone(), deadlines.credentials);
            SharedCredentialsProvider::new(chain)
        });
        let (_, host) = endpoint.split_once("://").unwrap_or(("", &endpoint));
        Ok(ApiClient {
            address: host.to_owned(),
            query: build_query(&endpoint, &region, http, credentials, deadlines),
            metadata,
            deadlines,
            ends_at,
            thread: PhantomData,
        })
    }

    /// Sends one request, and again if it fails in a way that may pass. Returns the XML of the answer.
    fn send(&self, action: &'static str, mut form: Form) -> Result<String, Ec2Error> {
        form.insert(0, ("Action".to_owned(), action.to_owned()));
        let limit = self.remaining(self.deadlines.request);
        let answer = self.run(action, limit, self.query.invoke(form));
        let answer = answer.map_err(|limit| {
            self.unreachable(action, format!("timed out after {limit:?}"), NETWORK_HINT)
        })?;
        answer.map_err(|error| self.error(action, error))
    }

    /// Runs to the end or to the limit, which is the error.
    fn run<T>(
        &self,
        action: &str,
        limit: Duration,
        call: impl Future<Output = T>,
    ) -> Result<T, Duration> {
        let _operation = watchdog::begin(format!("EC2 {}: {action}", self.address), limit);
        block_on(async { tokio::time::timeout(limit, call).await }).map_err(|_| limit)
    }

    fn remaining(&self, limit: Duration) -> Duration {
        limit.min(self.ends_at.saturating_duration_since(Instant::now()))
    }

    fn error(&self, action: &'static str, error: QueryError) -> Ec2Error {
        let error = match error {
            SdkError::ServiceError(answer) => {
                return Ec2Error::Refused {
                    at: self.address.clone(),
                    action,
                    refusal: answer.into_err().refusal,
                };
            }
            error => error,
        };
        match find_source::<CredentialsChainError>(&error) {
            Some(CredentialsChainError::NotFound(why)) => Ec2Error::NoCredentials {
                at: self.address.clone(),
                why: why.clone(),
            },
            // A configured source may answer the next time.
            Some(error) => self.unreachable(action, error.to_string(), CREDENTIALS_HINT),
            None => self.unreachable(action, error_chain(&error), NETWORK_HINT),
        }
    }

    fn unreachable(&self, action: &'static str, why: String, hint: &'static str) -> Ec2Error {
        Ec2Error::Unreachable {
            at: self.address.clone(),
            action,
            why,
            hint,
        }
    }

    /// An answer that EC2 should not give.
    fn invalid_answer(&self, action: &'static str, content: &str) -> Ec2Error {
        self.unreachable(action, format!("it answered with {content}"), NETWORK_HINT)
    }

    /// Sends a request for a change. A refused dry run says in its own way that the caller may make the change.
    fn change(&self, action: &'static str, mut form: Form, mode: Mode) -> Result<(), Ec2Error> {
        if mode == Mode::DryRun {
            form.push(("DryRun".to_owned(), "true".to_owned()));
        }
        match self.send(action, form) {
            Ok(xml) => answers::parse_change(action, &xml)
                .map_err(|content| self.invalid_answer(action, &content)),
            Err(Ec2Error::Refused { refusal, .. })
                if mode == Mode::DryRun && refusal.code == "DryRunOperation" =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// The region that the environment, the AWS profile or the instance's metadata names.
fn find_region(metadata: &Metadata) -> Result<Region, Ec2Error> {
    if let Some(region) = configured_region() {
        return Ok(region);
    }
    block_on(metadata.region())
}

/// A parameter of a call.
fn field(name: impl Into<String>, value: impl ToString) -> (String, String) {
    (name.into(), value.to_string())
}

/// Filters, as numbered parameters.
fn filter_fields(filters: &[Filter<'_>]) -> Form {
    let mut form = Vec::new();
    for (i, filter) in (1..).zip(filters) {
        form.push(field(format!("Filter.{i}.Name"), filter.name));
        for (j, value) in (1..).zip(filter.values) {
            form.push(field(format!("Filter.{i}.Value.{j}"), value));
        }
    }
    form
}

impl Ec2 for ApiClient {
    fn this_instance(&self) -> Result<ThisInstance, Ec2Error> {
        let limit = self.remaining(3 * self.deadlines.metadata);
        let answer = self.run("metadata", limit, self.metadata.this_instance());
        answer.unwrap_or_else(|limit| Err(metadata::timed_out(limit)))
    }

    fn instances(&self, filters: &[Filter<'_>]) -> Result<Vec<Instance>, Ec2Error> {
        const ACTION: &str = "DescribeInstances";
        let mut instances: Vec<Instance> = Vec::new();
        let mut tags = 0;
        let mut next: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut form = filter_fields(filters);
            form.push(field("MaxResults", PAGE_SIZE));
            form.extend(next.as_ref().map(|token| field("NextToken", token)));
            let page = answers::parse_instances(&self.send(ACTION, form)?)
                .map_err(|content| self.invalid_answer(ACTION, &content))?;
            let of_page = page.instances.iter().flat_map(|instance| &instance.tags);
            tags += of_page
                .map(|(name, value)| name.len() + value.len())
                .sum::<usize>();
            instances.extend(page.instances);
            let excess = match tags {
                _ if instances.len() > MAX_INSTANCES => {
                    Some(format!("more than {MAX_INSTANCES} instances that match"))
                }
                MAX_TAGS.. => Some(format!(
                    "more than {} MiB of tags at the instances that match",
                    MAX_TAGS >> 20
                )),
                _ => None,
            };
            if let Some(what) = excess {
                let at = self.address.clone();
                return Err(Ec2Error::TooMany { at, what });
            }
            match page.next {
                None => return Ok(instances),
                next_page if next_page == next => {
                    return Err(self.invalid_answer(ACTION, "the same page twice"));
                }
                next_page => next = next_page,
            }
        }
        Err(self.invalid_answer(ACTION, "a list of pages without an end"))
    }

    fn elastic_ip(&self, id: &AllocationId) -> Result<ElasticIp, Ec2Error> {
        const ACTION: &str = "DescribeAddresses";
        let xml = self.send(ACTION, vec![field("AllocationId.1", id)])?;
        let addresses = answers::parse_addresses(&xml)
            .map_err(|content| self.invalid_answer(ACTION, &content))?;
        let mut addresses = addresses.into_iter();
        let address = addresses.find(|address| address.allocation == *id);
        address.ok_or_else(|| self.invalid_answer(ACTION, "other addresses than the one asked for"))
    }

    fn associate(&self, association: &Association<'_>, mode: Mode) -> Result<(), Ec2Error> {
        let mut form = vec![
            field("AllocationId", association.allocation),
            field("NetworkInterfaceId", association.interface),
            field("AllowReassociation", true),
        ];
        let address = association.private_address;
        form.extend(address.map(|address| field("PrivateIpAddress", address)));
        self.change("AssociateAddress", form, mode)
    }

    fn interfaces_with(&self, address: Ipv4Addr) -> Result<Vec<Interface>, Ec2Error> {
        const ACTION: &str = "DescribeNetworkInterfaces";
        let form = filter_fields(&[Filter {
            name: "addresses.private-ip-address",
            values: &[&address.to_string()],
        }]);
        answers::parse_interfaces(&self.send(ACTION, form)?)
            .map_err(|content| self.invalid_answer(ACTION, &content))
    }

    fn assign(
        &self,
        interface: &InterfaceId,
        address: Ipv4Addr,
        mode: Mode,
    ) -> Result<(), Ec2Error> {
        let form = vec![
            field("NetworkInterfaceId", interface),
            field("PrivateIpAddress.1", address),
            field("AllowReassignment", true),
        ];
        self.change("AssignPrivateIpAddresses", form, mode)
    }
}
