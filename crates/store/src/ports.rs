//! The ports: what the rest of the node asks of a store, one file each.
//!
//! No method has a default: whoever writes a backend decides about each. Every backend passes the
//! suite in `rekindle-store-conformance`. All errors say whether a retry can help.

mod archive;
mod audit;
mod checkpoints;
mod effects;
mod identity;
mod jobs;
mod journal;
mod leases;
mod registry;

use futures::future::BoxFuture;

pub use self::archive::Archive;
pub use self::audit::{AuditLog, AuditQuery};
pub use self::checkpoints::Checkpoints;
pub use self::effects::EffectSink;
pub use self::identity::Identity;
pub use self::jobs::{Claim, Hold, JobFilter, Jobs, NewJob, Outcome, QueueCounts};
pub use self::journal::{Journal, LogInfo, Tail};
pub use self::leases::{Leases, Renewal};
pub use self::registry::Registry;
use crate::StoreError;

/// What a store's methods return.
pub type StoreResult<'a, T> = BoxFuture<'a, Result<T, StoreError>>;
