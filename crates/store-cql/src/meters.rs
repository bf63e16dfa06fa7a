//! What is counted of a session: our requests by kind, and what the driver counts itself.

use std::sync::Weak;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::driver::{Driver, Kind};

/// How often the driver's own numbers are carried over.
const EVERY: Duration = Duration::from_secs(5);

struct OfKind {
    requests: Counter,
    errors: Counter,
    seconds: Histogram,
}

impl OfKind {
    fn new(kind: &'static str) -> Self {
        Self {
            requests: counter!("rekindle_cql_requests_total", "kind" => kind),
            errors: counter!("rekindle_cql_errors_total", "kind" => kind),
            seconds: histogram!("rekindle_cql_request_seconds", "kind" => kind),
        }
    }
}

/// The meters of one session.
pub(super) struct Meters {
    writes: OfKind,
    reads: OfKind,
    serial_reads: OfKind,
    transactions: OfKind,
    unknown: Counter,
    retries: Counter,
    timeouts: Counter,
    connections: Gauge,
}

impl Meters {
    pub(super) fn new() -> Self {
        Self {
            writes: OfKind::new("write"),
            reads: OfKind::new("read"),
            serial_reads: OfKind::new("serial_read"),
            transactions: OfKind::new("transaction"),
            unknown: counter!("rekindle_cql_unknown_transactions_total"),
            retries: counter!("rekindle_cql_driver_retries_total"),
            timeouts: counter!("rekindle_cql_timeouts_total"),
            connections: gauge!("rekindle_cql_connections"),
        }
    }

    /// One request was answered, or not.
    pub(super) fn request(&self, kind: Kind, took: Duration, ok: bool) {
        let meters = match kind {
            Kind::Write => &self.writes,
            Kind::Read => &self.reads,
            Kind::SerialRead => &self.serial_reads,
            Kind::Transaction => &self.transactions,
        };
        meters.requests.increment(1);
        meters.errors.increment(u64::from(!ok));
        meters.seconds.record(took);
    }

    /// A transaction whose outcome had to be looked up.
    pub(super) fn unknown(&self) {
        self.unknown.increment(1);
    }
}

/// Carries over what the driver counts, until the session ends.
pub(super) async fn export(driver: Weak<Driver>) {
    let (mut retries, mut timeouts) = (0, 0);
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(driver) = driver.upgrade() else { return };
        let (counts, meters) = (driver.session().get_metrics(), driver.meters());
        let now = (
            counts.get_retries_num(),
            counts.get_request_timeouts() + counts.get_connection_timeouts(),
        );
        meters.retries.increment(now.0.saturating_sub(retries));
        meters.timeouts.increment(now.1.saturating_sub(timeouts));
        (retries, timeouts) = now;
        meters.connections.set(counts.get_total_connections() as f64);
    }
}
