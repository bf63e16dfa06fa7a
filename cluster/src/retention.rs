//! How much of matches is kept, and for how long.
//!
//! [`run`] is what a node does now and then, whatever the store: archive what is to be kept, trim
//! what nobody needs, drop checkpoints, chunks and ended matches whose time is over. Any node may
//! run it at any moment, several at once, and die in the middle. It never removes what a recovery
//! or a pinned replay needs.
//!
//! What is to be kept is said and judged in `policy.rs` (pure); [`archive`] moves records into the
//! archive, [`trim`] says which batches nobody needs any more.

pub mod archive;
mod policy;
pub mod trim;

use std::collections::BTreeMap;

use rekindle_schema::archive::{ChunkMeta, Pin};
use rekindle_schema::batch::BatchView;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::{MatchLease, MatchState, NodeLease, NodeState};
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId, Seq};
use rekindle_store::history;
use rekindle_store::{LogInfo, Store, StoreError, chains};

use archive::{Need, Subject};
use policy::{Age, is_open, is_over};
pub use policy::{Keep, Policy, expired};
use trim::Cut;

/// How many bytes of a log are read at once in search of its first young batch.
const STRIDE: usize = 1 << 20;

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
    // cut reaches its records. Leases before the rows: what a node acknowledged that was fenced by
    // then was written under claims that were in the directory by then. The other way round the log
    // of a node that claimed a match and was sealed in between would seem to be needed by nobody.
    let nodes = store.leases.nodes().await?;
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
        done.cuts = {
            let logs = Logs { nodes: &nodes, found: &logs };
            trim_logs(store, policy, &matches, &states, &needs, logs, now_ms).await?
        };
    }
    for lease in &matches {
        let Some(state) = states.get(&lease.match_id) else { continue };
        let pin = pins.get(&lease.match_id);
        if is_over(lease, &state.checkpoints, &state.chunks, pin, policy, now_ms) {
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

/// The logs that there are, and the leases of their writers, which were read before all rows.
#[derive(Clone, Copy)]
struct Logs<'a> {
    nodes: &'a [NodeLease],
    found: &'a [LogInfo],
}

async fn trim_logs(
    store: &Store,
    policy: &Policy,
    matches: &[MatchLease],
    states: &BTreeMap<MatchId, State>,
    needs: &BTreeMap<MatchId, Need>,
    Logs { nodes, found: logs }: Logs<'_>,
    now_ms: u64,
) -> Result<Vec<Cut>, StoreError> {
    let checkpoints =
        states.iter().map(|(match_id, state)| (*match_id, state.checkpoints.clone())).collect();
    let floors = trim::floors(matches, &checkpoints, policy.checkpoints, needs);
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
        // A claim of it may still be under way. Whoever finds a row whose owner has no lease knows
        // that nothing was acknowledged under it (`ownership::round`); its seal would say that its
        // log, which is gone, had something.
        let referenced = floors.contains_key(&node.incarnation);
        if !referenced && !remaining.iter().any(|info| info.log == node.incarnation) {
            rekindle_store::members::withdraw(store, node.incarnation).await?;
            store.leases.forget(node.incarnation).await?;
        }
    }
    Ok(cuts)
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
