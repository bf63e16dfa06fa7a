//! A world that follows a match which another node runs: it is replayed from the store, and goes on
//! with each record that becomes durable.
//!
//! Made by [`Host::follow`](crate::Host::follow), driven with
//! [`Host::catch_up`](crate::Host::catch_up) by whoever moves a match, or with
//! [`Host::catch_up_together`](crate::Host::catch_up_together) by whoever follows many, and run
//! with [`Host::run_followed`](crate::Host::run_followed) once the match's row names this node. It
//! never decides who owns anything.

use std::sync::Arc;

use rekindle_schema::batch::Frame;
use rekindle_schema::lease::MatchSpec;
use rekindle_schema::peer::Cut;
use rekindle_schema::{BatchNo, BuildId, Epoch, Incarnation, MatchId, Seq, StateHash, Tick};
use rekindle_sim::GameType;
use rekindle_store::history::{History, HistoryError, LogFollower, read_on};

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
        matches!(self, Self::History(error) if error.is_transient())
    }

    /// The tick at which a recorded hash is not that of the world here, with both hashes, the
    /// recorded one first.
    pub fn difference(&self) -> Option<(Tick, StateHash, StateHash)> {
        match self {
            Self::Replay(RecoveryError::HashMismatch { tick, recorded, computed, .. }) => {
                Some((*tick, *recorded, *computed))
            }
            _ => None,
        }
    }
}

/// A world that follows.
pub struct Following {
    match_id: MatchId,
    spec: MatchSpec,
    game: Arc<dyn GameType>,
    build: BuildId,
    log: LogFollower,
    /// `None` while a step is being made elsewhere, and for ever if that panicked. Behind a failure
    /// it stands where that was.
    world: Option<Replayed>,
    /// A record could not be applied: no further one is.
    failed: bool,
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

    /// The log that it follows, named by the owner that writes it.
    pub fn owner(&self) -> Incarnation {
        self.log.log()
    }

    /// Sessions in the world as it stands.
    pub fn sessions(&self) -> usize {
        self.world.as_ref().map_or(0, |world| world.sim.sessions().len())
    }

    /// Whether the match has come to its end.
    pub fn is_over(&self) -> bool {
        self.world.as_ref().is_some_and(|world| world.ended.is_some())
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
        self.world.filter(|_| !self.failed)
    }

    /// Where a failure left the world; `None` if it is gone.
    pub(crate) fn remains(self) -> Option<Replayed> {
        self.world
    }

    pub(crate) fn spec(&self) -> &MatchSpec {
        &self.spec
    }

    /// Takes the world out, to apply `frames` to it elsewhere.
    fn task(&mut self, frames: Vec<Frame>) -> Result<Task, FollowError> {
        let why = if self.failed { "an earlier record failed" } else { "a step of it panicked" };
        let world = self.world.take_if(|_| !self.failed);
        let world = world.ok_or_else(|| FollowError::Abandoned(self.match_id, why.to_owned()))?;
        Ok(Task {
            game: Arc::clone(&self.game),
            spec: self.spec.clone(),
            named: (self.build, self.match_id),
            world,
            frames,
        })
    }

    /// Takes back what came of a task.
    fn done(&mut self, (world, result): Applied) -> Result<(), FollowError> {
        self.at = (world.tick, world.seq);
        self.world = Some(world);
        self.failed = result.is_err();
        Ok(result?)
    }
}

/// Records to be applied to a world.
struct Task {
    game: Arc<dyn GameType>,
    spec: MatchSpec,
    named: (BuildId, MatchId),
    world: Replayed,
    frames: Vec<Frame>,
}

/// A world behind a task, and what came of it.
type Applied = (Replayed, Result<(), RecoveryError>);

impl Task {
    fn run(self) -> Applied {
        let Self { game, spec, named: (build, match_id), mut world, frames } = self;
        let replay = Replay {
            game: &*game,
            spec: &spec,
            build,
            // Another build's records can be followed only by proof, which a live match does not
            // wait for.
            other_build: OtherBuild::Refuse,
            until: None,
            match_id: Some(match_id),
        };
        let result =
            frames.iter().try_for_each(|frame| replay.apply(&mut world, frame, &mut |_| {}));
        (world, result)
    }
}

