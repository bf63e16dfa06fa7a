//! What every command works with: the settings, the games, where the running node is, and how an
//! answer is printed. Made by [`super::run`]; used by all commands and the demo.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rekindle_actors::Games;
use rekindle_admin::client::AdminClient;
use rekindle_jobs::Kind;
use rekindle_loadtest::{Brain, Move};
use serde::Serialize;

use super::Registered;
use super::args::{Command, Common, DEV_NODES};
use crate::config::{self as configuration, Config, Settings, Sources};
use crate::exit::{Exit, Failure};
use crate::inspect::reading::Reading;
use crate::node::card::NodeCard;
use crate::node::sinks::Sinks;
use crate::node::{chores, lobbies};
use crate::text::counted;
use crate::{dial, output};

/// What every command works with.
pub struct Context {
    /// The settings of the command line.
    pub common: Common,
    /// All values with their origins.
    pub settings: Settings,
    /// The checked configuration.
    pub config: Config,
    /// The games of this executable.
    pub games: Games,
    /// The kinds of job that it brings along.
    pub kinds: Vec<Kind>,
    /// What it does with effects.
    pub sinks: Sinks,
    /// Configurations of the matches that a first run and the demo play, by game.
    showcases: BTreeMap<String, serde_json::Value>,
}

impl Context {
    pub(super) fn load(
        common: Common,
        command: Option<&Command>,
        registered: Registered,
    ) -> Result<Self, Failure> {
        let sources = Sources {
            implied: implied(command),
            file: common.config.clone(),
            env: std::env::vars_os().collect(),
            flags: flags(&common, command)?,
        };
        let wrong =
            |error: configuration::ConfigError| Failure::new(Exit::Usage, error.to_string());
        let settings = Settings::load(&sources).map_err(wrong)?;
        let config = Config::from_settings(&settings).map_err(wrong)?;
        let Registered { games, kinds, showcases, sinks } = registered;
        Ok(Self { common, settings, config, games, kinds, sinks, showcases })
    }

    /// Prints what a command answers: lines for people, or one line of JSON if asked for. Whatever
    /// comes from outside may stand in a line: it stays on it and does nothing to the terminal.
    pub fn answer(
        &self,
        value: &impl Serialize,
        human: impl FnOnce() -> Vec<String>,
    ) -> Result<(), Failure> {
        if self.common.json {
            output::json(&serde_json::to_string(value)?)
        } else {
            output::answer(&human())
        }
    }

    /// Refuses what would make a start on this host fail.
    pub fn fit_to_start(&self) -> Result<(), Failure> {
        let own = self.kinds.iter().map(|kind| kind.name.as_str());
        let kinds: Vec<&str> = chores::NAMES.iter().copied().chain(own).collect();
        configuration::check::check(&self.config, &kinds)
            .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        lobbies::check(&self.config.lobbies, &self.games)
            .map_err(|problem| Failure::new(Exit::Usage, problem))
    }

    /// The game that is played when nobody says which: the first of this executable.
    pub fn first_game(&self) -> Result<&'static str, Failure> {
        self.games.names().next().ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                "RK-CLI-020: this executable has no game: register one with \
                Node::new().game::<MyGame>()",
            )
        })
    }

    /// The configuration of the match of a game that a first run and the demo play.
    pub(crate) fn showcase(&self, game: &str) -> serde_json::Value {
        self.showcases.get(game).cloned().unwrap_or_else(|| serde_json::json!({}))
    }

    /// How many players a match of the showcase takes.
    pub(crate) fn room(&self, game: &str) -> Result<usize, Failure> {
        self.room_with(game, &self.showcase(game)).map_err(|failure| {
            let why = failure.message;
            let message = format!(
                "RK-CLI-149: the showcase of this executable is no configuration of `{game}`: {why}"
            );
            Failure::new(Exit::Usage, message)
        })
    }

    /// How many players a match with this configuration takes.
    pub(crate) fn room_with(
        &self,
        game: &str,
        config: &serde_json::Value,
    ) -> Result<usize, Failure> {
        let kind = self.games.get(game)?;
        let config = kind
            .config_from_json(&config.to_string())
            .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        Ok(kind.max_players(&config))
    }

    /// How the house bots of a game play, by inputs and by commands, for bots that come over the
    /// network.
    pub(crate) fn brain(&self, game: &str) -> Result<Brain, Failure> {
        let game = self.games.get(game)?;
        Ok(Arc::new(move |player, view, config, memory| Move {
            input: game.bot(player, view, config, memory),
            command: game.bot_command(player, view, config, memory),
        }))
    }

    /// The running node to ask: the one of `--admin`, else the one whose card lies in the data
    /// directory.
    pub fn node(&self) -> Result<AdminClient, Failure> {
        let token = self.config.admin_token.as_ref().map(|token| token.reveal().to_owned());
        if self.common.admin.is_some() {
            return Ok(AdminClient::new(dial::from_here(self.config.admin_listen), token));
        }
        Ok(AdminClient::new(dial::from_here(self.card()?.admin), token))
    }

    /// The configured store, for a command that looks into it whether or not a node runs. Such a
    /// command asks no node: whoever names one by `--admin` alone is told so.
    pub fn reading(&self) -> Result<Reading, Failure> {
        self.says_that_no_node_is_asked();
        Reading::of(&self.config.store)
    }

    /// See [`Context::reading`].
    pub fn says_that_no_node_is_asked(&self) {
        if self.common.admin.is_some() && self.common.store.is_none() {
            output::note(
                "this command reads the configured store, and does not ask the node of --admin; \
                 --store names another store",
            );
        }
    }

    /// The card of the node that runs on the data directory.
    pub fn card(&self) -> Result<NodeCard, Failure> {
        let dir = &self.config.data_dir;
        NodeCard::running(dir).ok_or_else(|| {
            let next = of_dev(dir).unwrap_or_else(|| {
                "start one with `rekindle`, or name one with --admin".to_owned()
            });
            let message = format!("RK-CLI-001: no node runs on {}; {next}", dir.display());
            Failure::new(Exit::NoNode, message)
        })
    }
}

