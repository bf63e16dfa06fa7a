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

use rekindle_actors::Games;
use rekindle_jobs::Kind;
use rekindle_sim::{Game, GameType, SimError, Typed};

/// A node executable in the making: register games, then [`run`](Node::run) it.
#[derive(Default)]
pub struct Node {
    games: Games,
    kinds: Vec<Kind>,
    /// Configuration of the match that a first run and the demo play.
    showcase: serde_json::Value,
    /// Games that cannot be registered, and why: said by [`Node::run`], so that a `main` stays one
    /// line.
    broken: Vec<SimError>,
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
        match Typed::<G>::new() {
            Ok(game) => self.games.insert(Arc::new(game)),
            Err(error) => self.broken.push(error),
        }
        self
    }

    /// Registers a game that is not made with [`Game`].
    #[must_use]
    pub fn game_type(mut self, game: Arc<dyn GameType>) -> Self {
        self.games.insert(game);
        self
    }

    /// Registers a kind of job of the queue `default`. Whatever enqueues it (`rekindle jobs run`,
    /// `jobs.cron`), some node does it; see [`rekindle_jobs`].
    #[must_use]
    pub fn job(mut self, kind: Kind) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Configures the match that a first run and the demo play. Without it, the game's defaults.
    #[must_use]
    pub fn showcase(mut self, config: serde_json::Value) -> Self {
        self.showcase = config;
        self
    }

    /// Reads the command line and does what it asks for. The only thing that a `main` needs to
    /// call.
    pub fn run(self) -> ExitCode {
        // An error means that a provider is installed already: then TLS is set up.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        if self.broken.is_empty() {
            let showcase =
                if self.showcase.is_null() { serde_json::json!({}) } else { self.showcase };
            return cli::run(self.games, self.kinds, showcase);
        }
        for error in self.broken {
            output::error(&error.to_string());
        }
        telemetry::flush();
        exit::Exit::Failed.into()
    }
}
