//! A client of one game, with the types that the game's crate declares: inputs, commands, told
//! events and components, instead of their bytes.
//!
//! Used by programs that play a game which they are compiled with. It adds nothing to what goes
//! over the wire: the encoding is [`rekindle_sim::Value`]'s, which the server decodes.
//!
//! ```no_run
//! # use rekindle_client::{Answer, ClientConfig, GameClient, GameError, Trust};
//! # use rekindle_sim::doc_game::{Ask, Coin, Collected, Duel, Position, Run};
//! # async fn play(ticket: String, certificate: Vec<u8>) -> Result<(), GameError> {
//! let addrs = vec![([127, 0, 0, 1], 7777).into()];
//! let config = ClientConfig::new(addrs, Trust::Certificate(certificate), ticket);
//! let mut client = GameClient::<Duel>::connect(config)?;
//! let welcome = client.joined().await?;
//! if client.ask(&Ask::Home).await? == Answer::Unknown {
//!     println!("the server that knew has died; it was applied once in any case");
//! }
//! let seen = client.seen().await?;
//! let view = seen.view();
//! if let Some(own) = view.avatar(welcome.player).and_then(|own| own.get::<Position>()) {
//!     println!("at {}, {} coins", own.x, view.entities().filter(|e| e.has::<Coin>()).count());
//! }
//! client.input(&Run::Left);
//! let told = client.next::<Collected>().await?;
//! println!("tick {}: player {} has {}", told.tick, told.event.player, told.event.worth);
//! # Ok(())
//! # }
//! ```

mod aside;
mod documents;
mod error;

use std::ops::Deref;
use std::sync::Arc;

use rekindle_schema::Tick;
use rekindle_schema::net::{NetSchema, NetView};
use rekindle_schema::wire::{RefuseCode, Welcome};
use rekindle_sim::net::Fit;
use rekindle_sim::{Event, Game, GameType as _, Typed, View, did_you_mean, value};

use self::aside::Aside;
pub use self::error::GameError;
use crate::client::Client;
use crate::config::ClientConfig;
use crate::error::ClientError;
use crate::event::{ClientEvent, Snapshot};
use crate::session::SentInput;

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The game accepted it in the step of this tick, and that is durable.
    Granted(Tick),
    /// The game refused it in the step of this tick.
    Refused(Tick),
    /// It was applied once, and the server that knew with what result has died.
    Unknown,
}

/// An event that the game told.
#[derive(Debug, Clone, PartialEq)]
pub struct Told<E> {
    /// The tick in which it happened.
    pub tick: Tick,
    /// Its place among the events of the tick, from 0.
    pub ordinal: u32,
    /// What happened.
    pub event: E,
}

/// A snapshot that is read by the components of a game.
pub struct Seen<G: Game> {
    /// As it came: tick, own avatar, applied inputs.
    pub snapshot: Snapshot,
    /// Its entities in the layout of this build.
    view: Arc<NetView>,
    game: Arc<Typed<G>>,
}

impl<G: Game> Seen<G> {
    /// The entities, with the components that the game declares.
    pub fn view(&self) -> View<'_> {
        View::new(self.game.net_schema(), &self.view)
    }

    /// How the match is set up.
    pub fn config(&self) -> Result<Arc<G::Config>, GameError> {
        Ok(self.game.settings(&self.snapshot.welcome.config)?)
    }
}

/// A client of a match of `G`. It is a [`Client`], whose methods it has, with typed ones for all
/// that carries bytes of the game.
///
/// [`GameClient::ask`], [`GameClient::next`], [`GameClient::seen`] and [`GameClient::joined`] wait
/// for one thing; whatever else comes meanwhile is set aside for the next one that waits for it,
/// and for [`GameClient::event`]. Of snapshots and of hashes only the newest is kept. Of the rest
/// 1024 are kept; beyond them the oldest are dropped, and [`ClientEvent::EventsMissed`] says of
/// which ticks.
pub struct GameClient<G: Game> {
    game: Arc<Typed<G>>,
    client: Client,
    aside: Aside,
    /// How views are read that came under this welcome.
    fit: Option<(Arc<Welcome>, Result<Fit, GameError>)>,
    /// What the last event said, if it has come.
    closed: Option<(Option<RefuseCode>, String)>,
}

