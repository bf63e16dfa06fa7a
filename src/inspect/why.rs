//! Which inputs cause an event: others are left out, and the match is simulated again without them,
//! until none of those that are left can be left out.
//!
//! Called by `rekindle why`. It reads no clock: the caller says when to break off.

use std::collections::BTreeSet;

use bytes::Bytes;
use rekindle_schema::record::{AppliedCommand, AppliedInput, Event, Join, Leave, Step};
use rekindle_schema::{MatchId, PlayerId, Tick};
use rekindle_sim::{GameType, SimError, minimal};

use super::resim::{self, ResimError};
use super::story::Story;

/// How many ticks up to the event are looked at first; then twice as many, and so on.
const NEAR: u64 = 1;

/// An event by its place: the tick that declared it, and which one of that tick it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId {
    /// The tick.
    pub tick: Tick,
    /// Which one within it, from 0.
    pub ordinal: u32,
}

/// What was found.
pub struct Found {
    /// The event.
    pub event: Event,
    /// The tick before the first of which inputs were left out: the state there is given.
    pub given: Tick,
    /// How many inputs, commands, joins and leaves there were since, up to the event.
    pub of: usize,
    /// Those that cause it, in steps of their ticks.
    pub steps: Vec<Step>,
    /// How many those are.
    pub causes: usize,
    /// None of them can be left out. `false`: the caller broke off before that was known.
    pub complete: bool,
    /// How often the match was simulated again.
    pub tries: usize,
}

