//! Two nodes made the same ticks of one match and came to different worlds: which of them is to
//! blame, and what differs.
//!
//! Called through [`Host::diagnose`](crate::Host::diagnose) by whoever follows a match, once, when
//! a recorded hash is not that of the followed world. The tick is replayed a second time from the
//! newest checkpoint before it, in memory of its own; the two worlds of this node are compared with
//! each other and with what the owner recorded.

use std::fmt;

use rekindle_schema::lease::MatchLease;
use rekindle_schema::{MatchId, StateHash, Tick};
use rekindle_store::history::{self, End, LoadOptions};

use super::Replay;
use super::follow::Following;
use crate::config::OtherBuild;
use crate::services::Services;

/// Most parts that are named.
const MAX_NAMED: usize = 16;

/// Who computed something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Culprit {
    /// A second replay here gave what the owner recorded: the followed world was wrong, by the
    /// memory or the processor of this node.
    Follower,
    /// A second replay here gave what the first one did: the owner computed something else.
    Owner,
    /// It gave a third hash: the game depends on something that is not in its state.
    Game,
    /// There was no second replay, and why.
    Unknown(String),
}

/// What two nodes computed differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// The match.
    pub match_id: MatchId,
    /// The first tick with a recorded hash at which they differ.
    pub tick: Tick,
    /// What the owner recorded.
    pub recorded: StateHash,
    /// What the follower computed.
    pub computed: StateHash,
    /// Who is to blame.
    pub culprit: Culprit,
    /// The parts of the state in which the two replays here differ, by name, as in component
    /// `position`. Empty if they are equal, or the game cannot tell.
    pub parts: Vec<String>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { match_id, tick, recorded, computed, culprit, parts } = self;
        write!(
            f,
            "match {match_id} at tick {tick}: its owner recorded state hash {recorded}, its \
             follower computes {computed}; "
        )?;
        match culprit {
            Culprit::Follower => f.write_str(
                "a second replay agrees with the owner, so the follower's memory or processor is \
                 wrong",
            )?,
            Culprit::Owner => f.write_str(
                "a second replay agrees with the follower, so what its owner has in memory is not \
                 what its journal says",
            )?,
            Culprit::Game => f.write_str(
                "a second replay gives a third hash, so the game depends on something that is not \
                 in its state",
            )?,
            Culprit::Unknown(why) => write!(f, "it could not be replayed a second time: {why}")?,
        }
        if !parts.is_empty() {
            write!(f, "; the replays differ in {}", parts.join(", "))?;
        }
        Ok(())
    }
}

impl Services {
    /// See [`Host::diagnose`](crate::Host::diagnose).
    pub(crate) async fn diagnose(
        &self,
        lease: &MatchLease,
        following: Following,
        (tick, recorded, computed): (Tick, StateHash, StateHash),
    ) -> Divergence {
        let match_id = following.match_id();
        let found =
            |culprit, parts| Divergence { match_id, tick, recorded, computed, culprit, parts };
        match self.replay_again(lease, following, tick).await {
            Ok((again, mut parts)) => {
                parts.truncate(MAX_NAMED);
                let culprit = match again {
                    again if again == recorded => Culprit::Follower,
                    again if again == computed => Culprit::Owner,
                    _ => Culprit::Game,
                };
                found(culprit, parts)
            }
            Err(why) => found(Culprit::Unknown(why), Vec::new()),
        }
    }

    /// Replays up to `tick` from the newest checkpoint before it. Returns the hash there, and in
    /// what that world differs from the followed one, if that still stands there.
    async fn replay_again(
        &self,
        lease: &MatchLease,
        following: Following,
        tick: Tick,
    ) -> Result<(StateHash, Vec<String>), String> {
        let options = LoadOptions { end: End::Tick(tick), ..LoadOptions::default() };
        let history = history::load(&self.store, lease, &options).await;
        let history = history.map_err(|error| error.to_string())?;
        let game = self.games.get(&lease.spec.game).map_err(|error| error.to_string())?;
        let (build, match_id) = (self.build, lease.match_id);
        let spec = following.spec().clone();
        let first = following.remains();
        let work = move || {
            let replay = Replay {
                game: &*game,
                spec: &spec,
                build,
                other_build: OtherBuild::Accept,
                until: Some(tick),
                match_id: Some(match_id),
            };
            let mut again = replay.begin(&history).map_err(|error| error.to_string())?;
            for frame in history.frames.iter().filter(|frame| frame.header.first_tick <= tick) {
                if let Err(error) = replay.apply(&mut again, frame, &mut |_| {})
                    && again.tick != tick
                {
                    return Err(error.to_string());
                }
            }
            if again.tick != tick {
                return Err(format!("the journal ends with tick {}", again.tick));
            }
            let parts = first.filter(|first| first.tick == tick).map_or_else(Vec::new, |first| {
                game.differing_parts(&first.sim.checkpoint(), &again.sim.checkpoint())
            });
            Ok((again.sim.state_hash(), parts))
        };
        self.offload(work).await?
    }
}
