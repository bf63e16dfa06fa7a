//! The metrics of an edge. Their table is in the documentation of the crate.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use rekindle_schema::wire::RefuseCode;

use crate::stage::Stage;

/// Handles to all metrics that are touched more than once in a while. Made after the recorder is
/// installed.
pub(crate) struct Meters {
    connections: Gauge,
    pending: Gauge,
    /// In the order of [`Stage::ALL`].
    stages: [Gauge; Stage::ALL.len()],
    pub(crate) sessions: Gauge,
    pub(crate) accepted: Counter,
    pub(crate) superseded: Counter,
    pub(crate) datagrams_in: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) inputs_queued: Counter,
    pub(crate) inputs_repeated: Counter,
    pub(crate) inputs_stale: Counter,
    pub(crate) inputs_window: Counter,
    pub(crate) inputs_full: Counter,
    pub(crate) inputs_no_session: Counter,
    pub(crate) commands: Counter,
    pub(crate) snapshots: Counter,
    pub(crate) snapshots_skipped: Counter,
    pub(crate) snapshots_partial: Counter,
    pub(crate) snapshots_shared: Counter,
    pub(crate) slowed: Counter,
    pub(crate) snapshot_bytes: Histogram,
    pub(crate) messages: Counter,
    pub(crate) rate_limited: Counter,
}

impl Meters {
    pub(crate) fn new() -> Self {
        let inputs =
            |outcome: &'static str| counter!("rekindle_gateway_inputs_total", "outcome" => outcome);
        Self {
            connections: gauge!("rekindle_gateway_connections"),
            pending: gauge!("rekindle_gateway_pending_connections"),
            stages: Stage::ALL
                .map(|stage| gauge!("rekindle_gateway_stage_connections", "stage" => stage.name())),
            sessions: gauge!("rekindle_gateway_sessions"),
            accepted: counter!("rekindle_gateway_connections_total", "outcome" => "accepted"),
            superseded: counter!("rekindle_gateway_superseded_total"),
            datagrams_in: counter!("rekindle_gateway_datagrams_received_total"),
            bytes_in: counter!("rekindle_gateway_datagram_bytes_received_total"),
            inputs_queued: inputs("queued"),
            inputs_repeated: inputs("repeated"),
            inputs_stale: inputs("stale"),
            inputs_window: inputs("out_of_window"),
            inputs_full: inputs("full"),
            inputs_no_session: inputs("no_session"),
            commands: counter!("rekindle_gateway_commands_total"),
            snapshots: counter!("rekindle_gateway_snapshots_total", "outcome" => "sent"),
            snapshots_skipped: counter!("rekindle_gateway_snapshots_total", "outcome" => "skipped"),
            snapshots_partial: counter!("rekindle_gateway_snapshots_partial_total"),
            snapshots_shared: counter!("rekindle_gateway_snapshots_shared_total"),
            slowed: counter!("rekindle_gateway_slowed_total"),
            snapshot_bytes: histogram!("rekindle_gateway_snapshot_bytes"),
            messages: counter!("rekindle_gateway_messages_total"),
            rate_limited: counter!("rekindle_gateway_rate_limited_total"),
        }
    }

    /// So many more connections stand at a stage.
    pub(crate) fn moved(&self, stage: Stage, more: f64, pending: bool) {
        self.connections.increment(more);
        self.stages[stage as usize].increment(more);
        if pending {
            self.pending.increment(more);
        }
    }

    /// A connection was turned away before it said anything.
    pub(crate) fn turned_away(outcome: &'static str, reason: &'static str) {
        counter!("rekindle_gateway_connections_total", "outcome" => outcome, "reason" => reason)
            .increment(1);
    }

    /// A client got no place, or had to give its place to another.
    pub(crate) fn no_place(why: &'static str) {
        counter!("rekindle_gateway_no_place_total", "why" => why).increment(1);
    }

    /// A client was told that the match does not go on from what it saw.
    pub(crate) fn rewound(why: &'static str) {
        counter!("rekindle_gateway_rewound_total", "why" => why).increment(1);
    }

    /// A client was told that it may have missed events.
    pub(crate) fn events_missed() {
        counter!("rekindle_gateway_events_missed_total").increment(1);
    }

    /// A player's question to documents was answered: `done` or `refused`.
    pub(crate) fn documents(outcome: &'static str) {
        counter!("rekindle_gateway_documents_total", "outcome" => outcome).increment(1);
    }

    /// A client was redirected (`sent`), or would have been once more (`circle`).
    pub(crate) fn redirect(outcome: &'static str) {
        counter!("rekindle_gateway_redirects_total", "outcome" => outcome).increment(1);
    }

    /// A client was refused or let go.
    pub(crate) fn refused(code: RefuseCode) {
        counter!("rekindle_gateway_refused_total", "code" => format!("{code:?}").to_lowercase())
            .increment(1);
    }

    /// Something that the protocol does not allow arrived.
    pub(crate) fn malformed(reason: &'static str) {
        counter!("rekindle_gateway_malformed_total", "reason" => reason).increment(1);
    }
}
