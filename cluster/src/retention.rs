//! How much of matches is kept, and for how long.
//!
//! [`run`] is what a node does now and then, whatever the store: archive what is to be kept, trim
//! what nobody needs, drop checkpoints, chunks and ended matches whose time is over. Any node may
//! run it at any moment, several at once, and die in the middle. It never removes what a recovery
//! or a pinned replay needs.

pub mod archive;
pub mod trim;

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_schema::archive::{ChunkKind, ChunkMeta, Pin};
use rekindle_schema::batch::BatchView;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::{MatchLease, MatchState, NodeState};
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId, Seq, Tick};
use rekindle_store::history;
use rekindle_store::{LogInfo, Store, StoreError, chains};

use archive::{Need, Subject};
use trim::Cut;

/// How far the clocks of nodes may be apart. A time that is further ahead came from a clock that
/// was wrong, in milliseconds.
const AHEAD_MS: u64 = history::CLOCK_SLACK_MS;
/// How many bytes of a log are read at once in search of its first young batch.
const STRIDE: usize = 1 << 20;

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
    fn cutoff(self, now_ms: u64) -> Option<u64> {
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
    fn may_be_over(&self, lease: &MatchLease, now_ms: u64) -> bool {
        matches!((&lease.state, self.ended), (MatchState::Ended { .. }, Keep::For(_)))
            && self.ended.cutoff(now_ms).is_some_and(|cutoff| lease.spec.created_ms < cutoff)
    }
}

/// What one run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// What was cut from logs.
    pub cuts: Vec<Cut>,
    /// Chunks that were removed from the archive.
    pub chunks_removed: usize,
    /// Matches that are gone, with all that belonged to them.
    pub matches_removed: Vec<MatchId>,
}

/// Archives, trims and removes as the policy says. `now_ms` is in milliseconds since 1970.
pub async fn run(store: &Store, policy: &Policy, now_ms: u64) -> Result<Done, StoreError> {
    // The order matters. What is in the archive before the rows: a match with chunks and without a
    // row is one that was removed. Checkpoints before the rows that are judged by them: a match
    // that appears after the rows were read writes behind every checkpoint that was listed, so no
    // cut reaches its records.
    let archived = store.archive.matches().await?;
    let pins: BTreeMap<MatchId, Pin> =
        store.archive.pins().await?.into_iter().map(|pin| (pin.match_id, pin)).collect();
    let mut states: BTreeMap<MatchId, State> = BTreeMap::new();
    for lease in store.leases.matches().await? {
        let state = State::read(store, policy, &lease, pins.get(&lease.match_id), now_ms).await?;
        states.insert(lease.match_id, state);
    }
    let matches = store.leases.matches().await?;
    let logs = store.journal.logs().await?;
    let needs = archive_due(store, policy, &matches, &states, &logs).await?;

    let mut done = Done::default();
    if policy.journal != Keep::All {
        done.cuts = trim_logs(store, policy, &matches, &states, &needs, &logs, now_ms).await?;
    }
    for lease in &matches {
        let Some(state) = states.get(&lease.match_id) else { continue };
        let pin = pins.get(&lease.match_id);
        if is_over(lease, state, pin, policy, now_ms) {
            if remove_match(store, lease).await? {
                done.matches_removed.push(lease.match_id);
            }
            continue;
        }
        if policy.checkpoints > 2
            && let Some(oldest) = chains::oldest_kept(&state.checkpoints, policy.checkpoints)
        {
            store.checkpoints.trim(lease.match_id, oldest.root().seq).await?;
        }
        for chunk in expired(
            &state.chunks,
            pin,
            policy.archive.cutoff(now_ms).filter(|_| policy.archive != Keep::Needed),
        ) {
            store.archive.remove(chunk).await?;
            done.chunks_removed += 1;
        }
    }
    for match_id in archived
        .into_iter()
        .filter(|match_id| !matches.iter().any(|lease| lease.match_id == *match_id))
    {
        done.chunks_removed += remove_chunks(store, match_id).await?;
    }
    Ok(done)
}

/// What the stores say of one match.
struct State {
    /// Newest first; of a match that has ended only if it is to be archived or removed, because
    /// listing means reading them.
    checkpoints: Vec<CheckpointMeta>,
    chunks: Vec<ChunkMeta>,
    /// Its records are to be archived.
    wanted: bool,
}

