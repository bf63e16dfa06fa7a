//! Durable storage of matches: ports, their conformance suite, and backends.
//!
//! This crate is not responsible for what a record means, for who may write (that is `rekindle-cluster`), or for when to flush
//! (that is `rekindle-actors`).

pub mod port;

use std::sync::Arc;

pub use port::{Checkpoints, EffectSink, Journal, Leases, LogInfo, Renewal, StoreError, StoreResult, Tail};

/// A store, as one node holds it.
#[derive(Clone)]
pub struct Store {
    /// Logs.
    pub journal: Arc<dyn Journal>,
    /// Checkpoints.
    pub checkpoints: Arc<dyn Checkpoints>,
    /// Leases and the match directory.
    pub leases: Arc<dyn Leases>,
    /// Results of matches and other effects.
    pub effects: Arc<dyn EffectSink>,
}
