//! Brings back the matches of nodes that died: secures their logs, claims their matches, has the
//! host replay them.
//!
//! Called at the start and each second from then on. What recovers well runs at once. What this
//! build cannot run is not claimed: it waits for one that can, and its row stays as it is. A match
//! whose owners died before it had run healthily is tried in a process of its own first
//! ([`super::trial`]). One that fails is parked with a report. The node goes on in any case.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use rekindle_actors::{Host, HostError, RecoveryError, RecoveryReport};
use rekindle_cluster::ownership::suspicion::{Observer, Process};
use rekindle_cluster::ownership::takeover::{
    self, Claim, ClaimOptions, Claimed, Fit, Fitness, TakeoverError,
};
use rekindle_cluster::placement;
use rekindle_schema::lease::{MatchLease, MatchState, NodeLease, NodeState};
use rekindle_schema::{Incarnation, MatchId};
use rekindle_store::history::History;
use rekindle_store::identity::{Fresh, Holder};
use rekindle_store::{Store, StoreError, witness};

use super::card;
use super::standing::{Standing, Standings};
use super::trial::{self, TrialOptions, Trials, Verdict};

/// What became of one match.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It goes on.
    Resumed(MatchId, Box<RecoveryReport>),
    /// It could not be continued: why.
    Parked(MatchId, String),
    /// It was left alone, for a reason that an operator can remove or another build does not know.
    Left(MatchId, String),
}

/// Why a look came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This node is not live itself, so it may take over nothing.
    #[error(transparent)]
    NotLive(TakeoverError),
    /// The host of the matches failed.
    #[error(transparent)]
    Host(HostError),
}

impl Trouble {
    /// The same may succeed later: the store does not answer.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }
}

impl From<TakeoverError> for Trouble {
    fn from(error: TakeoverError) -> Self {
        match error {
            TakeoverError::Store(error) => error.into(),
            error @ TakeoverError::NotLive(_) => Self::NotLive(error),
        }
    }
}

impl From<HostError> for Trouble {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Store(error) => error.into(),
            error => Self::Host(error),
        }
    }
}

/// How long the survivor that comes first for a match has it to itself, in milliseconds.
const FIRST_CHOICE_MS: u64 = 3_000;
/// The directory is read at least at every so many looks, whether or not anything has changed.
const RESCAN: u32 = 10;
/// A row that says that this node runs a match which it does not run is believed to be left over
/// from a claim or a creation that was cut off after so many milliseconds.
const STRAY_MS: u64 = 10_000;
/// Reports of matches that were parked because a build could not run them: what earlier releases
/// did, and what one that can run them undoes.
const OF_A_BUILD: [&str; 3] = ["RK-SIM-001", "RK-SIM-002", "RK-HOST-001"];
/// Reports of matches that earlier releases parked for the number of their recoveries alone.
const OF_A_COUNT: &str = "recoveries in a row ended before the match had run healthily";

/// What a caretaker works with.
pub struct CaretakerParts {
    /// Runs the matches.
    pub host: Host,
    /// Where they are.
    pub store: Store,
    /// The node on whose behalf they are claimed.
    pub me: Incarnation,
    /// Its region: matches of other regions are left alone.
    pub region: String,
    /// How suspects are tried; `None` where no process may be started, as in the simulation: then
    /// they are recovered as all others.
    pub trials: Option<TrialOptions>,
    /// Where it is written down what does not run.
    pub standings: Arc<Standings>,
    /// Time and chance, for the identity of a store that takes a new one.
    pub fresh: fn() -> Fresh,
}

/// Looks after the matches of nodes that died.
pub struct Caretaker {
    parts: CaretakerParts,
    trials: Option<Trials>,
    observer: Observer,
    /// Who was dead at the last look that found nothing more to do.
    settled: BTreeSet<Incarnation>,
    looks: u32,
    /// Orphans that another survivor should take, and since when they have been waiting.
    waiting: BTreeMap<MatchId, u64>,
    /// Rows that say that this node runs a match, while it does not: their version, and since when.
    strays: BTreeMap<MatchId, (u64, u64)>,
    /// What this build cannot run: the version of the row, and what it lacks.
    refused: BTreeMap<MatchId, (u64, Standing)>,
}

