//! Collections as the store has them: for questions about one that no node runs, or that is to be
//! asked beside the node that runs it.
//!
//! The newest checkpoint is restored and the records behind it are replayed, with the same checks
//! as in a recovery; nothing is claimed and nothing is written. What was built is kept for a
//! moment, so that questions in quick succession do not replay again; not if this node has told
//! something newer from memory meanwhile. Called by
//! [`super::reading`] in a node, and by `rekindle doc` where no node answers.
//!
//! # What counts
//!
//! Only records that every later owner has, too. A whole batch that was read before its writer was
//! fenced is one that a takeover finds as well; what was read later counts up to the seal of the
//! log. So the lease of the log's writer is read before and after the records, and they are read
//! again if the writer was fenced in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_actors::recovery::replay;
use rekindle_actors::{Games, OtherBuild};
use rekindle_schema::lease::{MatchLease, MatchState, NodeLease, NodeState};
use rekindle_schema::{BuildId, MatchId, Seq, Tick};
use rekindle_sim::Simulation;
use rekindle_sim::documents::collection_id;
use rekindle_sim::documents::wire::{Plan, Question, Reply};
use rekindle_store::history::{self, History, HistoryError, LoadOptions};
use rekindle_store::{Store, StoreError};
use tokio::time::{Instant, sleep, timeout};

use super::DocumentsError;
use crate::node::trial::{TrialOptions, Trials, Verdict};

/// For so long an answer is given from what was built, without looking into the store again.
const FRESH_FOR: Duration = Duration::from_millis(250);
/// Most bytes of state that are kept, of all collections together. One that is larger is built for
/// each question.
const MOST_KEPT: usize = 64 << 20;
/// How long one reading of the store may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the records are read again because their owner changes.
const TRIES: u32 = 60;
/// Between two of those.
const AGAIN: Duration = Duration::from_millis(50);

/// Collections as the store has them.
pub struct Shelf {
    store: Store,
    games: Games,
    build: BuildId,
    other_build: OtherBuild,
    trials: Trials,
    /// Held while one is built: one at a time, so that memory is bounded.
    kept: tokio::sync::Mutex<BTreeMap<MatchId, Kept>>,
    /// The newest tick of each collection that was told from memory: what was built before it is
    /// not told any more, or who asks would see time go backwards.
    told: Mutex<BTreeMap<MatchId, Tick>>,
    /// Collections whose replay ended a process: the version of their row then, and how it ended.
    deadly: Mutex<BTreeMap<MatchId, (u64, String)>>,
}

/// What was built a moment ago.
struct Kept {
    /// The version of the collection's row that it was built under.
    row: u64,
    at: Instant,
    bytes: usize,
    built: Arc<Built>,
}

/// A collection, as the store has it.
struct Built {
    world: Mutex<Box<dyn Simulation>>,
    tick: Tick,
    seq: Seq,
    /// When the newest record or checkpoint in it was written, in milliseconds since 1970; none if
    /// nothing was written yet.
    written_ms: Option<u64>,
    /// The tick of the checkpoint that it was built from.
    checkpoint: Option<Tick>,
    /// Ticks that were made again.
    replayed: u64,
}

/// An answer from the store.
pub struct Stored {
    /// What was found.
    pub reply: Reply,
    /// How.
    pub plan: Option<Plan>,
    /// As of which tick.
    pub tick: Tick,
    /// The last record that is in it.
    pub seq: Seq,
    /// When that was written, in milliseconds since 1970.
    pub written_ms: Option<u64>,
    /// The tick of the checkpoint that it rests on.
    pub checkpoint: Option<Tick>,
    /// Ticks that were made again for it.
    pub replayed: u64,
    /// It was built for an earlier question.
    pub kept: bool,
}

/// What the directory says of a collection.
pub struct Row {
    /// Its row.
    pub lease: MatchLease,
    /// The run of a node that owns it, if the store still knows that.
    pub owner: Option<NodeLease>,
}

impl Shelf {
    /// For questions to this store. `trials` says how collections are tried whose owners died
    /// early, before this process replays them.
    pub fn new(store: Store, games: Games, trials: TrialOptions, other_build: OtherBuild) -> Self {
        let build = trials.build;
        // One death is enough: nothing is parked for it.
        let trials = Trials::at_once(1, TrialOptions { deaths: 1, ..trials });
        let (kept, told, deadly) = Default::default();
        Self { store, games, build, other_build, trials, kept, told, deadly }
    }

