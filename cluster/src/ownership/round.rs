//! One look after the matches of dead nodes, with a store: reads what the [`Caretaker`] decides
//! from, and secures the logs that it names. Called by the node once a second, and at once when
//! membership has seen that somebody may have died; what it returns is claimed and run by the node.

use std::collections::BTreeSet;

use futures::future::BoxFuture;
use rekindle_schema::lease::{MatchLease, MatchState, NodeLease, NodeState};
use rekindle_schema::{Incarnation, MatchId};
use rekindle_store::{Store, StoreError, witness};

use super::caretaker::{Caretaker, Claimant, Look};
use super::standing::Standing;
use super::takeover::{self, TakeoverError};

/// What a look asks of the node on whose behalf it is taken.
pub trait Surroundings: Sync {
    /// Those of these nodes that are live by their leases and whose process is known to have ended.
    fn gone<'a>(
        &'a self,
        others: &'a [NodeLease],
    ) -> BoxFuture<'a, Result<BTreeSet<Incarnation>, StoreError>>;
    /// The matches that run on this node.
    fn running(&self) -> BTreeSet<MatchId>;
    /// The wall clock, in milliseconds since 1970.
    fn wall_ms(&self) -> u64;
}

/// What membership makes of the other nodes. Only ever a hint.
pub trait Hints: Send + Sync + 'static {
    /// The nodes that look dead, told which ones the store has as live.
    fn suspected(&self, live: BTreeSet<Incarnation>) -> BTreeSet<Incarnation>;
}

/// Of a node that has no membership.
pub struct NoHints;

impl Hints for NoHints {
    fn suspected(&self, _: BTreeSet<Incarnation>) -> BTreeSet<Incarnation> {
        BTreeSet::new()
    }
}

/// What a look found.
#[derive(Debug)]
pub struct Found {
    /// Who looks dead.
    pub dead: BTreeSet<Incarnation>,
    /// What does not run here and why, with the rows.
    pub standings: Vec<(MatchLease, Standing)>,
    /// What is to be claimed now. The logs that it needs are secured.
    pub claims: Vec<MatchLease>,
}

/// Takes one look; `None` if there is nothing to do.
pub async fn look(
    caretaker: &mut Caretaker,
    store: &Store,
    around: &dyn Surroundings,
    hints: &dyn Hints,
    look: Look<'_>,
) -> Result<Option<Found>, TakeoverError> {
    let me = caretaker.claimant().me;
    let nodes = store.leases.nodes().await?;
    let mut others: Vec<NodeLease> =
        nodes.into_iter().filter(|node| node.incarnation != me).collect();
    let gone = around.gone(&others).await?;
    let live = others.iter().filter(|node| node.state == NodeState::Live);
    let suspected = hints.suspected(live.map(|node| node.incarnation).collect());
    let Some(mut dead) = caretaker.leases_read(look, &others, &gone, &suspected) else {
        return Ok(None);
    };
    let mut rows = store.leases.matches().await?;
    let buried = bury(store, caretaker.claimant(), &rows, &others).await?;
    dead.extend(buried.iter().map(|node| node.incarnation));
    others.extend(buried);
    let mut orphans = caretaker.directory_read(look, &rows, &around.running(), &dead);
    let logs = caretaker.to_secure(&others, &orphans, &dead);
    for log in &logs {
        secure(store, me, &log.node, log.loss_accepted, around.wall_ms()).await?;
    }
    if !logs.is_empty() {
        // What its owner entered before it was fenced is in the directory now.
        rows = store.leases.matches().await?;
        orphans = caretaker.directory_read(look, &rows, &around.running(), &dead);
    }
    let standings = rows
        .into_iter()
        .filter_map(|row| caretaker.standing(&row, &dead).map(|standing| (row, standing)))
        .collect();
    let claims = caretaker.choose(look, orphans, &others, &dead);
    Ok(Some(Found { dead, standings, claims }))
}

/// Owners of matches of this region that have no lease any more. Each gets a fenced one, so that
/// its log is sealed as that of any dead node; returns those.
///
/// A lease is entered before any row names its node, and forgotten when no row does and the node
/// is fenced. A claim of that node may have been on its way all that time, and land afterwards.
/// Nothing was acknowledged under it, and without a lease nobody would count its owner as dead.
async fn bury(
    store: &Store,
    claimant: &Claimant,
    rows: &[MatchLease],
    others: &[NodeLease],
) -> Result<Vec<NodeLease>, StoreError> {
    let known: BTreeSet<Incarnation> = others.iter().map(|node| node.incarnation).collect();
    let unknown: BTreeSet<Incarnation> = rows
        .iter()
        .filter(|row| row.state == MatchState::Running && row.region == claimant.region)
        .map(|row| row.incarnation)
        .filter(|owner| *owner != claimant.me && !known.contains(owner))
        .collect();
    let mut buried = Vec::new();
    for owner in unknown {
        // One that has just registered is not among the leases that were read before.
        if store.leases.node(owner).await?.is_some() {
            continue;
        }
        let lease = NodeLease {
            incarnation: owner,
            name: String::new(),
            state: NodeState::Fenced,
            pid: 0,
            pid_start: 0,
            deadline_ms: 0,
            seal: None,
            host: String::new(),
            region: claimant.region.clone(),
            reached: None,
            loss_accepted_ms: None,
        };
        tracing::warn!(code = "RK-CLUSTER-127", %owner, "a claim of a node that is over and \
            forgotten came late; its matches are taken over");
        store.leases.register(lease.clone()).await?;
        buried.push(lease);
    }
    Ok(buried)
}

/// Secures the log of a dead node and says what is missing of it.
async fn secure(
    store: &Store,
    me: Incarnation,
    node: &NodeLease,
    loss_accepted: bool,
    wall_ms: u64,
) -> Result<(), TakeoverError> {
    let log = node.incarnation;
    let secured = takeover::secure(store, me, log).await?;
    if secured.short.is_some() && loss_accepted {
        takeover::accept_loss(store, log, wall_ms).await?;
    }
    if let Some(problem) = witness::missing_checkpoint(store, node).await? {
        tracing::error!(code = "RK-NODE-110", %log, %problem, "a checkpoint is missing");
    }
    if let Some(torn) = secured.torn {
        tracing::warn!(code = "RK-NODE-012", %log, %torn, "a write that was cut off has been \
            trimmed");
    }
    Ok(())
}
