//! What a node does when another one has died: rules 1 to 5 of taking over, in their order.
//!
//! 1. *Fence* the incarnation. From here on it can acknowledge nothing.
//! 2. *Then* read the tail of its log. What it acknowledged before is in there: its write had ended
//!    before it verified its lease, it verified before the fence was complete, and the tail is read
//!    after that.
//! 3. *Settle*: write the last whole batch again, durably, so that nothing counts that might still
//!    vanish.
//! 4. *Seal* the log. The first seal stands; whoever loses that race adopts it. Later batches of a
//!    zombie lie behind it. A log that ends before what it is known to have had
//!    ([`rekindle_store::witness`]) is sealed at *that*: so matches that may have lost records are
//!    parked, until the log is put back or an operator [accepts the loss](accept_loss).
//! 5. *Claim* each match by compare-and-set, with the next epoch (or the lowest of the store's
//!    identity, if that is higher) and a new stretch of lineage.
//!
//! A match that was followed by the caller is claimed by [`promote`]: the same rules, with the
//! follower's position in place of checkpoint and history.
//!
//! Restoring and replaying (rule 6) is up to the caller: a [`Claim`] has all that it takes. Before
//! rule 5 the caller is asked for its [`Fit`]: what it cannot run it does not claim, and the row
//! stays as it is for others.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use rekindle_schema::batch::FrameHeader;
use rekindle_schema::lease::{Lineage, MatchLease, MatchState, NodeLease, NodeState};
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId, Seq};
use rekindle_store::history::{self, History, HistoryError, LoadOptions};
use rekindle_store::witness::{self, Short};
use rekindle_store::{Store, StoreError};

use super::directory::{self, Updated};

/// Log code: a node was fenced and its log sealed; `took_ms` says for how long that was at work.
pub const SEALED: &str = "RK-CLUSTER-003";

/// Why nothing could be taken over.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TakeoverError {
    /// Only a live node may take over: this one was fenced itself.
    #[error(
        "RK-CLUSTER-002: incarnation {0} is not live, so it may take over nothing; this process \
         must end"
    )]
    NotLive(Incarnation),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A fenced and sealed log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secured {
    /// The node that wrote it.
    pub incarnation: Incarnation,
    /// The last batch that counts; later ones of a zombie do not.
    pub seal: BatchNo,
    /// What was cut off behind the last whole batch, in words.
    pub torn: Option<String>,
    /// Set: the log has lost batches that were acknowledged.
    pub short: Option<Short>,
}

/// A match that is now owned by the caller and not yet running.
pub struct Claim {
    /// Its row, as it stands.
    pub lease: MatchLease,
    /// What to restore and replay.
    pub history: History,
    /// The last record behind the history, if an operator gave some up: they are void.
    pub void: Option<FrameHeader>,
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
    /// No match is continued in a lower epoch: that of the store's identity, as it stands now.
    pub floor: Epoch,
}

/// What whoever claims says of a match whose history is read, before it claims it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// It can go on with it.
    Runs,
    /// It can go on behind this record: those that follow it are given up, as an operator wants it.
    RunsFrom(Seq),
    /// It cannot; others may.
    Waits,
    /// Nobody can: the match is parked with this report. The number is what its row then has as
    /// attempts.
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
pub async fn secure(
    store: &Store,
    me: Incarnation,
    dead: Incarnation,
) -> Result<Secured, TakeoverError> {
    let live = store.leases.node(me).await?.is_some_and(|lease| lease.state == NodeState::Live);
    if !live {
        return Err(TakeoverError::NotLive(me));
    }
    let begun = tokio::time::Instant::now();
    let before = store.leases.node(dead).await?;
    store.leases.fence(dead).await?;
    // Its last renewal came before the fence.
    let lease = store.leases.node(dead).await?;
    let tail = store.journal.tail(dead).await?;
    store.journal.settle(dead, tail.last).await?;
    let known = lease.as_ref().and_then(NodeLease::known_end).unwrap_or_default();
    let seal = store.leases.seal(dead, tail.last.max(tail.proven).max(known)).await?;
    // The log of one that had stopped may have been trimmed.
    let short = before.zip(lease).and_then(|(before, lease)| {
        witness::short(&NodeLease { state: before.state, ..lease }, &tail)
    });
    if let Some(short) = &short {
        tracing::error!(code = "RK-CLUSTER-110", %dead, %short, "a log has lost its end: matches \
            with records in it are parked");
    }
    if let Some(damage) = &tail.damage {
        tracing::error!(code = "RK-CLUSTER-005", %dead, %damage, "damaged batch: matches with \
            records in it will be parked");
    }
    let took_ms = begun.elapsed().as_millis() as u64;
    tracing::info!(
        code = SEALED, %dead, %seal, torn = tail.torn.as_deref(), took_ms, "log fenced and sealed"
    );
    Ok(Secured { incarnation: dead, seal, torn: tail.torn, short })
}

