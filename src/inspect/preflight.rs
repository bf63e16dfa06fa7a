//! Tries the matches of a store with this build: would it go on with them? Reads only, and takes no
//! lease, so nodes may run on the store. Called by `rekindle preflight`.
//!
//! A match is tried twice. Its newest checkpoint is restored: this is what a start behind a clean
//! stop does. And all that is kept of it is made again, from the first record or, if that is gone,
//! from the oldest state whose later records are all there: this is what a start behind a crash
//! does with the last part of it. Both in processes of their own ([`Trials`]).

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, stream};
use rekindle_actors::Games;
use rekindle_schema::archive::ChunkKind;
use rekindle_schema::audit::Stage;
use rekindle_schema::batch::Frame;
use rekindle_schema::lease::{MatchLease, MatchState, NodeLease, NodeState};
use rekindle_schema::record::{Decision, Flush, Grounds};
use rekindle_schema::{Incarnation, MatchId, Seq, Tick};
use rekindle_store::history::{self, End, History, HistoryError, Point};
use rekindle_store::{AuditQuery, Store, StoreError};
use serde::Serialize;

use super::reach::{self, Reach};
use crate::clock;
use crate::node::alive;
use crate::node::operator::STOP_ACTION;
use crate::node::trial::Trials;
use crate::node::trial::comparison::{Compared, NotCompared, Outcome};

/// Of the archive, so much of one match is read at most, in bytes as they were recorded.
const MOST_ARCHIVED: u64 = 64 << 20;

/// What is tried, and how.
pub struct Wanted<'a> {
    /// The games of this executable.
    pub games: &'a Games,
    /// Processes that replay.
    pub trials: &'a Trials,
    /// Which matches; all if empty.
    pub only: BTreeSet<MatchId>,
    /// Leaves out those that have ended.
    pub live: bool,
    /// Counts what happened then and now.
    pub backtest: bool,
    /// So many matches at a time, and in memory.
    pub at_once: usize,
}

/// How far a preflight has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many matches will be tried.
    Matches(usize),
    /// One of them is at this tick.
    At(MatchId, Tick),
    /// One of them is done.
    Done,
}

/// What became of one match.
#[derive(Debug, Clone, Serialize)]
pub struct Tried {
    /// The id of the match.
    pub id: String,
    /// Its game.
    pub game: String,
    /// The version of the game's rules that it began with.
    pub rules: u32,
    /// Running, parked or ended.
    pub state: &'static str,
    /// The node that goes on with it, as far as its lease says: then what was durable was tried.
    pub written_by: Option<String>,
    /// The node that ran it last, if the store still knows that node.
    pub last_run_by: Option<String>,
    /// Of a match that is running: whether that node still holds it.
    pub held: Option<Held>,
    /// What came of it.
    pub verdict: Verdict,
    /// Why, with a code, unless it goes on.
    pub why: Option<String>,
    /// The comparison, if there was one.
    pub compared: Option<Compared>,
    /// What this build's schema has otherwise than the newest checkpoint.
    pub schema: Vec<String>,
    /// What the newest checkpoint has, and this build has no place for.
    pub dropped: Vec<String>,
}

/// Whether the node that ran a match last still holds it. A hint only: leases are compared with the
/// clock of this host, and the fence alone decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// Its lease is renewed.
    Held,
    /// Its process has ended; its lease has not been fenced yet.
    ProcessGone,
    /// Its lease has not been renewed for longer than it lasts.
    Lapsed,
    /// It has stopped.
    Stopped,
    /// Another node has fenced it, and takes over what it ran.
    Fenced,
}

impl Held {
    fn of(node: &NodeLease, now_ms: u64) -> Self {
        match node.state {
            NodeState::Stopped => Self::Stopped,
            NodeState::Fenced => Self::Fenced,
            NodeState::Live if alive::is_gone(node) => Self::ProcessGone,
            NodeState::Live if node.deadline_ms < now_ms => Self::Lapsed,
            NodeState::Live => Self::Held,
        }
    }
}

/// Whether a build goes on with a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It would: all that was recorded is equal.
    GoesOn,
    /// It computes something otherwise: after a crash the match waits for an operator.
    Differs,
    /// Nothing was recorded of some ticks that could be compared: it waits, too.
    Unproven,
    /// It cannot make it again, or not read its state.
    Fails,
    /// Making it again ended its process.
    Dies,
    /// This executable does not have the game.
    UnknownGame,
    /// What is stored of it is damaged.
    Damaged,
    /// It was not tried.
    Untried,
}

