//! What the journal of a stopped node says, read and simulated again in this process.

use std::collections::BTreeMap;

use rekindle_actors::Games;
use rekindle_loadtest::{AnsweredCommand, BotLog, Fact};
use rekindle_schema::{Epoch, MatchId, Tick};
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

/// What one bot's log says about the promises.
pub fn witness(log: &BotLog) -> Witness {
    let mut witness = Witness { match_id: log.match_id, ..Witness::default() };
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

/// For each match, the newest tick that any bot had seen when its first connection broke.
pub fn first_cut(logs: &[BotLog]) -> BTreeMap<MatchId, Tick> {
    let mut cuts = BTreeMap::new();
    for log in logs {
        let first = log.facts.iter().find_map(|fact| match fact {
            Fact::Gap { from_tick, interrupted: true, .. } => Some(*from_tick),
            _ => None,
        });
        if let Some(tick) = first {
            cuts.entry(log.match_id)
                .and_modify(|newest: &mut Tick| *newest = tick.max(*newest))
                .or_insert(tick);
        }
    }
    cuts
}

#[cfg(test)]
mod tests {
    use rekindle_loadtest::{DurableInput, Tally};
    use rekindle_schema::{PlayerId, SessionId, StateHash};

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
        let witness = witness(&log);
        assert_eq!(witness.sessions, [session]);
        assert_eq!((witness.resumes, witness.playing), (1, true));
        assert_eq!(witness.durable, [(session, 1, Tick(4))]);
        assert_eq!(witness.answered, [(session, 1, Tick(5), true)]);
        assert_eq!((&witness.unanswered[..], witness.ended), (&[(session, 2)][..], false));
        assert_eq!(witness.newest, [(Epoch(1), Tick(31)), (Epoch(2), Tick(50))].into());
        assert_eq!(first_cut(&[log]), [(MatchId(2), Tick(31))].into());
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
            witness(&BotLog { player: PlayerId(1), match_id: MatchId(2), facts, tally }).playing
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
