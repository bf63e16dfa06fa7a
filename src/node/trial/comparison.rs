//! Whether this build makes of a history what was recorded, and for a backtest what it makes of it
//! instead. Runs in a trial process; `rekindle preflight` reads what comes of it.

use std::collections::BTreeMap;

use rekindle_actors::recovery::{Replay, Replaying};
use rekindle_actors::{Difference, Games, OtherBuild};
use rekindle_schema::lease::MatchLease;
use rekindle_schema::record::{Decision, Effect, Event, Flush};
use rekindle_schema::{BuildId, Tick};
use rekindle_store::history::History;
use serde::{Deserialize, Serialize};

/// Of a list, so many items are told.
const MOST: usize = 64;
/// Of a text, so many characters.
const LONGEST: usize = 400;
/// The kind of effect that says how a match went.
const RESULT: &str = "result";

/// What making a history again came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// The tick at which it began.
    pub from: Tick,
    /// The last tick that was recorded.
    pub to: Tick,
    /// The builds that had computed its ticks, in their order.
    pub builds: Vec<String>,
    /// Hashes of the state that are equal.
    pub hashes: u64,
    /// Ticks of which all that players were shown is equal. Only those of other builds are
    /// compared.
    pub shown: u64,
    /// How it went.
    pub outcome: Outcome,
    /// In what this build's schema differs from that of the state that it began with.
    pub schema: Vec<String>,
    /// What that state has, and this build has no place for: `component-id.field`.
    pub dropped: Vec<String>,
    /// What was counted, if that was asked for and the history could be made again.
    pub backtest: Option<Backtest>,
}

/// How a comparison ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All that was recorded is equal.
    #[default]
    Equal,
    /// Something is not.
    Differs(Differing),
    /// From this tick on nothing was recorded that could be compared.
    Unproven(Tick),
    /// It cannot be made again: why.
    Fails(String),
}

/// In what a history differs from what this build makes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differing {
    /// The first tick that differs.
    pub tick: Tick,
    /// What differs there.
    pub what: String,
    /// The first tick of which players were shown something else, if they were.
    pub seen: Option<Tick>,
    /// Hashes of the state that differ.
    pub hashes: u64,
    /// The parts of the state that differ at the first of them, with fields and systems.
    pub parts: Vec<String>,
    /// The newest tick up to which all is equal.
    pub equal: Tick,
}

/// What was played, and what this build makes of the same inputs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backtest {
    /// As it was recorded.
    pub then: Played,
    /// As this build computes it.
    pub now: Played,
    /// It was no rule of the game that ended it then, but an operator. That comes from outside as
    /// inputs do, so it ends what this build computes as well, if that goes on for so long.
    pub by_operator: bool,
}

impl Backtest {
    /// Whether a stop by an operator would explain that it ended then and does not now.
    pub fn may_be_stopped(&self) -> bool {
        !self.by_operator && self.then.ended.is_some() && self.now.ended.is_none()
    }

    /// An operator ended it.
    pub fn stopped(&mut self) {
        self.by_operator = true;
        self.now.ended.clone_from(&self.then.ended);
    }
}

/// One way in which a match went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Played {
    /// The tick at which it ended; the last one that was recorded if it did not.
    pub last: Tick,
    /// Why it ended, if it did.
    pub ended: Option<String>,
    /// The last effect of kind `result`, as text.
    pub result: Option<String>,
    /// How many events of each kind there were.
    pub events: BTreeMap<String, u64>,
    /// How many effects of each kind there were.
    pub effects: BTreeMap<String, u64>,
}

/// Why there was no comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotCompared {
    /// The process died of it: how.
    Died(String),
    /// There was none: why.
    Untried(String),
}

impl Played {
    fn take(&mut self, events: &[Event], effects: &[Effect]) {
        for event in events {
            count(&mut self.events, &event.kind);
        }
        for effect in effects {
            count(&mut self.effects, &effect.kind);
            if effect.kind == RESULT {
                self.result = Some(clip(String::from_utf8_lossy(&effect.payload).into_owned()));
            }
        }
    }
}