    /// An answer as of this tick was told from memory.
    pub fn told(&self, kind: &str, tick: Tick) {
        let mut told = self.told.lock();
        let newest = told.entry(collection_id(kind)).or_default();
        *newest = tick.max(*newest);
    }

    /// What the directory says of the collection of a kind; none if there is no collection yet.
    pub async fn row(&self, kind: &str) -> Result<Option<Row>, StoreError> {
        let Some(lease) = self.store.leases.get(collection_id(kind)).await? else {
            return Ok(None);
        };
        let owner = self.store.leases.node(lease.incarnation).await?;
        Ok(Some(Row { lease, owner }))
    }

    /// Answers a question from what the store has of the collection; none if it has none.
    pub async fn answer(
        &self,
        kind: &str,
        question: &Question,
    ) -> Result<Option<Stored>, DocumentsError> {
        let found = timeout(PATIENCE, self.find(kind)).await.map_err(|_| {
            let words = format!("the store did not give it within {} s", PATIENCE.as_secs());
            DocumentsError::Unreachable(words)
        })??;
        let Some((built, kept)) = found else { return Ok(None) };
        let question = question.clone();
        let asked = Arc::clone(&built);
        let work = move || {
            let world = asked.world.lock();
            let answer = |question: &Question| {
                let json = serde_json::to_vec(question).ok()?;
                serde_json::from_slice(&world.answer(&json)?).ok()
            };
            let plan = answer(&Question::Plan(Box::new(question.clone())));
            (answer(&question), plan)
        };
        let answered = tokio::task::spawn_blocking(work).await;
        let (reply, plan) = answered.unwrap_or_default();
        let reply = reply.ok_or_else(|| DocumentsError::Unreadable {
            kind: kind.to_owned(),
            problem: "the question panicked".to_owned(),
        })?;
        Ok(Some(Stored {
            reply,
            plan: match plan {
                Some(Reply::Plan(plan)) => Some(plan),
                _ => None,
            },
            tick: built.tick,
            seq: built.seq,
            written_ms: built.written_ms,
            checkpoint: built.checkpoint,
            replayed: built.replayed,
            kept,
        }))
    }

    /// The collection, and whether it was there already.
    async fn find(&self, kind: &str) -> Result<Option<(Arc<Built>, bool)>, DocumentsError> {
        let mut shelf = self.kept.lock().await;
        let id = collection_id(kind);
        let row = self.store.leases.get(id).await.map_err(|error| unreachable(&error))?;
        let Some(row) = row else { return Ok(None) };
        shelf.retain(|_, kept| kept.at.elapsed() < FRESH_FOR);
        let told = self.told.lock().get(&id).copied().unwrap_or_default();
        let counts = |kept: &&Kept| kept.row == row.version && kept.built.tick >= told;
        if let Some(kept) = shelf.get(&id).filter(counts) {
            return Ok(Some((Arc::clone(&kept.built), true)));
        }
        shelf.remove(&id);
        let (row, history) = self.history(kind, row).await?;
        self.try_suspect(kind, &row, &history).await?;
        let bytes = history.checkpoint.as_ref().map_or(0, |(_, state)| state.len())
            + history.frames.iter().map(|frame| frame.payload.len()).sum::<usize>();
        let version = row.version;
        let built = Arc::new(self.build(kind, row, history).await?);
        let on_shelf: usize = shelf.values().map(|kept| kept.bytes).sum();
        if on_shelf.saturating_add(bytes) <= MOST_KEPT {
            let built = Arc::clone(&built);
            shelf.insert(id, Kept { row: version, at: Instant::now(), bytes, built });
        }
        Ok(Some((built, false)))
    }

