//! A Rekindle node: the only place where all parts meet.
//!
//! A studio writes its own `main` that registers its games and gets the whole command line for it:
//!
//! ```no_run
//! use rekindle_arena::Arena;
//!
//! fn main() -> std::process::ExitCode {
//!     rekindle::Node::new().game::<Arena>().run()
//! }
//! ```
//!
//! * [`cli`]: the commands; [`config`]: what they are set to; [`telemetry`]: logs and metrics.
//! * [`node`]: a node at work, from boot to clean stop; [`control`]: joins it to the HTTP interface
//!   of `rekindle-admin`.
//! * [`backup`]: whole copies of stores at work.
//! * [`output`]: what commands print, and [`text`]: what is done to it first; [`dial`]: which
//!   address to dial.
//! * [`doctor`]: what this host and the store give.
//! * [`inspect`]: stored matches, looked into without running them; [`demo`]: the show with the
//!   verdict; [`screen`]: live pictures.
//!
//! Nothing imports this crate. It decides nothing about worlds, journals or ownership: it puts
//! together those that do.

pub mod backup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod demo;
pub mod dial;
pub mod doctor;
pub mod exit;
pub mod files;
mod hex;
pub mod inspect;
pub mod moment;
pub mod node;
pub mod output;
pub mod screen;
pub mod telemetry;
pub mod text;

use std::process::ExitCode;
use std::sync::Arc;

use rekindle_jobs::Kind;
use rekindle_schema::MatchId;
use rekindle_schema::record::Effect;
use rekindle_sim::{Collection, Document, Event, Game, GameType, Typed, did_you_mean};

use cli::Registered;
pub use node::sinks::Delivered;
pub use node::webhook::Webhook;

/// A node executable in the making: register games, then [`run`](Node::run) it.
#[derive(Default)]
pub struct Node {
    registered: Registered,
    /// The game that was registered last.
    last: Option<&'static str>,
    /// Ids of the events that functions wait for.
    listens: Vec<&'static str>,
    /// What cannot be registered, and why: said by [`Node::run`], so that a `main` stays one line.
    broken: Vec<String>,
}

impl Node {
    /// Without games.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a game under its own name. The first one by name is what a first run, the demo and
    /// `match create` play unless told otherwise.
    #[must_use]
    pub fn game<G: Game>(mut self) -> Self {
        self.last = Some(G::NAME);
        match Typed::<G>::new() {
            Ok(game) => self.registered.games.insert(Arc::new(game)),
            Err(error) => self.broken.push(error.to_string()),
        }
        self
    }

    /// Registers a game that is not made with [`Game`].
    #[must_use]
    pub fn game_type(mut self, game: Arc<dyn GameType>) -> Self {
        self.last = Some(game.name());
        self.registered.games.insert(game);
        self
    }

    /// Registers a kind of document: what outlives matches, such as the profiles of players. There
    /// is one collection of it in a store, which all nodes reach: games call its actions
    /// ([`rekindle_sim::Output::call`]), backends use `POST /v1/documents/KIND/call`, operators
    /// `rekindle doc`.
    #[must_use]
    pub fn document<D: Document>(mut self) -> Self {
        if self.registered.games.get(D::KIND).is_ok() {
            self.broken.push(format!(
                "RK-CLI-211: the kind of document `{0}` is called as a game, or registered twice: \
                 choose another `Document::KIND`",
                D::KIND
            ));
        }
        match Typed::<Collection<D>>::new() {
            Ok(kind) => self.registered.games.insert(Arc::new(kind)),
            Err(error) => self.broken.push(error.to_string()),
        }
        self
    }

    /// Registers a kind of job of the queue `default`. Whatever enqueues it (`rekindle jobs run`,
    /// `jobs.cron`), some node does it; see [`rekindle_jobs`].
    #[must_use]
    pub fn job(mut self, kind: Kind) -> Self {
        self.registered.kinds.push(kind);
        self
    }

