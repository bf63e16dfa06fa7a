//! Gives matches to nodes that run much less than this one. Which and when is decided by
//! [`rekindle_cluster::placement::rebalance`]; each node plans for its own matches alone. Run by
//! [`super::lifecycle`] beside everything else. For operators the same rule plans for all nodes
//! ([`Serving::evening`], asked by `src/control.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rekindle_cluster::membership::Looks;
use rekindle_cluster::placement::Candidate;
use rekindle_cluster::placement::rebalance::{self, Pace, Rebalance, Step};
use rekindle_schema::lease::MatchState;
use rekindle_schema::{BuildId, Incarnation, MatchId};
use tokio::time::Instant;

use super::migrate::Node;
use super::serving::Parts;
use super::{ControlError, Serving};

/// How often a node plans, at most.
const PLAN_EVERY: Duration = Duration::from_secs(10);

/// Plans now and then, unless `cluster.rebalance` is off.
pub(super) async fn keep(node: &Arc<Serving>) -> Infallible {
    let Parts { config, incarnation, mover, .. } = node.parts();
    let Some(steady) = config.cluster.rebalance else { return std::future::pending().await };
    let pace = Pace { steady_ms: steady.as_millis() as u64, ..Pace::default() };
    let (mut planner, begun) = (Rebalance::new(*incarnation, pace), Instant::now());
    loop {
        tokio::time::sleep(PLAN_EVERY.min(steady)).await;
        let now_ms = begun.elapsed().as_millis() as u64;
        if node.unsettled().is_some() {
            planner.disturbed(now_ms);
            continue;
        }
        match mover.balance(&mut planner, now_ms).await {
            Ok(Some(moved)) => tracing::info!(
                code = "RK-NODE-206", match_id = %moved.match_id, to = moved.to,
                pause_ms = moved.pause_ms, "a match moved to a less loaded node"
            ),
            Ok(None) => {}
            Err(why) => tracing::info!(
                code = "RK-NODE-207",
                why,
                "no match moved to a less \
                loaded node"
            ),
        }
    }
}

/// What an operator would have moved so that all nodes run their share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evening {
    /// All live nodes.
    pub nodes: Vec<Share>,
    /// What moves, in this order.
    pub transfers: Vec<Transfer>,
    /// Why nothing should move just now, in words.
    pub not_now: Option<String>,
}

/// How a node stands to its share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Its configured name.
    pub name: String,
    /// This run of it.
    pub incarnation: Incarnation,
    /// Where it runs.
    pub region: String,
    /// How many matches it runs.
    pub matches: usize,
    /// How many it runs if loads are even, in thousandths of a match.
    pub share: u64,
    /// How many it runs once everything has moved.
    pub after: usize,
}

/// One match that moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The decision.
    pub step: Step,
    /// The game type.
    pub game: String,
    /// The name of the node that runs it.
    pub from: String,
    /// The name of the node that should run it.
    pub to: String,
}

impl Serving {
    /// Why nothing should move to even out loads now: nodes come and go.
    fn unsettled(&self) -> Option<String> {
        let Parts { cluster, recovering, .. } = self.parts();
        let dying = cluster.seen().into_iter().find(|seen| seen.looks == Looks::Dead);
        if let Some(dying) = dying {
            return Some(format!("node {} looks dead", dying.peer.name));
        }
        let recovers = recovering.load(Ordering::Acquire);
        recovers.then(|| "matches are being recovered".to_owned())
    }

    /// What has to move so that no node of one build and region is clearly above its share: where
    /// nodes end that even out by themselves.
    pub async fn evening(&self) -> Result<Evening, ControlError> {
        let Parts { store, mover, .. } = self.parts();
        let mut nodes = mover.all_nodes().await?;
        let mut held = BTreeMap::<Incarnation, BTreeSet<MatchId>>::new();
        let mut games = BTreeMap::<MatchId, String>::new();
        for row in store.leases.matches().await? {
            if row.state == MatchState::Running {
                held.entry(row.incarnation).or_default().insert(row.match_id);
                games.insert(row.match_id, row.spec.game);
            }
        }
        for node in &mut nodes {
            node.candidate.matches = held.get(&node.candidate.node).map_or(0, BTreeSet::len);
        }
        let steps = plan_all(&nodes, &held);
        let name = |of: Incarnation| {
            let node = nodes.iter().find(|node| node.candidate.node == of);
            node.map_or_else(|| of.to_string(), |node| node.member.name.clone())
        };
        let transfer = |step: &Step| Transfer {
            step: *step,
            game: games.get(&step.match_id).cloned().unwrap_or_default(),
            from: name(step.from),
            to: name(step.target),
        };
        let transfers = steps.iter().map(transfer).collect();
        Ok(Evening { nodes: shares(&nodes, &steps), transfers, not_now: self.unsettled() })
    }
}

/// The nodes of each build: matches move between those alone.
fn by_build(nodes: &[Node]) -> BTreeMap<BuildId, Vec<Candidate>> {
    let mut builds = BTreeMap::<BuildId, Vec<Candidate>>::new();
    for node in nodes {
        builds.entry(node.member.build).or_default().push(node.candidate.clone());
    }
    builds
}

fn plan_all(nodes: &[Node], held: &BTreeMap<Incarnation, BTreeSet<MatchId>>) -> Vec<Step> {
    let percent = Pace::default().end_percent;
    by_build(nodes).values().flat_map(|nodes| rebalance::even_out(nodes, held, percent)).collect()
}

fn shares(nodes: &[Node], steps: &[Step]) -> Vec<Share> {
    let builds = by_build(nodes);
    let share = |node: &Node| {
        let Node { member, candidate } = node;
        let me = candidate.node;
        let came = steps.iter().filter(|step| step.target == me).count();
        let went = steps.iter().filter(|step| step.from == me).count();
        Share {
            name: member.name.clone(),
            incarnation: me,
            region: member.region.clone(),
            matches: candidate.matches,
            share: rebalance::share(candidate, &builds[&member.build]),
            after: candidate.matches + came - went,
        }
    };
    let mut shares: Vec<Share> = nodes.iter().map(share).collect();
    shares.sort_by(|one, next| (&one.name, one.incarnation).cmp(&(&next.name, next.incarnation)));
    shares
}
