//! How nodes ask each other: one request, one reply, or no answer in time.
//!
//! [`PeerBus`] is implemented over links between processes, and over direct calls in tests and
//! simulations. What is asked is answered by the node's [`PeerService`]. A reply proves nothing
//! about ownership, and a missing one neither: the directory row decides.
//!
//! * [`ractor`]: the bus over links between processes. [`greeting`]: their first words; [`tls`]:
//!   who may speak at all; [`budget`]: how much may wait; [`figures`]: what is counted.

mod agent;
pub mod budget;
pub mod figures;
pub mod greeting;
pub mod ractor;
mod table;
pub mod tap;
pub mod tls;

use std::time::Duration;

use futures::future::BoxFuture;
use rekindle_schema::Incarnation;
use rekindle_schema::peer::{PeerReply, PeerRequest};

/// Why a request has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// There is no link to that node: nothing was asked.
    #[error("RK-PEER-001: no link to node {0}; it may be starting, or have stopped")]
    NoLink(Incarnation),
    /// The link broke, or no reply came in time: whether it was done is unknown.
    #[error(
        "RK-PEER-002: node {0} did not answer in time; whether it did what it was asked is unknown"
    )]
    Unknown(Incarnation),
    /// Too much waits for that node already: nothing was asked.
    #[error("RK-PEER-003: too many requests to node {0} wait for an answer; try again")]
    Busy(Incarnation),
    /// The two builds do not understand each other: nothing was done.
    #[error("RK-PEER-004: node {node} {problem}; run neighbouring releases in one cluster")]
    Version {
        /// The other node.
        node: Incarnation,
        /// What does not fit, in words.
        problem: String,
    },
}

impl PeerError {
    /// Whether it is certain that the other node did nothing.
    pub fn is_certain(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }
}

/// Asks other nodes.
pub trait PeerBus: Send + Sync + 'static {
    /// Asks `to`, and waits for its reply for `patience` at most.
    fn call(
        &self,
        to: Incarnation,
        request: PeerRequest,
        patience: Duration,
    ) -> BoxFuture<'_, Result<PeerReply, PeerError>>;
    /// The nodes to which there is a link now, ascending.
    fn linked(&self) -> Vec<Incarnation>;
}

/// Answers other nodes.
pub trait PeerService: Send + Sync + 'static {
    /// Does what `from` asks. May be called several times at once; giving up the future must leave
    /// no half-done work behind.
    fn handle(&self, from: Incarnation, request: PeerRequest) -> BoxFuture<'_, PeerReply>;
}

/// The bus of a node that has no others.
pub struct Alone;

impl PeerBus for Alone {
    fn call(
        &self,
        to: Incarnation,
        _: PeerRequest,
        _: Duration,
    ) -> BoxFuture<'_, Result<PeerReply, PeerError>> {
        Box::pin(std::future::ready(Err(PeerError::NoLink(to))))
    }

    fn linked(&self) -> Vec<Incarnation> {
        Vec::new()
    }
}
