//! What the journal of a stopped node says, read and simulated again in this process.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_actors::Games;
use rekindle_loadtest::{AnsweredCommand, BotLog, Fact};
use rekindle_schema::{Epoch, MatchId};
use rekindle_sim::documents::collection_id;
use rekindle_store::Store;
use rekindle_store::history::{self, LoadOptions, Start};

use super::verdict::{Facts, Witness};
use crate::exit::Failure;
use crate::inspect::resim;

/// The facts of every match in the store. Needs the whole journal of each, from the first record
/// on.
pub async fn read(store: &Store, games: &Games) -> Result<BTreeMap<MatchId, Facts>, Failure> {
    let mut all = BTreeMap::new();
    let delivered = store.effects.delivered().await?;
    for lease in store.leases.matches().await? {
        if lease.match_id == collection_id(&lease.spec.game) {
            // Nobody plays in a collection of documents.
            continue;
        }
        let game = games.get(&lease.spec.game)?;
        let options = LoadOptions { start: Start::Beginning, ..LoadOptions::default() };
        let history = history::load(store, &lease, &options).await?;
        let mut facts = Facts::default();
        for frame in &history.frames {
            facts.last_tick.insert(frame.header.epoch, frame.header.last_tick);
        }
        let (checkpoints, _) = store.checkpoints.list(lease.match_id).await?;
        let stored: BTreeMap<_, _> =
            checkpoints.iter().map(|meta| (meta.tick, meta.hash)).collect();
        let sim = game.create_at(&lease.spec.config, lease.spec.seed, lease.spec.tick_rate)?;
        resim::run(sim, lease.match_id, &history.frames, |moment| {
            let tick = moment.sim.tick();
            for input in &moment.step.inputs {
                facts.applied.entry((input.session, input.seq)).or_default().push(tick);
            }
            for (command, granted) in moment.step.commands.iter().zip(&moment.output.commands) {
                let key = (command.session, command.seq);
                facts.commands.entry(key).or_default().push((tick, *granted));
            }
            for join in &moment.step.joins {
                facts.joins.entry(join.session).or_default().push(tick);
            }
            for beat in moment.record.flush.beats.iter().filter(|beat| beat.tick == tick) {
                let hash = moment.sim.state_hash();
                facts.journal_mismatches += usize::from(hash != beat.hash);
                facts.hashes.insert(tick, hash);
            }
            if let Some(hash) = stored.get(&tick) {
                facts.ends += usize::from(moment.output.ended.is_some());
                facts.journal_mismatches += usize::from(moment.sim.state_hash() != *hash);
            }
            if moment.record.flush.last == tick {
                facts.asked.extend(moment.record.flush.effects.iter().map(|effect| effect.id));
            }
            true
        })?;
        facts.delivered = delivered
            .iter()
            .filter(|(match_id, _)| *match_id == lease.match_id)
            .map(|(_, effect)| effect.id)
            .collect();
        all.insert(lease.match_id, facts);
    }
    Ok(all)
}

/// An outage: who plays in one of these matches when it begins is cut off.
#[derive(Debug, Clone)]
pub struct Cut {
    /// When it began, since the start of the swarm.
    pub at: Duration,
    /// The matches; `None`: all that there were.
    pub of: Option<BTreeSet<MatchId>>,
}

impl Cut {
    /// Whether it began while the bot was in its match.
    fn hits(&self, log: &BotLog) -> bool {
        let at = self.at.as_micros() as u64;
        let joined = |fact: &Fact| matches!(*fact, Fact::Joined { at_us, .. } if at_us < at);
        self.of.as_ref().is_none_or(|of| of.contains(&log.match_id)) && log.facts.iter().any(joined)
    }
}

/// What one bot's log says about the promises, when these outages were made.
pub fn witness(log: &BotLog, cuts: &[Cut]) -> Witness {
    let mut witness = Witness {
        player: log.player,
        match_id: log.match_id,
        cut_off: cuts.iter().any(|cut| cut.hits(log)),
        ..Witness::default()
    };
    let mut session = None;
    let mut epoch = Epoch(0);
    // An earlier ownership under which the bot saw its last tick: known once the next snapshot says
    // which tick that was.
    let mut before = None;
    for fact in &log.facts {
        match fact {
            Fact::Joined { session: new, epoch: now, tick, .. } => {
                witness.sessions.push(*new);
                (session, epoch, witness.playing) = (Some(*new), *now, log.tally.newest > *tick);
            }
            Fact::Resumed { session: same, epoch: now, tick, .. } => {
                if witness.sessions.last() != Some(same) {
                    witness.sessions.push(*same);
                }
                witness.resumes += 1;
                before = (*now != epoch).then_some(epoch).or(before);
                // A welcome is a word; ticks after it are what counts. A bot that had seen none
                // before notes no gap.
                (session, epoch, witness.playing) = (Some(*same), *now, log.tally.newest > *tick);
            }
            Fact::Durable(input) => {
                witness.durable.extend(session.map(|session| (session, input.seq, input.tick)));
            }
            Fact::Answered(command) => {
                let AnsweredCommand { seq, tick, granted, .. } = *command;
                witness.answered.extend(session.map(|session| (session, seq, tick, granted)));
            }
            Fact::Unanswered { seq } => {
                witness.unanswered.extend(session.map(|session| (session, *seq)));
            }
            Fact::Ended { .. } => witness.ended = true,
            Fact::Beat { tick, hash } => witness.beats.push((*tick, *hash)),
            Fact::Gap { from_tick, interrupted: true, .. } => {
                witness.playing = true;
                if let Some(epoch) = before.take() {
                    witness.newest.insert(epoch, *from_tick);
                }
            }
            Fact::RolledBack { from, to, .. } => {
                witness.taken_back = witness.taken_back.max(from.0.saturating_sub(to.0));
            }
            Fact::Disconnected { .. } | Fact::Closed { .. } => witness.playing = false,
            Fact::Gap { .. } | Fact::Moved { .. } => {}
        }
    }
    witness.newest.insert(epoch, log.tally.newest);
    witness
}

