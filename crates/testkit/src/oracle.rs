//! The judges: what must hold between what clients saw and what the journal says, as pure
//! functions.
//!
//! Each returns what is wrong, in words; nothing means that it holds. Each is tested against
//! doctored histories that it must object to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use rekindle_schema::record::Effect;
use rekindle_schema::{Epoch, SessionId, Tick};

use crate::evidence::{Evidence, SeenEvent, SeenFrame};
use crate::history::{Account, Recomputed};

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A journal has every number once and every tick once, in order.
    JournalWhole,
    /// Every input that a client was told is durable stands in the journal exactly once, at that
    /// tick; no input stands there twice.
    InputsOnce,
    /// As for inputs, for commands, with the answer that the client got.
    CommandsOnce,
    /// Hashes in the journal and hashes that clients were told equal those of a re-simulation.
    HashesAgree,
    /// What a client saw stands: the tick is in the journal, was not made anew by a later owner,
    /// and looks the same when made again.
    NothingUndone,
    /// A session that a client was told of is in the journal, and the client is never given another
    /// while it lasts.
    SessionsKept,
    /// Events that clients were told equal those of a re-simulation.
    EventsAgree,
    /// Sinks have every effect of the journal once, and no other.
    EffectsOnce,
    /// What was put away by a clean stop goes on without replay.
    CleanStop,
    /// After the last fault every client sees new ticks and gets new inputs through.
    Progress,
    /// There was enough to judge.
    EnoughEvidence,
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What should have held.
    pub rule: Rule,
    /// Where it does not.
    pub detail: String,
}

impl Violation {
    /// Says where `rule` does not hold.
    pub fn new(rule: Rule, detail: impl Into<String>) -> Self {
        Self { rule, detail: detail.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.detail)
    }
}

/// What stands exactly where in the journal: for each (session, number) the ticks whose steps have
/// it.
type Places = BTreeMap<(SessionId, u64), Vec<Tick>>;

fn input_places(account: &Account) -> Places {
    let mut places = Places::new();
    for step in account.steps() {
        for input in &step.inputs {
            places.entry((input.session, input.seq)).or_default().push(step.tick);
        }
    }
    places
}

/// Every durable input once, at its tick; none twice; numbers of a session only grow.
pub fn inputs_once(account: &Account, evidence: &Evidence) -> Vec<Violation> {
    let mut bad = vec![];
    let places = input_places(account);
    for ((session, seq), ticks) in places.iter().filter(|(_, ticks)| ticks.len() > 1) {
        bad.push(Violation::new(
            Rule::InputsOnce,
            format!("input {seq} of session {session} stands at ticks {ticks:?}"),
        ));
    }
    let mut newest: BTreeMap<SessionId, u64> = BTreeMap::new();
    for step in account.steps() {
        for input in &step.inputs {
            let last = newest.insert(input.session, input.seq).unwrap_or(0);
            if input.seq <= last {
                let detail = format!(
                    "session {}: input {} is applied behind input {last}",
                    input.session, input.seq
                );
                bad.push(Violation::new(Rule::InputsOnce, detail));
            }
        }
    }
    for seen in &evidence.inputs {
        let found = places.get(&(seen.session, seen.seq)).map_or(&[][..], Vec::as_slice);
        if found != [seen.tick] {
            let detail = format!(
                "{} was told at {:?} that input {} of session {} is durable in tick {}; the \
                 journal has it at {found:?}",
                evidence.name, seen.at, seen.seq, seen.session, seen.tick
            );
            bad.push(Violation::new(Rule::InputsOnce, detail));
        }
    }
    bad
}

/// Every answered command once, at its tick, with that answer; none twice.
pub fn commands_once(
    account: &Account,
    recomputed: &Recomputed,
    evidence: &Evidence,
) -> Vec<Violation> {
    let mut bad = vec![];
    let mut places = Places::new();
    for step in account.steps() {
        for command in &step.commands {
            places.entry((command.session, command.seq)).or_default().push(step.tick);
        }
    }
    for ((session, seq), ticks) in places.iter().filter(|(_, ticks)| ticks.len() > 1) {
        bad.push(Violation::new(
            Rule::CommandsOnce,
            format!("command {seq} of session {session} stands at ticks {ticks:?}"),
        ));
    }
    for seen in &evidence.commands {
        let found = recomputed.commands.get(&(seen.session, seen.seq));
        if found.is_none() || seen.answer.is_some() && found != seen.answer.as_ref() {
            let detail = format!(
                "{} was told {:?} (tick, accepted) for command {} of session {}; the journal gives \
                 {found:?}",
                evidence.name, seen.answer, seen.seq, seen.session
            );
            bad.push(Violation::new(Rule::CommandsOnce, detail));
        }
    }
    bad
}