/// What is missing of a log, and which matches are concerned.
#[derive(Debug, Clone)]
pub struct Loss {
    /// Where the log ends, and where it had come to.
    pub short: Short,
    /// The matches that may have lost records, each with what is known of that, in words.
    pub matches: Vec<(MatchLease, String)>,
}

/// What is missing at the end of a log whose node is dead; `None`: nothing that is known.
pub async fn loss(store: &Store, log: Incarnation) -> Result<Option<Loss>, StoreError> {
    let lease = store
        .leases
        .node(log)
        .await?
        .ok_or_else(|| StoreError::NotFound(format!("the lease of node incarnation {log}")))?;
    let tail = store.journal.tail(log).await?;
    let mut rows = store.leases.matches().await?;
    rows.retain(|row| {
        !matches!(row.state, MatchState::Ended { .. })
            && row.lineage.iter().any(|line| line.incarnation == log)
    });
    let histories = history::load_many(store, &rows, &LoadOptions::default()).await;
    let concerned = |(row, history)| match history {
        Err(HistoryError::Damaged { log: found, problem, .. }) if found == log => {
            Some((row, problem))
        }
        _ => None,
    };
    let matches: Vec<(MatchLease, String)> =
        rows.into_iter().zip(histories).filter_map(concerned).collect();
    // A log that is gone may have been trimmed, unless a match needs it; checkpoints may know more
    // of it than its lease.
    let at_ms = lease.reached.map(|reached| reached.at_ms);
    let known = lease.known_end().unwrap_or_default().max(tail.proven);
    let needed = || (!matches.is_empty()).then_some(Short { log, ends: tail.last, known, at_ms });
    let short = witness::short(&lease, &tail).or_else(needed);
    Ok(short.map(|short| Loss { short, matches }))
}

/// An operator accepts at `at_ms` that the end of a log is lost. The incarnation is fenced first if
/// it is not yet, so it must be dead. Its matches go on from what is left: those that were parked
/// because of it are running again by their rows, and whoever looks for orphans next takes them
/// over. Returns what was given up.
pub async fn accept_loss(
    store: &Store,
    log: Incarnation,
    at_ms: u64,
) -> Result<Option<Loss>, StoreError> {
    let Some(loss) = loss(store, log).await? else { return Ok(None) };
    store.leases.fence(log).await?;
    let tail = store.journal.tail(log).await?;
    store.leases.accept_loss(log, tail.last, at_ms).await?;
    tracing::warn!(
        code = "RK-CLUSTER-111", %log, ends = %tail.last, known = %loss.short.known,
        "an operator accepted that the end of a log is lost"
    );
    let rows: Vec<MatchLease> = loss.matches.iter().map(|(row, _)| row.clone()).collect();
    for (row, history) in
        rows.iter().zip(history::load_many(store, &rows, &LoadOptions::default()).await)
    {
        if history.is_err() || !matches!(row.state, MatchState::Parked { .. }) {
            continue;
        }
        let version = row.version;
        directory::update(&*store.leases, row.match_id, |lease| {
            lease.state = MatchState::Running;
            lease.attempts = 0;
            lease.version == version
        })
        .await?;
    }
    Ok(Some(loss))
}