impl Caretaker {
    /// Begins with nothing seen.
    pub fn new(parts: CaretakerParts) -> Self {
        Self {
            trials: parts.trials.map(Trials::new),
            parts,
            observer: Observer::default(),
            settled: BTreeSet::new(),
            looks: 0,
            waiting: BTreeMap::new(),
            strays: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Takes over what belongs to nodes that are dead as far as this one can tell. To be called
    /// each second; `now_ms` is this process's own monotonic time. `asked` are matches that an
    /// operator wants to be tried again, whatever came of them before. `each` is told every outcome
    /// as it comes.
    pub async fn look(
        &mut self,
        now_ms: u64,
        asked: &BTreeSet<MatchId>,
        mut each: impl FnMut(Outcome),
    ) -> Result<(), Trouble> {
        let store = self.parts.store.clone();
        let me = self.parts.me;
        let nodes = store.leases.nodes().await?;
        let others: Vec<NodeLease> =
            nodes.into_iter().filter(|node| node.incarnation != me).collect();
        let gone = gone(&store, &others).await?;
        let process = |node: &NodeLease| {
            if gone.contains(&node.incarnation) { Process::Gone } else { Process::Unknown }
        };
        let dead = self.observer.look(now_ms, &others, process);
        self.looks += 1;
        if dead == self.settled
            && self.waiting.is_empty()
            && asked.is_empty()
            && !self.looks.is_multiple_of(RESCAN)
        {
            return Ok(());
        }
        self.refused.retain(|id, _| !asked.contains(id));
        let mut rows = store.leases.matches().await?;
        let mut orphans = self.orphans(&rows, &dead, asked, now_ms);
        let owners: BTreeSet<Incarnation> = orphans.iter().map(|row| row.incarnation).collect();
        let region = self.parts.region.clone();
        let ours = |node: &&NodeLease| {
            dead.contains(&node.incarnation)
                && (node.region == region || owners.contains(&node.incarnation))
        };
        let mut secured_any = false;
        for node in others
            .iter()
            .filter(ours)
            .filter(|node| !(node.state == NodeState::Fenced && node.seal.is_some()))
        {
            let secured = takeover::secure(&store, me, node.incarnation).await?;
            secured_any = true;
            if secured.short.is_some() && node.region != region {
                // Matches of another region are here because an operator promoted this one, and was
                // told that what had not been replicated is lost.
                takeover::accept_loss(&store, node.incarnation, (self.parts.fresh)().now_ms)
                    .await?;
            }
            if let Some(problem) = witness::missing_checkpoint(&store, node).await? {
                tracing::error!(
                    code = "RK-NODE-110", log = %node.incarnation, %problem,
                    "a checkpoint is missing"
                );
            }
            if let Some(torn) = secured.torn {
                tracing::warn!(code = "RK-NODE-012", log = %node.incarnation, %torn, "a write that \
                    was cut off has been trimmed");
            }
        }
        if secured_any {
            // What its owner entered before it was fenced is in the directory now.
            rows = store.leases.matches().await?;
            orphans = self.orphans(&rows, &dead, asked, now_ms);
        }
        let survivors: Vec<Incarnation> = others
            .iter()
            .filter(|node| node.region == region && !dead.contains(&node.incarnation))
            .map(|node| node.incarnation)
            .collect();
        self.parts.standings.scan(&rows, &dead, |row| self.standing(row, &dead));
        self.waiting.retain(|id, _| orphans.iter().any(|row| row.match_id == *id));
        orphans.retain(|row| {
            let since = *self.waiting.entry(row.match_id).or_insert(now_ms);
            let first = placement::is_first(row.match_id, me, survivors.iter().copied());
            first
                || row.incarnation == me
                || asked.contains(&row.match_id)
                || now_ms - since >= FIRST_CHOICE_MS
        });
        let taken = self.take(orphans, &mut each).await;
        self.trials.iter().for_each(Trials::rest);
        taken?;
        self.settled = dead;
        Ok(())
    }

    /// Matches at home here that nobody runs and that this node may be able to.
    fn orphans(
        &mut self,
        rows: &[MatchLease],
        dead: &BTreeSet<Incarnation>,
        asked: &BTreeSet<MatchId>,
        now_ms: u64,
    ) -> Vec<MatchLease> {
        let CaretakerParts { host, me, region, .. } = &self.parts;
        let running: BTreeSet<MatchId> =
            host.list().into_iter().map(|status| status.match_id).collect();
        let stray = |row: &&MatchLease| {
            row.incarnation == *me
                && row.state == MatchState::Running
                && !running.contains(&row.match_id)
        };
        let seen = std::mem::take(&mut self.strays);
        self.strays = rows
            .iter()
            .filter(stray)
            .map(|row| {
                let since = seen
                    .get(&row.match_id)
                    .filter(|(version, _)| *version == row.version)
                    .map_or(now_ms, |&(_, since)| since);
                (row.match_id, (row.version, since))
            })
            .collect();
        let wanted = |row: &&MatchLease| {
            if self.refused.get(&row.match_id).is_some_and(|(version, _)| *version == row.version) {
                return false;
            }
            if let Some(&(_, since)) = self.strays.get(&row.match_id) {
                return asked.contains(&row.match_id) || now_ms - since >= STRAY_MS;
            }
            dead.contains(&row.incarnation) && row.region == *region && self.may_run(row)
        };
        rows.iter().filter(wanted).cloned().collect()
    }

    /// Whether a row is to be claimed, as far as it tells itself: it runs, or it was parked for a
    /// reason that may not hold here and now.
    fn may_run(&self, row: &MatchLease) -> bool {
        match &row.state {
            MatchState::Running => true,
            MatchState::Parked { report } if report.starts_with(trial::PARKED) => {
                self.parts.trials.is_none_or(|trials| row.attempts < trials.deaths)
            }
            MatchState::Parked { report } => {
                report.contains(OF_A_COUNT) || OF_A_BUILD.iter().any(|code| report.contains(code))
            }
            MatchState::Ended { .. } => false,
        }
    }

    /// What keeps a match from running here, by its row.
    fn standing(&self, row: &MatchLease, dead: &BTreeSet<Incarnation>) -> Option<Standing> {
        let CaretakerParts { me, region, .. } = &self.parts;
        let mine = row.incarnation == *me;
        if !(mine || row.region == *region && dead.contains(&row.incarnation)) {
            return None;
        }
        match (&row.state, self.refused.get(&row.match_id)) {
            (MatchState::Ended { .. }, _) => None,
            (MatchState::Parked { report }, _) => Some(Standing::Parked(report.clone())),
            (MatchState::Running, Some((version, standing))) if *version == row.version => {
                Some(standing.clone())
            }
            (MatchState::Running, _) if mine => {
                self.strays.contains_key(&row.match_id).then_some(Standing::Recovering)
            }
            (MatchState::Running, _) => Some(Standing::Recovering),
        }
    }

    async fn take(
        &mut self,
        orphans: Vec<MatchLease>,
        each: &mut impl FnMut(Outcome),
    ) -> Result<(), Trouble> {
        let Self {
            parts: CaretakerParts { host, store, me, standings, fresh, .. },
            trials,
            refused,
            waiting,
            ..
        } = self;
        if orphans.is_empty() {
            return Ok(());
        }
        let floor = store.identity.ascertain(fresh()).await?.floor;
        for row in &orphans {
            tracing::info!(
                code = "RK-NODE-019", match_id = %row.match_id, owner = %row.incarnation,
                "orphaned match is claimed"
            );
        }
        // Suspects last: their trials take time.
        let (suspects, fresh): (Vec<MatchLease>, Vec<MatchLease>) =
            orphans.into_iter().partition(|row| row.attempts > 0);
        let options = ClaimOptions { me: *me, first_batch: host.next_batch(), floor };
        let at_once = 2 * std::thread::available_parallelism().map_or(1, usize::from);
        for rows in [fresh, suspects] {
            if rows.is_empty() {
                continue;
            }
            let fitness = OfThisNode { host, trials: trials.as_ref(), lacks: Mutex::default() };
            let claims = takeover::claim(store, rows, options, &fitness).await?;
            let mut lacks = fitness.lacks.into_inner();
            let mut recoveries = futures::stream::iter(claims)
                .map(|claimed| {
                    let lacks = match &claimed {
                        Claimed::Waits(row) => lacks.remove(&row.match_id),
                        _ => None,
                    };
                    recover(host, claimed, lacks)
                })
                .buffer_unordered(at_once);
            while let Some(outcome) = recoveries.next().await {
                let (outcome, row, standing) = match outcome? {
                    Came::Gone => continue,
                    Came::Resumed(id, report) => (Outcome::Resumed(id, report), None, None),
                    Came::Parked(id, report) => {
                        (Outcome::Parked(id, report.clone()), None, Some(Standing::Parked(report)))
                    }
                    Came::Left(row, standing) => {
                        refused.insert(row.match_id, (row.version, standing.clone()));
                        // Parked it was before, and parked it stays: that is no news.
                        if matches!(row.state, MatchState::Parked { .. }) {
                            continue;
                        }
                        (Outcome::Left(row.match_id, standing.words()), Some(row), Some(standing))
                    }
                };
                let (Outcome::Resumed(id, _) | Outcome::Parked(id, _) | Outcome::Left(id, _)) =
                    &outcome;
                waiting.remove(id);
                standings.set(*id, row.as_deref(), standing);
                each(outcome);
            }
        }
        Ok(())
    }
}

/// Whether this node can run a match: by its build, and for suspects by a trial.
struct OfThisNode<'a> {
    host: &'a Host,
    trials: Option<&'a Trials>,
    /// Of those that it cannot run: what it lacks.
    lacks: Mutex<BTreeMap<MatchId, Standing>>,
}

impl Fitness for OfThisNode<'_> {
    fn of<'a>(&'a self, row: &'a MatchLease, history: &'a History) -> BoxFuture<'a, Fit> {
        async move {
            let match_id = row.match_id;
            if row.attempts > 0
                && let Some(trials) = self.trials
            {
                match trials.of(row, history).await {
                    Verdict::Survived => {}
                    Verdict::Untried(why) => {
                        tracing::warn!(code = "RK-NODE-135", %match_id, why, "a match whose owners \
                            died early is recovered without a trial");
                    }
                    Verdict::Died(deaths, how) => {
                        return Fit::Parks(trial::report(match_id, deaths, &how), deaths);
                    }
                }
            }
            match self.host.fits(row, history).await {
                Ok(()) => Fit::Runs,
                Err(error) => {
                    self.lacks
                        .lock()
                        .insert(match_id, Standing::Waits(error.lacks(), error.to_string()));
                    Fit::Waits
                }
            }
        }
        .boxed()
    }
}