/// Tries the matches of a store.
pub async fn preflight(
    store: &Store,
    wanted: &Wanted<'_>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<Tried>, StoreError> {
    let nodes: BTreeMap<Incarnation, NodeLease> =
        store.leases.nodes().await?.into_iter().map(|node| (node.incarnation, node)).collect();
    let mut rows = store.leases.matches().await?;
    rows.retain(|row| {
        let asked = wanted.only.is_empty() || wanted.only.contains(&row.match_id);
        asked && !(wanted.live && matches!(row.state, MatchState::Ended { .. }))
    });
    rows.sort_by_key(|row| row.match_id);
    progress(Progress::Matches(rows.len()));
    let mut tried = Vec::with_capacity(rows.len());
    // Each log is read once for all matches of a group.
    for group in rows.chunks(wanted.at_once) {
        let mut points = Vec::with_capacity(group.len());
        for row in group {
            points.push(usable(store, row, wanted.games).await?);
        }
        let asked: Vec<_> = group
            .iter()
            .zip(&points)
            .map(|(row, (points, earliest))| (row, points.as_slice(), *earliest))
            .collect();
        let reaches = reach::longest_each(store, &asked, End::Newest).await;
        let trying = group.iter().zip(&points).zip(reaches).map(|((row, (points, _)), reach)| {
            let owner = nodes.get(&row.incarnation);
            async move {
                let found = of_match(store, wanted, (row, owner), points, reach, progress).await;
                progress(Progress::Done);
                found
            }
        });
        let trying: Vec<_> = trying.collect();
        tried.extend(stream::iter(trying).buffered(wanted.at_once).collect::<Vec<_>>().await);
    }
    tried.into_iter().collect()
}

/// The states from which a match can be made again, oldest first, and with which of them to begin
/// at the earliest so that not too much of the archive is read.
async fn usable(
    store: &Store,
    row: &MatchLease,
    games: &Games,
) -> Result<(Vec<Point>, usize), StoreError> {
    if games.get(&row.spec.game).is_err() {
        return Ok((Vec::new(), 0));
    }
    let (mut points, _) = history::points(store, row).await?;
    points.retain(Point::is_whole);
    let (chunks, _) = store.archive.list(row.match_id).await?;
    let archived_behind = |seq| -> u64 {
        let records = chunks.iter().filter(|chunk| chunk.kind == ChunkKind::Records);
        records.filter(|chunk| chunk.last_seq > seq).map(|chunk| chunk.raw_len).sum()
    };
    let starts = std::iter::once(Seq(0)).chain(points.iter().map(|point| point.seq));
    let earliest = starts.map(archived_behind).position(|bytes| bytes <= MOST_ARCHIVED);
    let last = points.len();
    Ok((points, earliest.unwrap_or(last)))
}

async fn of_match(
    store: &Store,
    wanted: &Wanted<'_>,
    (row, owner): (&MatchLease, Option<&NodeLease>),
    points: &[Point],
    reach: Result<Reach<'_>, HistoryError>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Tried, StoreError> {
    let (state, running) = match &row.state {
        MatchState::Running => ("running", true),
        MatchState::Parked { .. } => ("parked", false),
        MatchState::Ended { .. } => ("ended", false),
    };
    let held = owner.filter(|_| running).map(|node| Held::of(node, clock::now_ms()));
    let writer = owner.filter(|_| held == Some(Held::Held));
    let mut tried = Tried {
        id: row.match_id.to_string(),
        game: row.spec.game.clone(),
        rules: rekindle_sim::rules_of(&row.spec.config),
        state,
        written_by: writer.map(|node| node.name.clone()),
        last_run_by: owner.map(|node| node.name.clone()),
        held,
        verdict: Verdict::GoesOn,
        why: None,
        compared: None,
        schema: Vec::new(),
        dropped: Vec::new(),
    };
    if let Err(error) = wanted.games.get(&row.spec.game) {
        let why = format!("RK-VERIFY-160: this build does not have its game: {error}");
        (tried.verdict, tried.why) = (Verdict::UnknownGame, Some(why));
        return Ok(tried);
    }
    let history = match reach {
        Ok(reach) => begin(store, points, reach).await,
        Err(error) => Err(error),
    };
    let history = match history {
        Ok(history) => history,
        Err(HistoryError::Store(error)) if error.is_transient() => return Err(error),
        Err(error) => {
            let why = format!("RK-VERIFY-165: what is stored of it is damaged: {error}");
            (tried.verdict, tried.why) = (Verdict::Damaged, Some(why));
            return Ok(tried);
        }
    };
    let at = |tick| progress(Progress::At(row.match_id, tick));
    if let Some(newest) = newest(store, points, &history).await? {
        match wanted.trials.compare(row, &newest, false, &at).await {
            Ok(compared) => tried.restores(compared),
            Err(problem) => tried.not_compared(problem),
        }
    }
    if tried.verdict == Verdict::GoesOn {
        match wanted.trials.compare(row, &history, wanted.backtest, &at).await {
            Ok(mut compared) => {
                if let Some(backtest) = &mut compared.backtest
                    && backtest.may_be_stopped()
                    && was_stopped(store, row.match_id, &history).await?
                {
                    backtest.stopped();
                }
                tried.concludes(compared);
            }
            Err(problem) => tried.not_compared(problem),
        }
    }
    Ok(tried)
}

/// Around the last record of a match its end is looked for in the audit log, in milliseconds: by so
/// much the clocks of two nodes may differ, and so long a stop may take.
const AROUND_THE_END_MS: u64 = 120_000;

/// So many entries of that time are read at most.
const MOST_ENTRIES: usize = 10_000;

