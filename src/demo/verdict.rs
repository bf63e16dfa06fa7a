//! The verdict of a demo, computed by nobody's word: what bots saw on the wire against what stands
//! in the journal.
//!
//! Pure: [`judge`] gets the witnesses' notes and the facts that were read from the stopped node's
//! directory, and returns the counts.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_schema::record::EffectId;
use rekindle_schema::{Epoch, MatchId, PlayerId, SessionId, StateHash, Tick};

/// Fewer durable inputs than this prove nothing.
pub const MIN_INPUTS: usize = 1_000;
/// Fewer answered commands than this prove nothing, unless there are enough inputs.
pub const MIN_COMMANDS: usize = 200;
/// Fewer hashes than this prove nothing: different beats, however many bots received each of them,
/// and ends of matches.
pub const MIN_HASHES: usize = 20;

/// What one bot noted of one match.
#[derive(Debug, Clone, Default)]
pub struct Witness {
    /// For whom it played.
    pub player: PlayerId,
    /// In which match it played.
    pub match_id: MatchId,
    /// All sessions that it had, in order: more than one means that a session was lost.
    pub sessions: Vec<SessionId>,
    /// An outage began while it played there.
    pub cut_off: bool,
    /// How often it was back in its session.
    pub resumes: u32,
    /// Its latest connection got snapshots, so it plays at the end.
    pub playing: bool,
    /// (session, seq, tick) that a frame declared durable.
    pub durable: Vec<(SessionId, u64, Tick)>,
    /// (session, seq, tick, granted) of commands whose outcome it was told.
    pub answered: Vec<(SessionId, u64, Tick, bool)>,
    /// (session, seq) of commands that were applied, says the client, and whose outcome died with
    /// a node.
    pub unanswered: Vec<(SessionId, u64)>,
    /// It saw the end of its match.
    pub ended: bool,
    /// Hashes that it received.
    pub beats: Vec<(Tick, StateHash)>,
    /// The newest tick that it was shown in each epoch.
    pub newest: BTreeMap<Epoch, Tick>,
    /// Ticks that it had seen and that were taken back, at most.
    pub taken_back: u64,
}

/// What the journal of one match says, read and simulated again after the node stopped.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The ticks at which each (session, seq) was applied.
    pub applied: BTreeMap<(SessionId, u64), Vec<Tick>>,
    /// The ticks at which each command (session, seq) was applied, and whether it was granted.
    pub commands: BTreeMap<(SessionId, u64), Vec<(Tick, bool)>>,
    /// Ticks at which sessions joined.
    pub joins: BTreeMap<SessionId, Vec<Tick>>,
    /// Hash after each tick that was on a beat, from an independent simulation.
    pub hashes: BTreeMap<Tick, StateHash>,
    /// Beats of the journal and checkpoints that the simulation contradicts.
    pub journal_mismatches: usize,
    /// 1 if the match has ended, and the hash of its last checkpoint was compared.
    pub ends: usize,
    /// The last durable tick of each epoch.
    pub last_tick: BTreeMap<Epoch, Tick>,
    /// Effects that the game asked for in durable ticks: results of finished rounds.
    pub asked: Vec<EffectId>,
    /// Effects that the sink has.
    pub delivered: BTreeSet<EffectId>,
}

/// The counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// (session, seq, tick) that bots were told to be durable.
    pub inputs_durable: usize,
    /// Of those, how many do not stand in the journal at that tick.
    pub lost: usize,
    /// Inputs that stand in the journal more than once.
    pub duplicates: usize,
    /// (session, seq, tick, granted) that bots were told of commands.
    pub commands_answered: usize,
    /// Commands that bots were told to be applied, and that do not stand in the journal so.
    pub commands_lost: usize,
    /// Commands that stand in the journal more than once.
    pub commands_twice: usize,
    /// Hashes that bots received and that were compared.
    pub beats_checked: usize,
    /// Of those, how many are not the same beat, received by another bot.
    pub beats_distinct: usize,
    /// How many hashes that bots received, or that the store has, differ.
    pub mismatches: usize,
    /// Matches that ended, and whose last state was compared.
    pub ends_checked: usize,
    /// Bots that had one session in each of their matches, after every kill, until it ended; and
    /// play on in the last.
    pub sessions_resumed: usize,
    /// Sessions that bots had to open although they had one in that match, and sessions that joined
    /// again.
    pub joins_after_kill: usize,
    /// How far behind what a bot had been shown a match went on.
    pub rolled_back_max: u64,
    /// Results of finished rounds that the sink has.
    pub results: usize,
    /// Results that were asked for more than once, are missing in the sink, or were never asked
    /// for.
    pub results_wrong: usize,
    /// What is wrong, in words; empty if all is well.
    pub faults: Vec<String>,
}

