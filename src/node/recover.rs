//! Brings back the matches of nodes that died: carries out what the caretaker of
//! `rekindle-cluster` decides. Claims, has suspects tried, has the host replay and run, and says
//! what came of each match.
//!
//! [`Recoverer::look`] is called at the start and each second from then on (by `watch`).
//! It calls [`round::look`], which decides and secures logs, then [`takeover::claim`]. What
//! recovers well runs at once. What this build cannot run is not claimed: it waits for one that
//! can, and its row stays as it is. A match whose owners died before it had run healthily is tried
//! in a process of its own first ([`super::trial`]). One that fails is parked with a report. The
//! node goes on in any case.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::channel::mpsc;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use rekindle_actors::{
    Entering, GoOn, Host, HostError, OtherBuild, RecoveryError, RecoveryReport, Void,
};
use rekindle_cluster::ownership::caretaker::{self, Caretaker, Claimant, Look};
use rekindle_cluster::ownership::parked;
use rekindle_cluster::ownership::round::{self, Hints, NoHints, Surroundings};
use rekindle_cluster::ownership::standing::{Lack, Standing};
use rekindle_cluster::ownership::takeover::{
    self, Claim, ClaimOptions, Claimed, Fit, Fitness, TakeoverError,
};
use rekindle_schema::lease::{MatchLease, MatchState, NodeLease, NodeState};
use rekindle_schema::{Incarnation, MatchId};
use rekindle_store::history::History;
use rekindle_store::identity::{Fresh, Holder};
use rekindle_store::{Store, StoreError};

use super::card;
use super::members::Members;
use super::standby::{Promotions, Standby};
use super::standing::Standings;
use super::trial::{TrialOptions, Trials, Verdict};

/// Matches that operators want to be tried again, each with what is to be done about records of
/// another build, if not what the configuration says.
pub type Asked = BTreeMap<MatchId, Option<OtherBuild>>;

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

impl Outcome {
    /// The match that it is about.
    pub fn match_id(&self) -> MatchId {
        match self {
            Self::Resumed(id, _) | Self::Parked(id, _) | Self::Left(id, _) => *id,
        }
    }
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

/// What a recoverer works with.
pub struct RecovererParts {
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
pub struct Recoverer {
    parts: RecovererParts,
    trials: Option<Trials>,
    caretaker: Caretaker,
    hints: Arc<dyn Hints>,
    /// What this node follows; `None` for a node that follows nothing.
    standby: Option<Arc<Standby>>,
    /// Who is to be empty; `None` for a node that knows of no others.
    members: Option<Arc<Members>>,
}

impl Recoverer {
    /// Begins with nothing seen.
    pub fn new(parts: RecovererParts) -> Self {
        let claimant = Claimant {
            me: parts.me,
            region: parts.region.clone(),
            deaths: parts.trials.map(|trials| trials.deaths),
        };
        let trials = parts.trials.map(Trials::new);
        let (caretaker, hints) = (Caretaker::new(claimant), Arc::new(NoHints));
        Self { parts, trials, caretaker, hints, standby: None, members: None }
    }

    /// The same, with hints who looks dead: without, leases and processes alone say it.
    #[must_use]
    pub fn hinted(self, hints: Arc<dyn Hints>) -> Self {
        Self { hints, ..self }
    }

    /// The same, with matches that are followed: they go on with their followers.
    #[must_use]
    pub fn following(self, standby: Arc<Standby>) -> Self {
        Self { standby: Some(standby), ..self }
    }

    /// The same, among members: those that operators want to be empty leave the matches of dead
    /// nodes to the others.
    #[must_use]
    pub fn among(self, members: Arc<Members>) -> Self {
        Self { members: Some(members), ..self }
    }

    /// Takes over what belongs to nodes that are dead as far as this one can tell. To be called
    /// each second; `now_ms` is this process's own monotonic time. `asked` are matches that an
    /// operator wants to be tried again, whatever came of them before, each with what is to be done
    /// about records of another build, if not what the configuration says. `each` is told every
    /// outcome as it comes.
    pub async fn look(
        &mut self,
        now_ms: u64,
        asked: &Asked,
        mut each: impl FnMut(Outcome),
    ) -> Result<(), Trouble> {
        let ids = asked.keys().copied().collect();
        let look = Look { now_ms, asked: &ids };
        let Self { parts, caretaker, hints, standby, members, .. } = self;
        if let Some(standby) = standby {
            caretaker.followed(standby.first_claimants());
        }
        if let Some(members) = members {
            caretaker.drained(members.draining());
        }
        let found = round::look(caretaker, &parts.store, &*parts, &**hints, look).await?;
        let Some(found) = found else { return Ok(()) };
        self.parts.standings.replace(found.standings, &found.dead);
        let taken = self.take(found.claims, asked, &mut each).await;
        self.trials.iter().for_each(Trials::rest);
        taken?;
        self.caretaker.finished(found.dead);
        Ok(())
    }

