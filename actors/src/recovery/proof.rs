//! Whether this build computes what another one recorded: every hash, every digest of what players
//! were shown, every event and effect of the ticks that are made again.
//!
//! [`Replay`](super::Replay) compares tick by tick and goes on behind a difference, so that the
//! report can say all of it. The verdict is asked for at the end.

use std::fmt;

use rekindle_schema::batch::FrameHeader;
use rekindle_schema::digest;
use rekindle_schema::net::NetView;
use rekindle_schema::record::{Beat, Decision, Effect, Event, Flush, PartSums, Shown};
use rekindle_schema::{BuildId, MatchId, Seq, Tick};
use rekindle_sim::{Simulation, StepOutput};

use crate::core::Hashes;
use crate::error::RecoveryError;

/// What came of making the ticks of other builds again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The build that had computed the last of them.
    pub build: BuildId,
    /// The first and the last of them.
    pub ticks: (Tick, Tick),
    /// How many there are.
    pub count: u64,
    /// Hashes of the state that are equal.
    pub hashes: u64,
    /// Ticks of which all that players were shown is equal.
    pub shown: u64,
    /// The newest tick behind a whole record up to which all that was recorded is equal, the state
    /// included; and that record.
    pub equal: (Tick, Seq),
    /// What differs.
    pub difference: Option<Difference>,
    /// The first tick of which no record says what came of it: one of the first releases wrote them
    /// and no equal hash follows.
    pub unproven: Option<Tick>,
}

/// What a build computes otherwise than it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The first tick at which something differs.
    pub tick: Tick,
    /// What differs there.
    pub what: Aspect,
    /// The first tick of which players were shown something else; `None` if they saw no difference.
    pub seen: Option<Tick>,
    /// Hashes of the state that differ.
    pub hashes: u64,
    /// The parts of the state that differ at the first of those hashes, by name, with their fields
    /// and the systems that wrote them. Empty if no hash follows, or nothing tells.
    pub parts: Vec<String>,
}

/// What can differ of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// The hash of the state.
    State,
    /// The view of the world, or whether commands were accepted.
    Shown,
    /// The events that the game declared.
    Events,
    /// The effects that it asked for.
    Effects,
    /// The match ends.
    End,
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::State => "the state",
            Self::Shown => "what players were shown",
            Self::Events => "the events",
            Self::Effects => "the effects",
            Self::End => "the end of the match",
        })
    }
}

impl Proof {
    /// Nothing was compared yet: the world stands at `equal`.
    fn begin(build: BuildId, first: Tick, equal: (Tick, Seq)) -> Self {
        let (ticks, difference, unproven) = ((first, first), None, None);
        Self { build, ticks, count: 0, hashes: 0, shown: 0, equal, difference, unproven }
    }

    /// The newest tick that players were shown and that still holds, if not all do. Of records that
    /// do not say what was shown, nothing behind the last equal hash does.
    pub fn holds_until(&self) -> Option<Tick> {
        let difference = self.difference.as_ref()?;
        difference.seen.map(|seen| Tick(seen.0.saturating_sub(1)))
    }

    /// Whether all that was recorded is equal.
    ///
    /// # Errors
    ///
    /// `Differs` if something is not; `OtherBuild` if some ticks left no trace to compare.
    pub(crate) fn verdict(&self, match_id: MatchId, ours: BuildId) -> Result<(), RecoveryError> {
        if self.difference.is_some() {
            let differs = Differs { match_id, ours, proof: self.clone() };
            return Err(RecoveryError::Differs(Box::new(differs)));
        }
        match self.unproven {
            Some(tick) => {
                Err(RecoveryError::OtherBuild { match_id, tick, found: self.build, ours })
            }
            None => Ok(()),
        }
    }

    fn differs(&mut self, tick: Tick, what: Aspect) -> &mut Difference {
        let first = Difference { tick, what, seen: None, hashes: 0, parts: Vec::new() };
        self.difference.get_or_insert(first)
    }

    fn seen_otherwise(&mut self, tick: Tick, what: Aspect) {
        self.differs(tick, what).seen.get_or_insert(tick);
    }
}

/// A match that this build would go on with otherwise than it was played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differs {
    /// The match.
    pub match_id: MatchId,
    /// The build that runs.
    pub ours: BuildId,
    /// What was compared.
    pub proof: Proof,
}

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { match_id, ours, proof } = self;
        let Some(difference) = &proof.difference else { return Ok(()) };
        let Difference { tick, what, seen, parts, .. } = difference;
        let (id, (from, to), equal) = (match_id.short(), proof.ticks, proof.equal.0);
        write!(
            f,
            "match {match_id}: build {} computed its ticks {from} to {to}; this build, {ours}, \
             makes another tick {tick}: {what} differs",
            proof.build
        )?;
        if !parts.is_empty() {
            write!(f, " ({})", parts.join("; "))?;
        }
        match seen {
            None => f.write_str("; players saw no difference")?,
            Some(seen) => write!(f, "; players saw it from tick {seen} on")?,
        }
        write!(
            f,
            ". Run the old build; or `rekindle match resume {id} --from-last-equal` goes on behind \
             tick {equal} and players are told so, `rekindle match resume {id} --accept` goes on \
             behind tick {to} as this build makes it"
        )
    }
}

