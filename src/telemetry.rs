//! Logs and metrics of a process. Called once by the command line before anything else runs.
//!
//! Logs go to standard error, so that standard output stays what a command answers. Every notable
//! event has a stable `code` field.

mod json;
mod outlet;

use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::time::Duration;

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::Value;
use tracing_subscriber::EnvFilter;

pub use self::outlet::{Outlet, STDERR, STDOUT};
use crate::config::LogFormat;

/// How long a process that ends waits for its last lines to be read.
const LAST_LINES: Duration = Duration::from_millis(500);

/// How long a thread that panics waits for its words to be read.
const LAST_WORDS: Duration = Duration::from_millis(20);

/// What libraries say of links and gossip the node says itself, with codes. A filter that names one
/// of them is stronger.
const LIBRARIES: &str = "ractor_cluster=off,chitchat=error";

/// Starts writing log events to standard error, without ever waiting for it, and has panics written
/// the same way. A second call in one process changes nothing.
pub fn init_logs(format: LogFormat, filter: &str) {
    let terminal = std::io::stderr().is_terminal();
    let human = match format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let filter = EnvFilter::try_new(format!("{LIBRARIES},{filter}"))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_writer(|| outlet::LogWriter);
    let started = if human {
        builder
            .fmt_fields(crate::text::log_fields())
            .with_target(false)
            .with_ansi(terminal)
            .try_init()
    } else {
        builder.event_format(json::JsonLines).try_init()
    };
    if started.is_err() {
        tracing::debug!("a log subscriber is already installed");
        return;
    }
    std::panic::set_hook(Box::new(move |panic| {
        STDERR.line(&panicked(panic, human));
        // The process may be about to abort.
        STDERR.flush(LAST_WORDS);
    }));
}

/// What a panic says, as a line of the log: whatever the filter is, and however much of the logging
/// itself is broken.
fn panicked(panic: &PanicHookInfo<'_>, human: bool) -> String {
    let words = panic.payload_as_str().unwrap_or("without words");
    let place = panic.location().map_or_else(String::new, ToString::to_string);
    let thread = std::thread::current().name().unwrap_or("without a name").to_owned();
    let trace = std::backtrace::Backtrace::capture();
    let trace =
        (trace.status() == std::backtrace::BacktraceStatus::Captured).then(|| trace.to_string());
    if human {
        let trace = trace.map_or_else(String::new, |trace| format!("\n{trace}"));
        return format!("thread '{thread}' panicked at {place}:\n{words}{trace}");
    }
    let mut line = json::Line::new(&json::now(), "ERROR");
    for (key, value) in [
        ("code", "RK-NODE-151"),
        ("message", "panicked"),
        ("panic", words),
        ("place", &place),
        ("thread", &thread),
    ] {
        line.put(key, Value::from(value));
    }
    if let Some(trace) = trace {
        line.put("trace", Value::from(trace));
    }
    Value::Object(line.0).to_string()
}

/// Waits a moment for the last lines of this process to be read. Called when it ends; a reader that
/// is gone or does not read costs half a second each.
pub fn flush() {
    STDERR.flush(LAST_LINES);
    STDOUT.flush(LAST_LINES);
}

/// Bounds of all histograms of times, in seconds: 50 microseconds to 10 seconds, closest where a
/// group commit or a tick lies.
const SECONDS: &[f64] = &[
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0015, 0.0025, 0.0035, 0.005, 0.007, 0.01, 0.015,
    0.025, 0.035, 0.05, 0.07, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Bounds of all histograms of sizes, in bytes.
const BYTES: &[f64] =
    &[32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0];

/// Installs the recorder of this process and returns what renders `/metrics`.
pub fn init_metrics() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), BYTES)?
        .install_recorder()
        .inspect(|_| {
            describe();
            STDERR.publish();
            STDOUT.publish();
        })
}

/// What a metric counts like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Only grows.
    Counter,
    /// A level.
    Gauge,
    /// A distribution.
    Histogram,
}

use Shape::{Counter, Gauge, Histogram};

