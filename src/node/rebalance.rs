//! Gives matches to nodes that run much less than this one. Which and when is decided by
//! [`rekindle_cluster::placement::rebalance`]; each node plans for its own matches alone. Run by
//! [`super::lifecycle`] beside everything else.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rekindle_cluster::membership::Looks;
use rekindle_cluster::placement::rebalance::{Pace, Rebalance};
use tokio::time::Instant;

use super::Serving;
use super::serving::Parts;

/// How often a node plans, at most.
const PLAN_EVERY: Duration = Duration::from_secs(10);

/// Plans now and then, unless `cluster.rebalance` is off.
pub(super) async fn keep(node: &Arc<Serving>) -> Infallible {
    let Parts { config, incarnation, cluster, recovering, mover, .. } = node.parts();
    let Some(steady) = config.cluster.rebalance else { return std::future::pending().await };
    let pace = Pace { steady_ms: steady.as_millis() as u64, ..Pace::default() };
    let (mut planner, begun) = (Rebalance::new(*incarnation, pace), Instant::now());
    loop {
        tokio::time::sleep(PLAN_EVERY.min(steady)).await;
        let now_ms = begun.elapsed().as_millis() as u64;
        let dying = cluster.seen().iter().any(|seen| seen.looks == Looks::Dead);
        if dying || recovering.load(Ordering::Acquire) {
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
