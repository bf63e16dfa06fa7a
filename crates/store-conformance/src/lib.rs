//! What every backend must do, as a suite of cases that all of them run.
//!
//! A backend's tests implement [`Backend`] and call
//! [`conformance_suite!`](crate::conformance_suite), which makes one test of each case. Cases panic
//! when the backend is wrong. What only makes sense for one backend (damage to its files, power
//! cuts) is tested next to it, with the same [`Scribe`].

mod archive;
mod audit;
mod chains;
mod histories;
mod identity;
mod jobs;
mod leases;
mod logs;
mod race;
mod registry;

use std::collections::BTreeMap;

use bytes::Bytes;
use rekindle_schema::batch::{Batch, BatchBuilder, FrameHeader, MAX_BATCH};
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::{
    DEFAULT_REGION, Lineage, MatchLease, MatchSpec, MatchState, NodeLease, NodeState,
};
use rekindle_schema::{BatchNo, BuildId, Epoch, Incarnation, MatchId, Seq, StateHash, Tick};

pub use self::archive::*;
pub use self::audit::*;
pub use self::chains::*;
pub use self::histories::*;
pub use self::identity::*;
pub use self::jobs::*;
pub use self::leases::*;
pub use self::logs::*;
pub use self::race::*;
pub use self::registry::*;
use rekindle_store::Store;

/// A place that holds the data of one test.
pub trait Backend {
    /// Opens a store on that data, as one more process would.
    fn open(&self) -> impl Future<Output = Store> + Send;
}

/// Makes one test of each case. The argument is an expression that makes a fresh [`Backend`].
#[macro_export]
macro_rules! conformance_suite {
    ($fresh:expr) => {
        $crate::conformance_suite!(@ $fresh,
            batches_come_back_in_order,
            a_duplicate_append_is_harmless,
            a_conflicting_batch_is_refused,
            a_gap_is_refused,
            a_copy_of_a_trimmed_log_begins_where_it_did,
            damaged_bytes_are_refused_before_they_are_written,
            sizes_up_to_the_limit_are_kept,
            a_log_can_be_read_while_it_grows,
            overload_is_refused_and_leaves_a_prefix,
            trimming_keeps_what_was_not_trimmed,
            a_dead_log_goes_as_a_whole,
            checkpoints_are_listed_newest_first,
            a_large_checkpoint_does_not_hold_up_commits,
            retention_keeps_what_recovery_needs,
            a_fenced_owner_gets_no_acknowledgement,
            one_seal_stands,
            the_lease_of_a_node_goes_one_way,
            a_renewal_says_how_far_the_log_has_come,
            one_of_many_takers_gets_the_match,
            directory_rows_come_back,
            effects_are_delivered_once,
            chunks_come_back_in_order,
            the_first_chunk_stands,
            a_bad_chunk_is_refused,
            the_largest_chunk_is_kept,
            chunks_are_removed_one_by_one,
            pins_stay_until_they_are_removed,
            only_ended_matches_leave_the_directory,
            a_history_spans_owners,
            a_zombie_behind_the_seal_does_not_count,
            a_history_ends_where_it_is_told,
            missing_records_are_not_passed_over,
            a_log_that_ends_too_early_is_damage,
            a_checkpoint_says_how_far_the_log_had_come,
            a_broken_chain_is_noticed,
            checkpoints_of_strangers_are_ignored,
            many_histories_come_from_one_log,
            jobs_come_back,
            enqueueing_again_is_harmless,
            one_of_many_gets_the_key,
            keys_are_held_and_freed,
            each_job_goes_to_one_claimer,
            the_oldest_jobs_come_first,
            an_expired_lease_is_claimed_again,
            one_of_many_inherits_a_job,
            outcomes_leave_what_they_should,
            operators_retry_and_cancel,
            finished_jobs_are_pruned,
            jobs_are_counted,
            audit_entries_come_back,
            audit_entries_are_never_changed,
            audit_entries_of_many_nodes,
            old_audit_entries_are_pruned,
            a_chain_comes_back_as_the_state_of_its_last_link,
            a_delta_without_its_base_is_passed_over,
            trimming_by_chains_keeps_what_deltas_rest_on,
            an_identity_stays_until_it_is_renewed,
            of_many_nodes_one_names_the_store,
            registry_entries_come_back,
            a_registry_entry_changes_by_its_next_version_alone,
            a_registry_entry_is_removed_by_its_version,
            malformed_registry_entries_are_refused,
            of_many_writers_one_changes_a_registry_entry,
        );
    };
    (@ $fresh:expr, $($case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::$case(&$fresh).await;
            }
        )*
    };
}