/// Every metric of a node. `docs` and alert rules may name these and no others; a test holds them
/// to it.
pub const METRICS: &[(Shape, &str, &str)] = &[
    (Counter, "rekindle_ticks_total", "ticks executed"),
    (
        Counter,
        "rekindle_late_ticks_total",
        "ticks that began more than half of the time between two ticks after their deadline",
    ),
    (Counter, "rekindle_slowdowns_total", "times that a match was slowed because of overload"),
    (Gauge, "rekindle_matches_slowed", "matches that are slowed now"),
    (Gauge, "rekindle_peer_links", "links to other nodes"),
    (Gauge, "rekindle_peer_suspected", "other nodes that look dead from here"),
    (Gauge, "rekindle_peer_trip_microseconds", "last round trip to another node"),
    (Counter, "rekindle_peer_calls_total", "requests to other nodes"),
    (Counter, "rekindle_peer_failures_total", "requests to other nodes without an answer, by why"),
    (Counter, "rekindle_peer_served_total", "requests of other nodes"),
    (Counter, "rekindle_peer_suspicions_total", "times that another node began to look dead"),
    (Counter, "rekindle_paused_ticks_total", "ticks that waited for the store"),
    (
        Counter,
        "rekindle_tick_delay_microseconds_total",
        "match time given up because catching up would have taken too long",
    ),
    (Histogram, "rekindle_tick_seconds", "how long the step of a tick took"),
    (
        Histogram,
        "rekindle_system_seconds",
        "how long a system took, or what is done around systems, in one tick of 64",
    ),
    (
        Counter,
        "rekindle_system_over_budget_total",
        "runs of a system that took longer than its budget, in one tick of 64",
    ),
    (Histogram, "rekindle_tick_lateness_seconds", "how late a tick began"),
    (
        Histogram,
        "rekindle_input_to_apply_seconds",
        "from the arrival of an input to the step that contains it",
    ),
    (
        Histogram,
        "rekindle_input_to_durable_seconds",
        "from the arrival of an input until its tick is durable",
    ),
    (
        Histogram,
        "rekindle_tick_to_durable_seconds",
        "from the end of a tick until it is durable: what output commit adds to the age of its \
         snapshot",
    ),
    (
        Counter,
        "rekindle_subscribers_dropped_total",
        "readers of a match that lagged too far behind",
    ),
    (Histogram, "rekindle_journal_append_seconds", "one group commit: write, sync, verify"),
    (Counter, "rekindle_journal_append_retries_total", "group commits that were repeated"),
    (Histogram, "rekindle_journal_batch_records", "records in a group commit"),
    (Histogram, "rekindle_journal_batch_bytes", "bytes of a group commit"),
    (Gauge, "rekindle_journal_backlog_bytes", "bytes that wait for the journal"),
    (
        Counter,
        "rekindle_postgres_requests_total",
        "statements sent to the Postgres store, by lane: commit, facts, bulk",
    ),
    (
        Counter,
        "rekindle_postgres_errors_total",
        "statements that failed or were not answered in time, and connections that could not be \
         had, by lane",
    ),
    (Histogram, "rekindle_postgres_request_seconds", "statements to the Postgres store, by lane"),
    (Gauge, "rekindle_postgres_connections", "open connections to Postgres, by lane"),
    (
        Gauge,
        "rekindle_postgres_waiting",
        "requests that wait for a connection to Postgres, by lane",
    ),
    (Counter, "rekindle_cql_requests_total", "requests to the CQL store, by kind"),
    (Counter, "rekindle_cql_errors_total", "requests to the CQL store that failed, by kind"),
    (Histogram, "rekindle_cql_request_seconds", "requests to the CQL store, by kind"),
    (
        Counter,
        "rekindle_cql_unknown_transactions_total",
        "transactions on the CQL store whose outcome had to be looked up",
    ),
    (Counter, "rekindle_cql_driver_retries_total", "requests that the CQL driver repeated"),
    (
        Counter,
        "rekindle_cql_timeouts_total",
        "requests and connections to the CQL store that timed out",
    ),
    (Gauge, "rekindle_cql_connections", "connections to CQL servers"),
    (
        Gauge,
        "rekindle_checkpoint_age_seconds",
        "age of the newest checkpoint of the match whose newest is oldest",
    ),
    (Histogram, "rekindle_checkpoint_bytes", "size of a checkpoint"),
    (Histogram, "rekindle_checkpoint_encode_seconds", "making the bytes of a checkpoint"),
    (Histogram, "rekindle_checkpoint_put_seconds", "storing a checkpoint"),
    (
        Gauge,
        "rekindle_replay_estimate_seconds",
        "CPU time that recovering all matches would cost now",
    ),
    (Histogram, "rekindle_recovery_seconds", "recovery of a match, by phase"),
    (Counter, "rekindle_hash_mismatches_total", "replays that gave another hash than the journal"),
    (
        Counter,
        "rekindle_build_changes_total",
        "matches that went on with another build: equal, accepted, rewound",
    ),
    (Counter, "rekindle_quarantined_total", "inputs left out because they made a system panic"),
    (Counter, "rekindle_broken_validations_total", "validations of games that did not hold"),
    (Counter, "rekindle_parked_total", "matches that could not be continued"),
    (
        Gauge,
        "rekindle_matches_not_running",
        "matches at home here that wait for another build or are parked, by reason",
    ),
    (Counter, "rekindle_match_restarts_total", "matches restored after a panic"),
    (Counter, "rekindle_matches_moved_total", "matches that went on at another node"),
    (
        Histogram,
        "rekindle_migration_pause_seconds",
        "matches that came here from a live node: from its last tick, as soon as it told this node \
         of that, until the first tick here is durable; one tick's period of it is no pause",
    ),
    (Counter, "rekindle_effects_delivered_total", "effects acknowledged by a sink"),
    (
        Counter,
        outlet::DROPPED,
        "lines of the log, or of standard output, that nobody read: by stream",
    ),
    (Gauge, "rekindle_matches", "matches running"),
    (Gauge, "rekindle_sessions", "sessions in them, house bots included"),
    (Gauge, "rekindle_jobs", "jobs that the store remembers, by queue and state"),
    (Gauge, "rekindle_jobs_running", "jobs in the hands of this node, by queue"),
    (
        Gauge,
        "rekindle_jobs_oldest_waiting_seconds",
        "for how long the oldest job that is due has waited, by queue",
    ),
    (
        Counter,
        "rekindle_clock_steps_total",
        "steps of the wall clock that this node noticed, by direction",
    ),
    (Counter, "rekindle_job_attempts_total", "attempts at jobs, by kind and outcome"),
    (Histogram, "rekindle_job_seconds", "one attempt at a job, by kind"),
    (Gauge, "rekindle_gateway_connections", "open client connections"),
    (Gauge, "rekindle_gateway_pending_connections", "connections not yet let in"),
    (Gauge, "rekindle_gateway_stage_connections", "connections by where they stand"),
    (Gauge, "rekindle_gateway_sessions", "sessions with a connection"),
    (Counter, "rekindle_gateway_connections_total", "connections by outcome"),
    (
        Counter,
        "rekindle_gateway_no_place_total",
        "clients refused or let go because places are bounded, by reason",
    ),
    (Counter, "rekindle_gateway_documents_total", "what players asked of documents, by outcome"),
    (Counter, "rekindle_gateway_redirects_total", "clients whose match is elsewhere, by outcome"),
    (Counter, "rekindle_gateway_events_missed_total", "clients told that events are gone"),
    (
        Counter,
        "rekindle_gateway_rewound_total",
        "clients told that the match does not go on from what they saw, by reason",
    ),
    (
        Counter,
        "rekindle_gateway_superseded_total",
        "connections replaced by a newer one of the same player",
    ),
    (Counter, "rekindle_gateway_datagrams_received_total", "datagrams received"),
    (Counter, "rekindle_gateway_datagram_bytes_received_total", "bytes in them"),
    (Counter, "rekindle_gateway_inputs_total", "inputs by outcome"),
    (Counter, "rekindle_gateway_commands_total", "reliable commands received"),
    (Counter, "rekindle_gateway_snapshots_total", "snapshots by outcome"),
    (
        Counter,
        "rekindle_gateway_snapshots_shared_total",
        "snapshots whose body had been encoded for another client",
    ),
    (
        Counter,
        "rekindle_gateway_snapshots_partial_total",
        "snapshots that did not hold all that had changed",
    ),
    (
        Counter,
        "rekindle_gateway_slowed_total",
        "times that a client's link was found to carry less, and its snapshots were slowed down",
    ),
    (Histogram, "rekindle_gateway_snapshot_bytes", "size of a snapshot"),
    (Counter, "rekindle_gateway_messages_total", "stream messages sent"),
    (
        Counter,
        "rekindle_gateway_rate_limited_total",
        "datagrams dropped because a client sent too many",
    ),
    (Counter, "rekindle_gateway_refused_total", "clients refused or let go, by code"),
    (Counter, "rekindle_gateway_malformed_total", "malformed packets, by reason"),
];

fn describe() {
    for &(shape, name, help) in METRICS {
        match shape {
            Counter => describe_counter!(name, help),
            Gauge => describe_gauge!(name, help),
            Histogram => describe_histogram!(name, help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::METRICS;

    #[test]
    fn alert_rules_name_metrics_that_exist() {
        let rules = include_str!("../deploy/alerts.yml");
        let words = rules
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("rekindle_"));
        let mut count = 0;
        for word in words {
            let name = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| word.strip_suffix(end))
                .unwrap_or(word);
            assert!(
                METRICS.iter().any(|&(_, known, _)| known == name),
                "deploy/alerts.yml names {word}, which no node serves"
            );
            count += 1;
        }
        assert!(count >= 8, "the rules were not read");
    }
}