/// What came of reading a log on for all that follow it.
#[derive(Debug, Default)]
pub struct CaughtUp {
    /// Whole batches that were read; 0: the end of the log, or the bound, is reached.
    pub batches: usize,
    /// Ticks that were made, over all matches.
    pub ticks: u64,
    /// Matches that cannot be followed any further, each with why.
    pub failed: Vec<(MatchId, FollowError)>,
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
            super::replay(&*kind, &settings, &history, build, OtherBuild::Prove, &mut |_| {})
        };
        let world = self.offload(work).await.map_err(|cause| failed(&cause))??;
        let at = (world.tick, world.seq);
        let world = Some(world);
        Ok(Following { match_id, spec, game, build, log, world, failed: false, at })
    }

    /// Reads what has become durable since the last call, and makes those ticks. Returns how many
    /// records that were. Steps are made off the shards.
    pub(crate) async fn catch_up(&self, following: &mut Following) -> Result<usize, FollowError> {
        let frames = following.log.poll(&self.store).await?;
        if frames.is_empty() {
            return Ok(0);
        }
        let count = frames.len();
        let task = following.task(frames)?;
        let panicked = |cause| FollowError::Abandoned(following.match_id, cause);
        let applied = self.offload(move || task.run()).await.map_err(panicked)?;
        following.done(applied)?;
        Ok(count)
    }

    /// Reads one chunk of `log` for all of `followings`, which follow it, no batch behind `until`,
    /// and makes the ticks that are in it.
    pub(crate) async fn catch_up_together(
        &self,
        log: Incarnation,
        followings: &mut [&mut Following],
        until: Option<BatchNo>,
    ) -> Result<CaughtUp, HistoryError> {
        assert!(followings.iter().all(|following| following.owner() == log), "one log");
        let mut caught = CaughtUp::default();
        let within = |batch: BatchNo| until.is_none_or(|until| batch <= until);
        let from = followings.iter().map(|following| following.log.next_batch()).min();
        let Some(from) = from.filter(|from| within(*from)) else { return Ok(caught) };
        let mut batches = read_on(&self.store, log, from).await?;
        batches.retain(|batch| within(batch.number()));
        caught.batches = batches.len();
        let (mut tasks, mut places) = (Vec::new(), Vec::new());
        for (place, following) in followings.iter_mut().enumerate() {
            let mut frames = Vec::new();
            let taken =
                batches.iter().try_for_each(|batch| following.log.offer(batch, &mut frames));
            let task = match taken.map_err(FollowError::from) {
                Ok(()) if frames.is_empty() => continue,
                Ok(()) => following.task(frames),
                Err(error) => Err(error),
            };
            match task {
                Ok(task) => {
                    tasks.push(task);
                    places.push((place, following.tick()));
                }
                Err(error) => caught.failed.push((following.match_id, error)),
            }
        }
        if tasks.is_empty() {
            return Ok(caught);
        }
        let run = move || tasks.into_iter().map(Task::run).collect::<Vec<_>>();
        match self.offload(run).await {
            Ok(all) => {
                for ((place, before), applied) in places.into_iter().zip(all) {
                    let following = &mut *followings[place];
                    if let Err(error) = following.done(applied) {
                        caught.failed.push((following.match_id, error));
                    }
                    caught.ticks += following.tick().0 - before.0;
                }
            }
            Err(cause) => caught.failed.extend(places.into_iter().map(|(place, _)| {
                let match_id = followings[place].match_id;
                (match_id, FollowError::Abandoned(match_id, cause.clone()))
            })),
        }
        Ok(caught)
    }
}

fn failed(cause: &str) -> RecoveryError {
    RecoveryError::Host(HostError::Spawn { what: "a follower", cause: cause.to_owned() })
}
