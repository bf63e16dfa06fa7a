//! Copies matches from one store into another, through the ports alone: any pair of backends.
//!
//! `rekindle store copy`, `backup` and `restore` call it. What arrives is what left: the same
//! batches under the same numbers, checkpoints, effects, leases of the incarnations that wrote
//! them, directory rows. A node that starts on the copy takes over as it would have done on the
//! original.
//!
//! The order makes it safe to be killed at any moment and to be run again:
//!
//! 1. The lease of each incarnation is entered, live, naming no process; its batches are appended
//!    as a writer would append them. A batch that is there already is compared.
//! 2. Checkpoints, the archive, effects and what of those is still to be posted follow; every
//!    match's history is read back.
//! 3. Leases get the state of the original: stopped, or fenced and sealed.
//! 4. Open jobs, the audit log and the keys of the cluster, if all matches are copied: players come
//!    back into their sessions on the copy. Nothing else of the registry is copied: it tells of
//!    nodes that run on the source.
//! 5. The target gets a new identity, so that the matches continue there in epochs that nobody has
//!    seen. Last of all come the directory rows. Until then no node knows of the matches, so none
//!    runs half a match.
//!
//! A store whose nodes run is copied at a *cut*: rows first, then checkpoints, then every log up to
//! its end. Whatever a row or a checkpoint claims was durable before it was read, so the logs reach
//! at least that far; in the copy each running incarnation is fenced and sealed there.
//!
//! It decides nothing about who may run a match; whoever calls it makes sure that no node runs on
//! the target, nor, without a cut, on the source.

mod logs;
mod plan;
mod rest;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{StreamExt, TryStreamExt};
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::{MatchLease, MatchState};
use rekindle_schema::record::Effect;
use rekindle_schema::{BatchNo, Incarnation, MatchId, Tick};
use serde::Serialize;

use self::logs::LogCopy;
use self::plan::{Plan, Survey};
use crate::chains::Chain;
use crate::history::{self, HistoryError, LoadOptions};
use crate::identity::{self, Fresh};
use crate::witness;
use crate::{Store, StoreError};

/// How many logs are copied at the same time.
const LOGS: usize = 4;
/// How many small requests are under way at once: a store commits those that wait together.
const REQUESTS: usize = 32;
/// How many histories are in memory at once while they are checked.
const HISTORIES: usize = 8;

/// How to copy.
pub struct CopyOptions<'a> {
    /// Nodes may run on the source: what is copied is a cut through what they write.
    pub cut: bool,
    /// Only these matches; `None`: all.
    pub only: Option<BTreeSet<MatchId>>,
    /// Milliseconds since 1970.
    pub clock: &'a (dyn Fn() -> u64 + Sync),
    /// 128 random bits, for the new identity of the target.
    pub chance: u128,
    /// Is told how far it has come.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

/// The steps of a copy, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Logs are copied; counted in bytes.
    Logs,
    /// Checkpoints are copied; counted in matches.
    Checkpoints,
    /// The archive is copied; counted in matches.
    Archive,
    /// Effects are copied.
    Effects,
    /// Histories are read back; counted in matches.
    Histories,
    /// Directory rows are written.
    Rows,
}

/// How far a step has come. `total` is an estimate while nodes write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The step that is under way.
    pub step: Step,
    /// How much is done.
    pub done: u64,
    /// Of how much.
    pub total: u64,
}

