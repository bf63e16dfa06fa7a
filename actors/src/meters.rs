//! The metrics of a host. Their names and meanings are in the crate documentation.

use crate::checkpoint::chain::CheckpointKind;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// Handles, looked up once: recording is then a few nanoseconds.
pub(crate) struct Meters {
    pub(crate) ticks: Counter,
    pub(crate) late_ticks: Counter,
    pub(crate) paused_ticks: Counter,
    pub(crate) tick_delay: Counter,
    pub(crate) tick_seconds: Histogram,
    pub(crate) tick_lateness: Histogram,
    pub(crate) input_to_apply: Histogram,
    pub(crate) input_to_durable: Histogram,
    pub(crate) tick_to_durable: Histogram,
    pub(crate) subscribers_dropped: Counter,
    pub(crate) append_seconds: Histogram,
    pub(crate) append_retries: Counter,
    pub(crate) batch_records: Histogram,
    pub(crate) batch_bytes: Histogram,
    pub(crate) backlog: Gauge,
    pub(crate) checkpoint_age: Gauge,
    checkpoint_bytes: [Histogram; 2],
    checkpoint_encode: [Histogram; 2],
    pub(crate) checkpoint_put: Histogram,
    pub(crate) replay_estimate: Gauge,
    pub(crate) recovery_replay: Histogram,
    pub(crate) recovery_total: Histogram,
    pub(crate) hash_mismatches: Counter,
    /// By grounds: equal, accepted, rewound.
    pub(crate) build_changes: [Counter; 3],
    pub(crate) quarantined: Counter,
    pub(crate) broken: Counter,
    pub(crate) parked: Counter,
    pub(crate) restarts: Counter,
    pub(crate) moved: Counter,
    pub(crate) effects: Counter,
    pub(crate) slowdowns: Counter,
    pub(crate) slowed: Gauge,
    pub(crate) matches: Gauge,
    pub(crate) sessions: Gauge,
}

fn of_kind(all: &[Histogram; 2], kind: CheckpointKind) -> &Histogram {
    &all[kind as usize]
}

impl Meters {
    pub(crate) fn checkpoint_bytes(&self, kind: CheckpointKind) -> &Histogram {
        of_kind(&self.checkpoint_bytes, kind)
    }

    pub(crate) fn checkpoint_encode(&self, kind: CheckpointKind) -> &Histogram {
        of_kind(&self.checkpoint_encode, kind)
    }

    pub(crate) fn new() -> Self {
        Self {
            ticks: counter!("rekindle_ticks_total"),
            late_ticks: counter!("rekindle_late_ticks_total"),
            paused_ticks: counter!("rekindle_paused_ticks_total"),
            tick_delay: counter!("rekindle_tick_delay_microseconds_total"),
            tick_seconds: histogram!("rekindle_tick_seconds"),
            tick_lateness: histogram!("rekindle_tick_lateness_seconds"),
            input_to_apply: histogram!("rekindle_input_to_apply_seconds"),
            input_to_durable: histogram!("rekindle_input_to_durable_seconds"),
            tick_to_durable: histogram!("rekindle_tick_to_durable_seconds"),
            subscribers_dropped: counter!("rekindle_subscribers_dropped_total"),
            append_seconds: histogram!("rekindle_journal_append_seconds"),
            append_retries: counter!("rekindle_journal_append_retries_total"),
            batch_records: histogram!("rekindle_journal_batch_records"),
            batch_bytes: histogram!("rekindle_journal_batch_bytes"),
            backlog: gauge!("rekindle_journal_backlog_bytes"),
            checkpoint_age: gauge!("rekindle_checkpoint_age_seconds"),
            checkpoint_bytes: CheckpointKind::ALL
                .map(|kind| histogram!("rekindle_checkpoint_bytes", "kind" => kind.as_str())),
            checkpoint_encode: CheckpointKind::ALL.map(
                |kind| histogram!("rekindle_checkpoint_encode_seconds", "kind" => kind.as_str()),
            ),
            checkpoint_put: histogram!("rekindle_checkpoint_put_seconds"),
            replay_estimate: gauge!("rekindle_replay_estimate_seconds"),
            recovery_replay: histogram!("rekindle_recovery_seconds", "phase" => "replay"),
            recovery_total: histogram!("rekindle_recovery_seconds", "phase" => "total"),
            hash_mismatches: counter!("rekindle_hash_mismatches_total"),
            build_changes: ["equal", "accepted", "rewound"]
                .map(|grounds| counter!("rekindle_build_changes_total", "grounds" => grounds)),
            quarantined: counter!("rekindle_quarantined_total"),
            broken: counter!("rekindle_broken_validations_total"),
            parked: counter!("rekindle_parked_total"),
            restarts: counter!("rekindle_match_restarts_total"),
            moved: counter!("rekindle_matches_moved_total"),
            effects: counter!("rekindle_effects_delivered_total"),
            slowdowns: counter!("rekindle_slowdowns_total"),
            slowed: gauge!("rekindle_matches_slowed"),
            matches: gauge!("rekindle_matches"),
            sessions: gauge!("rekindle_sessions"),
        }
    }
}
