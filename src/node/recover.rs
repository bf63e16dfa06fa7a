//! Brings back the matches of nodes that died: secures their logs, claims their matches, has the host replay them.
//!
//! Called at the start and each second from then on. What recovers well runs at once; one that fails is parked with a report and the node goes on.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use rekindle_actors::{Host, HostError, RecoveryError, RecoveryReport};
use rekindle_cluster::suspicion::{Observer, Process};
use rekindle_cluster::takeover::{self, Claim, ClaimOptions, Claimed};
use rekindle_cluster::{directory, placement};
use rekindle_schema::lease::{MatchLease, NodeLease, NodeState};
use rekindle_schema::{Incarnation, MatchId};
use rekindle_store::{Store, StoreError, witness};

use super::{card, clock};
use crate::cli::exit::Failure;

/// What became of one match.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It goes on.
    Resumed(MatchId, Box<RecoveryReport>),
    /// It could not be continued: why.
    Parked(MatchId, String),
    /// It was left alone, for a reason that an operator can remove.
    Left(MatchId, String),
}

/// How long the survivor that comes first for a match has it to itself, in milliseconds.
const FIRST_CHOICE_MS: u64 = 3_000;
/// The directory is read at least at every so many looks, whether or not anything has changed.
const RESCAN: u32 = 10;

/// Looks after the matches of nodes that died.
pub struct Caretaker {
    host: Host,
    store: Store,
    me: Incarnation,
    region: String,
    max_attempts: u32,
    observer: Observer,
    /// Who was dead at the last look that found nothing more to do.
    settled: BTreeSet<Incarnation>,
    looks: u32,
    /// Orphans that another survivor should take, and since when they have been waiting.
    waiting: BTreeMap<MatchId, u64>,
}

impl Caretaker {
    /// Looks after matches at home in `region`, on behalf of the node `me`, whose host runs them.
    pub fn new(host: Host, store: Store, me: Incarnation, region: String, max_attempts: u32) -> Self {
        let (observer, settled, waiting) = (Observer::default(), BTreeSet::new(), BTreeMap::new());
        Self { host, store, me, region, max_attempts, observer, settled, looks: 0, waiting }
    }

    /// Takes over what belongs to nodes that are dead as far as this one can tell. To be called each second; `now_ms` is this process's own monotonic time. `each` is
    /// told every outcome as it comes.
    pub async fn look(&mut self, now_ms: u64, mut each: impl FnMut(Outcome)) -> Result<(), Failure> {
        let nodes = self.store.leases.nodes().await?;
        let others: Vec<NodeLease> = nodes.into_iter().filter(|node| node.incarnation != self.me).collect();
        let dead = self.observer.look(now_ms, &others, process);
        self.looks += 1;
        if dead == self.settled && self.waiting.is_empty() && !self.looks.is_multiple_of(RESCAN) {
            return Ok(());
        }
        let mut orphans = self.orphans(&dead).await?;
        let owners: BTreeSet<Incarnation> = orphans.iter().map(|row| row.incarnation).collect();
        let ours =
            |node: &&NodeLease| dead.contains(&node.incarnation) && (node.region == self.region || owners.contains(&node.incarnation));
        let mut secured_any = false;
        for node in others.iter().filter(ours).filter(|node| !(node.state == NodeState::Fenced && node.seal.is_some())) {
            let secured = takeover::secure(&self.store, self.me, node.incarnation).await?;
            secured_any = true;
            if secured.short.is_some() && node.region != self.region {
                // Matches of another region are here because an operator promoted this one, and was told that what had not been replicated is lost.
                takeover::accept_loss(&self.store, node.incarnation, clock::now_ms()).await?;
            }
            if let Some(problem) = witness::missing_checkpoint(&self.store, node).await? {
                tracing::error!(code = "RK-NODE-110", log = %node.incarnation, %problem, "a checkpoint is missing");
            }
            if let Some(torn) = secured.torn {
                tracing::warn!(code = "RK-NODE-012", log = %node.incarnation, %torn, "a write that was cut off has been trimmed");
            }
        }
        if secured_any {
            // What its owner entered before it was fenced is in the directory now.
            orphans = self.orphans(&dead).await?;
        }
        let survivors: Vec<Incarnation> = others
            .iter()
            .filter(|node| node.region == self.region && !dead.contains(&node.incarnation))
            .map(|node| node.incarnation)
            .collect();
        self.waiting.retain(|id, _| orphans.iter().any(|row| row.match_id == *id));
        orphans.retain(|row| {
            let since = *self.waiting.entry(row.match_id).or_insert(now_ms);
            placement::is_first(row.match_id, self.me, survivors.iter().copied()) || now_ms - since >= FIRST_CHOICE_MS
        });
        self.take(orphans, &mut each).await?;
        self.settled = dead;
        Ok(())
    }

    /// Matches at home here whose owner is dead.
    async fn orphans(&self, dead: &BTreeSet<Incarnation>) -> Result<Vec<MatchLease>, Failure> {
        let mut rows = takeover::orphans(&self.store, dead).await?;
        rows.retain(|row| row.region == self.region);
        Ok(rows)
    }

