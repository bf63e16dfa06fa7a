//! Brings back the matches of nodes that died: secures their logs, claims their matches, has the host replay them.
//!
//! Called once at the start. What recovers well runs at once; one that fails is parked with a report and the node goes on.

use std::collections::BTreeSet;

use futures::StreamExt;
use rekindle_actors::{Host, HostError, RecoveryError, RecoveryReport};
use rekindle_cluster::directory;
use rekindle_cluster::takeover::{self, Claim, ClaimOptions, Claimed};
use rekindle_schema::lease::{MatchLease, NodeLease, NodeState};
use rekindle_schema::{Incarnation, MatchId};
use rekindle_store::{Store, StoreError};

use super::card;
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

/// Takes over everything that belongs to dead incarnations of this host. `each` is told every outcome as it comes.
pub async fn all(host: &Host, store: &Store, me: Incarnation, max_attempts: u32, mut each: impl FnMut(Outcome)) -> Result<(), Failure> {
    let nodes = store.leases.nodes().await?;
    let dead: BTreeSet<Incarnation> =
        nodes.iter().filter(|node| node.incarnation != me && !is_alive(node)).map(|node| node.incarnation).collect();
    for node in nodes.iter().filter(|node| dead.contains(&node.incarnation) && !(node.state == NodeState::Fenced && node.seal.is_some())) {
        let secured = takeover::secure(store, me, node.incarnation).await?;
        if let Some(torn) = secured.torn {
            tracing::warn!(code = "RK-NODE-012", log = %node.incarnation, %torn, "a write that was cut off has been trimmed");
        }
    }
    let (suspects, fresh): (Vec<MatchLease>, Vec<MatchLease>) =
        takeover::orphans(store, &dead).await?.into_iter().partition(|row| row.attempts > 0);
    let options = ClaimOptions { me, first_batch: host.next_batch(), max_attempts };
    let at_once = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    let claims = takeover::claim(store, fresh, options).await?;
    let mut recoveries = futures::stream::iter(claims).map(|claimed| recover(host, store, claimed)).buffer_unordered(at_once);
    while let Some(outcome) = recoveries.next().await {
        outcome?.into_iter().for_each(&mut each);
    }
    drop(recoveries);
    // A match that may have brought its node down before recovers alone, so that it takes no other with it. Those that run already get their
    // attempt back first: if the node dies now, the next one did it.
    let mut running = Vec::new();
    for row in suspects {
        for match_id in running.drain(..) {
            give_back(store, me, match_id).await?;
        }
        for claimed in takeover::claim(store, vec![row], options).await? {
            let outcome = recover(host, store, claimed).await?;
            if let Some(Outcome::Resumed(match_id, _)) = &outcome {
                running.push(*match_id);
            }
            outcome.into_iter().for_each(&mut each);
        }
    }
    Ok(())
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

/// On this host a node lives as long as the process that registered it.
fn is_alive(node: &NodeLease) -> bool {
    node.state == NodeState::Live && card::process_start(node.pid) == Some(node.pid_start)
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
        let all = all(&host, &store, me, 5, |outcome| match outcome {
            Outcome::Left(id, report) => left.push((id, report)),
            other => panic!("{other:?}"),
        });
        assert!(all.await.is_ok(), "the node goes on");
        assert!(left.len() == 2 && left.iter().all(|(_, report)| report.contains("gone")), "{left:?}");
        for (id, attempts) in [(MatchId(1), 0), (MatchId(2), 2)] {
            let row = store.leases.get(id).await.unwrap().unwrap();
            assert_eq!((row.state, row.attempts), (MatchState::Running, attempts));
        }
    }
}