/// The build that all test records name.
pub const BUILD: BuildId = BuildId(0xb01d);

/// A lease of a node that was just registered. It names no process.
pub fn node_lease(incarnation: Incarnation) -> NodeLease {
    NodeLease {
        incarnation,
        name: format!("node-{incarnation}"),
        state: NodeState::Live,
        pid: 0,
        pid_start: 0,
        deadline_ms: 1_000,
        seal: None,
        host: String::new(),
        region: DEFAULT_REGION.to_owned(),
        reached: None,
        loss_accepted_ms: None,
    }
}

/// Opens several stores on the same data.
pub(crate) async fn open_many(backend: &impl Backend, count: usize) -> Vec<Store> {
    let mut stores = Vec::with_capacity(count);
    for _ in 0..count {
        stores.push(backend.open().await);
    }
    stores
}

/// Registers a node.
pub async fn register(store: &Store, incarnation: Incarnation) {
    store
        .leases
        .register(node_lease(incarnation))
        .await
        .expect("a new incarnation can be registered");
}

/// The row of a match with this lineage: (owner, first seq) from epoch 1 on.
pub fn match_lease(match_id: MatchId, owners: &[(Incarnation, u64)]) -> MatchLease {
    let lineage = owners.iter().enumerate().map(|(index, &(incarnation, first_seq))| Lineage {
        epoch: Epoch(index as u64 + 1),
        incarnation,
        first_batch: BatchNo(1),
        first_seq: Seq(first_seq),
    });
    let lineage: Vec<Lineage> = lineage.collect();
    let (epoch, incarnation) =
        lineage.last().map(|line| (line.epoch, line.incarnation)).unwrap_or_default();
    let spec = MatchSpec {
        game: "arena".to_owned(),
        config: Bytes::new(),
        seed: 7,
        tick_rate: 30,
        house_bots: 0,
        created_ms: 1_700_000_000_000,
    };
    MatchLease {
        match_id,
        version: 1,
        epoch,
        incarnation,
        state: MatchState::Running,
        attempts: 0,
        lineage,
        spec,
        region: DEFAULT_REGION.to_owned(),
    }
}

/// A checkpoint of `match_id` at `seq`, taken by `log` in `epoch` when it had written `batch`.
pub fn checkpoint(
    match_id: MatchId,
    epoch: u64,
    log: Incarnation,
    seq: u64,
    batch: u64,
    len: usize,
) -> (CheckpointMeta, Bytes) {
    let state: Bytes = (0..len)
        .map(|i| (i as u64).wrapping_mul(31).wrapping_add(seq) as u8)
        .collect::<Vec<u8>>()
        .into();
    let meta = CheckpointMeta {
        match_id,
        epoch: Epoch(epoch),
        seq: Seq(seq),
        tick: Tick(seq * 2),
        log,
        batch: BatchNo(batch),
        build: BUILD,
        hash: StateHash([seq as u8; 32]),
        time_ms: 1_700_000_000_000 + seq,
        len: len as u64,
        crc: crc32c::crc32c(&state),
        base: None,
    };
    (meta, state)
}

#[derive(Clone, Copy)]
struct Line {
    epoch: Epoch,
    next: Seq,
    prev_crc: u32,
}

/// Writes the batches of one node, as its journal actor would.
#[derive(Clone)]
pub struct Scribe {
    /// The node whose log is written.
    pub node: Incarnation,
    next: BatchNo,
    prev_crc: u32,
    lines: BTreeMap<MatchId, Line>,
}