/// Compares notes and facts. There must be a witness for each of `players`, and if there were
/// outages (`cut`), one that came back.
pub fn judge(
    players: usize,
    witnesses: &[Witness],
    facts: &BTreeMap<MatchId, Facts>,
    cut: bool,
) -> Verdict {
    let mut verdict = Verdict::default();
    let nothing = Facts::default();
    let mut seen = BTreeSet::new();
    let mut beats = BTreeSet::new();
    let all: BTreeSet<_> = witnesses.iter().map(|witness| witness.player).collect();
    if all.len() < players {
        verdict.fault(format!("of {players} players only {} left notes", all.len()));
    }
    let mut lost = BTreeSet::new();
    for witness in witnesses {
        let facts = facts.get(&witness.match_id).unwrap_or(&nothing);
        verdict.hear(witness, facts, &mut seen, &mut beats);
        if !verdict.kept_its_session(witness) {
            lost.insert(witness.player);
        }
    }
    for (match_id, facts) in facts {
        verdict.read(*match_id, facts);
    }
    if cut && witnesses.iter().all(|witness| witness.resumes == 0) {
        verdict.fault("no bot was cut off and came back: that proves nothing".to_owned());
    }
    verdict.sessions_resumed = all.len() - lost.len();
    verdict.beats_distinct = beats.len();
    verdict.sum_up();
    verdict
}

impl Verdict {
    /// Compares what one bot saw with the journal of its match. `seen` has the durable inputs and
    /// `beats` the hash beats of all bots so far.
    fn hear(
        &mut self,
        witness: &Witness,
        facts: &Facts,
        seen: &mut BTreeSet<(SessionId, u64, Tick)>,
        beats: &mut BTreeSet<(MatchId, Tick)>,
    ) {
        for &(session, seq, tick) in &witness.durable {
            if !seen.insert((session, seq, tick)) {
                continue;
            }
            self.inputs_durable += 1;
            let ticks = facts.applied.get(&(session, seq)).map_or(&[][..], Vec::as_slice);
            if !ticks.contains(&tick) {
                self.lost += 1;
                self.fault(format!(
                    "input {seq} of session {session} was durable at tick \
                    {tick}; the journal has it at {ticks:?}"
                ));
            }
        }
        self.hear_of_commands(witness, facts);
        for &(tick, hash) in &witness.beats {
            self.beats_checked += 1;
            beats.insert((witness.match_id, tick));
            if facts.hashes.get(&tick) != Some(&hash) {
                self.mismatches += 1;
                self.fault(format!(
                    "match {}: a bot received hash {hash} for tick {tick}, the \
                        simulation has another",
                    witness.match_id
                ));
            }
        }
        for (epoch, &tick) in &witness.newest {
            let durable =
                facts.last_tick.range(..=epoch).next_back().map_or(Tick(0), |(_, &tick)| tick);
            self.rolled_back_max = self.rolled_back_max.max(tick.0.saturating_sub(durable.0));
        }
        self.rolled_back_max = self.rolled_back_max.max(witness.taken_back);
    }

    /// Whether the bot had one session in its match, and has it still or had it until the end.
    fn kept_its_session(&mut self, witness: &Witness) -> bool {
        let went_on = witness.playing && (witness.resumes > 0 || !witness.cut_off);
        let kept = witness.sessions.len() == 1 && (went_on || witness.ended);
        self.joins_after_kill += witness.sessions.len().saturating_sub(1);
        if !kept {
            self.fault(format!(
                "match {}: a bot had {} sessions, was resumed {} times, {} at the end",
                witness.match_id,
                witness.sessions.len(),
                witness.resumes,
                if witness.playing { "played" } else { "did not play" }
            ));
        }
        kept
    }

