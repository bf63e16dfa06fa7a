//! Supervised actors of a node: matches, journal, checkpoints.
//!
//! A [`Host`] runs the matches of one node incarnation. The node gives it a
//! [store](rekindle_store::Store), its [`Games`] and a clock, tells it which matches to
//! [create](Host::create) and [recover](Host::recover), and hands the edge their doors: a
//! [`MatchHandle`] is a [`rekindle_door::MatchDoor`].
//!
//! One tick's way: players' inputs wait in [`core::Ingress`] → the shard's wheel wakes the match's
//! actor → [`core::Ingress::draw`] makes the step → [`core::MatchCore::step`] makes the world →
//! [`core::Outbox`] packs the record → the journal actor appends a batch for all matches → the
//! match hears that the tick is durable and publishes its frame → subscribers.
//!
//! This crate does not decide who owns a match (`rekindle-cluster` does), does not know what a
//! store is made of, and never sees a socket. Every queue in it is bounded; no handler of a match
//! awaits anything; a match's time is its tick number, and ticks never skip.
//!
//! # Metrics
//!
//! | name | kind | meaning |
//! |---|---|---|
//! | `rekindle_ticks_total` | counter | ticks executed |
//! | `rekindle_late_ticks_total` | counter | ticks that started more than half a tick after their deadline |
//! | `rekindle_paused_ticks_total` | counter | ticks put off because the store is behind |
//! | `rekindle_tick_delay_microseconds_total` | counter | match time given up: schedules moved, repairs |
//! | `rekindle_tick_seconds` | histogram | one step, with hash and extraction |
//! | `rekindle_system_seconds{game,system}` | histogram | a system, in one tick of 64 |
//! | `rekindle_system_over_budget_total{game,system}` | counter | of those, over budget |
//! | `rekindle_tick_lateness_seconds` | histogram | start of a tick after its deadline |
//! | `rekindle_input_to_apply_seconds` | histogram | arrival of an input to the step that contains it |
//! | `rekindle_input_to_durable_seconds` | histogram | arrival of an input until its tick is durable |
//! | `rekindle_tick_to_durable_seconds` | histogram | end of a tick until it is durable: what output commit adds to the age of its snapshot |
//! | `rekindle_subscribers_dropped_total` | counter | subscribers dropped because they lagged |
//! | `rekindle_journal_append_seconds` | histogram | one append, repetitions included |
//! | `rekindle_journal_append_retries_total` | counter | appends repeated after a transient error |
//! | `rekindle_journal_batch_records` | histogram | records in a batch |
//! | `rekindle_journal_batch_bytes` | histogram | bytes of a batch |
//! | `rekindle_journal_backlog_bytes` | gauge | executed and not durable |
//! | `rekindle_checkpoint_age_seconds` | gauge | age of the oldest match's newest checkpoint |
//! | `rekindle_checkpoint_bytes{kind}` | histogram | size of a checkpoint: `full`, `delta` |
//! | `rekindle_checkpoint_encode_seconds{kind}` | histogram | copy on the shard, or gathering what changed |
//! | `rekindle_checkpoint_put_seconds` | histogram | writing a checkpoint |
//! | `rekindle_replay_estimate_seconds` | gauge | what recovering all matches would cost now |
//! | `rekindle_recovery_seconds{phase}` | histogram | `replay` (restore included), `total` |
//! | `rekindle_hash_mismatches_total` | counter | recoveries whose replay computed something else |
//! | `rekindle_build_changes_total{grounds}` | counter | matches that went on with another build |
//! | `rekindle_quarantined_total` | counter | contributions left out because they make a system panic |
//! | `rekindle_broken_validations_total` | counter | validations of games that did not hold |
//! | `rekindle_parked_total` | counter | matches parked by this process |
//! | `rekindle_match_restarts_total` | counter | match actors started again |
//! | `rekindle_matches_moved_total` | counter | matches that went on at another node |
//! | `rekindle_effects_delivered_total` | counter | effects that were new to their sink |
//! | `rekindle_slowdowns_total` | counter | times that a match was slowed |
//! | `rekindle_matches_slowed` | gauge | matches that are slowed now |
//! | `rekindle_matches`, `rekindle_sessions` | gauge | on this node now |

mod checkpoint;
mod config;
pub mod core;
mod error;
mod handle;
mod host;
mod journal;
mod messages;
mod meters;
mod play;
pub mod recovery;
mod services;
mod shard;

pub use config::{
    Games, HANG_EXIT_CODE, Hang, HostConfig, HostParts, OnHang, OnStall, OtherBuild, Output,
    Overload, WallClock,
};
pub use core::Durable;
pub use core::profile::{Figures, PartProfile, Profile, StageProfile};
pub use error::{HostError, RecoveryError};
pub use handle::MatchHandle;
pub use host::{DrainReport, Entering, Host, MatchStatus, RecoveryReport};
pub use journal::Halt;
pub use play::supervision::MatchPhase;
pub use recovery::diverge::{Culprit, Divergence};
pub use recovery::follow::{CaughtUp, FollowError, Following};
pub use recovery::proof::{Aspect, Difference, Differs, Proof};
pub use recovery::upgrade::{BuildChange, GoOn, Void};
