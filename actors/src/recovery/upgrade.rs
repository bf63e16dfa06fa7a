//! How a match goes on with another build than the one that computed its last ticks: what its
//! journal, the log and lists say of it.
//!
//! Called by [`Host::recover`](crate::Host::recover) behind the replay, before the match runs.

use std::fmt;

use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::{MatchLease, StoredCheckpoint};
use rekindle_schema::record::{Decision, Grounds};
use rekindle_schema::{BuildId, Tick};

use super::Replayed;
use crate::config::OtherBuild;
use crate::error::HostError;
use crate::services::Services;

/// How whoever claimed a match has it go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GoOn {
    /// What an operator wants done about records of another build; `None`: what the configuration
    /// says.
    pub other_build: Option<OtherBuild>,
    /// What stood behind the history, and is void.
    pub void: Option<Void>,
}

/// Records that an operator gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Void {
    /// The last tick in them.
    pub to: Tick,
    /// The build that had computed it.
    pub build: BuildId,
}

/// A match went on with another build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildChange {
    /// The build that had computed the ticks before.
    pub from: BuildId,
    /// The build that goes on.
    pub to: BuildId,
    /// The last tick before it.
    pub tick: Tick,
    /// How many ticks of other builds were made again.
    pub replayed: u64,
    /// On what grounds it goes on.
    pub grounds: Grounds,
}

impl fmt::Display for BuildChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, tick, replayed, grounds } = self;
        write!(f, "build changed {from} -> {to}, {} ticks replayed, ", thousands(*replayed))?;
        match grounds {
            Grounds::Equal => f.write_str("equal"),
            Grounds::Accepted => f.write_str("different, and accepted by an operator"),
            Grounds::Rewound(last) => {
                write!(f, "ticks {} to {last} undone by an operator", tick.next())
            }
        }
    }
}

/// A number with commas between its thousands.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Notes in a replayed world what its next record says of the change of builds, if there is one;
/// and what players have to be told.
pub(crate) fn note(world: &mut Replayed, ours: BuildId, how: GoOn) -> Option<BuildChange> {
    let proof = world.proof.as_ref();
    let (from, grounds) = match (how.void, proof) {
        (Some(void), _) => (void.build, Grounds::Rewound(void.to)),
        (None, Some(proof)) if proof.difference.is_some() || proof.unproven.is_some() => {
            (proof.build, Grounds::Accepted)
        }
        (None, Some(proof)) => (proof.build, Grounds::Equal),
        (None, None) => return None,
    };
    let replayed = proof.map_or(0, |proof| proof.count);
    let change = BuildChange { from, to: ours, tick: world.tick, replayed, grounds };
    let tick = world.tick.next();
    world.opening.push(Decision::OtherBuild { tick, build: from, grounds });
    if how.void.is_some() {
        world.holds_until = Some(world.tick);
    }
    world.build_change = Some(change);
    Some(change)
}

impl Services {
    /// Tells of a change of builds, in the log and the metrics.
    pub(crate) fn tell_change(&self, lease: &MatchLease, change: &BuildChange) {
        let index = match change.grounds {
            Grounds::Equal => 0,
            Grounds::Accepted => 1,
            Grounds::Rewound(_) => 2,
        };
        self.meters.build_changes[index].increment(1);
        let (match_id, tick) = (lease.match_id, change.tick);
        tracing::info!(code = "RK-HOST-015", %match_id, %tick, "{change}");
    }

    /// Stores a checkpoint of what an operator accepted, before anything is built on it: a later
    /// recovery begins there, and asks nobody again.
    pub(crate) async fn keep_accepted(
        &self,
        lease: &MatchLease,
        world: &mut Replayed,
    ) -> Result<(), HostError> {
        let state = world.sim.checkpoint();
        let meta = CheckpointMeta {
            match_id: lease.match_id,
            epoch: lease.epoch,
            seq: world.seq,
            tick: world.tick,
            log: self.incarnation,
            batch: self.journal.next_batch(),
            build: self.build,
            hash: world.sim.state_hash(),
            time_ms: (self.clock)(),
            len: state.len() as u64,
            crc: crc32c::crc32c(&state),
            base: None,
        };
        self.store.checkpoints.put(meta.clone(), state).await?;
        let name = meta.as_base();
        self.journal.stored_checkpoint(StoredCheckpoint { match_id: lease.match_id, name });
        world.root = Some(meta.seq);
        world.checkpoint = Some(meta);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_builds_says_what_it_rests_on() {
        let change = |replayed, grounds| {
            let (from, to, tick) = (BuildId(0xa1b2), BuildId(0xc3d4), Tick(90));
            BuildChange { from, to, tick, replayed, grounds }.to_string()
        };
        let (from, to) = (BuildId(0xa1b2), BuildId(0xc3d4));
        assert_eq!(
            change(18_204, Grounds::Equal),
            format!("build changed {from} -> {to}, 18,204 ticks replayed, equal")
        );
        assert!(
            change(7, Grounds::Rewound(Tick(97))).ends_with("ticks 91 to 97 undone by an operator")
        );
        assert_eq!(
            ["1", "999", "1,000", "1,234,567"],
            [1, 999, 1_000, 1_234_567].map(thousands)[..]
        );
    }
}