/// Why nothing was found.
#[derive(Debug, thiserror::Error)]
pub enum WhyError {
    /// There is no such event.
    #[error(
        "RK-CLI-265: tick {} of match {match_id} has no event {}: it has {count}; `rekindle events \
         {match_id} --from {0} --to {0}` prints them", .id.tick, .id.ordinal
    )]
    NoEvent {
        /// The match.
        match_id: MatchId,
        /// What was asked for.
        id: EventId,
        /// How many events there are.
        count: usize,
    },
    /// The records do not reach the tick of the event.
    #[error(
        "RK-CLI-266: tick {tick} of match {match_id} cannot be made again: what is kept of it are \
         ticks {first} to {last}"
    )]
    NoTick {
        /// The match.
        match_id: MatchId,
        /// The tick of the event.
        tick: Tick,
        /// The first one that is kept.
        first: Tick,
        /// The last one.
        last: Tick,
    },
    /// This build does not compute what was played.
    #[error(
        "RK-CLI-267: this build computes tick {tick} of match {match_id} otherwise than it was \
         played, so it cannot say why something happened: use the build that played it"
    )]
    Differs {
        /// The match.
        match_id: MatchId,
        /// The tick.
        tick: Tick,
    },
    /// A tick cannot be made again.
    #[error(transparent)]
    Resim(#[from] ResimError),
    /// A state cannot be restored.
    #[error(transparent)]
    Sim(#[from] SimError),
}

impl WhyError {
    /// The tick that another build made otherwise than this one does, if that is what it says of a
    /// match which was simulated from tick `first` on.
    pub fn differs_at(&self, first: Tick) -> Option<Tick> {
        match self {
            Self::Differs { tick, .. } => Some(*tick),
            // This build cannot read the state before, or cannot repeat a step behind it.
            Self::Sim(_) | Self::Resim(ResimError::Sim { .. }) => Some(first),
            Self::NoEvent { .. } | Self::NoTick { .. } | Self::Resim(_) => None,
        }
    }
}

/// Something that came from outside in one tick.
#[derive(Debug, Clone)]
enum Cause {
    Join(Join),
    Leave(Leave),
    Input(AppliedInput),
    Command(AppliedCommand),
}

impl Cause {
    fn player(&self) -> PlayerId {
        match self {
            Self::Join(join) => join.player,
            Self::Leave(leave) => leave.player,
            Self::Input(input) => input.player,
            Self::Command(command) => command.player,
        }
    }
}

/// Finds the fewest inputs that cause the event. Inputs from tick `from` on are left out; without
/// it, from as late a tick as there is from which on some are needed. `goes_on` is told before each
/// simulation how many inputs it has, and says whether to go on.
pub fn find(
    game: &dyn GameType,
    story: &Story,
    id: EventId,
    from: Option<Tick>,
    mut goes_on: impl FnMut(usize) -> bool,
) -> Result<Found, WhyError> {
    let played = Played::up_to(game, story, id, from)?;
    let mut tries = 0;
    let mut holds = |base: &(Tick, Bytes), causes: &[(Tick, Cause)]| {
        tries += 1;
        goes_on(causes.len()).then(|| played.happens(game, base, causes))
    };
    // From the latest state on from which the event does not come by itself.
    let mut given = &played.bases[0];
    for base in &played.bases {
        given = base;
        if holds(base, &[]) != Some(true) {
            break;
        }
    }
    let all = played.causes(given.0);
    // Whole players first: most of a match is about others.
    let players: BTreeSet<PlayerId> = all.iter().map(|(_, cause)| cause.player()).collect();
    let of = |some: &[PlayerId]| -> Vec<(Tick, Cause)> {
        all.iter().filter(|(_, cause)| some.contains(&cause.player())).cloned().collect()
    };
    let players: Vec<PlayerId> = players.into_iter().collect();
    let who = minimal(&players, |some| holds(given, &of(some)));
    let what = minimal(&of(&who.kept), |some| holds(given, some));
    let steps = played.steps_of(given.0, &what.kept);
    Ok(Found {
        given: given.0,
        of: all.len(),
        steps: steps.into_iter().filter(|step| !step.is_empty()).collect(),
        causes: what.kept.len(),
        complete: who.complete && what.complete,
        tries,
        event: played.event,
    })
}

/// A match as it was played up to the event.
struct Played {
    event: Event,
    /// All steps up to the event's, ascending.
    steps: Vec<Step>,
    /// States before it, the latest first.
    bases: Vec<(Tick, Bytes)>,
}

impl Played {
    fn up_to(
        game: &dyn GameType,
        story: &Story,
        id: EventId,
        from: Option<Tick>,
    ) -> Result<Self, WhyError> {
        let match_id = story.lease.match_id;
        let (first, last) = (story.first_tick(), story.last_tick());
        if id.tick < first || id.tick > last {
            return Err(WhyError::NoTick { match_id, tick: id.tick, first, last });
        }
        let spec = &story.lease.spec;
        let sim = match &story.start {
            Some((_, state)) => game.restore(state)?,
            None => game.create_at(&spec.config, spec.seed, spec.tick_rate)?,
        };
        let wanted = wanted(id.tick, first, from);
        let mut bases = Vec::new();
        if wanted.contains(&sim.tick()) {
            bases.push((sim.tick(), sim.checkpoint()));
        }
        let (mut steps, mut events, mut differs) = (Vec::new(), Vec::new(), None);
        resim::run(sim, match_id, &story.frames, |moment| {
            let tick = moment.sim.tick();
            steps.push(moment.step.clone());
            if differs.is_none() && moment.beats().any(|mismatch| mismatch.is_some()) {
                differs = Some(tick);
            }
            if wanted.contains(&tick) {
                bases.push((tick, moment.sim.checkpoint()));
            }
            if tick == id.tick {
                events.clone_from(&moment.output.events);
                let recorded = moment.record.flush.events.iter().filter(|event| event.tick == tick);
                if !recorded.eq(&events) {
                    differs = differs.or(Some(tick));
                }
            }
            tick < id.tick && differs.is_none()
        })?;
        if let Some(tick) = differs {
            return Err(WhyError::Differs { match_id, tick });
        }
        let count = events.len();
        let event = events.into_iter().find(|event| event.ordinal == id.ordinal);
        let event = event.ok_or(WhyError::NoEvent { match_id, id, count })?;
        bases.reverse();
        Ok(Self { event, steps, bases })
    }

    /// Whether the event comes of these causes alone, from this state on.
    fn happens(
        &self,
        game: &dyn GameType,
        (given, state): &(Tick, Bytes),
        causes: &[(Tick, Cause)],
    ) -> bool {
        let Ok(mut sim) = game.restore(state) else { return false };
        for step in self.steps_of(*given, causes) {
            let Ok(output) = sim.step(&step) else { return false };
            if step.tick == self.event.tick {
                return output.events.iter().any(|event| self.is_it(event));
            }
        }
        false
    }

    /// With fewer inputs a tick may have fewer events, so the ordinal may be another.
    fn is_it(&self, event: &Event) -> bool {
        let Event { tick, ordinal: _, kind, player, payload } = &self.event;
        (&event.tick, &event.kind, &event.player, &event.payload) == (tick, kind, player, payload)
    }

    /// What came from outside behind the tick `given`.
    fn causes(&self, given: Tick) -> Vec<(Tick, Cause)> {
        let mut causes = Vec::new();
        for step in self.steps.iter().filter(|step| step.tick > given) {
            let Step { tick, joins, leaves, inputs, commands, effects_done: _ } = step;
            let all = joins.iter().cloned().map(Cause::Join);
            let all = all.chain(leaves.iter().cloned().map(Cause::Leave));
            let all = all.chain(inputs.iter().cloned().map(Cause::Input));
            let all = all.chain(commands.iter().cloned().map(Cause::Command));
            causes.extend(all.map(|cause| (*tick, cause)));
        }
        causes
    }

    /// All steps behind the tick `given` with these causes alone. What sinks acknowledged stays:
    /// it is nobody's input.
    fn steps_of(&self, given: Tick, causes: &[(Tick, Cause)]) -> Vec<Step> {
        let behind = self.steps.iter().filter(|step| step.tick > given);
        let bare = |step: &Step| Step {
            tick: step.tick,
            effects_done: step.effects_done.clone(),
            ..Step::default()
        };
        let mut steps: Vec<Step> = behind.map(bare).collect();
        for (tick, cause) in causes {
            let index = (tick.0 - given.0 - 1) as usize;
            let Some(step) = steps.get_mut(index) else { continue };
            debug_assert_eq!(step.tick, *tick, "there is a step for each tick");
            match cause.clone() {
                Cause::Join(join) => step.joins.push(join),
                Cause::Leave(leave) => step.leaves.push(leave),
                Cause::Input(input) => step.inputs.push(input),
                Cause::Command(command) => step.commands.push(command),
            }
        }
        steps
    }
}

/// The ticks behind which inputs may be left out: the one that was asked for, or some that are
/// further and further from the event, and the earliest that there is.
fn wanted(event: Tick, first: Tick, from: Option<Tick>) -> BTreeSet<Tick> {
    let earliest = Tick(first.0 - 1);
    if let Some(from) = from {
        let before = Tick(from.0.saturating_sub(1)).min(Tick(event.0 - 1));
        return BTreeSet::from([before.max(earliest)]);
    }
    let spans = std::iter::successors(Some(NEAR), |span| span.checked_mul(2));
    let near = spans.map_while(|span| event.0.checked_sub(span).map(Tick));
    near.take_while(|tick| *tick > earliest).chain([earliest]).collect()
}
