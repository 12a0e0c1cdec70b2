//! A model of rollouts over the very code that hosts and operators run: small fleets, every interleaving of their calls
//! to the store, and faults at each of them.
//!
//! A host's pass runs again from the beginning of its stage up to the next call to the store, with the answers that it
//! has got so far ([`pass`]); so the state of the model is plain data ([`world`]), and nothing of the protocol is
//! written twice. A [`step`] carries out one call, with or without a fault. The checker explores all worlds of a
//! [`scenario`] and looks at the invariants I1 to I5 in each ([`invariant`]); [`graph`] searches the explored worlds
//! backwards for I7, and [`recovery`] follows for I6 what the hosts report to an operator.
//!
//! [`sweep`] has the tests: all scenarios, and all rules of the protocol that are switched off one at a time.

mod call;
mod checker;
mod client;
mod graph;
mod invariant;
mod names;
mod operator;
mod pass;
mod recovery;
mod scenario;
mod scenarios;
mod step;
mod store;
mod sweep;
mod world;