/// Whether an operator ended a match, as the audit log has it.
async fn was_stopped(store: &Store, id: MatchId, history: &History) -> Result<bool, StoreError> {
    let Some(last) = history.frames.last() else { return Ok(false) };
    let query = AuditQuery {
        since_ms: last.header.time_ms.saturating_sub(AROUND_THE_END_MS),
        until_ms: last.header.time_ms.saturating_add(AROUND_THE_END_MS),
        limit: MOST_ENTRIES,
    };
    let id = id.to_string();
    let entries = store.audit.list(query).await?;
    Ok(entries.iter().any(|entry| {
        entry.action == STOP_ACTION && entry.target == id && entry.stage == Stage::Done
    }))
}

impl Tried {
    /// What restoring the newest checkpoint came to.
    fn restores(&mut self, compared: Compared) {
        if let Outcome::Fails(why) = compared.outcome {
            let why = format!(
                "RK-VERIFY-163: its newest checkpoint, tick {}, cannot be restored: {why}",
                compared.to
            );
            (self.verdict, self.why) = (Verdict::Fails, Some(why));
        }
        (self.schema, self.dropped) = (compared.schema, compared.dropped);
    }

    fn concludes(&mut self, compared: Compared) {
        let (verdict, why) = match &compared.outcome {
            Outcome::Equal => (Verdict::GoesOn, None),
            Outcome::Differs(differing) => {
                let seen = differing.seen.map_or_else(
                    || "players saw no difference".to_owned(),
                    |tick| format!("players saw it from tick {tick} on"),
                );
                let parts = if differing.parts.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", differing.parts.join("; "))
                };
                let why = format!(
                    "RK-VERIFY-161: it makes another tick {}: {} differs{parts}; {seen}",
                    differing.tick, differing.what
                );
                (Verdict::Differs, Some(why))
            }
            Outcome::Unproven(tick) => {
                let why = format!(
                    "RK-VERIFY-162: from tick {tick} on nothing was recorded that this build could \
                     be compared with"
                );
                (Verdict::Unproven, Some(why))
            }
            Outcome::Fails(why) => {
                let why = format!("RK-VERIFY-167: this build cannot make it again: {why}");
                (Verdict::Fails, Some(why))
            }
        };
        (self.verdict, self.why) = (verdict, why);
        if self.schema.is_empty() {
            (self.schema, self.dropped) = (compared.schema.clone(), compared.dropped.clone());
        }
        self.compared = Some(compared);
    }

    fn not_compared(&mut self, problem: NotCompared) {
        let (verdict, why) = match problem {
            NotCompared::Died(how) => {
                let why = format!("RK-VERIFY-164: making it again ended a process: {how}");
                (Verdict::Dies, why)
            }
            NotCompared::Untried(why) => {
                (Verdict::Untried, format!("RK-VERIFY-166: it was not tried: {why}"))
            }
        };
        (self.verdict, self.why) = (verdict, Some(why));
    }
}

/// The history that is made again. It begins behind what this build may compute otherwise without
/// being asked about it again: what an operator accepted though it differed, and what a build
/// played that stopped cleanly, from whose last checkpoint another one went on.
async fn begin(store: &Store, points: &[Point], reach: Reach<'_>) -> Result<History, HistoryError> {
    let Reach { start, mut frames, notes } = reach;
    let mut first = None;
    let mut before = None;
    for frame in &frames {
        let grounds = grounds(frame);
        let handed_over = before.is_some_and(|build| build != frame.header.build);
        if grounds == Some(Grounds::Accepted) || (handed_over && grounds.is_none()) {
            first = Some(frame.header.seq);
        }
        before = Some(frame.header.build);
    }
    let behind = first.and_then(|first| points.iter().find(|point| point.seq.next() >= first));
    let start = behind.or(start);
    let mut history = History { notes, ..History::default() };
    if let Some(point) = start {
        history.checkpoint = Some(point.load(store).await?);
        history.root = Some(point.seq);
        frames.retain(|frame| frame.header.seq > point.seq);
    }
    history.frames = frames;
    Ok(history)
}

/// On what grounds another build went on with this record, if it says so.
fn grounds(frame: &Frame) -> Option<Grounds> {
    let flush = Flush::decode(&frame.payload).ok()?;
    flush.decisions.iter().find_map(|decision| match decision {
        Decision::OtherBuild { grounds, .. } => Some(*grounds),
        _ => None,
    })
}

/// The newest checkpoint alone, unless `history` begins with it.
async fn newest(
    store: &Store,
    points: &[Point],
    history: &History,
) -> Result<Option<History>, StoreError> {
    let begins = history.checkpoint.as_ref().map(|(meta, _)| meta.seq);
    for point in points.iter().rev().filter(|point| point.checkpoint().is_some()) {
        if Some(point.seq) == begins {
            break;
        }
        match point.load(store).await {
            Ok(checkpoint) => {
                let (root, checkpoint) = (Some(point.seq), Some(checkpoint));
                return Ok(Some(History { checkpoint, root, ..History::default() }));
            }
            Err(error) if error.is_transient() => return Err(error),
            // An older one stands in for it, as at a recovery; `verify` looks after the damage.
            Err(_) => {}
        }
    }
    Ok(None)
}