/// Running matches whose owner is one of `dead`, and every incarnation whose log their history
/// needs sealed.
///
/// Rows are scanned, not remembered: a node that died in the middle of a takeover leaves matches
/// that still name its victim.
pub async fn orphans(
    store: &Store,
    dead: &BTreeSet<Incarnation>,
) -> Result<Vec<MatchLease>, StoreError> {
    let mut rows = store.leases.matches().await?;
    rows.retain(|row| row.state == MatchState::Running && dead.contains(&row.incarnation));
    Ok(rows)
}

/// Rule 5 for `rows`, whose owners are secured: see [`claims`]. Resolves when all are decided.
pub async fn claim(
    store: &Store,
    rows: Vec<MatchLease>,
    options: ClaimOptions,
    fitness: &dyn Fitness,
) -> Result<Vec<Claimed>, TakeoverError> {
    claims(store, rows, options, fitness).await.try_collect().await
}

/// Rule 5 for `rows`, whose owners are secured. Logs are read once for all of them; then each match
/// comes out, in the order of `rows`, as soon as it is decided. A parked row that is claimed runs
/// again.
pub async fn claims<'a>(
    store: &'a Store,
    rows: Vec<MatchLease>,
    options: ClaimOptions,
    fitness: &'a dyn Fitness,
) -> impl Stream<Item = Result<Claimed, TakeoverError>> + use<'a> {
    let histories = history::load_many(store, &rows, &LoadOptions::default()).await;
    // Boxed: behind a closure the future would not be `Send` for callers that spawn this.
    let claims: Vec<_> = rows
        .into_iter()
        .zip(histories)
        .map(|(row, history)| claim_one(store, row, history, options, fitness).boxed())
        .collect();
    futures::stream::iter(claims).buffered(CLAIMS)
}

/// The row with which `options.me` claims a match whose last record is `last_seq`: the next version
/// and epoch, and a new stretch of lineage behind those that stand. `row` was just read: it is
/// written only if that version still stands.
pub fn next_owner(mut row: MatchLease, options: ClaimOptions, last_seq: Seq) -> MatchLease {
    row.state = MatchState::Running;
    row.version += 1;
    row.epoch = row.epoch.next().max(options.floor);
    row.incarnation = options.me;
    row.attempts += 1;
    row.lineage.push(Lineage {
        epoch: row.epoch,
        incarnation: options.me,
        first_batch: options.first_batch,
        first_seq: last_seq.next(),
    });
    row
}

async fn claim_one(
    store: &Store,
    row: MatchLease,
    history: Result<History, HistoryError>,
    options: ClaimOptions,
    fitness: &dyn Fitness,
) -> Result<Claimed, TakeoverError> {
    let match_id = row.match_id;
    let mut history = match history {
        Ok(history) => history,
        // It says nothing about this match: a device or a limit that fails now may not fail at the
        // next start.
        Err(HistoryError::Store(error))
            if !matches!(error, StoreError::Corrupt { .. } | StoreError::NotFound(_)) =>
        {
            return Err(error.into());
        }
        Err(error) => {
            let attempts = row.attempts;
            return park(store, row, error.to_string(), attempts).await;
        }
    };
    let mut void = None;
    match fitness.of(&row, &history).await {
        Fit::Runs => {}
        Fit::RunsFrom(last) => {
            void = history.frames.last().map(|frame| frame.header);
            void = void.filter(|header| header.seq > last);
            history.frames.retain(|frame| frame.header.seq <= last);
            assert_eq!(history.last_seq(), last, "match {match_id} goes on from a record it has");
        }
        Fit::Waits => return Ok(Claimed::Waits(Box::new(row))),
        Fit::Parks(report, attempts) => return park(store, row, report, attempts).await,
    }
    let wanted = next_owner(row, options, history.last_seq());
    match store.leases.compare_and_set(wanted.clone()).await? {
        Ok(()) => Ok(Claimed::Ours(Box::new(Claim { lease: wanted, history, void }))),
        Err(_) => Ok(Claimed::Lost(match_id)),
    }
}

