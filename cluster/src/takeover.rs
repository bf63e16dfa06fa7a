//! What a node does when another one has died: rules 1 to 5 of taking over, in their order.
//!
//! 1. *Fence* the incarnation. From here on it can acknowledge nothing.
//! 2. *Then* read the tail of its log. What it acknowledged before is in there: its write had ended before it verified its lease, it verified
//!    before the fence was complete, and the tail is read after that.
//! 3. *Settle*: write the last whole batch again, durably, so that nothing counts that might still vanish.
//! 4. *Seal* the log. The first seal stands; whoever loses that race adopts it. Later batches of a zombie lie behind it.
//! 5. *Claim* each match by compare-and-set, with the next epoch and a new stretch of lineage.
//!
//! Restoring and replaying (rule 6) is up to the caller: a [`Claim`] has all that it takes. Before rule 5 the caller is asked for its [`Fit`]: what it
//! cannot run it does not claim, and the row stays as it is for others.

use std::collections::BTreeSet;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use rekindle_schema::lease::{Lineage, MatchLease, MatchState, NodeState};
use rekindle_schema::{BatchNo, Incarnation, MatchId};
use rekindle_store::history::{self, History, HistoryError, LoadOptions};
use rekindle_store::{Store, StoreError};

use crate::directory::{self, Updated};

/// Why nothing could be taken over.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TakeoverError {
    /// Only a live node may take over: this one was fenced itself.
    #[error("RK-CLUSTER-002: incarnation {0} is not live, so it may take over nothing; this process must end")]
    NotLive(Incarnation),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A fenced and sealed log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secured {
    /// Whose.
    pub incarnation: Incarnation,
    /// The last batch that counts.
    pub seal: BatchNo,
    /// What was cut off behind the last whole batch, in words.
    pub torn: Option<String>,
}

/// A match that is now owned by the caller and not yet running.
pub struct Claim {
    /// Its row, as it stands.
    pub lease: MatchLease,
    /// What to restore and replay.
    pub history: History,
}

/// What became of one orphaned match.
pub enum Claimed {
    /// It is the caller's.
    Ours(Box<Claim>),
    /// Another node was faster.
    Lost(MatchId),
    /// The caller cannot run it: its row, which was left alone.
    Waits(Box<MatchLease>),
    /// Its history cannot be read: it is parked with this report.
    Parked(MatchId, String),
}

/// How claims are made.
#[derive(Debug, Clone, Copy)]
pub struct ClaimOptions {
    /// Who claims.
    pub me: Incarnation,
    /// No record that the caller will write for the match lies in an earlier batch of its log.
    pub first_batch: BatchNo,
}

/// What whoever claims says of a match whose history is read, before it claims it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// It can go on with it.
    Runs,
    /// It cannot; others may.
    Waits,
    /// Nobody can: the match is parked with this report. The number is what its row then has as attempts.
    Parks(String, u32),
}

/// Says whether matches can be run by whoever claims them.
pub trait Fitness: Sync {
    /// Called for each match before its claim, several at a time.
    fn of<'a>(&'a self, row: &'a MatchLease, history: &'a History) -> BoxFuture<'a, Fit>;
}

/// Everything can be run: for callers that have one build and trust every match.
pub struct Anything;

impl Fitness for Anything {
    fn of<'a>(&'a self, _: &'a MatchLease, _: &'a History) -> BoxFuture<'a, Fit> {
        std::future::ready(Fit::Runs).boxed()
    }
}

/// How many claims are under way at once: a store commits those that wait together.
const CLAIMS: usize = 64;

/// Rules 1 to 4 for one incarnation. Harmless to repeat, and to run on several nodes at once.
pub async fn secure(store: &Store, me: Incarnation, dead: Incarnation) -> Result<Secured, TakeoverError> {
    let live = store.leases.node(me).await?.is_some_and(|lease| lease.state == NodeState::Live);
    if !live {
        return Err(TakeoverError::NotLive(me));
    }
    store.leases.fence(dead).await?;
    let tail = store.journal.tail(dead).await?;
    store.journal.settle(dead, tail.last).await?;
    let seal = store.leases.seal(dead, tail.last).await?;
    if let Some(damage) = &tail.damage {
        tracing::error!(code = "RK-CLUSTER-005", %dead, %damage, "damaged batch: matches with records in it will be parked");
    }
    tracing::info!(code = "RK-CLUSTER-003", %dead, %seal, torn = tail.torn.as_deref(), "log fenced and sealed");
    Ok(Secured { incarnation: dead, seal, torn: tail.torn })
}