impl Scribe {
    /// Begins the log of `node`.
    pub fn new(node: Incarnation) -> Self {
        Self { node, next: BatchNo(1), prev_crc: 0, lines: BTreeMap::new() }
    }

    /// The match is owned from here on, in `epoch`, and goes on with record `next`.
    pub fn own(&mut self, match_id: MatchId, epoch: u64, next: u64) {
        self.lines.insert(match_id, Line { epoch: Epoch(epoch), next: Seq(next), prev_crc: 0 });
    }

    /// Leaves out records of a match, as if they had been lost.
    pub fn skip(&mut self, match_id: MatchId, records: u64) {
        if let Some(line) = self.lines.get_mut(&match_id) {
            line.next.0 += records;
        }
    }

    /// Breaks the chain of a match's records.
    pub fn break_chain(&mut self, match_id: MatchId) {
        if let Some(line) = self.lines.get_mut(&match_id) {
            line.prev_crc ^= 1;
        }
    }

    /// The next batch, with one record for each payload. A match that was never [owned](Self::own)
    /// begins with epoch 1, record 1.
    pub fn batch(&mut self, records: &[(MatchId, &[u8])]) -> Batch {
        let mut builder = BatchBuilder::new(self.node, self.next, self.prev_crc, MAX_BATCH);
        for &(match_id, payload) in records {
            let line = self.lines.entry(match_id).or_insert(Line {
                epoch: Epoch(1),
                next: Seq(1),
                prev_crc: 0,
            });
            let header = FrameHeader {
                match_id,
                epoch: line.epoch,
                seq: line.next,
                first_tick: Tick(line.next.0 * 2 - 1),
                last_tick: Tick(line.next.0 * 2),
                build: BUILD,
                time_ms: 1_700_000_000_000,
                prev_crc: line.prev_crc,
            };
            line.prev_crc = builder.push(&header, payload).expect("test records fit");
            line.next = line.next.next();
        }
        let batch = builder.finish();
        self.prev_crc = batch.crc();
        self.next = self.next.next();
        batch
    }

    /// The next batch, with one small record of each match.
    pub fn small(&mut self, matches: &[MatchId]) -> Batch {
        let payload = self.next.0.to_le_bytes();
        let records: Vec<(MatchId, &[u8])> =
            matches.iter().map(|&match_id| (match_id, &payload[..])).collect();
        self.batch(&records)
    }

    /// Appends `count` batches with one small record of each match.
    pub async fn append(&mut self, store: &Store, count: usize, matches: &[MatchId]) -> Vec<Batch> {
        let mut written = Vec::with_capacity(count);
        for _ in 0..count {
            let batch = self.small(matches);
            store
                .journal
                .append(batch.clone())
                .await
                .expect("a live node can append its next batch");
            written.push(batch);
        }
        written
    }
}

/// All batches of a log from `from` on, read in chunks of `max` bytes.
pub async fn read_all(store: &Store, log: Incarnation, from: u64, max: usize) -> Vec<Batch> {
    let mut found: Vec<Batch> = Vec::new();
    loop {
        let next = found.last().map_or(BatchNo(from), |last| last.number.next());
        let chunk = store.journal.read(log, next, max).await.expect("a whole log can be read");
        if chunk.is_empty() {
            return found;
        }
        found.extend(chunk);
    }
}

/// Takes a node's log away as a takeover does. Returns the seal that stands.
pub async fn fence_and_seal(store: &Store, node: Incarnation) -> BatchNo {
    store.leases.fence(node).await.unwrap();
    let tail = store.journal.tail(node).await.unwrap();
    store.journal.settle(node, tail.last).await.unwrap();
    store.leases.seal(node, tail.last).await.unwrap()
}

/// A fresh node and a fresh match.
const NODE: Incarnation = Incarnation(0xa1);
const OTHER: Incarnation = Incarnation(0xb2);
const A: MatchId = MatchId(0x0a);
const B: MatchId = MatchId(0x0b);