impl State {
    async fn read(
        store: &Store,
        policy: &Policy,
        lease: &MatchLease,
        pin: Option<&Pin>,
        now_ms: u64,
    ) -> Result<Self, StoreError> {
        let (chunks, damaged) = store.archive.list(lease.match_id).await?;
        for error in damaged {
            tracing::error!(
                code = "RK-CLUSTER-013", match_id = %lease.match_id, %error,
                "a chunk of the archive cannot be read"
            );
        }
        let wanted = policy.archive != Keep::Needed || pin.is_some_and(|pin| is_open(pin, &chunks));
        let ended = matches!(lease.state, MatchState::Ended { .. });
        let closed = archive::need(&chunks) == Need::Nothing;
        let checkpoints = if !ended || wanted && !closed || policy.may_be_over(lease, now_ms) {
            let (listed, _) = store.checkpoints.list(lease.match_id).await?;
            listed
        } else {
            Vec::new()
        };
        Ok(Self { checkpoints, chunks, wanted })
    }
}

/// Whether records that a pin asks for are still to come.
fn is_open(pin: &Pin, chunks: &[ChunkMeta]) -> bool {
    let last = chunks
        .iter()
        .filter(|meta| meta.kind == ChunkKind::Records)
        .map(|meta| meta.last_tick)
        .max();
    pin.to.is_none_or(|to| last.is_none_or(|last| last < to))
}

async fn archive_due(
    store: &Store,
    policy: &Policy,
    matches: &[MatchLease],
    states: &BTreeMap<MatchId, State>,
    logs: &[LogInfo],
) -> Result<BTreeMap<MatchId, Need>, StoreError> {
    let first: BTreeMap<Incarnation, BatchNo> =
        logs.iter().map(|info| (info.log, info.first)).collect();
    // What others wrote into the lineage of a match does not count, and is not archived.
    let lines: Vec<(&MatchLease, Vec<CheckpointMeta>, &State)> = matches
        .iter()
        .filter_map(|lease| {
            let state = states.get(&lease.match_id).filter(|state| state.wanted)?;
            let mine = state
                .checkpoints
                .iter()
                .filter(|meta| history::in_lineage(lease, meta))
                .cloned()
                .collect();
            Some((lease, mine, state))
        })
        .collect();
    let chunk_every_ms = u64::try_from(policy.chunk_every.as_millis()).unwrap_or(u64::MAX);
    let subjects: Vec<Subject<'_>> = lines
        .iter()
        .map(|(lease, checkpoints, state)| Subject {
            lease,
            checkpoints,
            chunks: &state.chunks,
            kept: policy.checkpoints,
            chunk_every_ms,
        })
        .collect();
    let mut needs = archive::run(store, &subjects, &first).await?;
    // A match that appeared since has everything in its log.
    for lease in matches.iter().filter(|lease| !states.contains_key(&lease.match_id)) {
        needs.insert(lease.match_id, Need::Everything);
    }
    Ok(needs)
}

async fn trim_logs(
    store: &Store,
    policy: &Policy,
    matches: &[MatchLease],
    states: &BTreeMap<MatchId, State>,
    needs: &BTreeMap<MatchId, Need>,
    logs: &[LogInfo],
    now_ms: u64,
) -> Result<Vec<Cut>, StoreError> {
    let checkpoints =
        states.iter().map(|(match_id, state)| (*match_id, state.checkpoints.clone())).collect();
    let floors = trim::floors(matches, &checkpoints, policy.checkpoints, needs);
    let nodes = store.leases.nodes().await?;
    let seals: BTreeMap<_, _> =
        nodes.iter().filter_map(|node| Some((node.incarnation, node.seal?))).collect();
    let mut cuts = trim::plan(logs, &floors, &seals);
    if let Some(cutoff) = policy.journal.cutoff(now_ms).filter(|_| policy.journal != Keep::Needed) {
        for cut in &mut cuts {
            let first =
                logs.iter().find(|info| info.log == cut.log).map_or(cut.before, |info| info.first);
            cut.before =
                older_than(store, cut.log, first, cut.before, Age { cutoff, now_ms }).await?;
        }
        cuts.retain(|cut| logs.iter().any(|info| info.log == cut.log && info.first < cut.before));
    }
    for cut in &cuts {
        store.journal.trim(cut.log, cut.before).await?;
    }
    let remaining = store.journal.logs().await?;
    for node in nodes.iter().filter(|node| node.state != NodeState::Live && node.seal.is_some()) {
        let referenced = floors.contains_key(&node.incarnation)
            || matches.iter().any(|lease| lease.incarnation == node.incarnation);
        if !referenced && !remaining.iter().any(|info| info.log == node.incarnation) {
            store.leases.forget(node.incarnation).await?;
        }
    }
    Ok(cuts)
}