    async fn take(&mut self, orphans: Vec<MatchLease>, each: &mut impl FnMut(Outcome)) -> Result<(), Failure> {
        let Self { host, store, me, .. } = &*self;
        for row in &orphans {
            tracing::info!(code = "RK-NODE-019", match_id = %row.match_id, owner = %row.incarnation, "orphaned match is claimed");
        }
        let (suspects, fresh): (Vec<MatchLease>, Vec<MatchLease>) = orphans.into_iter().partition(|row| row.attempts > 0);
        let options = ClaimOptions { me: *me, first_batch: host.next_batch(), max_attempts: self.max_attempts };
        let at_once = 2 * std::thread::available_parallelism().map_or(1, usize::from);
        let claims = takeover::claim(store, fresh, options).await?;
        let mut recoveries = futures::stream::iter(claims).map(|claimed| recover(host, store, claimed)).buffer_unordered(at_once);
        while let Some(outcome) = recoveries.next().await {
            outcome?.into_iter().for_each(&mut *each);
        }
        drop(recoveries);
        // A match that may have brought its node down before recovers alone, so that it takes no other with it. Those that run already get their
        // attempt back first: if the node dies now, the next one did it.
        let mut running = Vec::new();
        for row in suspects {
            for match_id in running.drain(..) {
                give_back(store, *me, match_id).await?;
            }
            for claimed in takeover::claim(store, vec![row], options).await? {
                let outcome = recover(host, store, claimed).await?;
                if let Some(Outcome::Resumed(match_id, _)) = &outcome {
                    running.push(*match_id);
                }
                outcome.into_iter().for_each(&mut *each);
            }
        }
        Ok(())
    }
}

/// The last attempt does not count against the match.
async fn give_back(store: &Store, me: Incarnation, match_id: MatchId) -> Result<(), StoreError> {
    directory::update(&*store.leases, match_id, |row| {
        let counted = row.incarnation == me && row.attempts > 0;
        row.attempts = row.attempts.saturating_sub(1);
        counted
    })
    .await
    .map(drop)
}

/// On this host a node is gone with the process that registered it; elsewhere nobody can tell. A row without a host is of the first builds, which had one host.
fn process(node: &NodeLease) -> Process {
    let here = node.host.is_empty() || node.host == card::this_host();
    if here && card::process_start(node.pid) != Some(node.pid_start) { Process::Gone } else { Process::Unknown }
}

async fn recover(host: &Host, store: &Store, claimed: Claimed) -> Result<Option<Outcome>, Failure> {
    let Claim { lease, history } = match claimed {
        Claimed::Ours(claim) => *claim,
        Claimed::Parked(match_id, report) => return Ok(Some(Outcome::Parked(match_id, report))),
        Claimed::Lost(_) => return Ok(None),
    };
    let (match_id, me) = (lease.match_id, lease.incarnation);
    tracing::info!(code = super::RECOVERING, %match_id, epoch = %lease.epoch, attempt = lease.attempts, "match recovers");
    for note in &history.notes {
        tracing::warn!(code = "RK-NODE-013", %match_id, %note, "recovery goes on without it");
    }
    match host.recover(lease, history).await {
        Ok(report) => Ok(Some(Outcome::Resumed(match_id, Box::new(report)))),
        Err(error) if error.parks() => Ok(Some(Outcome::Parked(match_id, error.to_string()))),
        Err(RecoveryError::Host(error @ (HostError::Store(_) | HostError::Stopping(_) | HostError::LogInUse(..)))) => Err(error.into()),
        Err(error) => {
            // Another build will do, or one that has the game.
            give_back(store, me, match_id).await?;
            Ok(Some(Outcome::Left(match_id, error.to_string())))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use rekindle_actors::{Games, HostConfig, HostParts};
    use rekindle_schema::lease::{DEFAULT_REGION, Lineage, MatchSpec, MatchState};
    use rekindle_schema::{BatchNo, BuildId, Epoch, Seq};
    use rekindle_store::memory::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn a_match_of_an_unknown_game_is_left_and_not_charged() {
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
        for (id, attempts) in [(MatchId(1), 0), (MatchId(2), 2)] {
            let spec = MatchSpec { game: "gone".into(), config: Bytes::new(), seed: 1, tick_rate: 30, house_bots: 0, created_ms: 0 };
            let lineage = vec![Lineage { epoch: Epoch(1), incarnation: dead, first_batch: BatchNo(1), first_seq: Seq(1) }];
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
        let host = Host::start(HostParts { store: store.clone(), incarnation: me, build, games, clock, seed: 1, config }).await.unwrap();
        let mut left = Vec::new();
        let mut caretaker = Caretaker::new(host, store.clone(), me, DEFAULT_REGION.to_owned(), 5);
        let looked = caretaker.look(0, |outcome| match outcome {
            Outcome::Left(id, report) => left.push((id, report)),
            other => panic!("{other:?}"),
        });
        assert!(looked.await.is_ok(), "the node goes on");
        assert!(left.len() == 2 && left.iter().all(|(_, report)| report.contains("gone")), "{left:?}");
        for (id, attempts) in [(MatchId(1), 0), (MatchId(2), 2)] {
            let row = store.leases.get(id).await.unwrap().unwrap();
            assert_eq!((row.state, row.attempts), (MatchState::Running, attempts));
        }
    }
}
