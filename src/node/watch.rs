//! Looks after the matches of other nodes, from the start of this one to its stop: has the
//! recoverer look once a second, and when somebody may have died, says what came of it, and starts
//! what goes with a match that came back. Called by [`super::lifecycle`].

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rekindle_actors::RecoveryReport;
use rekindle_cluster::ownership::lease;
use tokio::time::Instant;

use super::error::NodeError;
use super::milestone::Milestone;
use super::recover::{Asked, Outcome, Recoverer, RecovererParts, Trouble};
use super::serving::{Parts, Serving};
use super::trial::TrialOptions;
use super::{PARKED, RESUMED};
use crate::{clock, text};

/// Looks after the matches of other nodes on behalf of `node`.
pub(super) fn recoverer(node: &Serving) -> Recoverer {
    let Parts {
        host, store, incarnation, config, build, standings, cluster, standby, members, ..
    } = node.parts();
    let parts = RecovererParts {
        host: host.clone(),
        store: store.clone(),
        me: *incarnation,
        region: config.node_region.clone(),
        trials: Some(TrialOptions::of(config, *build)),
        standings: Arc::clone(standings),
        fresh: clock::fresh,
    };
    Recoverer::new(parts)
        .hinted(cluster.hints())
        .following(Arc::clone(standby))
        .among(Arc::clone(members))
}

/// The first look: brings back what is left of earlier nodes. A store that is away in between is
/// waited for, as it is later on.
pub(super) async fn recover_all(
    node: &Arc<Serving>,
    recoverer: &mut Recoverer,
    begun: Instant,
    held_up: &AtomicBool,
    tell: &mut (dyn FnMut(Milestone<'_>) + Send),
) -> Result<(), NodeError> {
    loop {
        let now_ms = begun.elapsed().as_millis() as u64;
        match recoverer
            .look(now_ms, &Asked::new(), |outcome| brought_back(node, &outcome, tell))
            .await
        {
            Ok(()) => {
                held_up.store(false, Ordering::Release);
                return Ok(());
            }
            Err(trouble) if trouble.is_transient() => not_looked_after(&trouble),
            Err(trouble) => return Err(trouble.into()),
        }
        held_up.store(true, Ordering::Release);
        tokio::time::sleep(lease::RENEW_EVERY).await;
    }
}

/// Takes over what other nodes leave, as long as this one runs. What the store refuses now it may
/// give at the next look.
pub(super) async fn keep_watch(
    node: &Arc<Serving>,
    mut recoverer: Recoverer,
    begun: Instant,
    tell: &mut (dyn FnMut(Milestone<'_>) + Send),
) -> Infallible {
    loop {
        tokio::select! {
            () = tokio::time::sleep(lease::RENEW_EVERY) => {}
            () = node.asking() => {}
            () = node.parts().cluster.look() => {}
        }
        let now_ms = begun.elapsed().as_millis() as u64;
        let asked = node.take_asked();
        if let Err(trouble) =
            recoverer.look(now_ms, &asked, |outcome| brought_back(node, &outcome, tell)).await
        {
            not_looked_after(&trouble);
        }
    }
}

fn not_looked_after(trouble: &Trouble) {
    let reason = text::with_causes(trouble);
    tracing::warn!(code = "RK-NODE-035", %reason, "matches of dead nodes could not be looked \
        after; trying again");
}

/// A match of a dead node goes on here, or does not.
fn brought_back(
    node: &Arc<Serving>,
    outcome: &Outcome,
    tell: &mut (dyn FnMut(Milestone<'_>) + Send),
) {
    match outcome {
        Outcome::Resumed(match_id, report) => {
            tracing::info!(
                code = RESUMED,
                %match_id,
                tick = report.tick.0,
                replayed = report.replayed,
                took_ms = report.took_ms,
                beats_checked = report.beats_checked,
                hash_ok = report.hash_ok,
                "match resumed"
            );
            write_down_difference(node, report);
            node.play_house_bots(*match_id);
            node.watch_health(*match_id, node.parts().config.healthy_after);
            tell(Milestone::Resumed(*match_id, report));
        }
        Outcome::Parked(match_id, report) | Outcome::Left(match_id, report) => {
            tracing::error!(code = PARKED, %match_id, %report, "match not resumed");
            tell(Milestone::NotResumed(*match_id, report));
        }
    }
}

/// What players were shown is no longer so, after a change of builds: that stays in the audit log.
fn write_down_difference(node: &Arc<Serving>, report: &RecoveryReport) {
    let (Some(change), Some(holds)) = (report.build_change, report.holds_until) else { return };
    let (node, target) = (Arc::clone(node), report.match_id.to_string());
    tokio::spawn(async move {
        let who = format!("node {} (another build)", node.name());
        let detail = format!(
            "{change}: {holds} is the last tick that holds; players who saw later ones are told so \
             when they come back"
        );
        match node.operators().begin(&who, "match.rewound", &target, &detail).await {
            Ok(action) => action.end(None, None).await,
            Err(error) => {
                tracing::warn!(
                    code = "RK-NODE-122", match_id = target, %error, detail,
                    "this is not in the audit log"
                );
            }
        }
    });
}