/// What is too old, by times that a clock gave which may have been set in between.
#[derive(Debug, Clone, Copy)]
struct Age {
    cutoff: u64,
    now_ms: u64,
}

impl Age {
    /// Whether something of this moment has to stay. What lies ahead of now got its time from a
    /// clock that was wrong: that says nothing.
    fn is_kept(self, ms: u64) -> bool {
        (self.cutoff..=self.now_ms.saturating_add(AHEAD_MS)).contains(&ms)
    }
}

/// The first batch in `first..before` with a record that has to stay; `before` if there is none.
/// Read from the oldest on, as the times of a log do not ascend when its node's clock was set: what
/// is read is what goes, and the first batch that stays. What cannot be read stays.
async fn older_than(
    store: &Store,
    log: Incarnation,
    first: BatchNo,
    before: BatchNo,
    age: Age,
) -> Result<BatchNo, StoreError> {
    let mut next = first;
    // The oldest batch decides most of the time.
    let mut stride = 1;
    while next < before {
        let batches = match store.journal.read(log, next, stride).await {
            Ok(batches) => batches,
            Err(StoreError::Corrupt { .. } | StoreError::NotFound(_)) => return Ok(next),
            Err(error) => return Err(error),
        };
        if batches.is_empty() {
            return Ok(next);
        }
        for batch in batches.iter().take_while(|batch| batch.number < before) {
            let view = BatchView::parse(&batch.bytes).ok();
            if view.is_none_or(|view| {
                view.all_frames().iter().any(|frame| age.is_kept(frame.header.time_ms))
            }) {
                return Ok(batch.number);
            }
        }
        next = batches.last().map_or(before, |batch| batch.number.next());
        stride = STRIDE;
    }
    Ok(before)
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
fn is_over(
    lease: &MatchLease,
    state: &State,
    pin: Option<&Pin>,
    policy: &Policy,
    now_ms: u64,
) -> bool {
    let checkpoints = state.checkpoints.iter().map(|meta| meta.time_ms);
    let times = || checkpoints.clone().chain(state.chunks.iter().map(|meta| meta.last_ms));
    let last = times().filter(|&ms| ms <= now_ms.saturating_add(AHEAD_MS)).max();
    let known = last.is_some() || times().next().is_none();
    pin.is_none()
        && known
        && policy.may_be_over(lease, now_ms)
        && policy.ended.cutoff(now_ms).is_some_and(|cutoff| last.unwrap_or_default() < cutoff)
}

/// Removes a match: the row last, so that whoever dies in between leaves something that the next
/// run finds.
async fn remove_match(store: &Store, lease: &MatchLease) -> Result<bool, StoreError> {
    remove_chunks(store, lease.match_id).await?;
    store.checkpoints.trim(lease.match_id, Seq(u64::MAX)).await?;
    store.leases.remove(lease.match_id, lease.version).await
}

async fn remove_chunks(store: &Store, match_id: MatchId) -> Result<usize, StoreError> {
    let (chunks, _) = store.archive.list(match_id).await?;
    // The newest first: what is left after a death in between still begins at the beginning.
    for chunk in chunks.iter().rev() {
        store.archive.remove(chunk).await?;
    }
    Ok(chunks.len())
}

/// The oldest epoch of a match's lineage that must stay readable in logs; `None`: all of it.
pub async fn lineage_needed(
    store: &Store,
    policy: &Policy,
    match_id: MatchId,
) -> Result<Option<Epoch>, StoreError> {
    if policy.journal != Keep::Needed {
        return Ok(None);
    }
    let (checkpoints, _) = store.checkpoints.list(match_id).await?;
    let Some(oldest) =
        chains::oldest_kept(&checkpoints, policy.checkpoints).map(|chain| chain.tip().epoch)
    else {
        return Ok(None);
    };
    let pin = store.archive.pins().await?.into_iter().find(|pin| pin.match_id == match_id);
    let (chunks, _) = store.archive.list(match_id).await?;
    if policy.archive == Keep::Needed && !pin.is_some_and(|pin| is_open(&pin, &chunks)) {
        return Ok(Some(oldest));
    }
    Ok(match archive::need(&chunks) {
        Need::Nothing => Some(oldest),
        Need::Behind(position) => Some(oldest.min(position.epoch)),
        Need::Everything => None,
    })
}
