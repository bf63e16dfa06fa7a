//! The commands. [`run`] reads the command line, loads the configuration and calls the one function
//! that does what was asked; each subcommand has its own file.

pub mod args;

mod access;
mod audit;
pub(crate) mod bots;
mod config;
mod doctor;
mod jobs;
mod loss;
mod matches;
mod offline;
mod pins;
mod region;
pub(crate) mod start;
mod store;
mod ticket;
mod watch;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::FromArgMatches as _;
use rekindle_actors::Games;
use rekindle_actors::jobs::Kind;
use serde::Serialize;

use crate::config::{Config, Settings, Sources};
use crate::exit::{Exit, Failure};
use crate::node::card::NodeCard;
use crate::node::{chores, trial};
use crate::{config as configuration, demo, dial, output, telemetry, text};
use args::{Cli, Command, Common, MatchCommand};
use rekindle_admin::client::AdminClient;

/// Does what the command line asks for. `games` are those that this executable knows, `showcase`
/// configures the match of a first run.
pub fn run(games: Games, kinds: Vec<Kind>, showcase: serde_json::Value) -> ExitCode {
    let names: Vec<&str> = games.names().collect();
    let parsed = args::command_line(text::program(), &names)
        .try_get_matches()
        .and_then(|typed| Cli::from_arg_matches(&typed));
    let Cli { common, command } = match parsed {
        Ok(cli) => cli,
        Err(other) => {
            let ended = not_parsed(&other).unwrap_or_else(said);
            telemetry::flush();
            return ended.into();
        }
    };
    // It has no configuration: the node that started it has one.
    if matches!(command, Some(Command::TryReplay)) {
        // An error means that the node is gone.
        return trial::serve(&games).map_or(Exit::Failed, |()| Exit::Done).into();
    }
    let json = common.json;
    let exit =
        Context::load(common, command.as_ref(), games, kinds, showcase).and_then(|context| {
            telemetry::init_logs(context.config.log_format, &context.config.log_filter);
            match command {
                None => start::first_run(&context),
                Some(Command::Start { until_stdin_closes, .. }) => {
                    start::start(&context, until_stdin_closes)
                }
                Some(Command::TryReplay) => Ok(Exit::Done),
                Some(Command::Demo(args)) => demo::run(&context, &args),
                Some(Command::Watch { prefix, seconds }) => {
                    watch::run(&context, prefix.as_deref(), seconds)
                }
                Some(Command::Bots(args)) => bots::run(&context, &args),
                Some(Command::Match { command: MatchCommand::Pin(args) }) => {
                    pins::pin(&context, &args)
                }
                Some(Command::Match { command: MatchCommand::Unpin { prefix } }) => {
                    pins::unpin(&context, &prefix)
                }
                Some(Command::Match { command: MatchCommand::Pins }) => pins::list(&context),
                Some(Command::Match { command }) => matches::run(&context, command),
                Some(Command::Jobs { command }) => jobs::run(&context, command),
                Some(Command::Audit(args)) => audit::run(&context, &args),
                Some(Command::Drain) => matches::drain(&context),
                Some(Command::Journal { prefix, from, to, since, until }) => {
                    offline::journal(&context, &prefix, (from, to), (since, until))
                }
                Some(Command::Verify { dir }) => offline::verify(&context, dir),
                Some(Command::Store { command }) => store::run(&context, command),
                Some(Command::Doctor) => doctor::run(&context),
                Some(Command::Replay { prefix, to, at }) => {
                    offline::replay(&context, &prefix, to, at)
                }
                Some(Command::Region { command }) => region::run(&context, &command),
                Some(Command::Ticket { command }) => ticket::run(&context, &command),
                Some(Command::Config { command }) => config::run(&context, &command),
            }
        });
    let ended = exit.unwrap_or_else(|failure| {
        if json && failure.exit != Exit::ReaderGone {
            let message = text::without_credentials(&failure.message);
            // Not written directly: a node that fails must end, whether or not somebody reads why.
            output::milestone(
                &serde_json::json!({ "error": text::own(&message), "exit": failure.exit as u8 })
                    .to_string(),
            );
        }
        said(failure)
    });
    telemetry::flush();
    ended.into()
}

/// Says why a command ended. A reader that has gone is told nothing.
fn said(failure: Failure) -> Exit {
    if failure.exit != Exit::ReaderGone {
        output::error(&failure.message);
    }
    failure.exit
}

/// The help, the version, or what is wrong with the command line.
fn not_parsed(other: &clap::Error) -> Result<Exit, Failure> {
    if other.use_stderr() {
        // It repeats what was typed, which may come from elsewhere or hold a password.
        let words = other.render().to_string();
        let lines = words
            .trim_end()
            .lines()
            .map(|line| text::plain(&text::without_credentials(line)).into_owned());
        output::complain(&lines.collect::<Vec<_>>().join("\n"));
        return Ok(Exit::Usage);
    }
    let styled = other.render();
    output::written(&if std::io::stdout().is_terminal() {
        styled.ansi().to_string()
    } else {
        styled.to_string()
    })?;
    Ok(Exit::Done)
}

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
    /// Configuration of the match that a first run and the demo play.
    pub showcase: serde_json::Value,
}

impl Context {
    fn load(
        common: Common,
        command: Option<&Command>,
        games: Games,
        kinds: Vec<Kind>,
        showcase: serde_json::Value,
    ) -> Result<Self, Failure> {
        let sources = Sources {
            implied: implied(command),
            file: common.config.clone(),
            env: std::env::vars_os().collect(),
            flags: flags(&common, command)?,
        };
        let wrong =
            |error: crate::config::ConfigError| Failure::new(Exit::Usage, error.to_string());
        let settings = Settings::load(&sources).map_err(wrong)?;
        let config = Config::from_settings(&settings).map_err(wrong)?;
        Ok(Self { common, settings, config, games, kinds, showcase })
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
            .map_err(|error| Failure::new(Exit::Usage, error.to_string()))
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

    /// The running node to ask: the one of `--admin`, else the one whose card lies in the data
    /// directory.
    pub fn node(&self) -> Result<AdminClient, Failure> {
        let token = self.config.admin_token.as_ref().map(|token| token.reveal().to_owned());
        if self.common.admin.is_some() {
            return Ok(AdminClient::new(dial::from_here(self.config.admin_listen), token));
        }
        Ok(AdminClient::new(dial::from_here(self.card()?.admin), token))
    }

    /// The card of the node that runs on the data directory.
    pub fn card(&self) -> Result<NodeCard, Failure> {
        let dir = &self.config.data_dir;
        NodeCard::running(dir).ok_or_else(|| {
            let message = format!(
                "RK-CLI-001: no node runs on {}; start one with `rekindle`, or \
                name one with --admin",
                dir.display()
            );
            Failure::new(Exit::NoNode, message)
        })
    }
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
    if let Some(Command::Start { dev, accept_build, .. }) = command {
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

/// Runs a command that waits for others: one thread is enough.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