/// Running matches whose owner is one of `dead`, and every incarnation whose log their history needs sealed.
///
/// Rows are scanned, not remembered: a node that died in the middle of a takeover leaves matches that still name its victim.
pub async fn orphans(store: &Store, dead: &BTreeSet<Incarnation>) -> Result<Vec<MatchLease>, StoreError> {
    let mut rows = store.leases.matches().await?;
    rows.retain(|row| row.state == MatchState::Running && dead.contains(&row.incarnation));
    Ok(rows)
}

/// Rule 5 for `rows`, whose owners are secured. Logs are read once for all of them. A parked row that is claimed runs again.
pub async fn claim(
    store: &Store,
    rows: Vec<MatchLease>,
    options: ClaimOptions,
    fitness: &dyn Fitness,
) -> Result<Vec<Claimed>, TakeoverError> {
    let histories = history::load_many(store, &rows, &LoadOptions::default()).await;
    // Boxed: behind a closure the future would not be `Send` for callers that spawn this.
    let claims: Vec<_> =
        rows.into_iter().zip(histories).map(|(row, history)| claim_one(store, row, history, options, fitness).boxed()).collect();
    futures::stream::iter(claims).buffered(CLAIMS).try_collect().await
}

async fn claim_one(
    store: &Store,
    row: MatchLease,
    history: Result<History, HistoryError>,
    options: ClaimOptions,
    fitness: &dyn Fitness,
) -> Result<Claimed, TakeoverError> {
    let match_id = row.match_id;
    let history = match history {
        Ok(history) => history,
        // It says nothing about this match: a device or a limit that fails now may not fail at the next start.
        Err(HistoryError::Store(error)) if !matches!(error, StoreError::Corrupt { .. } | StoreError::NotFound(_)) => {
            return Err(error.into());
        }
        Err(error) => {
            let attempts = row.attempts;
            return park(store, row, error.to_string(), attempts).await;
        }
    };
    match fitness.of(&row, &history).await {
        Fit::Runs => {}
        Fit::Waits => return Ok(Claimed::Waits(Box::new(row))),
        Fit::Parks(report, attempts) => return park(store, row, report, attempts).await,
    }
    let mut wanted = row;
    wanted.state = MatchState::Running;
    wanted.version += 1;
    wanted.epoch = wanted.epoch.next();
    wanted.incarnation = options.me;
    wanted.attempts += 1;
    wanted.lineage.push(Lineage {
        epoch: wanted.epoch,
        incarnation: options.me,
        first_batch: options.first_batch,
        first_seq: history.last_seq().next(),
    });
    match store.leases.compare_and_set(wanted.clone()).await? {
        Ok(()) => Ok(Claimed::Ours(Box::new(Claim { lease: wanted, history }))),
        Err(_) => Ok(Claimed::Lost(match_id)),
    }
}

async fn park(store: &Store, row: MatchLease, report: String, attempts: u32) -> Result<Claimed, TakeoverError> {
    let (match_id, version) = (row.match_id, row.version);
    tracing::error!(code = "RK-CLUSTER-004", %match_id, %report, "match parked");
    let parked = MatchState::Parked { report: report.clone() };
    let updated = directory::update(&*store.leases, match_id, |lease| {
        lease.state = parked.clone();
        lease.attempts = attempts;
        lease.version == version
    })
    .await?;
    Ok(match updated {
        Updated::Done(_) => Claimed::Parked(match_id, report),
        Updated::Declined(_) => Claimed::Lost(match_id),
    })
}

/// The match has run healthily: forgets its recovery attempts and the stretches of lineage that no kept checkpoint needs.
///
/// `keep_from` is the oldest epoch that must stay readable.
pub async fn settle_in(
    store: &Store,
    me: Incarnation,
    match_id: MatchId,
    keep_from: Option<rekindle_schema::Epoch>,
) -> Result<(), StoreError> {
    directory::update(&*store.leases, match_id, |row| {
        let before = (row.attempts, row.lineage.len());
        row.attempts = 0;
        if let Some(epoch) = keep_from {
            row.lineage.retain(|stretch| stretch.epoch >= epoch);
        }
        row.incarnation == me && before != (row.attempts, row.lineage.len())
    })
    .await
    .map(|_| ())
}
