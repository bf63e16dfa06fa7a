//! What a step tells the outside: facts for players, effects for sinks, the end of the match.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::Bytes;
use rekindle_schema::record::{Effect, EffectId, Event as Fact};
use rekindle_schema::{PlayerId, Tick};

use crate::documents::CALL_EFFECT;
use crate::documents::declare::{Action, Document};
use crate::documents::wire::{Call, EffectCalls};
use crate::value::component::Event;
use crate::value::{Value, to_bytes};

/// What the systems of one tick said, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) events: Vec<Fact>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) ended: Option<String>,
}

impl Outbox {
    /// Adds what another one has, behind what is here; the other one is empty then.
    pub(crate) fn append(&mut self, other: &mut Self) {
        for mut event in other.events.drain(..) {
            event.ordinal = self.events.len() as u32;
            self.events.push(event);
        }
        for mut effect in other.effects.drain(..) {
            effect.id.ordinal = self.effects.len() as u32;
            self.effects.push(effect);
        }
        self.ended = self.ended.take().or(other.ended.take());
    }

    /// Adds an effect for each event that functions of the executable are to get; `kinds` has the
    /// kind of the effect by that of the event.
    pub(crate) fn deliver(&mut self, kinds: &BTreeMap<String, String>) {
        for event in &self.events {
            let Some(kind) = kinds.get(&event.kind) else { continue };
            let id = EffectId { tick: event.tick, ordinal: self.effects.len() as u32 };
            let payload = event.payload.clone();
            self.effects.push(Effect { id, kind: kind.clone(), payload });
        }
    }
}

/// Tells players, asks for effects, ends the match.
///
/// ```
/// use rekindle_sim::doc_game::{Ask, Duel};
/// use rekindle_sim::{Harness, PlayerId};
///
/// let mut duel = Harness::<Duel>::new(7);
/// duel.join(PlayerId(1));
/// duel.tick();
/// // The game answers this command with `output().announce("said", ..)`.
/// duel.command(PlayerId(1), &Ask::Say { text: "hello".to_owned() });
/// let said = duel.tick();
/// assert_eq!((said.commands.as_slice(), said.events[0].kind.as_str()), (&[true][..], "said"));
/// ```
pub struct Output<'w> {
    outbox: &'w RefCell<Outbox>,
    tick: Tick,
}

impl<'w> Output<'w> {
    pub(crate) fn new(outbox: &'w RefCell<Outbox>, tick: Tick) -> Self {
        Self { outbox, tick }
    }

    /// Tells everybody of an event, as kind `T::ID`. Declared with
    /// [`GameBuilder::tells`](crate::GameBuilder::tells), it is shown by its fields wherever the
    /// journal is read, and with [`GameBuilder::delivers`](crate::GameBuilder::delivers) it is
    /// handed to functions of the executable.
    pub fn publish<T: Event>(&mut self, event: &T) {
        self.fact(T::ID, None, event);
    }

    /// As [`Output::publish`], for one player.
    pub fn publish_to<T: Event>(&mut self, player: PlayerId, event: &T) {
        self.fact(T::ID, Some(player), event);
    }

    /// Tells everybody that something happened: `kind` is the game's name for it.
    pub fn announce<T: Value>(&mut self, kind: &str, payload: &T) {
        self.fact(kind, None, payload);
    }

    /// Tells one player.
    pub fn tell<T: Value>(&mut self, player: PlayerId, kind: &str, payload: &T) {
        self.fact(kind, Some(player), payload);
    }

    fn fact<T: Value>(&mut self, kind: &str, player: Option<PlayerId>, payload: &T) {
        let mut outbox = self.outbox.borrow_mut();
        let ordinal = outbox.events.len() as u32;
        outbox.events.push(Fact {
            tick: self.tick,
            ordinal,
            kind: kind.to_owned(),
            player,
            payload: to_bytes(payload).into(),
        });
    }

    /// Asks for an effect: `kind` names the sink (`result`), which gets it at least once and keeps
    /// it once.
    pub fn effect(&mut self, kind: &str, payload: impl Into<Bytes>) {
        let mut outbox = self.outbox.borrow_mut();
        let id = EffectId { tick: self.tick, ordinal: outbox.effects.len() as u32 };
        outbox.effects.push(Effect { id, kind: kind.to_owned(), payload: payload.into() });
    }

    /// As [`Output::effect`], with a payload in JSON.
    ///
    /// # Panics
    /// If the value cannot be written as JSON (a map whose keys are no texts).
    pub fn effect_json<T: serde::Serialize>(&mut self, kind: &str, payload: &T) {
        let json = serde_json::to_vec(payload)
            .unwrap_or_else(|error| panic!("the payload of effect `{kind}` is no JSON: {error}"));
        self.effect(kind, json);
    }

    /// Calls an action of a document, as an effect: exactly once, after this tick is durable,
    /// whatever nodes die. What comes of it is not told to the match: an action that refuses says
    /// so in the log, and `rekindle effects ls` lists it.
    ///
    /// ```
    /// # use rekindle_sim::{Action, Component, Declaration, Document, Output, Players, Res};
    /// # #[derive(Clone, Component, serde::Serialize)]
    /// # #[component(id = "profile")]
    /// # struct Profile { credits: u32 }
    /// # impl Document for Profile {
    /// #     const KIND: &'static str = "profile";
    /// #     fn declare(_: &mut Declaration<Self>) {}
    /// # }
    /// const CREDIT: Action<Profile, u32> = Action::new("credit");
    ///
    /// fn reward(players: Res<Players>, mut output: Output) {
    ///     for player in players.iter() {
    ///         output.call(CREDIT, player.id, &10);
    ///     }
    /// }
    /// ```
    ///
    /// # Panics
    /// If the arguments cannot be written as JSON (a map whose keys are no texts).
    pub fn call<D: Document, A: serde::Serialize>(
        &mut self,
        action: Action<D, A>,
        key: impl std::fmt::Display,
        args: &A,
    ) {
        self.calls::<D>(None, vec![action.on(key, args)]);
    }

    /// As [`Output::call`], for a player: the policies of the action ask whether the player may.
    ///
    /// # Panics
    /// As [`Output::call`].
    pub fn call_for<D: Document, A: serde::Serialize>(
        &mut self,
        player: PlayerId,
        action: Action<D, A>,
        key: impl std::fmt::Display,
        args: &A,
    ) {
        self.calls::<D>(Some(player), vec![action.on(key, args)]);
    }

    /// As [`Output::call`], several calls on documents of one kind ([`Action::on`]): all of them
    /// are applied, in order, or none. At most 256, and 48 KiB of JSON.
    pub fn calls<D: Document>(&mut self, player: Option<PlayerId>, calls: Vec<Call>) {
        let kind = D::KIND.to_owned();
        let player = player.map(|player| player.0);
        self.effect_json(CALL_EFFECT, &EffectCalls { kind, player, calls });
    }

    /// The match is over after this tick. The first reason given in a tick stands.
    pub fn end_match(&mut self, reason: &str) {
        self.outbox.borrow_mut().ended.get_or_insert_with(|| reason.to_owned());
    }
}
