//! What operators do to matches that there are: stop, resume, migrate, profile. New ones are in
//! `placing`. Called through [`Serving`].

use std::time::Duration;

use rekindle_actors::{OtherBuild, Profile};
use rekindle_cluster::ownership::directory::{self, Updated};
use rekindle_cluster::ownership::standing::Standing;
use rekindle_schema::MatchId;
use rekindle_schema::condition::Condition;
use rekindle_schema::lease::{MatchLease, MatchSpec, MatchState, NodeState};
use rekindle_sim::documents::collection_id;
use rekindle_store::StoreError;
use tokio::time::Instant;

use super::listing::{MatchReport, report_of};
use super::migrate::Moved;
use super::serving::Parts;
use super::{ControlError, Serving};
use crate::{clock, moment};

/// How long [`Serving::resume_match`] waits for what comes of it.
const RESUME_PATIENCE: Duration = Duration::from_secs(20);
/// How often it looks.
const RESUME_POLL: Duration = Duration::from_millis(50);
/// Slowest and fastest pace of a match, in ticks a second.
const TICK_RATES: std::ops::RangeInclusive<u16> = 1..=240;

/// A match that somebody wants.
#[derive(Debug, Clone, PartialEq)]
pub struct NewMatch {
    /// The name of its game type.
    pub game: String,
    /// The game's configuration, as the game reads it.
    pub config: serde_json::Value,
    /// How many house bots play in it.
    pub house_bots: u16,
    /// Seed of the world; random if absent.
    pub seed: Option<u64>,
    /// Ticks per second; the game's if absent.
    pub tick_rate: Option<u16>,
}

/// What the ticks of a match took.
pub struct Profiled {
    /// The match.
    pub match_id: MatchId,
    /// Its game type.
    pub game: String,
    /// Ticks per second.
    pub tick_rate: u16,
    /// What was measured.
    pub profile: Profile,
}

impl Serving {
    /// Measures for so long what the ticks of a match take. Only the node that runs it can.
    pub async fn profile_match(
        &self,
        id: MatchId,
        span: Duration,
    ) -> Result<Profiled, ControlError> {
        let Some(found) = self.parts().host.find(id) else {
            return Err(self.runs_not_here(id, "profiled").await?);
        };
        let (game, tick_rate) = (found.spec().game.clone(), found.spec().tick_rate);
        let Some(profile) = found.profile(span).await else {
            return Err(self.runs_not_here(id, "profiled").await?);
        };
        Ok(Profiled { match_id: id, game, tick_rate, profile })
    }

    /// Why something cannot be done to a match that does not run here: `done` to it. Of one that
    /// has ended, since when.
    async fn runs_not_here(&self, id: MatchId, done: &str) -> Result<ControlError, ControlError> {
        let report = self.match_report(id).await?;
        let words = match (report.condition, report.reason) {
            (Condition::Ended, reason) => {
                // The last thing that a match leaves is a checkpoint.
                let listed = self.parts().store.checkpoints.list(id).await;
                let (metas, _) = listed.unwrap_or_default();
                let last = metas.iter().max_by_key(|meta| meta.seq);
                let since = last.map_or_else(String::new, |meta| {
                    format!(" at tick {}, {}", meta.tick, moment::show(meta.time_ms))
                });
                let reason = reason.unwrap_or_default();
                format!("match {id} has ended{since} ({reason}): it cannot be {done}")
            }
            (_, Some(why)) => format!("match {id} cannot be {done} here: {why}"),
            (condition, None) => format!("match {id} cannot be {done} here: it is {condition}"),
        };
        Ok(ControlError::Refused(words))
    }

    /// Has a match tried again that is parked, or that waits for another build; returns what has
    /// come of it. `other_build` is what is to be done about records that another build computed
    /// otherwise than this one does. A match of another live node is that node's business.
    pub async fn resume_match(
        &self,
        id: MatchId,
        other_build: Option<OtherBuild>,
    ) -> Result<MatchReport, ControlError> {
        if self.is_draining() {
            return Err(ControlError::Draining);
        }
        let row = self.may_resume(id).await?;
        let Parts { host, store, standings, .. } = self.parts();
        host.forget_parked(id);
        let begun = directory::update(&*store.leases, id, |row| {
            let parked = matches!(row.state, MatchState::Parked { .. });
            row.state = MatchState::Running;
            // Suspect it stays: it is tried in a process of its own before it runs here.
            row.attempts = row.attempts.max(1);
            parked
        });
        let before = match begun.await? {
            Updated::Done(row) | Updated::Declined(row) => row.version,
        };
        standings.set(id, Some(&row), Some(Standing::Recovering));
        self.ask_for(id, other_build);
        self.until_decided(id).await;
        let after = self.match_report(id).await?;
        tracing::info!(
            code = "RK-NODE-136", match_id = %id, version = before, state = after.condition.word(),
            "a match was tried again, as an operator asked"
        );
        Ok(after)
    }