impl<G: Game> GameClient<G> {
    /// Connects as [`Client::connect`] does, to a match of this game.
    pub fn connect(mut config: ClientConfig) -> Result<Self, GameError> {
        config.game.get_or_insert_with(|| G::NAME.to_owned());
        Ok(Self::of(Arc::new(Typed::new()?), Client::connect(config)?))
    }

    /// A client that the caller made. Clients of one program can share the game.
    pub fn of(game: Arc<Typed<G>>, client: Client) -> Self {
        Self { game, client, aside: Aside::default(), fit: None, closed: None }
    }

    /// The game, for bots: `G::bot` takes the view of [`GameClient::seen`].
    pub fn game(&self) -> &Arc<Typed<G>> {
        &self.game
    }

    /// As [`Client::input`].
    pub fn input(&self, input: &G::Input) -> Option<SentInput> {
        self.client.input(value::to_bytes(input).into())
    }

    /// As [`Client::command`]; the answer comes as [`ClientEvent::CommandDone`].
    pub fn command(&self, command: &G::Command) -> Result<u64, ClientError> {
        self.client.command(value::to_bytes(command).into())
    }

    /// Sends a command and waits for what becomes of it. Giving up the future takes nothing back.
    pub async fn ask(&mut self, command: &G::Command) -> Result<Answer, GameError> {
        // After a rewind numbers are given out again: an older answer must not pass for this one.
        while let Some(event) = self.client.try_event() {
            self.note(&event);
            self.aside.push(event);
        }
        let seq = self.command(command)?;
        self.wait(|event| match *event {
            ClientEvent::CommandDone { seq: done, tick, accepted } if done == seq => {
                Some(Ok(match (tick, accepted) {
                    (Some(tick), Some(true)) => Answer::Granted(tick),
                    (Some(tick), Some(false)) => Answer::Refused(tick),
                    _ => Answer::Unknown,
                }))
            }
            _ => None,
        })
        .await
    }

    /// Waits for the next event of this type. Others of the game wait for those who ask for them.
    ///
    /// # Errors
    /// If the game does not declare the type (`GameBuilder::tells`): it would never come. If the
    /// bytes are no such event: the server plays another version of the game.
    pub async fn next<E: Event>(&mut self) -> Result<Told<E>, GameError> {
        let payloads = self.game.payloads();
        if !payloads.kinds().any(|kind| kind == E::ID) {
            let hint = did_you_mean(E::ID, payloads.kinds());
            return Err(GameError::Undeclared { id: E::ID, game: G::NAME, hint });
        }
        let told = |event: &ClientEvent| event.is_told::<E>().then(|| event.told::<E>());
        match self.aside.take(told) {
            Some(found) => found,
            None => self.wait(told).await,
        }
    }

    /// Waits for the next snapshot.
    ///
    /// # Errors
    /// As [`GameClient::read`].
    pub async fn seen(&mut self) -> Result<Seen<G>, GameError> {
        let snapshot = |event: &ClientEvent| match event {
            ClientEvent::Snapshot(snapshot) => Some(Ok(snapshot.clone())),
            _ => None,
        };
        let snapshot = match self.aside.take(snapshot) {
            Some(found) => found?,
            None => self.wait(snapshot).await?,
        };
        self.read(snapshot)
    }

    /// Waits until the client is in, if it is not.
    pub async fn joined(&mut self) -> Result<Arc<Welcome>, GameError> {
        if let Some(welcome) = self.client.welcome() {
            return Ok(welcome);
        }
        self.wait(|event| match event {
            ClientEvent::Welcome(welcome) | ClientEvent::Resumed { welcome, .. } => {
                Some(Ok(Arc::clone(welcome)))
            }
            _ => None,
        })
        .await
    }

