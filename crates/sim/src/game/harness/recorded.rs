//! Plays in a test what a node has recorded: a bug report.

use rekindle_schema::Tick;
use rekindle_schema::bugreport::BugReport;
use rekindle_schema::record::{Flush, Step};

use super::Harness;
use crate::game::builder::Game;
use crate::game::simulation::Simulation;
use crate::game::typed::Typed;

impl<G: Game> Harness<G> {
    /// The match of a bug report, which `rekindle bugreport` wrote, at its beginning:
    ///
    /// ```no_run
    /// # use rekindle_sim::doc_game::{Duel, Score};
    /// # use rekindle_sim::Harness;
    /// # const REPORT: &[u8] = b""; /*
    /// const REPORT: &[u8] = include_bytes!("0f3a.rkbug");
    /// # */
    /// let mut played = Harness::<Duel>::from_bugreport(REPORT).replay();
    /// assert_eq!(played.world().resource::<Score>().total, 12);
    /// played.tick(); // and on from there
    /// ```
    ///
    /// [`Harness::replay`] and [`Harness::replay_to`] make the recorded ticks, [`Harness::tick`]
    /// those behind them. A tick that panics and parked its match is not recorded: it is the first
    /// one behind.
    ///
    /// # Panics
    /// If the bytes are no bug report, or one of another game, or if this build cannot restore the
    /// state in it.
    pub fn from_bugreport(bytes: &[u8]) -> Self {
        match Self::of_report(bytes) {
            Ok(harness) => harness,
            Err(problem) => panic!("RK-SIM-010: this is no bug report of `{}`: {problem}", G::NAME),
        }
    }

    fn of_report(bytes: &[u8]) -> Result<Self, String> {
        let report = BugReport::decode(bytes).map_err(|error| error.to_string())?;
        let spec = &report.lease.spec;
        if spec.game != G::NAME {
            return Err(format!("it is of game `{}`", spec.game));
        }
        let game = Typed::<G>::new().map_err(|error| error.to_string())?;
        let made = match &report.start {
            Some((_, state)) => Typed::restore(&game, state),
            None => Typed::create_at(&game, &spec.config, spec.seed, spec.tick_rate),
        };
        let running = made.map_err(|error| error.to_string())?;
        let mut expected = running.tick().next();
        let made = (spec.config.clone(), spec.seed, spec.tick_rate);
        let mut harness = Self::of(game, made, running);
        harness.origin = report.start.map(|(_, state)| state);
        let (steps, beats) = &mut harness.recorded;
        for frame in &report.frames {
            let flush = Flush::decode(&frame.payload).map_err(|error| error.to_string())?;
            if flush.first != expected || flush.last < flush.first {
                let seq = frame.header.seq;
                return Err(format!("record {seq} does not go on with tick {expected}"));
            }
            expected = flush.last.next();
            let mut recorded = flush.steps.into_iter().peekable();
            for tick in (flush.first.0..=flush.last.0).map(Tick) {
                let empty = Step { tick, ..Step::default() };
                steps.push_back(recorded.next_if(|step| step.tick == tick).unwrap_or(empty));
            }
            beats.extend(flush.beats);
        }
        // What a test sends behind the record is newer than all that is in it.
        let inputs = steps.iter().flat_map(|step| step.inputs.iter().map(|input| input.seq));
        let commands = steps.iter().flat_map(|step| step.commands.iter().map(|sent| sent.seq));
        let known = harness.running.sessions();
        let known = known.iter().map(|one| one.last_input.max(one.last_command));
        harness.sequences = inputs.chain(commands).chain(known).max().unwrap_or_default();
        Ok(harness)
    }

    /// Makes all ticks of the bug report, and compares the recorded hashes.
    ///
    /// # Panics
    /// If a system panics, which may be what the report is about, or if a hash is not what was
    /// recorded: this build does not compute what was played.
    #[must_use]
    pub fn replay(self) -> Self {
        self.replay_to(Tick(u64::MAX))
    }

    /// As [`Harness::replay`], up to this tick.
    ///
    /// # Panics
    /// As [`Harness::replay`].
    #[must_use]
    pub fn replay_to(mut self, tick: Tick) -> Self {
        while let Some(step) = self.recorded.0.pop_front_if(|step| step.tick <= tick) {
            let tick = step.tick;
            if let Err(error) = self.make(step) {
                panic!("{error}");
            }
            while let Some(beat) = self.recorded.1.pop_front_if(|beat| beat.tick <= tick) {
                assert!(
                    beat.tick != tick || self.hashes.last() == Some(&beat.hash),
                    "RK-SIM-013: after tick {tick} the state is not what was recorded: another \
                     build played it, or the game depends on something that is not in its state"
                );
            }
        }
        self
    }
}