    /// Compares what one bot was told of its commands with the journal of its match.
    fn hear_of_commands(&mut self, witness: &Witness, facts: &Facts) {
        let applied =
            |session, seq| facts.commands.get(&(session, seq)).map_or(&[][..], Vec::as_slice);
        for &(session, seq, tick, granted) in &witness.answered {
            self.commands_answered += 1;
            if !applied(session, seq).contains(&(tick, granted)) {
                self.commands_lost += 1;
                let answer = if granted { "granted" } else { "refused" };
                self.fault(format!(
                    "command {seq} of session {session} was {answer} at tick {tick}; the journal \
                     has it at {:?}",
                    applied(session, seq)
                ));
            }
        }
        for &(session, seq) in &witness.unanswered {
            if applied(session, seq).is_empty() {
                self.commands_lost += 1;
                self.fault(format!(
                    "command {seq} of session {session} was taken by a node; the journal does not \
                     have it"
                ));
            }
        }
    }

    /// Looks into the journal of one match for what must not be in it.
    fn read(&mut self, match_id: MatchId, facts: &Facts) {
        let duplicates = facts.applied.values().filter(|ticks| ticks.len() > 1).count();
        let commands = facts.commands.values().filter(|ticks| ticks.len() > 1).count();
        self.duplicates += duplicates;
        self.commands_twice += commands;
        self.mismatches += facts.journal_mismatches;
        if duplicates + commands + facts.journal_mismatches > 0 {
            self.fault(format!(
                "match {match_id}: {duplicates} inputs and {commands} commands applied twice, {} \
                 beats or checkpoints contradicted",
                facts.journal_mismatches
            ));
        }
        let asked: BTreeSet<_> = facts.asked.iter().copied().collect();
        let wrong =
            facts.asked.len() - asked.len() + asked.symmetric_difference(&facts.delivered).count();
        self.results += facts.delivered.len();
        self.results_wrong += wrong;
        if wrong > 0 {
            self.fault(format!(
                "match {match_id}: the game asked for {:?}, the sink has {:?}",
                facts.asked, facts.delivered
            ));
        }
        self.ends_checked += facts.ends;
        self.joins_after_kill +=
            facts.joins.values().map(|ticks| ticks.len().saturating_sub(1)).sum::<usize>();
    }

    /// What all of it together proves, or does not.
    fn sum_up(&mut self) {
        let few = self.inputs_durable < MIN_INPUTS && self.commands_answered < MIN_COMMANDS;
        if few || self.beats_distinct + self.ends_checked < MIN_HASHES {
            self.fault(format!(
                "{} durable inputs, {} answered commands, {} different beats and {} ends of \
                 matches prove nothing: at least {MIN_INPUTS} inputs or {MIN_COMMANDS} commands, \
                 and {MIN_HASHES} beats or ends are needed",
                self.inputs_durable, self.commands_answered, self.beats_distinct, self.ends_checked
            ));
        }
        if self.rolled_back_max > 0 {
            self.fault(format!(
                "{} ticks that a bot had been shown were undone",
                self.rolled_back_max
            ));
        }
        if self.joins_after_kill > 0 {
            self.fault(format!(
                "{} sessions had to be opened anew after a kill",
                self.joins_after_kill
            ));
        }
    }
}

impl Verdict {
    /// Nothing durable or answered was lost or applied twice, no hash differs, every session was
    /// resumed, and enough was seen to say so.
    pub fn holds(&self) -> bool {
        self.faults.is_empty()
    }