    /// A snapshot, to be read by components.
    ///
    /// # Errors
    /// If the server plays another game, or lacks a networked field of this build's game: all of
    /// them are named. What the server has beyond them is left out.
    pub fn read(&mut self, snapshot: Snapshot) -> Result<Seen<G>, GameError> {
        let welcome = &snapshot.welcome;
        let fit = match self.fit.take() {
            Some((known, fit)) if Arc::ptr_eq(&known, welcome) => fit,
            _ => self.fit_to(&welcome.game, &welcome.schema),
        };
        let view = fit.as_ref().map(|fit| fit.view(&snapshot.view)).map_err(GameError::clone);
        self.fit = Some((Arc::clone(welcome), fit));
        Ok(Seen { view: view?, game: Arc::clone(&self.game), snapshot })
    }

    fn fit_to(&self, game: &str, schema: &NetSchema) -> Result<Fit, GameError> {
        if game != G::NAME {
            return Err(GameError::OtherGame { ours: G::NAME, theirs: game.to_owned() });
        }
        Fit::new(self.game.net_schema(), schema)
            .map_err(|lacking| GameError::OtherBuild { game: G::NAME, lacking: lacking.join("; ") })
    }

    /// As [`Client::event`], first what was set aside.
    pub async fn event(&mut self) -> Option<ClientEvent> {
        if let Some(event) = self.aside.pop() {
            return Some(event);
        }
        let event = self.client.event().await?;
        self.note(&event);
        Some(event)
    }

    /// As [`Client::try_event`], first what was set aside.
    pub fn try_event(&mut self) -> Option<ClientEvent> {
        if let Some(event) = self.aside.pop() {
            return Some(event);
        }
        let event = self.client.try_event()?;
        self.note(&event);
        Some(event)
    }

    /// As [`Client::leave`].
    pub async fn leave(self) {
        self.client.leave().await;
    }

    fn note(&mut self, event: &ClientEvent) {
        if let ClientEvent::Closed { code, message } = event {
            self.closed = Some((*code, message.clone()));
        }
    }

    /// The first event from now on that `pick` takes. Others are set aside.
    async fn wait<T>(
        &mut self,
        mut pick: impl FnMut(&ClientEvent) -> Option<Result<T, GameError>>,
    ) -> Result<T, GameError> {
        while let Some(event) = self.client.event().await {
            self.note(&event);
            match pick(&event) {
                Some(found) => return found,
                None => self.aside.push(event),
            }
        }
        let stopped = || (None, "the client has stopped".to_owned());
        let (code, message) = self.closed.clone().unwrap_or_else(stopped);
        Err(GameError::Closed { code, message })
    }
}

/// What needs no types: round trip, loss, ticks, counts.
impl<G: Game> Deref for GameClient<G> {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl ClientEvent {
    /// Whether the game told an event with the id of this type.
    pub fn is_told<E: Event>(&self) -> bool {
        matches!(self, Self::Event { kind, .. } if kind == E::ID)
    }

    /// An event that the game told, as its type.
    ///
    /// # Errors
    /// If it is of another type, or none that a game told; if its bytes are no such event.
    pub fn told<E: Event>(&self) -> Result<Told<E>, GameError> {
        let other = |got: &str| GameError::OtherEvent { wanted: E::ID, got: got.to_owned() };
        let Self::Event { tick, ordinal, kind, payload } = self else {
            return Err(other("no event of a game"));
        };
        if kind != E::ID {
            return Err(other(kind));
        }
        let event = value::from_bytes(payload).map_err(|problem| GameError::Bytes {
            id: E::ID,
            len: payload.len(),
            problem,
        })?;
        Ok(Told { tick: *tick, ordinal: *ordinal, event })
    }
}
