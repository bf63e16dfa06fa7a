//! `rekindle journal`: what was applied to a match, in order, by the names of its fields where the
//! game is known here. It reads the store, whether or not a node runs on it, and writes nothing.

use std::sync::Arc;

use rekindle_schema::Tick;
use rekindle_schema::batch::Frame;
use rekindle_schema::record::{Flush, Step};
use rekindle_sim::GameType;
use rekindle_store::history::{self, End};
use serde_json::json;

use super::context::{Context, block_on};
use super::offline::{find, when};
use crate::exit::{Exit, Failure};
use crate::hex;
use crate::inspect::reach;
use crate::inspect::resim;
use crate::output;

/// `ticks` are the first and the last, `times` the earliest and the latest moment that are asked
/// for.
pub(super) fn journal(
    context: &Context,
    prefix: &str,
    ticks: (u64, Option<u64>),
    times: (Option<String>, Option<String>),
) -> Result<Exit, Failure> {
    if let (first, Some(last)) = ticks
        && last < first
    {
        let message = format!(
            "RK-CLI-269: no tick is in --from {first} --to {last}: name the earlier one first"
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    let (since, until) =
        (times.0.as_deref().map(when).transpose()?, times.1.as_deref().map(when).transpose()?);
    let reading = context.reading()?;
    reading.named(block_on(async {
        let store = &reading.store().await?;
        let lease = find(store, prefix).await?;
        let payloads = Payloads::of(context, &lease.spec.game);
        let end = match (until, ticks.1) {
            (Some(ms), _) => End::Time(ms),
            (None, Some(tick)) => End::Tick(Tick(tick)),
            (None, None) => End::Newest,
        };
        let (points, _) = history::points(store, &lease).await?;
        let reach = reach::longest(store, &lease, &points, end).await?;
        reach.notes.iter().for_each(|note| output::note(&reading.real(note)));
        let wanted = Tick(ticks.0)..=Tick(ticks.1.unwrap_or(u64::MAX));
        let first = reach
            .frames
            .first()
            .filter(|_| reach.start.is_some())
            .map(|frame| frame.header.first_tick);
        if let Some(first) = first.filter(|first| first > wanted.start() && since.is_none()) {
            output::note(&format!(
                "the journal of this match begins with tick {first}; what was \
                before is no longer kept"
            ));
        }
        let skipped = |frame: &&Frame| since.is_some_and(|since| frame.header.time_ms < since);
        for frame in reach.frames.iter().skip_while(skipped) {
            let record = resim::decode(frame)?;
            print_record(context, &payloads, &record.flush, &wanted)?;
        }
        Ok(Exit::Done)
    }))
}

/// The bytes of a game, as it reads them.
pub(super) struct Payloads {
    name: String,
    game: Option<Arc<dyn GameType>>,
}

/// A payload as it is shown: its fields, or why there are none, and its bytes.
struct Shown {
    read: Result<serde_json::Value, String>,
    hex: String,
}

impl Payloads {
    pub(super) fn of(context: &Context, game: &str) -> Self {
        Self { name: game.to_owned(), game: context.games.get(game).ok() }
    }

    fn show(
        &self,
        bytes: &[u8],
        read: impl FnOnce(&rekindle_sim::Payloads) -> Result<serde_json::Value, String>,
    ) -> Shown {
        let read = match &self.game {
            Some(game) => read(game.payloads()),
            None => Err(format!("this executable has no game `{}`", self.name)),
        };
        Shown { read, hex: hex::encode(bytes) }
    }
}

impl Shown {
    /// Adds it to a line of JSON.
    fn enter(self, value: &mut serde_json::Value) {
        value["payload"] = json!(self.hex);
        match self.read {
            Ok(fields) => value["fields"] = fields,
            Err(why) => value["unread"] = json!(why),
        }
    }

    fn words(&self) -> String {
        match &self.read {
            Ok(fields) => fields.to_string(),
            Err(why) => format!("{} (bytes: {why})", self.hex),
        }
    }
}

/// One line of a journal: its tick, as JSON, and for people.
pub(super) type Line = (Tick, serde_json::Value, String);

/// What a step contributes.
pub(super) fn lines_of_step(payloads: &Payloads, step: &Step) -> Vec<Line> {
    let tick = step.tick;
    let mut lines = Vec::new();
    for join in &step.joins {
        let value = json!({
            "tick": tick, "kind": "join", "player": join.player,
            "session": join.session.to_string(), "name": join.name,
        });
        lines.push((
            tick,
            value,
            format!("join     player {} session {} {:?}", join.player, join.session, join.name),
        ));
    }
    for leave in &step.leaves {
        let value = json!({
            "tick": tick, "kind": "leave", "player": leave.player,
            "session": leave.session.to_string(), "reason": leave.reason,
        });
        lines.push((
            tick,
            value,
            format!(
                "leave    player {} session {} {:?}",
                leave.player, leave.session, leave.reason
            ),
        ));
    }
    for input in &step.inputs {
        let shown = payloads.show(&input.payload, |of| of.input(&input.payload));
        let words = shown.words();
        let mut value = json!({
            "tick": tick, "kind": "input", "player": input.player,
            "session": input.session.to_string(), "seq": input.seq, "view": input.view_tick,
        });
        shown.enter(&mut value);
        let line = format!("input    player {} seq {} {words}", input.player, input.seq);
        lines.push((tick, value, line));
    }
    for command in &step.commands {
        let shown = payloads.show(&command.payload, |of| of.command(&command.payload));
        let words = shown.words();
        let mut value = json!({
            "tick": tick, "kind": "command", "player": command.player,
            "session": command.session.to_string(), "seq": command.seq,
        });
        shown.enter(&mut value);
        let line = format!("command  player {} seq {} {words}", command.player, command.seq);
        lines.push((tick, value, line));
    }
    for done in &step.effects_done {
        let value = json!({
            "tick": tick, "kind": "effect_done", "effect_tick": done.tick, "ordinal": done.ordinal,
        });
        lines.push((tick, value, format!("done     effect {}.{}", done.tick, done.ordinal)));
    }
    lines
}

/// One line for each thing that happened, in order of ticks.
fn print_record(
    context: &Context,
    payloads: &Payloads,
    flush: &Flush,
    wanted: &std::ops::RangeInclusive<Tick>,
) -> Result<(), Failure> {
    let mut lines: Vec<Line> =
        flush.steps.iter().flat_map(|step| lines_of_step(payloads, step)).collect();
    for event in &flush.events {
        let shown = payloads.show(&event.payload, |of| of.event(&event.kind, &event.payload));
        let words = shown.words();
        let mut value = json!({
            "tick": event.tick, "kind": "event", "ordinal": event.ordinal, "event": event.kind,
            "player": event.player,
        });
        shown.enter(&mut value);
        lines.push((event.tick, value, format!("event    {} {words}", event.kind)));
    }
    for effect in &flush.effects {
        let text = String::from_utf8_lossy(&effect.payload);
        let value = json!({
            "tick": effect.id.tick, "kind": "effect", "ordinal": effect.id.ordinal,
            "sink": effect.kind, "payload": hex::encode(&effect.payload),
        });
        lines.push((effect.id.tick, value, format!("effect   {} {text}", effect.kind)));
    }
    for beat in &flush.beats {
        let value = json!({"tick": beat.tick, "kind": "beat", "hash": beat.hash.to_string()});
        lines.push((beat.tick, value, format!("beat     {}", beat.hash)));
    }
    for decision in &flush.decisions {
        lines.push((
            flush.last,
            json!({"tick": flush.last, "kind": "decision", "decision": decision}),
            format!("decision {decision:?}"),
        ));
    }
    lines.sort_by_key(|(tick, ..)| *tick);
    for (tick, value, human) in lines.into_iter().filter(|(tick, ..)| wanted.contains(tick)) {
        context.answer(&value, || vec![format!("{tick:>8} {human}")])?;
    }
    Ok(())
}