#[cfg(test)]
mod tests {
    use rekindle_loadtest::{DurableInput, Tally};
    use rekindle_schema::{PlayerId, SessionId, StateHash, Tick};

    use super::*;

    #[test]
    fn a_log_becomes_a_witness() {
        let session = SessionId(5);
        let facts = vec![
            Fact::Joined { at_us: 1, session, epoch: Epoch(1), tick: Tick(3) },
            Fact::Durable(DurableInput { seq: 1, tick: Tick(4), epoch: Epoch(1), latency_us: 9 }),
            Fact::Answered(AnsweredCommand { seq: 1, tick: Tick(5), granted: true, latency_us: 9 }),
            Fact::Unanswered { seq: 2 },
            Fact::Beat { tick: Tick(30), hash: StateHash([1; 32]) },
            Fact::Disconnected { at_us: 5, reason: "silent".into() },
            Fact::Resumed { at_us: 6, session, epoch: Epoch(2), tick: Tick(31) },
            Fact::Gap {
                from_us: 4,
                to_us: 7,
                from_tick: Tick(31),
                to_tick: Tick(32),
                interrupted: true,
            },
        ];
        let log = BotLog {
            player: PlayerId(1),
            match_id: MatchId(2),
            facts,
            tally: Tally { newest: Tick(50), ..Tally::default() },
        };
        let cut = |at, of| Cut { at: Duration::from_micros(at), of };
        let witness = |cuts: &[Cut]| witness(&log, cuts);
        for (cut, cut_off) in [
            (cut(4, None), true),
            (cut(4, Some([MatchId(2)].into())), true),
            (cut(4, Some([MatchId(3)].into())), false),
            (cut(1, None), false),
        ] {
            assert_eq!(witness(std::slice::from_ref(&cut)).cut_off, cut_off, "{cut:?}");
        }
        let witness = witness(&[]);
        assert_eq!(witness.sessions, [session]);
        assert_eq!((witness.resumes, witness.playing), (1, true));
        assert_eq!(witness.durable, [(session, 1, Tick(4))]);
        assert_eq!(witness.answered, [(session, 1, Tick(5), true)]);
        assert_eq!((&witness.unanswered[..], witness.ended), (&[(session, 2)][..], false));
        assert_eq!(witness.newest, [(Epoch(1), Tick(31)), (Epoch(2), Tick(50))].into());
    }

    #[test]
    fn a_bot_plays_only_if_ticks_came_after_its_latest_welcome() {
        let session = SessionId(5);
        let joined = Fact::Joined { at_us: 1, session, epoch: Epoch(1), tick: Tick(3) };
        let resumed = Fact::Resumed { at_us: 6, session, epoch: Epoch(2), tick: Tick(31) };
        let ticks = Fact::Gap {
            from_us: 4,
            to_us: 7,
            from_tick: Tick(31),
            to_tick: Tick(32),
            interrupted: true,
        };
        let gone = Fact::Disconnected { at_us: 9, reason: "silent".into() };
        let playing = |facts: &[&Fact], newest| {
            let facts = facts.iter().map(|&fact| fact.clone()).collect();
            let tally = Tally { newest: Tick(newest), ..Tally::default() };
            let log = BotLog { player: PlayerId(1), match_id: MatchId(2), facts, tally };
            witness(&log, &[]).playing
        };
        assert!(!playing(&[], 0));
        assert!(!playing(&[&joined], 0));
        assert!(playing(&[&joined], 50));
        assert!(!playing(&[&joined, &resumed], 31));
        assert!(playing(&[&joined, &resumed], 50), "its first ticks came after it was resumed");
        assert!(playing(&[&joined, &resumed, &ticks], 50));
        assert!(!playing(&[&joined, &resumed, &ticks, &gone], 50));
        assert!(!playing(&[&joined, &resumed, &ticks, &gone, &resumed], 31));
    }
}