/// How far a match was followed, by whoever wants to go on with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Followed {
    /// The ownership whose records were followed.
    pub epoch: Epoch,
    /// The owner whose log was read.
    pub owner: Incarnation,
    /// The last batch of it that was read.
    pub read_to: BatchNo,
    /// The last record of the match that was applied.
    pub seq: Seq,
}

/// What became of a match that was followed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Promoted {
    /// It is the caller's: its row, as it stands. The followed world runs under it.
    Ours(Box<MatchLease>),
    /// Another node was faster.
    Lost,
    /// The followed world is not what the row and the sealed log say; nothing was changed. The
    /// match is to be claimed as any other.
    Unfit(String),
}

/// Rule 5 for a match that was followed here until its owner died: `row` was just read, its owner
/// is secured. No checkpoint and no history are read: all records up to the seal are in the
/// follower's world, which compared every hash.
///
/// The follower may have read what does not count: a writer that did not know that it was fenced.
/// It must then stand behind the seal, and is refused here.
pub async fn promote(
    store: &Store,
    row: MatchLease,
    followed: Followed,
    options: ClaimOptions,
) -> Result<Promoted, TakeoverError> {
    let owner = store.leases.node(row.incarnation).await?;
    if let Err(why) = fits_seal(&row, followed, owner.as_ref()) {
        return Ok(Promoted::Unfit(why));
    }
    let epoch = row.epoch;
    let wanted = next_owner(row, options, followed.seq);
    assert!(wanted.epoch > epoch, "epochs only grow");
    match store.leases.compare_and_set(wanted.clone()).await? {
        Ok(()) => Ok(Promoted::Ours(Box::new(wanted))),
        Err(_) => Ok(Promoted::Lost),
    }
}

/// Whether a followed world has all that counts of a match, and nothing else; else why not. Pure.
/// `owner` is the lease of the owner that `row` names. Called by [`promote`].
pub fn fits_seal(
    row: &MatchLease,
    followed: Followed,
    owner: Option<&NodeLease>,
) -> Result<(), String> {
    let Followed { epoch, owner: log, read_to, .. } = followed;
    if row.state != MatchState::Running {
        return Err("its row does not say that it runs".to_owned());
    }
    if (row.epoch, row.incarnation) != (epoch, log) {
        return Err(format!(
            "epoch {epoch} of owner {log} was followed, its row has epoch {} of {}",
            row.epoch, row.incarnation
        ));
    }
    let sealed = owner.filter(|owner| owner.state == NodeState::Fenced);
    let Some(seal) = sealed.and_then(|owner| owner.seal) else {
        return Err(format!("the log of {log} is not sealed"));
    };
    match read_to.cmp(&seal) {
        Ordering::Equal => Ok(()),
        Ordering::Less => {
            Err(format!("its log was read up to batch {read_to}, it is sealed behind batch {seal}"))
        }
        Ordering::Greater => Err(format!(
            "batch {read_to} was read, which its owner wrote after it was fenced: the log is \
             sealed behind batch {seal}"
        )),
    }
}

async fn park(
    store: &Store,
    row: MatchLease,
    report: String,
    attempts: u32,
) -> Result<Claimed, TakeoverError> {
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

/// The match has run healthily: forgets its recovery attempts and the stretches of lineage that no
/// kept checkpoint needs.
///
/// `keep_from` is the oldest epoch that must stay readable.
pub async fn mark_healthy(
    store: &Store,
    me: Incarnation,
    match_id: MatchId,
    keep_from: Option<Epoch>,
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