    /// Claims these matches and runs them.
    async fn take(
        &mut self,
        orphans: Vec<MatchLease>,
        asked: &Asked,
        each: &mut impl FnMut(Outcome),
    ) -> Result<(), Trouble> {
        let Self { parts: RecovererParts { host, store, me, fresh, .. }, .. } = self;
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
        let options = ClaimOptions { me: *me, first_batch: host.next_batch(), floor };
        let orphans = self.promote(orphans, options, each).await?;
        for rows in caretaker::in_order(orphans) {
            if !rows.is_empty() {
                self.claim(rows, options, asked, each).await?;
            }
        }
        Ok(())
    }

    /// Goes on with those of these matches that are followed here; returns the others.
    async fn promote(
        &mut self,
        orphans: Vec<MatchLease>,
        options: ClaimOptions,
        each: &mut impl FnMut(Outcome),
    ) -> Result<Vec<MatchLease>, Trouble> {
        let Some(standby) = &self.standby else { return Ok(orphans) };
        let Promotions { resumed, rest } = standby.promote(orphans, options).await?;
        for (match_id, report) in resumed {
            self.caretaker.decided(match_id);
            self.parts.standings.set(match_id, None, None);
            each(Outcome::Resumed(match_id, Box::new(report)));
        }
        Ok(rest)
    }

    /// Claims matches of one kind, and recovers as many at once as there are cores for. The first
    /// ones run while later ones are still being claimed.
    async fn claim(
        &mut self,
        rows: Vec<MatchLease>,
        options: ClaimOptions,
        asked: &Asked,
        each: &mut impl FnMut(Outcome),
    ) -> Result<(), Trouble> {
        let Self { parts, trials, caretaker, .. } = self;
        let RecovererParts { host, store, standings, .. } = parts;
        let (rows, _entered) = enter(host, options.me, rows);
        let at_once = 2 * std::thread::available_parallelism().map_or(1, usize::from);
        let fitness = OfThisNode { host, trials: trials.as_ref(), asked, lacks: Mutex::default() };
        let claims = takeover::claims(store, rows, options, &fitness).await;
        // Claims do not wait for recoveries: what is claimed is nobody else's work any more. At
        // most one for each row is queued.
        let (claimed, recoverable) = mpsc::unbounded();
        let claiming = async move {
            let queue = |one| std::future::ready(claimed.unbounded_send(one).map_err(|_| None));
            match claims.map_err(Some).try_for_each(queue).await {
                Err(Some(error)) => Err(error),
                // Nobody recovers any more: the reason comes from there.
                Ok(()) | Err(None) => Ok(()),
            }
        };
        let mut recoveries = recoverable
            .map(|claimed| {
                let lacks = match &claimed {
                    Claimed::Waits(row) => fitness.lacks.lock().remove(&row.match_id),
                    _ => None,
                };
                recover(host, claimed, lacks, asked)
            })
            .buffer_unordered(at_once);
        let recovering = async {
            while let Some(came) = recoveries.next().await {
                said(caretaker, standings, came?, each);
            }
            Ok::<_, Trouble>(())
        };
        // What was claimed before a claim failed is recovered all the same.
        let (claimed, recovered) = futures::join!(claiming, recovering);
        claimed?;
        recovered
    }
}

/// Notes what has come of a claim, and tells it.
fn said(
    caretaker: &mut Caretaker,
    standings: &Standings,
    came: Came,
    each: &mut impl FnMut(Outcome),
) {
    let (outcome, row, standing) = match came {
        Came::Gone => return,
        Came::Resumed(id, report) => (Outcome::Resumed(id, report), None, None),
        Came::Parked(id, report) => {
            (Outcome::Parked(id, report.clone()), None, Some(Standing::Parked(report)))
        }
        Came::Left(row, standing) => {
            caretaker.refused(&row, standing.clone());
            // Parked it was before, and parked it stays: that is no news.
            if matches!(row.state, MatchState::Parked { .. }) {
                return;
            }
            (Outcome::Left(row.match_id, standing.words()), Some(row), Some(standing))
        }
    };
    caretaker.decided(outcome.match_id());
    standings.set(outcome.match_id(), row.as_deref(), standing);
    each(outcome);
}

/// Leaves out matches of this node that it is about to run anyway, or runs by now. Nobody else on
/// it begins to run one of the others until what is returned beside them is dropped.
pub fn enter(
    host: &Host,
    me: Incarnation,
    rows: Vec<MatchLease>,
) -> (Vec<MatchLease>, Vec<Entering>) {
    let mut entered = Vec::new();
    let mut free = rows;
    free.retain(|row| {
        let entering = host.enter(row.match_id);
        let may = row.incarnation != me || entering.is_some();
        entered.extend(entering);
        may
    });
    (free, entered)
}

impl Surroundings for RecovererParts {
    fn gone<'a>(
        &'a self,
        others: &'a [NodeLease],
    ) -> BoxFuture<'a, Result<BTreeSet<Incarnation>, StoreError>> {
        gone(&self.store, others).boxed()
    }