/// The hash beats of the journal against a re-simulation.
pub fn journal_hashes(account: &Account, recomputed: &Recomputed) -> Vec<Violation> {
    let beats = account.records.iter().flat_map(|record| &record.flush.beats);
    beats
        .filter(|beat| recomputed.hashes.get(&beat.tick) != Some(&beat.hash))
        .map(|beat| {
            Violation::new(
                Rule::HashesAgree,
                format!("the journal's hash of tick {} is not that of a re-simulation", beat.tick),
            )
        })
        .collect()
}

/// The hashes that a client was told against a re-simulation.
pub fn seen_hashes(recomputed: &Recomputed, evidence: &Evidence) -> Vec<Violation> {
    let differs =
        evidence.beats.iter().filter(|beat| recomputed.hashes.get(&beat.tick) != Some(&beat.hash));
    differs
        .map(|beat| {
            let detail = format!(
                "the hash of tick {} that {} was told is not that of a re-simulation",
                beat.tick, evidence.name
            );
            Violation::new(Rule::HashesAgree, detail)
        })
        .collect()
}

/// Every frame that a client saw stands, and so does every tick that it was told is durable.
pub fn nothing_undone(
    account: &Account,
    recomputed: &Recomputed,
    evidence: &Evidence,
) -> Vec<Violation> {
    let mut bad = vec![];
    let mut undone = |detail: String| {
        bad.push(Violation::new(Rule::NothingUndone, format!("{}: {detail}", evidence.name)));
    };
    for rewind in &evidence.rewinds {
        undone(format!("the server took back everything behind tick {}", rewind.to));
    }
    for frame in &evidence.frames {
        for (tick, word) in [(frame.tick, "seen"), (frame.durable, "declared durable")]
            .into_iter()
            .filter(|(tick, _)| tick.0 > 0)
        {
            match account.epoch_of(tick) {
                None => undone(format!(
                    "tick {tick}, {word} at {:?} in epoch {}, is not in the journal",
                    frame.at, frame.epoch
                )),
                Some(owner) if owner > frame.epoch => {
                    undone(format!(
                        "tick {tick}, {word} at {:?} in epoch {}, was made anew in epoch {owner}",
                        frame.at, frame.epoch
                    ));
                }
                Some(_) => {}
            }
        }
        if let (Some(seen), Some(made)) = (&frame.view, recomputed.views.get(&frame.tick))
            && (&seen.entities, &seen.values) != (&made.entities, &made.values)
        {
            undone(format!(
                "tick {}, seen at {:?}, looks different when it is made again",
                frame.tick, frame.at
            ));
        }
    }
    bad
}

/// A match that shows ticks before they are durable may undo them: then every client that saw one
/// of them is told so before it sees the next owner's ticks. What was declared durable stands.
pub fn undone_is_told(account: &Account, evidence: &Evidence) -> Vec<Violation> {
    let is_undone = |tick: Tick, epoch: Epoch| {
        tick.0 > 0 && account.epoch_of(tick).is_none_or(|owner| owner > epoch)
    };
    let mut bad = vec![];
    let mut wrong = |detail: String| {
        bad.push(Violation::new(Rule::NothingUndone, format!("{}: {detail}", evidence.name)));
    };
    for (index, frame) in evidence.frames.iter().enumerate() {
        let SeenFrame { at, epoch, tick, durable, .. } = *frame;
        if is_undone(durable, epoch) {
            wrong(format!("tick {durable}, declared durable at {at:?} in epoch {epoch}, is gone"));
        }
        let next = evidence.frames[index..].iter().find(|later| later.epoch > epoch);
        let Some(next) = next.filter(|_| is_undone(tick, epoch)) else { continue };
        let within = |moment: Duration| (at..=next.at).contains(&moment);
        let told = evidence.rewinds.iter().any(|rewind| rewind.to < tick && within(rewind.at));
        // A program that was started anew has seen nothing.
        let anew = evidence.welcomes.iter().any(|welcome| welcome.anew && within(welcome.at));
        if !told && !anew {
            wrong(format!(
                "tick {tick}, seen at {at:?} in epoch {epoch}, was undone; nobody had said so when \
                 tick {} of epoch {} was seen",
                next.tick, next.epoch
            ));
        }
    }
    bad
}