    /// `function` is given the effects of this kind (what a game asks for with
    /// `Output::effect_json("result", ...)`), beside the store, which remembers them in any case.
    ///
    /// It is called until it returns `Ok`, with pauses that grow to five seconds, and each call may
    /// take ten seconds. After a crash it may be called again with what it has done already: match
    /// and id are then the same, by which whoever gets it tells. The next effect of the match waits
    /// for it, and so does the end of the match.
    ///
    /// ```no_run
    /// use rekindle_arena::Arena;
    ///
    /// fn main() -> std::process::ExitCode {
    ///     rekindle::Node::new()
    ///         .game::<Arena>()
    ///         .on_effect("result", |match_id, effect| async move {
    ///             let key = format!("{match_id}/{}.{}", effect.id.tick, effect.id.ordinal);
    ///             let text = String::from_utf8_lossy(&effect.payload).into_owned();
    ///             std::fs::write(key.replace('/', "-"), text).map_err(|error| error.to_string())
    ///         })
    ///         .run()
    /// }
    /// ```
    #[must_use]
    pub fn on_effect<F, R>(mut self, kind: &str, function: F) -> Self
    where
        F: Fn(MatchId, Effect) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.registered.sinks.add(kind, function);
        self
    }

    /// `function` is given each `E` that a game [publishes](rekindle_sim::Output::publish) and
    /// declares with [`delivers`](rekindle_sim::GameBuilder::delivers), once its tick is durable.
    ///
    /// It is called as one of [`Node::on_effect`], for such an event is an effect: until it returns
    /// `Ok`, in the order of each match, and after a crash perhaps again, with the same match and
    /// id.
    ///
    /// ```no_run
    /// use rekindle_sim::{Event, PlayerId};
    ///
    /// #[derive(Clone, Event)]
    /// #[event(id = "kill")] // the game: game.delivers::<Kill>()
    /// struct Kill {
    ///     killer: PlayerId,
    /// }
    ///
    /// # fn main() -> std::process::ExitCode {
    /// # let node = rekindle::Node::new();
    /// node.on_event::<Kill, _, _>(|kill| async move {
    ///     let (match_id, id, killer) = (kill.match_id, kill.id, kill.event.killer);
    ///     let line = format!("{match_id} {}.{} {killer}", id.tick, id.ordinal);
    ///     std::fs::write("last-kill", line).map_err(|error| error.to_string())
    /// })
    /// # .run()
    /// # }
    /// ```
    #[must_use]
    pub fn on_event<E, F, R>(mut self, function: F) -> Self
    where
        E: Event,
        F: Fn(Delivered<E>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.registered.sinks.add_event::<E, F, R>(function);
        self.listens.push(E::ID);
        self
    }

    /// Effects are posted to an address of the studio's, signed, beside the store, which remembers
    /// them in any case. See [`Webhook`] for what is sent.
    ///
    /// At least once, in the order of each match, until the receiver takes it. Neither the match
    /// nor its end waits for that: what is still to be posted is in the store, where another node
    /// finds it if this one dies. All nodes of a cluster register the same webhooks.
    ///
    /// ```no_run
    /// use rekindle_arena::Arena;
    ///
    /// fn main() -> std::process::ExitCode {
    ///     let secret = std::env::var("RESULTS_SECRET").unwrap_or_default();
    ///     let results = rekindle::Webhook::new("results", "https://example.com/r", &secret);
    ///     rekindle::Node::new()
    ///         .game::<Arena>()
    ///         .webhook(results.map(|webhook| webhook.kinds(["result"])))
    ///         .run()
    /// }
    /// ```
    #[must_use]
    pub fn webhook(mut self, webhook: Result<Webhook, String>) -> Self {
        let known = &mut self.registered.sinks.webhooks;
        let named = webhook.and_then(|new| {
            let reserved = new.name == node::webhook::CONFIGURED;
            if reserved || known.iter().any(|known| known.name == new.name) {
                let name = &new.name;
                return Err(format!(
                    "a webhook is called `{name}` already: give each its own name"
                ));
            }
            known.push(new);
            Ok(())
        });
        self.broken.extend(named.err().map(|why| format!("RK-CLI-240: {why}")));
        self
    }

    /// What functions of the executable wait for and no game delivers.
    fn never_delivered(&self) -> Vec<String> {
        let games = &self.registered.games;
        let games: Vec<_> = games.names().filter_map(|name| games.get(name).ok()).collect();
        let delivered = |kind: &str| games.iter().any(|game| game.payloads().delivers(kind));
        let near =
            |kind: &str| did_you_mean(kind, games.iter().flat_map(|game| game.payloads().kinds()));
        let missing = self.listens.iter().filter(|kind| !delivered(kind));
        missing
            .map(|kind| {
                format!(
                    "RK-CLI-233: `on_event` waits for `{kind}`, which no registered game \
                     delivers{}: declare it in the game with `game.delivers::<…>()`",
                    near(kind)
                )
            })
            .collect()
    }

    /// Configures the matches of the game registered last that a first run and the demo play.
    /// Without it they have the game's defaults. In the demo a match that ends is followed by
    /// another one; a first run has one match, so a game whose matches are soon over plays round
    /// after round there.
    #[must_use]
    pub fn showcase(mut self, config: serde_json::Value) -> Self {
        match self.last {
            Some(game) => drop(self.registered.showcases.insert(game.to_owned(), config)),
            None => self.broken.push(
                "RK-CLI-210: `showcase` configures the game registered last, and none is \
                 registered yet: call it behind `game`"
                    .to_owned(),
            ),
        }
        self
    }

    /// Reads the command line and does what it asks for. The only thing that a `main` needs to
    /// call.
    pub fn run(mut self) -> ExitCode {
        // An error means that a provider is installed already: then TLS is set up.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        self.broken.extend(self.never_delivered());
        if self.broken.is_empty() {
            return cli::run(self.registered);
        }
        for error in self.broken {
            output::error(&error);
        }
        telemetry::flush();
        exit::Exit::Failed.into()
    }
}