    fn running(&self) -> BTreeSet<MatchId> {
        self.host.list().into_iter().map(|status| status.match_id).collect()
    }

    fn wall_ms(&self) -> u64 {
        (self.fresh)().now_ms
    }
}

/// Whether this node can run a match: by its build, and for suspects by a trial.
struct OfThisNode<'a> {
    host: &'a Host,
    trials: Option<&'a Trials>,
    asked: &'a Asked,
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
                        return Fit::Parks(
                            parked::report_of_trials(match_id, deaths, &how),
                            deaths,
                        );
                    }
                }
            }
            let other_build = self.asked.get(&match_id).copied().flatten();
            match self.host.fits(row, history, other_build).await {
                Ok(None) => Fit::Runs,
                Ok(Some(last)) => Fit::RunsFrom(last),
                Err(error) => {
                    self.lacks.lock().insert(match_id, waits(&error));
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

/// What this build lacks, as the host says it.
fn waits(error: &RecoveryError) -> Standing {
    Standing::Waits(Lack::from_label(error.lacks()).unwrap_or(Lack::Replay), error.to_string())
}

/// Has the host replay and run a match that was claimed.
async fn recover(
    host: &Host,
    claimed: Claimed,
    lacks: Option<Standing>,
    asked: &Asked,
) -> Result<Came, Trouble> {
    let Claim { lease, history, void } = match claimed {
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
    let void = void.map(|last| Void { to: last.last_tick, build: last.build });
    let how = GoOn { other_build: asked.get(&match_id).copied().flatten(), void };
    match host.recover(lease.clone(), history, how).await {
        Ok(report) => Ok(Came::Resumed(match_id, Box::new(report))),
        Err(error) if error.parks() => Ok(Came::Parked(match_id, error.to_string())),
        Err(RecoveryError::Host(
            error @ (HostError::Store(_) | HostError::Stopping(_) | HostError::LogInUse(..)),
        )) => Err(error.into()),
        Err(error) => Ok(Came::Left(Box::new(lease), waits(&error))),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rekindle_actors::{Games, HostConfig, HostParts};
    use rekindle_schema::lease::{DEFAULT_REGION, Lineage, MatchSpec, MatchState};
    use rekindle_schema::{BatchNo, BuildId, Epoch, Seq};
    use rekindle_store_memory::MemoryStore;

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
            deaths: 5,
            healthy_after: std::time::Duration::from_secs(3),
            watchdog: std::time::Duration::ZERO,
        });
        let standings = Arc::<Standings>::default();
        let region = DEFAULT_REGION.to_owned();
        let fresh = crate::clock::fresh;
        let parts = RecovererParts {
            host,
            store: store.clone(),
            me,
            region,
            trials,
            standings: Arc::clone(&standings),
            fresh,
        };
        let mut recoverer = Recoverer::new(parts);
        let rows = store.leases.matches().await.unwrap();
        let none = Asked::new();
        let looked = recoverer.look(0, &none, |outcome| match outcome {
            Outcome::Left(id, report) => left.push((id, report)),
            other => panic!("{other:?}"),
        });
        assert!(looked.await.is_ok(), "the node goes on");
        assert!(
            left.len() == 2 && left.iter().all(|(_, report)| report.contains("gone")),
            "{left:?}"
        );
        assert_eq!(store.leases.matches().await.unwrap(), rows, "the rows are as they were");
        assert!(matches!(
            standings.of(MatchId(1)),
            Some(Standing::Waits(Lack::UnknownGame, words)) if words.contains("gone")
        ));
        let again =
            recoverer.look(20_000, &none, |outcome| panic!("it is said once: {outcome:?}")).await;
        assert!(again.is_ok() && standings.all().len() == 2, "and it stays in the table");
    }
}
