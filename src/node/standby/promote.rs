//! Goes on with the followed worlds of matches whose owner has died: catches up to the seal of its
//! log, claims, runs. Whatever does not fit is left to the usual recovery, and that is said.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use metrics::counter;
use rekindle_actors::{FollowError, Following, RecoveryReport};
use rekindle_cluster::ownership::takeover::{
    self, ClaimOptions, Followed, Promoted, TakeoverError,
};
use rekindle_cluster::standby::core::{Effect, Event};
use rekindle_schema::lease::MatchLease;
use rekindle_schema::{BatchNo, Incarnation, MatchId};
use tokio::time::Instant;

use super::worlds::World;
use super::{Standby, StandbyParts};
use crate::node::from_store;

/// How many matches are claimed at once: a store commits those that wait together.
const CLAIMS: usize = 64;

/// What came of claiming matches that were followed here.
#[derive(Default)]
pub struct Promotions {
    /// They go on here.
    pub resumed: Vec<(MatchId, RecoveryReport)>,
    /// They are to be claimed and recovered as any other.
    pub rest: Vec<MatchLease>,
}

/// What came of one.
enum Came {
    Resumed(MatchId, Box<RecoveryReport>),
    Rest(Box<MatchLease>),
    Lost,
}

impl Standby {
    /// Goes on with those of `rows` that are followed here. Their owners are secured.
    pub async fn promote(
        self: &Arc<Self>,
        rows: Vec<MatchLease>,
        options: ClaimOptions,
    ) -> Result<Promotions, TakeoverError> {
        let effects = self.core.lock().handle(self.now_ms(), Event::Secured(&rows));
        let order: Vec<MatchId> = effects
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Promote(id) => Some(id),
                _ => None,
            })
            .collect();
        if order.is_empty() {
            return Ok(Promotions { rest: rows, ..Promotions::default() });
        }
        let mut worlds = self.caught_up(&rows, &order).await?;
        let (mut chosen, mut rest): (Vec<MatchLease>, Vec<MatchLease>) =
            rows.into_iter().partition(|row| worlds.contains_key(&row.match_id));
        chosen.sort_by_key(|row| order.iter().position(|id| *id == row.match_id));
        let claims: Vec<_> = chosen
            .into_iter()
            .filter_map(|row| {
                let (_, following) = worlds.remove(&row.match_id)?;
                Some(self.claim(row, following, options))
            })
            .collect();
        let mut all = futures::stream::iter(claims).buffer_unordered(CLAIMS);
        let mut resumed = Vec::new();
        while let Some(came) = all.next().await {
            match came? {
                Came::Resumed(id, report) => resumed.push((id, *report)),
                Came::Rest(row) => rest.push(*row),
                Came::Lost => {}
            }
        }
        Ok(Promotions { resumed, rest })
    }

    /// Takes the worlds of these matches out, and makes the ticks up to the seals of their logs.
    async fn caught_up(
        self: &Arc<Self>,
        rows: &[MatchLease],
        ids: &[MatchId],
    ) -> Result<BTreeMap<MatchId, World>, TakeoverError> {
        let mut by_log = BTreeMap::<Incarnation, Vec<MatchId>>::new();
        for row in rows.iter().filter(|row| ids.contains(&row.match_id)) {
            by_log.entry(row.incarnation).or_default().push(row.match_id);
        }
        let mut all = BTreeMap::new();
        for (owner, ids) in by_log {
            let log = self.logs.lock().get(&owner).cloned();
            let Some(log) = log else { continue };
            let lease = self.parts.store.leases.node(owner).await?;
            let mut worlds = {
                let mut worlds = log.worlds.lock().await;
                ids.iter().filter_map(|id| worlds.remove_entry(id)).collect::<BTreeMap<_, _>>()
            };
            for id in worlds.keys() {
                self.core.lock().handle(self.now_ms(), Event::Taken(*id));
            }
            if let Some(seal) = lease.and_then(|lease| lease.seal) {
                self.catch_up(owner, &mut worlds, seal).await;
            }
            all.append(&mut worlds);
        }
        Ok(all)
    }

    /// Makes the ticks up to the seal of a log. A world that cannot is left out.
    async fn catch_up(
        self: &Arc<Self>,
        owner: Incarnation,
        worlds: &mut BTreeMap<MatchId, World>,
        seal: BatchNo,
    ) {
        loop {
            let mut followings: Vec<&mut Following> =
                worlds.values_mut().map(|(_, following)| following).collect();
            let host = &self.parts.host;
            let failed = match host.catch_up_together(owner, &mut followings, Some(seal)).await {
                Ok(caught) if caught.batches == 0 => return,
                Ok(caught) => caught.failed,
                Err(error) => {
                    let error = FollowError::from(error);
                    worlds.keys().map(|id| (*id, error.clone())).collect()
                }
            };
            for (id, error) in failed {
                let Some((row, following)) = worlds.remove(&id) else { continue };
                let standby = Arc::clone(self);
                tokio::spawn(async move { standby.given_up(row, following, error).await });
            }
        }
    }

    /// The last records of a match cannot be applied: it is recovered as any other. If a hash
    /// differs, that is an alarm as before.
    async fn given_up(&self, row: MatchLease, following: Following, error: FollowError) {
        let (match_id, words) = (row.match_id, error.to_string());
        tracing::warn!(code = "RK-CLUSTER-142", %match_id, words, "a match does not go on with its \
            follower: it is recovered from the store");
        if let Some(difference) = error.difference() {
            let found = self.parts.host.diagnose(&row, following, difference).await;
            super::alarm(match_id, row.epoch, &found.to_string());
        }
    }

    /// Claims a match and runs it.
    async fn claim(
        &self,
        row: MatchLease,
        following: Following,
        options: ClaimOptions,
    ) -> Result<Came, TakeoverError> {
        let begun = Instant::now();
        let StandbyParts { host, store, .. } = &self.parts;
        let match_id = row.match_id;
        let followed = Followed {
            epoch: following.epoch(),
            owner: following.owner(),
            read_to: following.read_to(),
            seq: following.seq(),
        };
        let lease = match takeover::promote(store, row.clone(), followed, options).await? {
            Promoted::Ours(lease) => lease,
            Promoted::Lost => return Ok(Came::Lost),
            Promoted::Unfit(words) => {
                tracing::warn!(code = "RK-CLUSTER-140", %match_id, words, "a match does not go on \
                    with its follower: it is recovered from the store");
                return Ok(Came::Rest(Box::new(row)));
            }
        };
        match host.promote_followed(&lease, following).await {
            Ok(report) => {
                counter!("rekindle_standby_promotions_total").increment(1);
                let took_ms = begun.elapsed().as_millis() as u64;
                tracing::info!(
                    code = "RK-NODE-191", %match_id, epoch = %lease.epoch, tick = report.tick.0,
                    took_ms, "a match goes on with its standby"
                );
                Ok(Came::Resumed(match_id, Box::new(report)))
            }
            Err(error) => {
                tracing::warn!(code = "RK-NODE-192", %match_id, %error, "a match that was claimed \
                    does not run from its follower: it is recovered from the store");
                Ok(self.recover(*lease).await)
            }
        }
    }

    /// Runs a match whose row names this node from the store.
    async fn recover(&self, lease: MatchLease) -> Came {
        let StandbyParts { host, store, .. } = &self.parts;
        let match_id = lease.match_id;
        match from_store::run(host, store, &lease).await {
            Ok(report) => Came::Resumed(match_id, Box::new(report)),
            Err(error) => {
                // Its row names this node and it does not run: the caretaker takes it up as a
                // stray.
                tracing::error!(code = "RK-NODE-195", %match_id, error, "a match that was claimed \
                    does not run yet");
                Came::Lost
            }
        }
    }
}
