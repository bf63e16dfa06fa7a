//! Brings back the matches of nodes that died: secures their logs, claims their matches, has the host replay them.
//!
//! Called once at the start. What recovers well runs at once; one that fails is parked with a report and the node goes on.

use std::collections::BTreeSet;

use futures::StreamExt;
use rekindle_actors::{Host, RecoveryError, RecoveryReport};
use rekindle_cluster::directory;
use rekindle_cluster::takeover::{self, Claim, ClaimOptions, Claimed};
use rekindle_schema::lease::{MatchLease, NodeLease, NodeState};
use rekindle_schema::{Incarnation, MatchId};
use rekindle_store::Store;

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
    // A match that may have brought its node down before recovers alone, so that it takes no other with it.
    for row in suspects {
        for claimed in takeover::claim(store, vec![row], options).await? {
            recover(host, store, claimed).await?.into_iter().for_each(&mut each);
        }
    }
    Ok(())
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
    let match_id = lease.match_id;
    tracing::info!(code = super::RECOVERING, %match_id, epoch = %lease.epoch, attempt = lease.attempts, "match recovers");
    for note in &history.notes {
        tracing::warn!(code = "RK-NODE-013", %match_id, %note, "recovery goes on without it");
    }
    match host.recover(lease, history).await {
        Ok(report) => Ok(Some(Outcome::Resumed(match_id, Box::new(report)))),
        Err(error) if error.parks() => Ok(Some(Outcome::Parked(match_id, error.to_string()))),
        Err(RecoveryError::Host(error)) => Err(error.into()),
        Err(error) => {
            // Another build will do: the attempt does not count against the match.
            directory::update(&*store.leases, match_id, |row| {
                row.attempts = row.attempts.saturating_sub(1);
                true
            })
            .await?;
            Ok(Some(Outcome::Left(match_id, error.to_string())))
        }
    }
}
