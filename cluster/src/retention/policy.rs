//! What is to be kept of matches, and what is too old by that. Pure: times and lists are arguments.
//! Called by [`super::run`].

use std::time::Duration;

use rekindle_schema::Tick;
use rekindle_schema::archive::{ChunkKind, ChunkMeta, Pin};
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::{MatchLease, MatchState};
use rekindle_store::history;

/// How far the clocks of nodes may be apart. A time that is further ahead came from a clock that
/// was wrong, in milliseconds.
const AHEAD_MS: u64 = history::CLOCK_SLACK_MS;
/// For how long something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// No longer than something else needs it.
    Needed,
    /// For this long, and while something else needs it.
    For(Duration),
    /// For ever.
    All,
}

impl Keep {
    /// What is older than this, in milliseconds since 1970, may go; `None`: nothing may.
    pub(super) fn cutoff(self, now_ms: u64) -> Option<u64> {
        match self {
            Self::Needed => Some(u64::MAX),
            Self::For(time) => {
                Some(now_ms.saturating_sub(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
            }
            Self::All => None,
        }
    }
}

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Records in the log, beyond what recovery needs.
    pub journal: Keep,
    /// How many checkpoints of each match, at least 2.
    pub checkpoints: usize,
    /// Records in the archive. `Needed`: nothing is archived but what is pinned.
    pub archive: Keep,
    /// Matches that have ended, with all that belongs to them. `Needed` is not used.
    pub ended: Keep,
    /// How much time a chunk of the archive covers at least.
    pub chunk_every: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            journal: Keep::Needed,
            checkpoints: 2,
            archive: Keep::Needed,
            ended: Keep::All,
            chunk_every: Duration::from_mins(1),
        }
    }
}

impl Policy {
    /// Whether a match has ended, and began so long ago that all of it may be over.
    pub(super) fn may_be_over(&self, lease: &MatchLease, now_ms: u64) -> bool {
        matches!((&lease.state, self.ended), (MatchState::Ended { .. }, Keep::For(_)))
            && self.ended.cutoff(now_ms).is_some_and(|cutoff| lease.spec.created_ms < cutoff)
    }
}

/// Whether records that a pin asks for are still to come.
pub(super) fn is_open(pin: &Pin, chunks: &[ChunkMeta]) -> bool {
    let last = chunks
        .iter()
        .filter(|meta| meta.kind == ChunkKind::Records)
        .map(|meta| meta.last_tick)
        .max();
    pin.to.is_none_or(|to| last.is_none_or(|last| last < to))
}

/// What is too old, by times that a clock gave which may have been set in between.
#[derive(Debug, Clone, Copy)]
pub(super) struct Age {
    /// What is older may go, in milliseconds since 1970.
    pub(super) cutoff: u64,
    /// The moment of the run, in milliseconds since 1970.
    pub(super) now_ms: u64,
}

impl Age {
    /// Whether something of this moment has to stay. What lies ahead of now got its time from a
    /// clock that was wrong: that says nothing.
    pub(super) fn is_kept(self, ms: u64) -> bool {
        (self.cutoff..=self.now_ms.saturating_add(AHEAD_MS)).contains(&ms)
    }
}

/// The chunks whose time is over: those before the newest state that is older than `cutoff`, except
/// what a pinned replay needs. From that state on a replay stays possible. `None`: nothing is too
/// old.
pub fn expired<'a>(
    chunks: &'a [ChunkMeta],
    pin: Option<&Pin>,
    cutoff: Option<u64>,
) -> Vec<&'a ChunkMeta> {
    let states = || chunks.iter().filter(|meta| meta.kind == ChunkKind::State);
    let Some(cutoff) = cutoff else { return Vec::new() };
    // Records that stay need a state before them. Where times ascend, none of them lies before the
    // newest old state.
    let young = chunks
        .iter()
        .filter(|meta| meta.kind == ChunkKind::Records && meta.last_ms >= cutoff)
        .map(|meta| meta.last_seq)
        .min();
    let is_base = |meta: &&ChunkMeta| {
        meta.last_ms < cutoff && young.is_none_or(|young| meta.last_seq <= young)
    };
    let Some(base) = states().filter(is_base).map(|meta| meta.last_seq).max() else {
        return Vec::new();
    };
    let pinned = pin.map(|pin| {
        let from = states()
            .filter(|meta| meta.last_tick <= pin.from)
            .map(|meta| meta.last_seq)
            .max()
            .unwrap_or_default();
        (from, pin.to.unwrap_or(Tick(u64::MAX)))
    });
    let is_pinned = |meta: &ChunkMeta| {
        pinned.is_some_and(|(from, to)| {
            let reaches = if meta.kind == ChunkKind::State {
                meta.last_seq >= from
            } else {
                meta.last_seq > from
            };
            reaches && meta.first_tick <= to
        })
    };
    let is_old = |meta: &ChunkMeta| match meta.kind {
        ChunkKind::Records => meta.last_seq <= base && meta.last_ms < cutoff,
        ChunkKind::State => meta.last_seq < base,
    };
    chunks.iter().filter(|meta| is_old(meta) && !is_pinned(meta)).collect()
}

/// Whether a match has ended so long ago that all of it may go. Times ahead of now came from a
/// clock that was wrong; without any other nothing is known.
pub(super) fn is_over(
    lease: &MatchLease,
    checkpoints: &[CheckpointMeta],
    chunks: &[ChunkMeta],
    pin: Option<&Pin>,
    policy: &Policy,
    now_ms: u64,
) -> bool {
    let checkpoints = checkpoints.iter().map(|meta| meta.time_ms);
    let times = || checkpoints.clone().chain(chunks.iter().map(|meta| meta.last_ms));
    let last = times().filter(|&ms| ms <= now_ms.saturating_add(AHEAD_MS)).max();
    let known = last.is_some() || times().next().is_none();
    pin.is_none()
        && known
        && policy.may_be_over(lease, now_ms)
        && policy.ended.cutoff(now_ms).is_some_and(|cutoff| last.unwrap_or_default() < cutoff)
}
