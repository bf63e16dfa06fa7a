//! A world that follows a match which another node runs: it is replayed from the store, and goes on
//! with each record that becomes durable.
//!
//! Made by [`Host::follow`](crate::Host::follow), driven with
//! [`Host::catch_up`](crate::Host::catch_up) by whoever moves a match, and run with
//! [`Host::run_followed`](crate::Host::run_followed) once the match's row names this node. It never
//! decides who owns anything.

use std::sync::Arc;

use rekindle_schema::batch::Frame;
use rekindle_schema::lease::MatchSpec;
use rekindle_schema::peer::Cut;
use rekindle_schema::{BatchNo, BuildId, Epoch, MatchId, Seq, StateHash, Tick};
use rekindle_sim::GameType;
use rekindle_store::history::{History, HistoryError, LogFollower};

use super::{Replay, Replayed};
use crate::config::OtherBuild;
use crate::error::{HostError, RecoveryError};
use crate::services::Services;

/// Why a match cannot be followed (any further).
#[derive(Debug, Clone, thiserror::Error)]
pub enum FollowError {
    /// Its records cannot be had.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// They do not lead to the world that their owner has: a recorded hash differs, or a record is
    /// broken.
    #[error(transparent)]
    Replay(#[from] RecoveryError),
    /// The follower does not stand where the match was stopped.
    #[error(
        "RK-RECOVERY-140: match {match_id} was stopped at {wanted}, its follower stands at \
         {found}; it stays where it is"
    )]
    ElsewhereThanCut {
        /// The match.
        match_id: MatchId,
        /// Tick, record, epoch and hash of the cut.
        wanted: String,
        /// The same of the follower.
        found: String,
    },
    /// The work was given up: the node stops.
    #[error("RK-RECOVERY-141: the follower of match {0} was given up: {1}")]
    Abandoned(MatchId, String),
}

impl FollowError {
    /// The same may succeed later: the store does not answer.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::History(HistoryError::Store(error)) if error.is_transient())
    }
}

/// A world that follows.
pub struct Following {
    match_id: MatchId,
    spec: MatchSpec,
    game: Arc<dyn GameType>,
    build: BuildId,
    log: LogFollower,
    /// `None` while a step is being made elsewhere, and for ever if that failed.
    world: Option<Replayed>,
    /// Where it stands.
    at: (Tick, Seq),
}

impl Following {
    /// The match.
    pub fn match_id(&self) -> MatchId {
        self.match_id
    }

    /// The ownership that it follows.
    pub fn epoch(&self) -> Epoch {
        self.log.epoch()
    }

    /// The last tick that was made here.
    pub fn tick(&self) -> Tick {
        self.at.0
    }

    /// The last record that was applied.
    pub fn seq(&self) -> Seq {
        self.at.1
    }

    /// The last batch of its owner's log that was read.
    pub fn read_to(&self) -> BatchNo {
        self.log.read_to()
    }

    /// The hash of the world as it stands.
    pub fn hash(&self) -> Option<StateHash> {
        self.world.as_ref().map(|world| world.sim.state_hash())
    }

    /// Whether it stands at this cut, with its hash.
    ///
    /// # Errors
    ///
    /// `ElsewhereThanCut` if it is behind it in another epoch, past it, or has another hash there;
    /// `Ok(false)` if it is not there yet.
    pub fn is_at(&self, cut: &Cut) -> Result<bool, FollowError> {
        let behind = self.seq() < cut.seq;
        if self.epoch() == cut.epoch && behind {
            return Ok(false);
        }
        let found = (self.epoch(), self.tick(), self.seq(), self.hash());
        if found == (cut.epoch, cut.tick, cut.seq, Some(cut.hash)) {
            return Ok(true);
        }
        let words = |epoch: Epoch, tick: Tick, seq: Seq, hash: Option<StateHash>| {
            let hash = hash.map_or_else(|| "none".to_owned(), |hash| hash.to_string());
            format!("tick {tick}, record {seq} of epoch {epoch}, hash {hash}")
        };
        Err(FollowError::ElsewhereThanCut {
            match_id: self.match_id,
            wanted: words(cut.epoch, cut.tick, cut.seq, Some(cut.hash)),
            found: words(found.0, found.1, found.2, found.3),
        })
    }

    pub(crate) fn into_world(self) -> Option<Replayed> {
        self.world
    }
}

/// Replays `frames` onto `world`.
fn apply(
    game: &dyn GameType,
    spec: &MatchSpec,
    (build, match_id): (BuildId, MatchId),
    world: &mut Replayed,
    frames: &[Frame],
) -> Result<(), RecoveryError> {
    let replay = Replay {
        game,
        spec,
        build,
        // Another build's records can be followed only by proof, which a live match does not wait
        // for.
        other_build: OtherBuild::Refuse,
        until: None,
        match_id: Some(match_id),
    };
    frames.iter().try_for_each(|frame| replay.apply(world, frame, &mut |_| {}))
}

impl Services {
    /// A follower that stands where `history` ends. Replays off the shards.
    pub(crate) async fn begin_following(
        &self,
        match_id: MatchId,
        spec: MatchSpec,
        history: History,
        log: LogFollower,
    ) -> Result<Following, FollowError> {
        let game = self.games.get(&spec.game).map_err(RecoveryError::Host)?;
        let build = self.build;
        let (kind, settings) = (Arc::clone(&game), spec.clone());
        let work = move || {
            super::replay(&*kind, &settings, &history, build, OtherBuild::Refuse, &mut |_| {})
        };
        let world = self.offload(work).await.map_err(|cause| failed(&cause))??;
        let at = (world.tick, world.seq);
        Ok(Following { match_id, spec, game, build, log, world: Some(world), at })
    }

    /// Reads what has become durable since the last call, and makes those ticks. Returns how many
    /// records that were. Steps are made off the shards.
    pub(crate) async fn catch_up(&self, following: &mut Following) -> Result<usize, FollowError> {
        let frames = following.log.poll(&self.store).await?;
        if frames.is_empty() {
            return Ok(0);
        }
        let abandoned = |why: &str| FollowError::Abandoned(following.match_id, why.to_owned());
        let Some(mut world) = following.world.take() else {
            return Err(abandoned("an earlier step of it failed"));
        };
        let (game, spec) = (Arc::clone(&following.game), following.spec.clone());
        let (named, count) = ((following.build, following.match_id), frames.len());
        let work = move || apply(&*game, &spec, named, &mut world, &frames).map(|()| world);
        let world = self.offload(work).await.map_err(|cause| abandoned(&cause))??;
        following.at = (world.tick, world.seq);
        following.world = Some(world);
        Ok(count)
    }
}

fn failed(cause: &str) -> RecoveryError {
    RecoveryError::Host(HostError::Spawn { what: "a follower", cause: cause.to_owned() })
}