/// A record of another build, while its ticks are made again.
pub(super) struct Recorded<'f> {
    flush: &'f Flush,
    /// Where the world stood before it.
    before: (Tick, Seq),
    seq: Seq,
    events: &'f [Event],
    effects: &'f [Effect],
    shown: &'f [Shown],
    parts: &'f [PartSums],
    view: NetView,
}

/// Takes those of the next tick off the front.
fn next<'f, T>(list: &mut &'f [T], tick: Tick, of: impl Fn(&T) -> Tick) -> &'f [T] {
    let (now, rest) = list.split_at(list.partition_point(|item| of(item) <= tick));
    *list = rest;
    now
}

impl<'f> Recorded<'f> {
    /// A record of another build; the world stands at `before`. `proof` begins with the first.
    pub(super) fn new(
        header: &FrameHeader,
        flush: &'f Flush,
        before: (Tick, Seq),
        proof: &mut Option<Proof>,
    ) -> Self {
        let proof = proof.get_or_insert_with(|| Proof::begin(header.build, flush.first, before));
        (proof.build, proof.ticks.1) = (header.build, flush.last);
        let Flush { events, effects, parts, shown, .. } = flush;
        let shown = shown.as_deref().unwrap_or_default();
        let (seq, view) = (header.seq, NetView::default());
        Self { flush, before, seq, events, effects, shown, parts, view }
    }

    /// Compares a tick that was just made. `hashes` gets what clients that saw it have.
    pub(super) fn compare(
        &mut self,
        proof: &mut Proof,
        hashes: &mut Hashes,
        (sim, output): (&dyn Simulation, &StepOutput),
        beat: Option<&Beat>,
    ) {
        let tick = sim.tick();
        proof.count += 1;
        if next(&mut self.events, tick, |event| event.tick) != output.events {
            proof.seen_otherwise(tick, Aspect::Events);
        }
        if next(&mut self.effects, tick, |effect| effect.id.tick) != output.effects {
            proof.seen_otherwise(tick, Aspect::Effects);
        }
        let ends =
            |decision: &Decision| matches!(decision, Decision::End { tick: at, .. } if *at == tick);
        if output.ended.is_some() && !self.flush.decisions.iter().any(ends) {
            proof.seen_otherwise(tick, Aspect::End);
        }
        for shown in next(&mut self.shown, tick, |shown| shown.tick) {
            sim.extract(&mut self.view);
            if digest::of_shown(&self.view, &output.commands) == shown.digest {
                proof.shown += 1;
            } else {
                proof.seen_otherwise(tick, Aspect::Shown);
            }
        }
        let parts = next(&mut self.parts, tick, |parts| parts.tick);
        if let Some(beat) = beat {
            self.compare_state(proof, hashes, sim, (beat, parts));
        }
        if tick == self.flush.last && self.flush.shown.is_none() && beat.is_none() {
            let beats = &self.flush.beats;
            let from = beats.last().map_or(self.flush.first, |last| last.tick.next());
            proof.unproven.get_or_insert(from);
        }
    }

    fn compare_state(
        &self,
        proof: &mut Proof,
        hashes: &mut Hashes,
        sim: &dyn Simulation,
        (beat, parts): (&Beat, &[PartSums]),
    ) {
        let (tick, computed) = (beat.tick, sim.state_hash());
        if computed == beat.hash {
            proof.hashes += 1;
            if proof.difference.is_none() {
                let whole = tick == self.flush.last;
                proof.equal = if whole { (tick, self.seq) } else { self.before };
                proof.unproven = None;
            }
            hashes.push(*beat);
            return;
        }
        let equal = proof.equal.0;
        let silent = self.flush.shown.is_none();
        let difference = proof.differs(tick, Aspect::State);
        if silent {
            // Nobody can tell what players saw since the last hash that is equal.
            let since = hashes.newest().map_or(equal, |equal| equal.tick).next();
            difference.seen.get_or_insert(since);
        }
        difference.hashes += 1;
        if difference.hashes == 1 {
            difference.parts =
                parts.iter().flat_map(|parts| sim.explain(&parts.sums, equal)).collect();
        }
        // A client that saw no difference is asked for the hash that it was shown.
        let hash = if difference.seen.is_none() { beat.hash } else { computed };
        hashes.push(Beat { tick, hash });
    }
}