/// What a copy did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// Matches that are in the target now.
    pub matches: u64,
    /// Of them, how many were there before, the same.
    pub present: u64,
    /// Incarnations whose leases were copied.
    pub nodes: u64,
    /// Batches written.
    pub batches: u64,
    /// Their bytes.
    pub batch_bytes: u64,
    /// Batches that were there before, compared.
    pub batches_present: u64,
    /// Checkpoints in the target.
    pub checkpoints: u64,
    /// Bytes of their states.
    pub checkpoint_bytes: u64,
    /// Chunks of the archive in the target.
    pub chunks: u64,
    /// Effects in the target.
    pub effects: u64,
    /// Effects in the target that are still to be posted to webhooks, or were given up there.
    pub postings: u64,
    /// Open jobs in the target.
    pub jobs: u64,
    /// Entries of the audit log in the target.
    pub audit: u64,
    /// Damaged checkpoints that are not in the copy, although the source names them. The matches
    /// can be recovered from what is there.
    pub left_out: u64,
    /// What is worth knowing and harms nothing, and what was left out.
    pub notes: Vec<String>,
}

/// Why a copy was not made, or not to its end. What is in the target by then harms nobody: no row
/// names it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransferError {
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The target holds something else under the same name.
    #[error("RK-STORE-050: no match was copied, the target holds something else already: {}", .0.join("; "))]
    Conflict(Vec<String>),
    /// Nodes trimmed the source faster than it could be read.
    #[error(
        "RK-STORE-051: log {log}: batch {number} was trimmed before it could be copied; run it \
         again"
    )]
    Overtaken {
        /// The log that was being copied.
        log: Incarnation,
        /// The first batch that was wanted.
        number: BatchNo,
    },
    /// The source is damaged.
    #[error(
        "RK-STORE-052: the source is damaged: {0}; run `rekindle store verify` on it, and copy \
         from a backup"
    )]
    Damaged(String),
    /// The target does not give back what it took.
    #[error(
        "RK-STORE-053: {0} reads back from the target as something else than was written; do not \
         use that store"
    )]
    Differs(String),
    /// A match could not be recovered from the copy, although it could from the source.
    #[error("RK-STORE-054: the copy of match {match_id} cannot be recovered: {error}")]
    Incomplete {
        /// The match whose copy cannot be recovered.
        match_id: MatchId,
        /// Why its history cannot be had from the copy.
        error: HistoryError,
    },
    /// Somebody fenced what was being written.
    #[error(
        "RK-STORE-056: log {0} was fenced in the target while it was written: a node runs there; \
         stop it, and run the copy again"
    )]
    Disturbed(Incarnation),
    /// There is no such match.
    #[error("RK-STORE-055: match {0} is not in the source")]
    Unknown(MatchId),
}

/// Copies. See the module for what is written in which order.
pub async fn copy(
    from: &Store,
    to: &Store,
    options: &CopyOptions<'_>,
) -> Result<Copied, TransferError> {
    let mut run = Run { from, to, options, logs: BTreeMap::new(), done: Copied::default() };
    let plan = run.plan().await?;
    run.copy_logs(&plan).await?;
    // What was written meanwhile: rows first, logs last.
    let plan = if options.cut { run.plan().await? } else { plan };
    let checkpoints = run.copy_checkpoints(&plan).await?;
    run.copy_archive(&plan).await?;
    if options.cut {
        run.copy_logs(&plan).await?;
    }
    let ends = run.ends(checkpoints);
    run.copy_effects(&plan, &ends).await?;
    run.copy_postings(&plan, &ends).await?;
    run.check_histories(&plan).await?;
    run.close_logs(&plan).await?;
    if options.only.is_none() {
        run.copy_jobs().await?;
        run.copy_audit().await?;
        run.copy_keys().await?;
    }
    run.write_rows(&plan).await?;
    Ok(run.done)
}

struct Run<'a> {
    from: &'a Store,
    to: &'a Store,
    options: &'a CopyOptions<'a>,
    logs: BTreeMap<Incarnation, LogCopy>,
    done: Copied,
}

