//! What the clients of AWS share: credentials, region, HTTP and the text of errors.

mod credentials;
mod error_chain;
#[cfg(test)]
pub(in crate::ports) mod faulty_server;
mod http_client;
mod region;

pub(in crate::ports) use self::credentials::{CredentialsChain, CredentialsChainError};
pub(in crate::ports) use self::error_chain::error_chain;
pub(in crate::ports) use self::http_client::SchemeHttpClient;
pub(in crate::ports) use self::region::configured_region;