/// Every session that a client was told of is in the journal, and a client that comes back finds
/// its session.
pub fn sessions_kept(account: &Account, evidence: &Evidence) -> Vec<Violation> {
    let joins: BTreeSet<_> = account
        .steps()
        .flat_map(|step| &step.joins)
        .map(|join| (join.player, join.session))
        .collect();
    let left: BTreeSet<SessionId> =
        account.steps().flat_map(|step| &step.leaves).map(|leave| leave.session).collect();
    let mut bad = vec![];
    let mut broken = |detail: String| {
        bad.push(Violation::new(Rule::SessionsKept, format!("{}: {detail}", evidence.name)));
    };
    for welcome in &evidence.welcomes {
        if !joins.contains(&(evidence.player, welcome.session)) {
            broken(format!(
                "session {} of the welcome at {:?} is not in the journal",
                welcome.session, welcome.at
            ));
        }
    }
    for pair in evidence.welcomes.windows(2) {
        if pair[1].session != pair[0].session && !left.contains(&pair[0].session) {
            broken(format!(
                "it came back at {:?} and got session {} instead of {}",
                pair[1].at, pair[1].session, pair[0].session
            ));
        }
    }
    bad
}

/// Every event that a client was told is one of the re-simulation.
pub fn events_agree(recomputed: &Recomputed, evidence: &Evidence) -> Vec<Violation> {
    let same = |seen: &SeenEvent| {
        let made = recomputed.events.get(&(seen.tick, seen.ordinal));
        made.is_some_and(|made| (&made.kind, &made.payload) == (&seen.kind, &seen.payload))
            && made.is_some_and(|made| made.player.is_none_or(|player| player == evidence.player))
    };
    let differs = evidence.events.iter().filter(|seen| !same(seen));
    differs
        .map(|event| {
            let detail = format!(
                "event {} of tick {} that {} was told is not one of a re-simulation",
                event.ordinal, event.tick, evidence.name
            );
            Violation::new(Rule::EventsAgree, detail)
        })
        .collect()
}

/// What the sinks have against the re-simulation. Effects of the last `pending` ticks may still be
/// on their way.
pub fn effects_once(
    account: &Account,
    recomputed: &Recomputed,
    delivered: &[Effect],
    pending: u64,
) -> Vec<Violation> {
    let mut bad = vec![];
    let mut wrong = |detail: String| bad.push(Violation::new(Rule::EffectsOnce, detail));
    let made: BTreeMap<_, _> =
        recomputed.effects.iter().map(|effect| (effect.id, effect)).collect();
    let mut ids = BTreeSet::new();
    for effect in delivered {
        if !ids.insert(effect.id) {
            wrong(format!("effect {:?} was delivered twice", effect.id));
        }
        if made.get(&effect.id) != Some(&effect) {
            wrong(format!(
                "effect {:?} was delivered and is not one of a re-simulation",
                effect.id
            ));
        }
    }
    let due = Tick(account.last_tick().0.saturating_sub(pending));
    for id in made.keys().filter(|id| id.tick <= due && !ids.contains(id)) {
        wrong(format!("effect {id:?} was never delivered"));
    }
    bad
}

/// After `quiet_from` the client saw ticks until shortly before the `end`, and inputs became
/// durable.
pub fn progress(evidence: &Evidence, quiet_from: Duration, end: Duration) -> Vec<Violation> {
    let mut bad = vec![];
    let late = end.saturating_sub(end.saturating_sub(quiet_from) / 3);
    if !evidence.frames.iter().any(|frame| frame.at >= late) {
        let last = evidence.frames.last().map(|frame| frame.at);
        bad.push(Violation::new(
            Rule::Progress,
            format!("{} saw its last frame at {last:?} of {end:?}", evidence.name),
        ));
    }
    let newest = |frames: &mut dyn Iterator<Item = Tick>| frames.max().unwrap_or_default();
    let before = newest(
        &mut evidence.frames.iter().filter(|frame| frame.at < quiet_from).map(|frame| frame.tick),
    );
    let after = newest(&mut evidence.frames.iter().map(|frame| frame.tick));
    if after <= before {
        bad.push(Violation::new(
            Rule::Progress,
            format!("{} saw no tick behind {before} after the last fault", evidence.name),
        ));
    }
    if !evidence.inputs.iter().any(|input| input.at >= quiet_from) {
        bad.push(Violation::new(
            Rule::Progress,
            format!("no input of {} became durable after the last fault", evidence.name),
        ));
    }
    bad
}

/// There were inputs, frames and beats to judge by.
pub fn enough_evidence(evidence: &Evidence, inputs: usize, beats: usize) -> Vec<Violation> {
    let (got_inputs, got_beats) = (evidence.inputs.len(), evidence.beats.len());
    if got_inputs >= inputs
        && got_beats >= beats
        && evidence.frames.iter().any(|frame| frame.view.is_some())
    {
        return vec![];
    }
    let detail = format!(
        "{}: {got_inputs} durable inputs and {got_beats} beats, {inputs} and {beats} are needed, \
         and a whole view",
        evidence.name
    );
    vec![Violation::new(Rule::EnoughEvidence, detail)]
}