/// How the nodes are named that `rekindle dev` runs on a data directory, if it does.
fn of_dev(dir: &Path) -> Option<String> {
    let places = (1..=DEV_NODES).map(|number| dir.join(format!("n{number}")));
    let running: Vec<_> = places.filter(|place| NodeCard::running(place).is_some()).collect();
    let first = running.first()?.display();
    let nodes = counted(running.len(), "node of `rekindle dev` does", "nodes of `rekindle dev` do");
    Some(format!("{nodes}: name one with --data-dir {first}"))
}

/// What a command sets unless somebody says otherwise.
fn implied(command: Option<&Command>) -> Vec<(String, String, String)> {
    let set =
        |label: &str, key: &str, value: &str| (label.to_owned(), key.to_owned(), value.to_owned());
    match command {
        None => vec![set("first run", "dev", "true"), set("first run", "log.filter", "warn")],
        // `config` shows what `start` would run with.
        Some(Command::Start { .. } | Command::Config { .. }) => Vec::new(),
        Some(_) => vec![set("command", "log.filter", "warn")],
    }
}

fn flags(
    common: &Common,
    command: Option<&Command>,
) -> Result<Vec<(String, String, String)>, Failure> {
    let mut flags = Vec::new();
    let named = [
        ("--data-dir", "data_dir", &common.data_dir),
        ("--store", "store", &common.store),
        ("--listen", "listen", &common.listen),
        ("--admin", "admin.listen", &common.admin),
        ("--log", "log.format", &common.log),
    ];
    for (flag, key, value) in named {
        flags.extend(value.iter().map(|value| (flag.to_owned(), key.to_owned(), value.clone())));
    }
    if let Some(Command::Start { dev, accept_build, join, node, region, .. }) = command {
        let named = [
            ("--join", "cluster.join", join),
            ("--node", "node.name", node),
            ("--region", "node.region", region),
        ];
        for (flag, key, value) in named {
            flags
                .extend(value.iter().map(|value| (flag.to_owned(), key.to_owned(), value.clone())));
        }
        let set = [(dev, "--dev", "dev"), (accept_build, "--accept-build", "accept_build")];
        let set = set.into_iter().filter(|(given, ..)| **given);
        flags
            .extend(set.map(|(_, flag, key)| (flag.to_owned(), key.to_owned(), "true".to_owned())));
    }
    for pair in &common.set {
        let Some((key, value)) = pair.split_once('=') else {
            // What stands behind the key may be a secret.
            let key: String = pair
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
                .collect();
            return Err(Failure::new(
                Exit::Usage,
                format!("RK-CLI-002: --set {key}: expected KEY=VALUE, such as --set shards=4"),
            ));
        };
        flags.push(("--set".to_owned(), key.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(flags)
}

/// The configuration of a game, as it was typed.
pub(crate) fn game_config(typed: &str) -> Result<serde_json::Value, Failure> {
    serde_json::from_str(typed).map_err(|error| {
        Failure::new(Exit::Usage, format!("RK-CLI-003: --game-config is no JSON: {error}"))
    })
}

/// Runs a command that waits for others: one thread is enough.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