    /// The history of a collection, of which everything counts.
    async fn history(
        &self,
        kind: &str,
        mut row: MatchLease,
    ) -> Result<(MatchLease, History), DocumentsError> {
        let store = &self.store;
        for _ in 0..TRIES {
            let before = self.writer(&row).await?;
            let history = match history::load(store, &row, &LoadOptions::default()).await {
                Ok(history) => Ok(history),
                Err(HistoryError::Store(error)) if error.is_transient() => {
                    return Err(unreachable(&error));
                }
                Err(error) => Err(error),
            };
            let now = self.writer(&row).await?;
            let found = store.leases.get(row.match_id).await.map_err(|e| unreachable(&e))?;
            match found {
                Some(found)
                    if found.lineage == row.lineage && counts(before.as_ref(), now.as_ref()) =>
                {
                    let history = history.map_err(|error| unreadable(kind, &error))?;
                    return Ok((row, history));
                }
                Some(found) => row = found,
                None => break,
            }
            sleep(AGAIN).await;
        }
        Err(DocumentsError::Unreachable(format!(
            "collection {} changes its owner, and nobody has sealed the log of the last one yet",
            row.match_id
        )))
    }

    async fn writer(&self, row: &MatchLease) -> Result<Option<NodeLease>, DocumentsError> {
        self.store.leases.node(row.incarnation).await.map_err(|error| unreachable(&error))
    }

    /// A collection whose owners died before it had run healthily may end this process, too: it is
    /// replayed in another one first.
    async fn try_suspect(
        &self,
        kind: &str,
        row: &MatchLease,
        history: &History,
    ) -> Result<(), DocumentsError> {
        if row.attempts == 0 {
            return Ok(());
        }
        let kind = kind.to_owned();
        let known = self.deadly.lock().get(&row.match_id).cloned();
        if let Some((_, how)) = known.filter(|(version, _)| *version == row.version) {
            return Err(DocumentsError::Deadly { kind, how });
        }
        match self.trials.of(row, history).await {
            Verdict::Survived => Ok(()),
            Verdict::Died(_, how) => {
                self.deadly.lock().insert(row.match_id, (row.version, how.clone()));
                Err(DocumentsError::Deadly { kind, how })
            }
            Verdict::Untried(why) => {
                let how = format!("it could not be tried: {why}");
                Err(DocumentsError::Deadly { kind, how })
            }
        }
    }

    async fn build(
        &self,
        kind: &str,
        row: MatchLease,
        history: History,
    ) -> Result<Built, DocumentsError> {
        let game = self.games.get(&row.spec.game).map_err(|e| unreadable(kind, &e))?;
        let (build, other_build) = (self.build, self.other_build);
        let work = move || {
            let of_checkpoint = history.checkpoint.as_ref().map(|(meta, _)| meta.time_ms);
            let of_records = history.frames.last().map(|frame| frame.header.time_ms);
            let written_ms = of_records.or(of_checkpoint);
            replay(&*game, &row.spec, &history, build, other_build, &mut |_| {})
                .map(|replayed| (replayed, written_ms))
        };
        let replayed = tokio::task::spawn_blocking(work).await;
        let (replayed, written_ms) = replayed
            .map_err(|_| DocumentsError::Unreadable {
                kind: kind.to_owned(),
                problem: "replaying its journal panicked".to_owned(),
            })?
            .map_err(|error| unreadable(kind, &error))?;
        Ok(Built {
            tick: replayed.tick,
            seq: replayed.seq,
            written_ms,
            checkpoint: replayed.checkpoint.map(|meta| meta.tick),
            replayed: replayed.replayed,
            world: Mutex::new(replayed.sim),
        })
    }
}

/// Whether what was read between these two looks at the lease of its writer is what every later
/// owner has, too.
fn counts(before: Option<&NodeLease>, after: Option<&NodeLease>) -> bool {
    let sealed = |lease: &NodeLease| lease.seal.is_some() || lease.state == NodeState::Stopped;
    match (before, after) {
        // The reading itself stopped at the seal.
        (Some(before), _) if sealed(before) => true,
        (_, Some(after)) => after.state == NodeState::Live,
        // A store that has forgotten a node keeps nothing of its log that could still change.
        (_, None) => true,
    }
}

/// What a state is called.
pub fn state_words(state: &MatchState) -> &'static str {
    match state {
        MatchState::Running => "running",
        MatchState::Parked { .. } => "parked",
        MatchState::Ended { .. } => "ended",
    }
}

fn unreachable(error: &StoreError) -> DocumentsError {
    DocumentsError::Unreachable(error.to_string())
}

fn unreadable(kind: &str, error: &dyn std::fmt::Display) -> DocumentsError {
    DocumentsError::Unreadable { kind: kind.to_owned(), problem: error.to_string() }
}

#[cfg(test)]
mod tests;