    /// Refuses to resume what does not stand still, or is not this node's to resume; returns the
    /// row.
    async fn may_resume(&self, id: MatchId) -> Result<MatchLease, ControlError> {
        let before = self.match_report(id).await?;
        if !matches!(before.condition, Condition::Parked | Condition::Waits) {
            return Err(ControlError::Refused(format!(
                "match {id} is {}, and neither parked nor waiting: there is nothing to resume",
                before.condition
            )));
        }
        let Parts { store, incarnation, config, standings, .. } = self.parts();
        let row =
            store.leases.get(id).await?.ok_or_else(|| ControlError::NoMatch(id.to_string()))?;
        let owner =
            store.leases.node(row.incarnation).await?.filter(|node| node.state == NodeState::Live);
        if let Some(owner) = owner.filter(|owner| {
            owner.incarnation != *incarnation && !standings.is_dead(owner.incarnation)
        }) {
            return Err(ControlError::Refused(format!(
                "match {id} belongs to node {}, which is up: resume it there",
                owner.name
            )));
        }
        if row.region != config.node_region {
            let words = format!(
                "match {id} is at home in region {}: resume it on a node there, or move it with \
                 `rekindle region promote`",
                row.region
            );
            return Err(ControlError::Refused(words));
        }
        Ok(row)
    }

    /// Waits until it is known what has come of a match that is to be tried again, or for
    /// [`RESUME_PATIENCE`].
    async fn until_decided(&self, id: MatchId) {
        let Parts { host, standings, .. } = self.parts();
        let until = Instant::now() + RESUME_PATIENCE;
        while Instant::now() < until {
            tokio::time::sleep(RESUME_POLL).await;
            // Whether it runs, is parked again, waits again or was taken by another node.
            let decided = !matches!(standings.of(id), Some(Standing::Recovering));
            let taken = !self.is_asked_for(id);
            if host.find(id).is_some() || taken && decided {
                break;
            }
        }
    }

    /// Moves a match to the node of this name or incarnation. It goes on there at the next tick.
    /// The node that runs it moves it, be it this one or another.
    pub async fn migrate_match(&self, id: MatchId, to: &str) -> Result<Moved, ControlError> {
        let Parts { host, mover, store, .. } = self.parts();
        if host.find(id).is_some() {
            return mover.move_to(id, to).await;
        }
        let row =
            store.leases.get(id).await?.ok_or_else(|| ControlError::NoMatch(id.to_string()))?;
        if row.state != MatchState::Running {
            let condition = self.match_report(id).await?.condition;
            return Err(ControlError::Refused(format!(
                "RK-NODE-221: match {id} is {condition}: only a match that runs can move"
            )));
        }
        mover.have_moved(&row, to).await
    }

    /// What is stored of a match that somebody wants, if its game is known and takes it.
    pub(super) fn spec_of(&self, wanted: NewMatch) -> Result<MatchSpec, ControlError> {
        let game = self.parts().games.get(&wanted.game).map_err(|_| ControlError::NoGame {
            name: wanted.game.clone(),
            known: self.parts().games.names().collect::<Vec<_>>().join(", "),
        })?;
        if game.collection().is_some() {
            return Err(ControlError::Invalid(format!(
                "RK-DOC-124: `{}` is a kind of document, and no game: its collection is made when \
                 it is first used",
                wanted.game
            )));
        }
        let encoded = game
            .config_from_json(&wanted.config.to_string())
            .map_err(|error| ControlError::Invalid(error.to_string()))?;
        let room = game.max_players(&encoded);
        if usize::from(wanted.house_bots) > room {
            return Err(ControlError::Invalid(format!(
                "{} house bots in a match for {room} players",
                wanted.house_bots
            )));
        }
        let (rate, rates) = (wanted.tick_rate.unwrap_or(game.tick_rate()), game.tick_rates());
        if !rates.contains(&rate) {
            let made_for = if rates.start() == rates.end() {
                format!("{} ticks a second and for no other rate", rates.start())
            } else {
                format!("{} to {} ticks a second", rates.start(), rates.end())
            };
            return Err(ControlError::Invalid(format!(
                "tick_rate {rate}: game `{}` is made for {made_for}",
                wanted.game
            )));
        }
        let spec = MatchSpec {
            game: wanted.game,
            config: encoded,
            seed: wanted.seed.unwrap_or_else(clock::random),
            tick_rate: rate,
            house_bots: wanted.house_bots,
            created_ms: clock::now_ms(),
        };
        if !TICK_RATES.contains(&spec.tick_rate) {
            return Err(ControlError::Invalid(format!(
                "tick_rate {}: expected {} to {} ticks a second",
                spec.tick_rate,
                TICK_RATES.start(),
                TICK_RATES.end()
            )));
        }
        Ok(spec)
    }

    /// Ends a match; its result is delivered before this returns. Of a parked match that does not
    /// run only the row is closed.
    pub async fn stop_match(
        &self,
        id: MatchId,
        reason: String,
    ) -> Result<MatchReport, ControlError> {
        if self.collections().iter().any(|collection| collection_id(&collection.kind) == id) {
            return Err(ControlError::Refused(format!(
                "RK-DOC-124: {id} is a collection of documents: it is never ended, its documents \
                 would be lost"
            )));
        }
        if self.parts().host.find(id).is_none() {
            let closed = directory::update(&*self.parts().store.leases, id, |row| {
                let parked = matches!(row.state, MatchState::Parked { .. });
                row.state = MatchState::Ended { reason: reason.clone() };
                parked
            });
            match closed.await {
                Ok(Updated::Done(row)) => {
                    self.parts().standings.set(id, None, None);
                    return Ok(report_of(&row, None));
                }
                Ok(Updated::Declined(_)) | Err(StoreError::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
            return Err(self.runs_not_here(id, "stopped").await?);
        }
        self.parts()
            .host
            .stop_match(id, reason)
            .await
            .map_err(|error| ControlError::Failed(error.to_string()))?;
        self.match_report(id).await
    }
}