fn count(counts: &mut BTreeMap<String, u64>, kind: &str) {
    // A game that makes up kinds by itself is not counted without end.
    if counts.len() < MOST || counts.contains_key(kind) {
        *counts.entry(clip(kind.to_owned())).or_default() += 1;
    }
}

fn clip(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

fn clipped(list: impl IntoIterator<Item = String>) -> Vec<String> {
    list.into_iter().take(MOST).map(clip).collect()
}

impl From<(&Difference, Tick)> for Differing {
    fn from((difference, equal): (&Difference, Tick)) -> Self {
        let Difference { tick, what, seen, hashes, parts } = difference.clone();
        Self { tick, what: what.to_string(), seen, hashes, parts: clipped(parts), equal }
    }
}

/// Makes a history again and compares it.
pub(super) fn of(
    games: &Games,
    (build, backtest): (BuildId, bool),
    lease: &MatchLease,
    history: &History,
    progress: &mut dyn FnMut(Tick),
) -> Compared {
    let from = history.checkpoint.as_ref().map_or(Tick(0), |(meta, _)| meta.tick);
    let to = history.frames.last().map_or(from, |frame| frame.header.last_tick);
    let mut builds: Vec<String> =
        history.frames.iter().map(|frame| frame.header.build.to_string()).collect();
    builds.dedup();
    let mut found = Compared { from, to, builds: clipped(builds), ..Compared::default() };
    let game = match games.get(&lease.spec.game) {
        Ok(game) => game,
        Err(error) => {
            found.outcome = Outcome::Fails(error.to_string());
            return found;
        }
    };
    if let Some((_, state)) = &history.checkpoint {
        found.schema = clipped(game.schema_changes(state));
    }
    let replay = Replay {
        game: &*game,
        spec: &lease.spec,
        build,
        // What differs is reported; the replay goes on behind it.
        other_build: OtherBuild::Accept,
        until: None,
        match_id: Some(lease.match_id),
    };
    let mut counted = backtest.then(|| Backtest { then: then(history), ..Backtest::default() });
    let outcome = replay.run(history, &mut |made: Replaying<'_>| {
        progress(made.tick);
        if let Some(counted) = &mut counted
            && counted.now.ended.is_none()
        {
            counted.now.take(&made.output.events, &made.output.effects);
            counted.now.last = made.tick;
            counted.now.ended = made.output.ended.clone().map(clip);
        }
    });
    match outcome {
        Ok(replayed) => {
            found.hashes = replayed.beats_checked;
            found.dropped = clipped(replayed.sim.dropped().to_vec());
            if let Some(proof) = &replayed.proof {
                found.hashes += proof.hashes;
                found.shown = proof.shown;
                found.outcome = match (&proof.difference, proof.unproven) {
                    (Some(difference), _) => Outcome::Differs((difference, proof.equal.0).into()),
                    (None, Some(tick)) => Outcome::Unproven(tick),
                    (None, None) => Outcome::Equal,
                };
            }
            // A game that computes all the same would have ended it in the same tick.
            if let Some(counted) = &mut counted
                && found.outcome == Outcome::Equal
                && counted.may_be_stopped()
            {
                counted.stopped();
            }
            found.backtest = counted;
        }
        Err(error) => found.outcome = Outcome::Fails(clip(error.to_string())),
    }
    found
}

/// What was recorded. Records that cannot be read are counted by nobody: the replay fails at them.
fn then(history: &History) -> Played {
    let mut played = Played::default();
    for flush in history.frames.iter().filter_map(|frame| Flush::decode(&frame.payload).ok()) {
        played.take(&flush.events, &flush.effects);
        played.last = flush.last;
        for decision in &flush.decisions {
            if let Decision::End { tick, reason } = decision {
                (played.last, played.ended) = (*tick, Some(clip(reason.clone())));
            }
        }
    }
    played
}