    /// Keeps the first twenty: more of the same tells nobody more.
    fn fault(&mut self, words: String) {
        if self.faults.len() < 20 {
            self.faults.push(words);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MATCH: MatchId = MatchId(7);
    const SESSION: SessionId = SessionId(9);
    const RESULT: EffectId = EffectId { tick: Tick(900), ordinal: 0 };

    /// A run in which all is well.
    fn run() -> (Vec<Witness>, BTreeMap<MatchId, Facts>) {
        let hash = |tick: u64| StateHash([tick as u8; 32]);
        let witness = Witness {
            player: PlayerId(1),
            match_id: MATCH,
            sessions: vec![SESSION],
            cut_off: true,
            resumes: 1,
            playing: true,
            durable: (1..=1_200).map(|seq| (SESSION, seq, Tick(seq + 10))).collect(),
            answered: (1..=250).map(|seq| (SESSION, seq, Tick(seq + 20), true)).collect(),
            unanswered: vec![(SESSION, 251)],
            ended: false,
            beats: (1..=40).map(|beat| (Tick(beat * 30), hash(beat))).collect(),
            newest: [(Epoch(1), Tick(600)), (Epoch(2), Tick(1_210))].into(),
            taken_back: 0,
        };
        let facts = Facts {
            applied: (1..=1_200).map(|seq| ((SESSION, seq), vec![Tick(seq + 10)])).collect(),
            commands: (1..=251).map(|seq| ((SESSION, seq), vec![(Tick(seq + 20), true)])).collect(),
            joins: [(SESSION, vec![Tick(5)])].into(),
            hashes: (1..=40).map(|beat| (Tick(beat * 30), hash(beat))).collect(),
            journal_mismatches: 0,
            ends: 0,
            last_tick: [(Epoch(1), Tick(600)), (Epoch(2), Tick(1_215))].into(),
            asked: vec![RESULT],
            delivered: [RESULT].into(),
        };
        (vec![witness], [(MATCH, facts)].into())
    }

    #[test]
    fn a_clean_run_holds() {
        let (witnesses, facts) = run();
        let verdict = judge(witnesses.len(), &witnesses, &facts, true);
        assert!(verdict.holds(), "{:?}", verdict.faults);
        assert_eq!(
            (
                verdict.inputs_durable,
                verdict.beats_checked,
                verdict.sessions_resumed,
                verdict.rolled_back_max
            ),
            (1_200, 40, 1, 0)
        );
    }

    #[test]
    fn each_broken_promise_is_found() {
        type Break = fn(&mut Witness, &mut Facts);
        type Counted = fn(&Verdict) -> bool;
        let breaks: &[(&str, Break, Counted)] = &[
            (
                "lost",
                |_, facts| drop(facts.applied.remove(&(SESSION, 3))),
                |verdict| verdict.lost == 1,
            ),
            (
                "moved",
                |_, facts| facts.applied.get_mut(&(SESSION, 3)).unwrap()[0] = Tick(14),
                |verdict| verdict.lost == 1,
            ),
            (
                "twice",
                |_, facts| facts.applied.get_mut(&(SESSION, 3)).unwrap().push(Tick(14)),
                |verdict| verdict.duplicates == 1,
            ),
            (
                "command lost",
                |_, facts| drop(facts.commands.remove(&(SESSION, 3))),
                |verdict| verdict.commands_lost == 1,
            ),
            (
                "command with another outcome",
                |witness, _| witness.answered[2].3 = false,
                |verdict| verdict.commands_lost == 1,
            ),
            (
                "command without an answer lost",
                |_, facts| drop(facts.commands.remove(&(SESSION, 251))),
                |verdict| verdict.commands_lost == 1,
            ),
            (
                "command twice",
                |_, facts| facts.commands.get_mut(&(SESSION, 3)).unwrap().push((Tick(99), true)),
                |verdict| verdict.commands_twice == 1,
            ),
            (
                "hash",
                |witness, _| witness.beats[0].1 = StateHash([9; 32]),
                |verdict| verdict.mismatches == 1,
            ),
            (
                "unknown beat",
                |witness, _| witness.beats[0].0 = Tick(31),
                |verdict| verdict.mismatches == 1,
            ),
            (
                "journal beat",
                |_, facts| facts.journal_mismatches = 1,
                |verdict| verdict.mismatches == 1,
            ),
            (
                "new session",
                |witness, _| witness.sessions.push(SessionId(10)),
                |verdict| verdict.sessions_resumed == 0,
            ),
            (
                "gone at the end",
                |witness, _| witness.playing = false,
                |verdict| verdict.sessions_resumed == 0,
            ),
            (
                "never back",
                |witness, _| witness.resumes = 0,
                |verdict| verdict.sessions_resumed == 0,
            ),
            (
                "a session after the session",
                |witness, _| witness.sessions.push(SessionId(10)),
                |verdict| verdict.joins_after_kill == 1,
            ),
            (
                "joined again",
                |_, facts| facts.joins.get_mut(&SESSION).unwrap().push(Tick(601)),
                |verdict| verdict.joins_after_kill == 1,
            ),
            (
                "result lost",
                |_, facts| facts.delivered.clear(),
                |verdict| verdict.results_wrong == 1,
            ),
            (
                "result invented",
                |_, facts| facts.asked.clear(),
                |verdict| verdict.results_wrong == 1,
            ),
            (
                "result asked twice",
                |_, facts| facts.asked.push(RESULT),
                |verdict| verdict.results_wrong == 1,
            ),
            (
                "too few inputs, and too few commands",
                |witness, _| {
                    witness.durable.truncate(999);
                    witness.answered.truncate(199);
                },
                |verdict| (verdict.inputs_durable, verdict.commands_answered) == (999, 199),
            ),
            (
                "too few beats",
                |witness, _| witness.beats.truncate(19),
                |verdict| verdict.beats_checked == 19,
            ),
            (
                "few beats, often received",
                |witness, _| {
                    witness.beats.truncate(19);
                    witness.beats = witness.beats.repeat(3);
                },
                |verdict| (verdict.beats_checked, verdict.beats_distinct) == (57, 19),
            ),
            (
                "a beat that another bot received otherwise",
                |witness, _| {
                    let tick = witness.beats[0].0;
                    witness.beats.push((tick, StateHash([9; 32])));
                },
                |verdict| (verdict.mismatches, verdict.beats_distinct) == (1, 40),
            ),
        ];
        for (name, damage, counted) in breaks {
            let (mut witnesses, mut facts) = run();
            damage(&mut witnesses[0], facts.get_mut(&MATCH).unwrap());
            let verdict = judge(witnesses.len(), &witnesses, &facts, true);
            assert!(!verdict.holds() && counted(&verdict), "{name}: {verdict:?}");
        }
    }

    #[test]
    fn a_bot_goes_on_into_the_next_match_and_each_of_its_sessions_counts() {
        let next = MatchId(8);
        let second = |witness: &Witness| Witness {
            match_id: next,
            sessions: vec![SessionId(10)],
            cut_off: false,
            resumes: 0,
            durable: Vec::new(),
            answered: Vec::new(),
            unanswered: Vec::new(),
            beats: Vec::new(),
            newest: BTreeMap::new(),
            ..witness.clone()
        };
        let judged = |change: fn(&mut Witness)| {
            let (mut witnesses, mut facts) = run();
            (witnesses[0].ended, witnesses[0].playing) = (true, false);
            let mut later = second(&witnesses[0]);
            (later.ended, later.playing) = (false, true);
            change(&mut later);
            witnesses.push(later);
            facts.insert(next, Facts { ends: 1, ..Facts::default() });
            judge(1, &witnesses, &facts, true)
        };
        let good = judged(|_| {});
        assert!(good.holds() && (good.sessions_resumed, good.ends_checked) == (1, 1), "{good:?}");
        for lost in [
            (|later: &mut Witness| later.playing = false) as fn(&mut Witness),
            |later| later.cut_off = true,
            |later| later.sessions.clear(),
        ] {
            let verdict = judged(lost);
            assert!(!verdict.holds() && verdict.sessions_resumed == 0, "{verdict:?}");
        }
    }

    #[test]
    fn kills_that_cut_nobody_off_prove_nothing() {
        let (mut witnesses, facts) = run();
        (witnesses[0].cut_off, witnesses[0].resumes) = (false, 0);
        assert!(judge(1, &witnesses, &facts, false).holds());
        let verdict = judge(1, &witnesses, &facts, true);
        assert!(!verdict.holds() && verdict.sessions_resumed == 1, "{verdict:?}");
    }

    #[test]
    fn ends_of_short_matches_stand_in_for_beats() {
        let (mut witnesses, mut facts) = run();
        witnesses[0].beats.clear();
        assert!(!judge(1, &witnesses, &facts, true).holds());
        facts.get_mut(&MATCH).unwrap().ends = MIN_HASHES;
        assert!(judge(1, &witnesses, &facts, true).holds());
    }

    #[test]
    fn a_player_who_left_no_notes_is_missed() {
        let (witnesses, facts) = run();
        let verdict = judge(2, &witnesses, &facts, true);
        assert!(!verdict.holds() && verdict.sessions_resumed == 1, "{verdict:?}");
    }

    #[test]
    fn what_was_shown_and_then_undone_is_counted() {
        let (mut witnesses, facts) = run();
        witnesses[0].newest.insert(Epoch(1), Tick(603));
        let verdict = judge(witnesses.len(), &witnesses, &facts, true);
        assert!(verdict.rolled_back_max == 3 && !verdict.holds(), "{verdict:?}");
    }
}