impl Run<'_> {
    async fn survey(store: &Store) -> Result<Survey, StoreError> {
        // Rows first: every incarnation that a row names was registered before.
        let rows = store.leases.matches().await?;
        let nodes = store.leases.nodes().await?;
        let logs = store.journal.logs().await?;
        Ok(Survey::new(rows, nodes, logs))
    }

    /// What there is to be copied; a conflict ends it before anything is written.
    async fn plan(&self) -> Result<Plan, TransferError> {
        let (source, target) = (Self::survey(self.from).await?, Self::survey(self.to).await?);
        Plan::make(source, target, self.options.only.as_ref())
    }

    fn tell(&self, step: Step, done: u64, total: u64) {
        (self.options.progress)(Progress { step, done, total });
    }

    /// Brings every log in the target to where it ends in the source.
    async fn copy_logs(&mut self, plan: &Plan) -> Result<(), TransferError> {
        let mut copies = Vec::with_capacity(plan.logs.len());
        let mut before = 0;
        for (&log, planned) in &plan.logs {
            let copy = self.logs.remove(&log).unwrap_or_else(|| LogCopy::new(log));
            before += copy.counts.bytes();
            copies.push((copy, planned));
        }
        let total: u64 = plan.logs.values().map(|log| log.bytes).sum();
        let done = AtomicU64::new(before);
        let grown = |bytes: u64| {
            let now = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
            self.tell(Step::Logs, now.min(total), total);
        };
        let (from, to, clock, grown) = (self.from, self.to, self.options.clock, &grown);
        let copied: Vec<LogCopy> = futures::stream::iter(copies)
            .map(|(mut copy, planned)| async move {
                copy.advance(from, to, planned, clock, grown).await?;
                Ok::<_, TransferError>(copy)
            })
            .buffer_unordered(LOGS)
            .try_collect()
            .await?;
        self.logs.extend(copied.into_iter().map(|copy| (copy.log, copy)));
        Ok(())
    }

    /// Copies all checkpoints that count. Returns the tick of each match's newest.
    async fn copy_checkpoints(
        &mut self,
        plan: &Plan,
    ) -> Result<BTreeMap<MatchId, Tick>, TransferError> {
        let mut newest = BTreeMap::new();
        for (index, row) in plan.rows.iter().enumerate() {
            self.tell(Step::Checkpoints, index as u64, plan.rows.len() as u64);
            let (mut metas, damaged) = self.from.checkpoints.list(row.match_id).await?;
            let broken = damaged.iter().any(|error| !error.is_torn_tail());
            for error in damaged {
                self.leave_out(row.match_id, &error);
            }
            metas.retain(|meta| history::in_lineage(row, meta));
            if broken {
                let dangling = self.drop_dangling(&mut metas);
                if dangling > 0 {
                    let note = format!(
                        "match {}: {dangling} checkpoints were left out that are deltas to damaged \
                         ones",
                        row.match_id
                    );
                    self.done.notes.push(note);
                }
            }
            newest.extend(metas.first().map(|meta| (row.match_id, meta.tick)));
            let (there, _) = self.to.checkpoints.list(row.match_id).await?;
            for meta in metas.iter().rev() {
                self.copy_checkpoint(meta, there.contains(meta)).await?;
            }
        }
        self.note_missing(plan).await?;
        Ok(newest)
    }

    /// A checkpoint that a node of the source had stored, and of which nothing is left that could
    /// be called damaged.
    async fn note_missing(&mut self, plan: &Plan) -> Result<(), TransferError> {
        for planned in plan.logs.values() {
            let Some(problem) = witness::missing_checkpoint(self.from, &planned.lease).await?
            else {
                continue;
            };
            if !self.done.notes.contains(&problem) {
                self.done.left_out += u64::from(self.done.left_out == 0);
                self.done.notes.push(problem);
            }
        }
        Ok(())
    }

    /// Takes out what rests on a checkpoint that is not there: nobody can restore it. Returns how
    /// many.
    fn drop_dangling(&mut self, metas: &mut Vec<CheckpointMeta>) -> u64 {
        let all = metas.clone();
        metas.retain(|meta| Chain::of(meta, &all).is_some());
        let dangling = (all.len() - metas.len()) as u64;
        self.done.left_out += dangling;
        dangling
    }

    /// A damaged checkpoint is no reason to copy nothing: the histories that are read back decide
    /// whether the match survives without it.
    fn leave_out(&mut self, match_id: MatchId, error: &StoreError) {
        // A local store cannot say whose checkpoint was damaged: it names it for every match.
        let said = |note: &String| note.ends_with(&format!("was left out: {error}"));
        if self.done.notes.iter().any(said) {
            return;
        }
        // What was cut off as it was written was never promised to anybody.
        self.done.left_out += u64::from(!error.is_torn_tail());
        self.done.notes.push(format!(
            "match {match_id}: a checkpoint that cannot be read was left out: {error}"
        ));
    }

    async fn copy_checkpoint(
        &mut self,
        meta: &CheckpointMeta,
        there: bool,
    ) -> Result<(), TransferError> {
        let state = match self.from.checkpoints.get(meta).await {
            Ok(state) => state,
            // Newer ones took its place, and they were listed after the logs were read.
            Err(StoreError::NotFound(_)) if self.options.cut => return Ok(()),
            Err(error @ StoreError::Corrupt { .. }) => {
                self.leave_out(meta.match_id, &error);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if !there {
            logs::persist(|| self.to.checkpoints.put(meta.clone(), state.clone())).await?;
        }
        if self.to.checkpoints.get(meta).await? != state {
            return Err(TransferError::Differs(format!(
                "the checkpoint of match {} at tick {}",
                meta.match_id, meta.tick
            )));
        }
        self.done.checkpoints += 1;
        self.done.checkpoint_bytes += meta.len;
        Ok(())
    }

    /// The last tick of each match in the copy; `checkpoints` are the ticks of the newest ones.
    fn ends(&self, checkpoints: BTreeMap<MatchId, Tick>) -> BTreeMap<MatchId, Tick> {
        let mut ends = checkpoints;
        for (&match_id, &tick) in self.logs.values().flat_map(|log| &log.ends) {
            ends.entry(match_id).and_modify(|end| *end = tick.max(*end)).or_insert(tick);
        }
        ends
    }

    /// Whether an effect of this tick has happened in the copy. One of a later tick belongs to a
    /// future that the copy does not have: the game decides about it anew.
    fn has_happened(&self, ends: &BTreeMap<MatchId, Tick>, match_id: MatchId, tick: Tick) -> bool {
        !self.options.cut || ends.get(&match_id).is_none_or(|end| tick <= *end)
    }

    /// Copies the effects of the copied ticks.
    async fn copy_effects(
        &mut self,
        plan: &Plan,
        ends: &BTreeMap<MatchId, Tick>,
    ) -> Result<(), TransferError> {
        let wanted: BTreeSet<MatchId> = plan.rows.iter().map(|row| row.match_id).collect();
        let counts = |(match_id, effect): &(MatchId, Effect)| {
            wanted.contains(match_id) && self.has_happened(ends, *match_id, effect.id.tick)
        };
        let effects: Vec<(MatchId, Effect)> =
            self.from.effects.delivered().await?.into_iter().filter(counts).collect();
        self.tell(Step::Effects, 0, effects.len() as u64);
        let to = self.to;
        futures::stream::iter(&effects)
            .map(|(match_id, effect)| {
                logs::persist(move || to.effects.deliver(*match_id, effect.clone()))
            })
            .buffer_unordered(REQUESTS)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        let there: BTreeMap<_, _> = self
            .to
            .effects
            .delivered()
            .await?
            .into_iter()
            .map(|(match_id, effect)| ((match_id, effect.id), effect))
            .collect();
        for (match_id, effect) in &effects {
            if there.get(&(*match_id, effect.id)) != Some(effect) {
                return Err(TransferError::Differs(format!(
                    "effect {}.{} of match {match_id}",
                    effect.id.tick, effect.id.ordinal
                )));
            }
        }
        self.done.effects = effects.len() as u64;
        Ok(())
    }

    /// Every match can be recovered from the copy as it can from the source.
    async fn check_histories(&mut self, plan: &Plan) -> Result<(), TransferError> {
        let options = LoadOptions::default();
        for (index, rows) in plan.rows.chunks(HISTORIES).enumerate() {
            self.tell(Step::Histories, (index * HISTORIES) as u64, plan.rows.len() as u64);
            let copies = history::load_many(self.to, rows, &options).await;
            for (row, copy) in rows.iter().zip(copies) {
                match copy {
                    // At a cut the source has gone on; its bytes were compared as they were read.
                    Ok(_) if self.options.cut => {}
                    Ok(copy) => match history::load(self.from, row, &options).await {
                        Ok(source)
                            if source.checkpoint == copy.checkpoint
                                && source.frames == copy.frames => {}
                        Ok(_) => {
                            return Err(TransferError::Differs(format!(
                                "the history of match {}",
                                row.match_id
                            )));
                        }
                        Err(error) => return Err(TransferError::Damaged(error.to_string())),
                    },
                    Err(HistoryError::Store(error)) if error.is_transient() => {
                        return Err(error.into());
                    }
                    Err(error) => self.excuse(row, error).await?,
                }
            }
        }
        Ok(())
    }

    /// A match that cannot be recovered from the source either was copied as it is, unless it is to
    /// run.
    async fn excuse(&mut self, row: &MatchLease, error: HistoryError) -> Result<(), TransferError> {
        let match_id = row.match_id;
        if row.state == MatchState::Running
            || history::load(self.from, row, &LoadOptions::default()).await.is_ok()
        {
            return Err(TransferError::Incomplete { match_id, error });
        }
        self.done
            .notes
            .push(format!("match {match_id} is over, and its records are trimmed: {error}"));
        Ok(())
    }

    async fn close_logs(&mut self, plan: &Plan) -> Result<(), TransferError> {
        for (log, planned) in &plan.logs {
            if let Some(copy) = self.logs.get(log) {
                copy.close(self.to, planned).await?;
                self.done.nodes += 1;
                self.done.batches += copy.counts.written;
                self.done.batch_bytes += copy.counts.written_bytes;
                self.done.batches_present += copy.counts.compared;
            }
        }
        Ok(())
    }

    /// Neither the source nor whoever was copied from it before may ever continue a match in an
    /// epoch in which the target does.
    async fn renew_identity(&self, plan: &Plan) -> Result<(), TransferError> {
        let source = self.from.identity.current().await.unwrap_or_default();
        let floor = source.map(|identity| identity.floor);
        let above = floor.max(identity::highest(&plan.rows)).unwrap_or_default();
        let fresh = Fresh { now_ms: (self.options.clock)(), chance: self.options.chance };
        logs::persist(|| self.to.identity.renew(fresh, "matches were copied into it", above))
            .await?;
        Ok(())
    }

    async fn write_rows(&mut self, plan: &Plan) -> Result<(), TransferError> {
        let total = plan.rows.len() as u64;
        self.tell(Step::Rows, 0, total);
        if plan.present.len() < plan.rows.len() {
            self.renew_identity(plan).await?;
        }
        let to = self.to;
        let new = plan.rows.iter().filter(|row| !plan.present.contains(&row.match_id));
        futures::stream::iter(new)
            .map(|row| logs::persist(move || to.leases.create(row.clone())))
            .buffer_unordered(REQUESTS)
            .try_for_each(|()| async { Ok(()) })
            .await?;
        for row in &plan.rows {
            if self.to.leases.get(row.match_id).await?.as_ref() != Some(row) {
                return Err(TransferError::Differs(format!("the row of match {}", row.match_id)));
            }
        }
        (self.done.matches, self.done.present) = (total, plan.present.len() as u64);
        self.tell(Step::Rows, total, total);
        Ok(())
    }
}
