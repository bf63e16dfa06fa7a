//! The commands. [`run`] reads the command line, loads the configuration and calls the one function that does what was asked; each subcommand
//! has its own file.

pub mod args;
pub mod exit;

mod access;
mod audit;
pub(crate) mod bots;
mod config;
mod doctor;
mod jobs;
mod matches;
mod offline;
mod pins;
mod region;
mod start;
mod store;
mod ticket;
mod watch;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use rekindle_actors::Games;
use rekindle_actors::jobs::Kind;
use serde::Serialize;

use crate::admin::client::AdminClient;
use crate::config::{Config, Settings, Sources};
use crate::node::card::NodeCard;
use crate::{demo, telemetry};
use args::{Cli, Command, Common, MatchCommand};
use exit::{Exit, Failure};

/// Does what the command line asks for. `games` are those that this executable knows, `showcase` configures the match of a first run.
pub fn run(games: Games, kinds: Vec<Kind>, showcase: serde_json::Value) -> ExitCode {
    let Cli { common, command } = Cli::parse();
    let json = common.json;
    let exit = Context::load(common, command.as_ref(), games, kinds, showcase).and_then(|context| {
        telemetry::init_logs(context.config.log_format, &context.config.log_filter);
        match command {
            None => start::first_run(&context),
            Some(Command::Start { until_stdin_closes, .. }) => start::start(&context, until_stdin_closes),
            Some(Command::Demo(args)) => demo::run(&context, &args),
            Some(Command::Watch { prefix, seconds }) => watch::run(&context, prefix.as_deref(), seconds),
            Some(Command::Bots(args)) => bots::run(&context, &args),
            Some(Command::Match { command: MatchCommand::Pin(args) }) => pins::pin(&context, &args),
            Some(Command::Match { command: MatchCommand::Unpin { prefix } }) => pins::unpin(&context, &prefix),
            Some(Command::Match { command: MatchCommand::Pins }) => pins::list(&context),
            Some(Command::Match { command }) => matches::run(&context, command),
            Some(Command::Jobs { command }) => jobs::run(&context, command),
            Some(Command::Audit(args)) => audit::run(&context, &args),
            Some(Command::Drain) => matches::drain(&context),
            Some(Command::Journal { prefix, from, to, since, until }) => offline::journal(&context, &prefix, (from, to), (since, until)),
            Some(Command::Verify { dir }) => offline::verify(&context, dir),
            Some(Command::Store { command }) => store::run(&context, command),
            Some(Command::Doctor) => doctor::run(&context),
            Some(Command::Replay { prefix, to, at }) => offline::replay(&context, &prefix, to, at),
            Some(Command::Region { command }) => region::run(&context, &command),
            Some(Command::Ticket { command }) => ticket::run(&context, &command),
            Some(Command::Config { command }) => config::run(&context, &command),
        }
    });
    let code = match exit {
        Ok(exit) => exit,
        Err(failure) => {
            if json {
                // Not written directly: a node that fails must end, whether or not somebody reads why.
                telemetry::STDOUT.line(&serde_json::json!({ "error": failure.message, "exit": failure.exit as u8 }).to_string());
            }
            telemetry::STDERR.line(&format!("error: {}", failure.message));
            failure.exit
        }
    };
    telemetry::flush();
    code.into()
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
            env: std::env::vars().collect(),
            flags: flags(&common, command)?,
        };
        let wrong = |error: crate::config::ConfigError| Failure::new(Exit::Usage, error.to_string());
        let settings = Settings::load(&sources).map_err(wrong)?;
        let config = Config::from_settings(&settings).map_err(wrong)?;
        Ok(Self { common, settings, config, games, kinds, showcase })
    }

    /// Prints what a command answers: `human` lines, or one line of JSON if asked for.
    pub fn answer(&self, value: &impl Serialize, human: impl FnOnce() -> String) -> Result<(), Failure> {
        say(&if self.common.json { serde_json::to_string(value)? } else { human() });
        Ok(())
    }

    /// The running node to ask: the one of `--admin`, else the one whose card lies in the data directory.
    pub fn node(&self) -> Result<AdminClient, Failure> {
        let token = self.config.admin_token.clone();
        if self.common.admin.is_some() {
            return Ok(AdminClient::new(self.config.admin_listen, token));
        }
        Ok(AdminClient::new(self.card()?.admin, token))
    }

    /// The card of the node that runs on the data directory.
    pub fn card(&self) -> Result<NodeCard, Failure> {
        let dir = &self.config.data_dir;
        NodeCard::read(dir).filter(NodeCard::is_alive).ok_or_else(|| {
            let message = format!("RK-CLI-001: no node runs on {}; start one with `rekindle`, or name one with --admin", dir.display());
            Failure::new(Exit::NoNode, message)
        })
    }
}

/// Prints a line to standard output. A reader that has gone (`| head`) is no fault.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// What a command sets unless somebody says otherwise.
fn implied(command: Option<&Command>) -> Vec<(String, String, String)> {
    let set = |label: &str, key: &str, value: &str| (label.to_owned(), key.to_owned(), value.to_owned());
    match command {
        None => vec![set("first run", "dev", "true"), set("first run", "log.filter", "warn")],
        // `config` shows what `start` would run with.
        Some(Command::Start { .. } | Command::Config { .. }) => Vec::new(),
        Some(_) => vec![set("command", "log.filter", "warn")],
    }
}

fn flags(common: &Common, command: Option<&Command>) -> Result<Vec<(String, String, String)>, Failure> {
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
        flags.extend(set.map(|(_, flag, key)| (flag.to_owned(), key.to_owned(), "true".to_owned())));
    }
    for pair in &common.set {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Failure::new(Exit::Usage, format!("RK-CLI-002: --set {pair}: expected KEY=VALUE, such as --set shards=4")));
        };
        flags.push(("--set".to_owned(), key.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(flags)
}

/// Runs a command that waits for others: one thread is enough.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
