//! A running node's own lease.

use std::time::Duration;

use rekindle_schema::Incarnation;
use rekindle_schema::lease::Reached;
use rekindle_store::{Leases, Renewal, StoreError};

/// How often a lease is renewed.
pub const RENEW_EVERY: Duration = Duration::from_secs(1);
/// How far ahead a renewal moves the deadline, in milliseconds: three missed renewals make others
/// suspicious.
pub const LEASE_MS: u64 = 4_000;

/// Renews the lease of `node` each [`RENEW_EVERY`] until it is fenced (`Ok`) or the store fails for
/// good (`Err`). `clock` gives milliseconds since 1970, `reached` how far the node's log has come:
/// a log that is found to be shorter later has lost batches.
///
/// An unavailable store is asked again: that a lease runs out takes nothing away by itself, only a
/// fence does.
pub async fn keep(
    leases: &dyn Leases,
    node: Incarnation,
    clock: impl Fn() -> u64,
    reached: impl Fn() -> Option<Reached>,
) -> Result<(), StoreError> {
    let mut due = tokio::time::Instant::now();
    loop {
        due += RENEW_EVERY;
        tokio::time::sleep_until(due).await;
        match leases.renew(node, clock() + LEASE_MS, reached()).await {
            Ok(Renewal::Live) => {}
            Ok(Renewal::Fenced) => return Ok(()),
            Err(error) if error.is_transient() => {
                tracing::warn!(code = "RK-CLUSTER-001", %node, %error, "the lease could not be \
                    renewed; trying again");
            }
            Err(error) => return Err(error),
        }
    }
}
