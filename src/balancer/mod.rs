//! A balancer of a pair: haproxy, and a virtual address that keepalived gives to one host at a time.
//!
//! keepalived decides who has the address. It runs two commands of trueup: one that says whether this host may have it
//! ([`check`]), and one that records what it decided ([`state`]). An operator's drain ([`drain`]) makes the first one fail,
//! so that the address moves before haproxy stops. In EC2, where no host can announce an address to its neighbours, the
//! master also claims it ([`claim`]).

pub(crate) mod check;
pub(crate) mod claim;
pub(crate) mod config;
pub(crate) mod drain;
pub(crate) mod eip;
pub(crate) mod state;
