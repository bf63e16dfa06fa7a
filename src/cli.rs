//! The commands. [`run`] reads the command line, loads the configuration and calls the one function
//! that does what was asked; each subcommand has its own file.

pub mod args;

mod access;
mod audit;
pub(crate) mod bots;
mod bugreport;
mod ca;
mod cluster;
mod config;
pub mod context;
mod dev;
mod doc;
mod doctor;
mod effects;
mod events;
mod game;
mod jobs;
mod journal;
mod keys;
mod loss;
mod matches;
mod new;
mod node;
mod offline;
mod pins;
mod preflight;
mod profile;
mod rebalance;
mod region;
mod shown;
pub(crate) mod start;
mod stats;
mod store;
mod ticket;
mod values;
mod watch;
mod why;
mod wish;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::FromArgMatches as _;
use rekindle_actors::Games;
use rekindle_jobs::Kind;

use crate::exit::{Exit, Failure};
use crate::node::sinks::Sinks;
use crate::node::trial;
use crate::{demo, output, telemetry, text};
use args::{Cli, Command, MatchCommand};
use context::Context;

/// What `main` registered: all that one executable has and another has not.
#[derive(Default)]
pub struct Registered {
    /// The games.
    pub games: Games,
    /// The kinds of job.
    pub kinds: Vec<Kind>,
    /// Configurations of the matches that a first run and the demo play, by game.
    pub showcases: BTreeMap<String, serde_json::Value>,
    /// What is done with effects.
    pub sinks: Sinks,
}

/// Does what the command line asks for.
pub fn run(registered: Registered) -> ExitCode {
    let names: Vec<&str> = registered.games.names().collect();
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
        return trial::process::serve(&registered.games)
            .map_or(Exit::Failed, |()| Exit::Done)
            .into();
    }
    let json = common.json;
    let exit = Context::load(common, command.as_ref(), registered).and_then(|context| {
        telemetry::init_logs(context.config.log_format, &context.config.log_filter);
        carry_out(&context, command)
    });
    let ended = exit.unwrap_or_else(|failure| {
        if json && failure.exit != Exit::ReaderGone {
            let message = text::without_credentials(&failure.message);
            // Not written directly: a node that fails must end, whether or not somebody reads why.
            output::json_milestone(
                &serde_json::json!({ "error": text::own(&message), "exit": failure.exit as u8 }),
            );
        }
        said(failure)
    });
    telemetry::flush();
    ended.into()
}

/// Calls the one function that does what was asked.
fn carry_out(context: &Context, command: Option<Command>) -> Result<Exit, Failure> {
    match command {
        None => start::first_run(context),
        Some(Command::Start { until_stdin_closes, .. }) => {
            start::start(context, until_stdin_closes)
        }
        Some(Command::TryReplay) => Ok(Exit::Done),
        Some(Command::Demo(args)) => demo::run(context, &args),
        Some(Command::New(args)) => new::run(context, &args),
        Some(Command::Dev(args)) => dev::run(context, &args),
        Some(Command::Node { command }) => node::run(context, command),
        Some(Command::Cluster { command }) => cluster::run(context, &command),
        Some(Command::Watch { prefix, seconds }) => watch::run(context, prefix.as_deref(), seconds),
        Some(Command::Bots(args)) => bots::run(context, &args),
        Some(Command::Match { command: MatchCommand::Pin(args) }) => pins::pin(context, &args),
        Some(Command::Match { command: MatchCommand::Unpin { prefix } }) => {
            pins::unpin(context, &prefix)
        }
        Some(Command::Match { command: MatchCommand::Pins }) => pins::list(context),
        Some(Command::Match { command: MatchCommand::Stats { prefix } }) => {
            stats::run(context, &prefix)
        }
        Some(Command::Match { command: MatchCommand::Values { prefix } }) => {
            values::run(context, &prefix)
        }
        Some(Command::Match { command }) => matches::run(context, command),
        Some(Command::Doc { command }) => doc::run(context, command),
        Some(Command::Effects { command }) => effects::run(context, &command),
        Some(Command::Events(args)) => events::run(context, &args),
        Some(Command::Game { command }) => game::run(context, &command),
        Some(Command::Jobs { command }) => jobs::run(context, command),
        Some(Command::Audit(args)) => audit::run(context, &args),
        Some(Command::Drain) => matches::drain(context),
        Some(Command::Journal { prefix, from, to, since, until }) => {
            journal::journal(context, &prefix, (from, to), (since, until))
        }
        Some(Command::Verify { dir }) => offline::verify(context, dir),
        Some(Command::Preflight(args)) => preflight::run(context, &args),
        Some(Command::Store { command }) => store::run(context, command),
        Some(Command::Doctor) => doctor::run(context),
        Some(Command::Replay(args)) => offline::replay(context, &args),
        Some(Command::BugReport(args)) => bugreport::run(context, &args),
        Some(Command::Why(args)) => why::run(context, &args),
        Some(Command::Keys { command }) => keys::run(context, &command),
        Some(Command::Region { command }) => region::run(context, &command),
        Some(Command::Ticket { command }) => ticket::run(context, &command),
        Some(Command::Ca { command }) => ca::run(context, &command),
        Some(Command::Config { command }) => config::run(context, &command),
    }
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
    output::written(&text::own(&if std::io::stdout().is_terminal() {
        styled.ansi().to_string()
    } else {
        styled.to_string()
    }))?;
    Ok(Exit::Done)
}
