//! What players do, as data: the moves of scripted clients, and whole sequences of acts, which are
//! played again and printed as a test.

use std::any::type_name;
use std::fmt::Write as _;

use bytes::Bytes;
use rekindle_schema::{PlayerId, Tick};

use super::Harness;
use crate::game::builder::Game;
use crate::game::net::View;
use crate::game::payloads::Payloads;

/// One thing that a scripted client does in a tick: see [`Harness::client`].
pub enum Move<G: Game> {
    /// The player's input for this tick; of several the last one counts.
    Input(G::Input),
    /// A command.
    Command(G::Command),
    /// The player leaves; the script is asked no more.
    Leave,
}

type Script<G> = Box<dyn FnMut(Tick, &View<'_>) -> Vec<Move<G>>>;

/// A player who does what a function says.
pub(super) struct Client<G: Game> {
    pub(super) player: PlayerId,
    script: Script<G>,
}

impl<G: Game> Client<G> {
    pub(super) fn new(
        player: PlayerId,
        script: impl FnMut(Tick, &View<'_>) -> Vec<Move<G>> + 'static,
    ) -> Self {
        Self { player, script: Box::new(script) }
    }

    pub(super) fn ask(&mut self, tick: Tick, view: &View<'_>) -> Vec<Move<G>> {
        (self.script)(tick, view)
    }
}

/// What a player did, with the bytes that the game gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// The player joined.
    Join,
    /// The player left.
    Leave,
    /// The player's input: its canonical bytes.
    Input(Bytes),
    /// A command: its canonical bytes.
    Command(Bytes),
}

/// What one player did in one tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// The tick whose step it is part of.
    pub tick: Tick,
    /// Who did it.
    pub player: PlayerId,
    /// What.
    pub deed: Deed,
}

impl<G: Game> Harness<G> {
    /// Has a player do something in the next tick.
    pub(super) fn act(&mut self, player: PlayerId, deed: &Deed) {
        match deed {
            Deed::Join => self.join(player),
            Deed::Leave => self.leave(player),
            Deed::Input(payload) => self.raw_input(player, payload.clone()),
            Deed::Command(payload) => self.raw_command(player, payload.clone()),
        }
    }

    /// What players did in all ticks that were made, also in the one that failed.
    pub(super) fn acts(&self) -> Vec<Act> {
        let mut acts = Vec::new();
        for step in &self.steps {
            let mut add = |player, deed| acts.push(Act { tick: step.tick, player, deed });
            step.joins.iter().for_each(|join| add(join.player, Deed::Join));
            step.leaves.iter().for_each(|leave| add(leave.player, Deed::Leave));
            for input in &step.inputs {
                add(input.player, Deed::Input(input.payload.clone()));
            }
            for command in &step.commands {
                add(command.player, Deed::Command(command.payload.clone()));
            }
        }
        acts
    }
}

/// How a match begins that is printed as a test.
pub(super) struct Beginning<'a> {
    pub(super) seed: u64,
    pub(super) config: &'a str,
}

/// A test that does `acts`, makes all ticks up to `last`, and then what `check` says. `why` is what
/// fails, for people.
pub(super) fn as_test<G: Game>(
    payloads: &Payloads,
    beginning: &Beginning<'_>,
    (acts, last): (&[Act], Tick),
    why: &str,
    check: &str,
) -> String {
    let Beginning { seed, config } = beginning;
    let mut out = format!("#[test]\nfn found_with_seed_{seed}() {{\n");
    let players = if acts.is_empty() { "" } else { "PlayerId, " };
    let _ = writeln!(out, "    use rekindle_sim::{{Harness, {players}Tick}};\n");
    for line in why.lines() {
        let _ = writeln!(out, "    // {line}");
    }
    let game = type_name::<G>();
    let _ = writeln!(
        out,
        "    let mut game = Harness::<{game}>::with_config({seed}, {});",
        literal(config)
    );
    let mut at = Tick(1);
    for Act { tick, player, deed } in acts {
        if *tick > at {
            let _ = writeln!(out, "    game.run_to(Tick({}));", tick.0 - 1);
            at = *tick;
        }
        let call = match deed {
            Deed::Join => format!("join(PlayerId({player}))"),
            Deed::Leave => format!("leave(PlayerId({player}))"),
            Deed::Input(bytes) => {
                let fields = payloads.input(bytes).ok();
                let same = |fields: &_| payloads.input_from(fields).is_ok_and(|new| new == *bytes);
                format!("input_{}", payload(*player, bytes, fields.filter(same)))
            }
            Deed::Command(bytes) => {
                let fields = payloads.command(bytes).ok();
                let same =
                    |fields: &_| payloads.command_from(fields).is_ok_and(|new| new == *bytes);
                format!("command_{}", payload(*player, bytes, fields.filter(same)))
            }
        };
        let _ = writeln!(out, "    game.{call};");
    }
    let _ = writeln!(out, "    game.run_to(Tick({}));", last.0);
    for line in check.lines() {
        let _ = writeln!(out, "    {line}");
    }
    out.push_str("}\n");
    out
}

/// The rest of a call with a payload: by its fields, if they say all of it.
fn payload(player: PlayerId, bytes: &[u8], fields: Option<serde_json::Value>) -> String {
    match fields {
        Some(fields) => format!("json(PlayerId({player}), {})", literal(&fields.to_string())),
        None => format!("bytes(PlayerId({player}), b\"{}\")", bytes.escape_ascii()),
    }
}

/// A text as a literal of Rust that can be read.
fn literal(text: &str) -> String {
    if text.contains("\"#") || text.contains(char::is_control) {
        format!("{text:?}")
    } else {
        format!("r#\"{text}\"#")
    }
}