/// What has come of a claim.
enum Came {
    Resumed(MatchId, Box<RecoveryReport>),
    Parked(MatchId, String),
    Left(Box<MatchLease>, Standing),
    /// Another node has it.
    Gone,
}

/// The live nodes whose process is gone. On this host a node is gone with the process that
/// registered it, also if that runs and has another store open: then this one is a copy. Elsewhere
/// nobody can tell. A row without a host is of the first builds, which had one host.
async fn gone(store: &Store, nodes: &[NodeLease]) -> Result<BTreeSet<Incarnation>, StoreError> {
    let host = card::this_host();
    let mut gone = BTreeSet::new();
    for node in nodes
        .iter()
        .filter(|node| node.state == NodeState::Live && (node.host.is_empty() || node.host == host))
    {
        let ended = card::process_start(node.pid) != Some(node.pid_start);
        if ended || matches!(store.identity.holder(node).await?, Holder::Gone | Holder::Stranger) {
            gone.insert(node.incarnation);
        }
    }
    Ok(gone)
}

async fn recover(host: &Host, claimed: Claimed, lacks: Option<Standing>) -> Result<Came, Trouble> {
    let Claim { lease, history } = match claimed {
        Claimed::Ours(claim) => *claim,
        Claimed::Parked(match_id, report) => return Ok(Came::Parked(match_id, report)),
        Claimed::Lost(_) => return Ok(Came::Gone),
        Claimed::Waits(row) => return Ok(Came::Left(row, lacks.unwrap_or(Standing::Recovering))),
    };
    let match_id = lease.match_id;
    tracing::info!(
        code = super::RECOVERING, %match_id, epoch = %lease.epoch, attempt = lease.attempts,
        "match recovers"
    );
    for note in &history.notes {
        tracing::warn!(code = "RK-NODE-013", %match_id, %note, "recovery goes on without it");
    }
    match host.recover(lease.clone(), history).await {
        Ok(report) => Ok(Came::Resumed(match_id, Box::new(report))),
        Err(error) if error.parks() => Ok(Came::Parked(match_id, error.to_string())),
        Err(RecoveryError::Host(
            error @ (HostError::Store(_) | HostError::Stopping(_) | HostError::LogInUse(..)),
        )) => Err(error.into()),
        Err(error) => {
            Ok(Came::Left(Box::new(lease), Standing::Waits(error.lacks(), error.to_string())))
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rekindle_actors::{Games, HostConfig, HostParts};
    use rekindle_schema::lease::{DEFAULT_REGION, Lineage, MatchSpec, MatchState};
    use rekindle_schema::{BatchNo, BuildId, Epoch, Seq};
    use rekindle_store::memory::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn a_match_of_an_unknown_game_is_left_untouched() {
        let store = MemoryStore::new().store();
        let (dead, me) = (Incarnation(1), Incarnation(2));
        for incarnation in [dead, me] {
            let lease = NodeLease {
                incarnation,
                name: "test".into(),
                state: NodeState::Live,
                pid: 0,
                pid_start: 0,
                deadline_ms: 0,
                seal: None,
                host: String::new(),
                region: DEFAULT_REGION.into(),
                reached: None,
                loss_accepted_ms: None,
            };
            store.leases.register(lease).await.unwrap();
        }
        for (id, attempts) in [(MatchId(1), 0), (MatchId(2), 0)] {
            let spec = MatchSpec {
                game: "gone".into(),
                config: Bytes::new(),
                seed: 1,
                tick_rate: 30,
                house_bots: 0,
                created_ms: 0,
            };
            let lineage = vec![Lineage {
                epoch: Epoch(1),
                incarnation: dead,
                first_batch: BatchNo(1),
                first_seq: Seq(1),
            }];
            let (state, epoch) = (MatchState::Running, Epoch(1));
            let row = MatchLease {
                match_id: id,
                version: 1,
                epoch,
                incarnation: dead,
                state,
                attempts,
                lineage,
                spec,
                region: DEFAULT_REGION.into(),
            };
            store.leases.create(row).await.unwrap();
        }
        let config = HostConfig { shards: 0, ..HostConfig::default() };
        let (build, games, clock) = (BuildId(1), Games::default(), Arc::new(|| 0));
        let host = Host::start(HostParts {
            store: store.clone(),
            incarnation: me,
            build,
            games,
            clock,
            seed: 1,
            config,
        })
        .await
        .unwrap();
        let mut left = Vec::new();
        let trials = Some(TrialOptions {
            build,
            accept_build: false,
            deaths: 5,
            healthy_after: std::time::Duration::from_secs(3),
            watchdog: std::time::Duration::ZERO,
        });
        let standings = Arc::<Standings>::default();
        let region = DEFAULT_REGION.to_owned();
        let fresh = crate::clock::fresh;
        let parts = CaretakerParts {
            host,
            store: store.clone(),
            me,
            region,
            trials,
            standings: Arc::clone(&standings),
            fresh,
        };
        let mut caretaker = Caretaker::new(parts);
        let rows = store.leases.matches().await.unwrap();
        let none = BTreeSet::new();
        let looked = caretaker.look(0, &none, |outcome| match outcome {
            Outcome::Left(id, report) => left.push((id, report)),
            other => panic!("{other:?}"),
        });
        assert!(looked.await.is_ok(), "the node goes on");
        assert!(
            left.len() == 2 && left.iter().all(|(_, report)| report.contains("gone")),
            "{left:?}"
        );
        assert_eq!(store.leases.matches().await.unwrap(), rows, "the rows are as they were");
        assert!(
            matches!(standings.of(MatchId(1)), Some(Standing::Waits("unknown_game", words)) if words.contains("gone"))
        );
        let again =
            caretaker.look(20_000, &none, |outcome| panic!("it is said once: {outcome:?}")).await;
        assert!(again.is_ok() && standings.all().len() == 2, "and it stays in the table");
    }
}
