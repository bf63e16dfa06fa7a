//! Configuration: [`keys`] has the table of keys, [`layers`] loads text values with their origins, [`Config`] is the typed result that the rest of
//! the node reads. Everything is checked here, before anything is opened.

pub mod keys;
pub mod layers;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use layers::{ConfigError, Origin, Settings, Sources};

/// Where durable things go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreChoice {
    /// Files in this directory.
    Local(PathBuf),
    /// Nowhere: gone with the process.
    Memory,
}

/// When a tick leaves the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Once it is durable.
    Durable,
    /// At once, marked with the durable tick.
    Immediate,
}

/// What a match does when its durable tick is too far behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStall {
    /// It waits.
    Pause,
    /// It runs on, marked as degraded.
    Run,
}

/// How much of the journal is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// What recovery needs.
    Recovery,
    /// All of it.
    All,
}

/// How log events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Bounds of what strangers and operators can ask for: the keys under `limits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open client connections.
    pub connections: usize,
    /// Datagrams a second of one client.
    pub datagrams: u32,
    /// New connections a second.
    pub handshakes: u32,
    /// New connections a second from one address.
    pub handshakes_per_source: u32,
    /// Matches that run at once.
    pub matches: usize,
}

/// A checked configuration. The fields are the keys of [`keys::KEYS`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Where keys, certificate and `node.json` are.
    pub data_dir: PathBuf,
    /// Where durable things go.
    pub store: StoreChoice,
    /// UDP address for players.
    pub listen: SocketAddr,
    /// Address of the admin HTTP listener.
    pub admin_listen: SocketAddr,
    /// What admin requests must carry.
    pub admin_token: Option<String>,
    /// Tickets for whoever asks.
    pub dev: bool,
    /// Name of this node.
    pub node_name: String,
    /// Where it runs.
    pub node_region: String,
    /// When a tick leaves the node.
    pub output: Output,
    /// What a match does when the store is slow.
    pub on_stall: OnStall,
    /// How much of the journal is kept.
    pub retention: Retention,
    /// Resume matches of another build.
    pub accept_build: bool,
    /// Ticks between hash beats, at least 1.
    pub beat_every: u64,
    /// How old a checkpoint may become.
    pub checkpoint_every: Duration,
    /// Most deltas that follow a full checkpoint; 0: full ones only.
    pub checkpoint_chain: u32,
    /// Bounds.
    pub limits: Limits,
    /// How long a match waits for a player who is away.
    pub session_timeout: Duration,
    /// A tick that takes longer ends the process; zero: never.
    pub watchdog: Duration,
    /// Recoveries in a row that may end early.
    pub recovery_attempts: u32,
    /// A recovered match that ran this long has recovered.
    pub healthy_after: Duration,
    /// CPU time per core that recovering all matches may cost.
    pub recovery_budget: Duration,
    /// How long a recovered match waits for its sessions.
    pub resume_grace: Duration,
    /// Threads that tick matches, at least 1.
    pub shards: usize,
    /// How log events are written.
    pub log_format: LogFormat,
    /// Which log events are written.
    pub log_filter: String,
}

impl Config {
    /// Gives the values types and checks that they go together.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let data_dir = PathBuf::from(text(settings, "data_dir"));
        let config = Self {
            store: store(settings, &data_dir)?,
            listen: parse(settings, "listen", "an address like 127.0.0.1:7777")?,
            admin_listen: parse(settings, "admin.listen", "an address like 127.0.0.1:7780")?,
            admin_token: Some(text(settings, "admin.token")).filter(|token| !token.is_empty()),
            dev: parse(settings, "dev", "true or false")?,
            node_name: name(settings, "node.name")?,
            node_region: name(settings, "node.region")?,
            output: if text(settings, "output") == "durable" { Output::Durable } else { Output::Immediate },
            on_stall: if text(settings, "on_stall") == "pause" { OnStall::Pause } else { OnStall::Run },
            retention: if text(settings, "journal") == "all" { Retention::All } else { Retention::Recovery },
            accept_build: parse(settings, "accept_build", "true or false")?,
            beat_every: at_least_one(settings, "beat_every")?,
            checkpoint_every: Duration::from_secs(at_least_one(settings, "checkpoint.every_s")?),
            checkpoint_chain: match parse(settings, "checkpoint.incremental", "true or false")? {
                true => at_least_one(settings, "checkpoint.chain")?,
                false => 0,
            },
            limits: Limits {
                connections: at_least_one(settings, "limits.connections")?,
                datagrams: at_least_one(settings, "limits.datagrams")?,
                handshakes: at_least_one(settings, "limits.handshakes")?,
                handshakes_per_source: at_least_one(settings, "limits.handshakes_per_source")?,
                matches: at_least_one(settings, "limits.matches")?,
            },
            session_timeout: Duration::from_millis(parse(settings, "session_timeout_ms", "milliseconds")?),
            watchdog: Duration::from_millis(parse(settings, "watchdog_ms", "milliseconds")?),
            recovery_attempts: at_least_one(settings, "recovery.attempts")?,
            healthy_after: Duration::from_millis(parse(settings, "recovery.healthy_ms", "milliseconds")?),
            recovery_budget: Duration::from_millis(parse(settings, "checkpoint.budget_ms", "milliseconds")?),
            resume_grace: Duration::from_millis(parse(settings, "resume_grace_ms", "milliseconds")?),
            shards: match parse(settings, "shards", "a whole number")? {
                0 => std::thread::available_parallelism().map_or(1, usize::from),
                count => count,
            },
            log_format: match text(settings, "log.format").as_str() {
                "human" => LogFormat::Human,
                "json" => LogFormat::Json,
                _ => LogFormat::Auto,
            },
            log_filter: log_filter(settings)?,
            data_dir,
        };
        config.check_together()?;
        Ok(config)
    }

    fn check_together(&self) -> Result<(), ConfigError> {
        if !self.admin_listen.ip().is_loopback() && self.admin_token.is_none() {
            return Err(ConfigError::Conflict(format!(
                "admin.listen = {} is not loopback and admin.token is not set: anyone who reaches it could stop matches; \
                 set admin.token or use 127.0.0.1",
                self.admin_listen
            )));
        }
        if self.dev && !(self.listen.ip().is_loopback() && self.admin_listen.ip().is_loopback()) {
            return Err(ConfigError::Conflict(format!(
                "dev = true hands out tickets to whoever asks, so listen ({}) and admin.listen ({}) must be loopback; \
                 set dev = false and issue tickets with `rekindle ticket issue`",
                self.listen, self.admin_listen
            )));
        }
        if self.shards > 1024 {
            return Err(ConfigError::Conflict(format!(
                "shards = {} is more threads than any machine has cores: at most 1024",
                self.shards
            )));
        }
        Ok(())
    }
}

fn raw<'a>(settings: &'a Settings, name: &str) -> (&'a str, &'a Origin) {
    keys::find(name).map_or(("", &Origin::Default), |key| settings.get(key))
}

fn text(settings: &Settings, name: &str) -> String {
    raw(settings, name).0.to_owned()
}

fn bad(settings: &Settings, name: &str, expected: &str) -> ConfigError {
    let (value, origin) = raw(settings, name);
    ConfigError::BadValue { key: name.to_owned(), value: value.to_owned(), origin: origin.clone(), expected: expected.to_owned() }
}

fn parse<T: FromStr>(settings: &Settings, name: &str, expected: &str) -> Result<T, ConfigError> {
    raw(settings, name).0.parse().map_err(|_| bad(settings, name, expected))
}

fn at_least_one<T: FromStr + PartialOrd + From<u8>>(settings: &Settings, name: &str) -> Result<T, ConfigError> {
    let value: T = parse(settings, name, "a whole number")?;
    if value >= T::from(1) { Ok(value) } else { Err(bad(settings, name, "a whole number, at least 1")) }
}

fn store(settings: &Settings, data_dir: &std::path::Path) -> Result<StoreChoice, ConfigError> {
    match raw(settings, "store").0 {
        "memory" => Ok(StoreChoice::Memory),
        "local" => Ok(StoreChoice::Local(data_dir.to_owned())),
        other => match other.strip_prefix("local:") {
            Some(dir) if !dir.is_empty() => Ok(StoreChoice::Local(PathBuf::from(dir))),
            _ => Err(bad(settings, "store", "`local`, `local:DIR` or `memory`")),
        },
    }
}

fn name(settings: &Settings, key: &str) -> Result<String, ConfigError> {
    let name = text(settings, key);
    let fits = (1..=63).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if fits { Ok(name) } else { Err(bad(settings, key, "1 to 63 letters, digits, `-`, `_` or `.`")) }
}

fn log_filter(settings: &Settings) -> Result<String, ConfigError> {
    let filter = text(settings, "log.filter");
    match tracing_subscriber::EnvFilter::try_new(&filter) {
        Ok(_) => Ok(filter),
        Err(_) => Err(bad(settings, "log.filter", "levels like `info` or `warn,rekindle_gateway=debug`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let flags = flags.iter().map(|(key, value)| ("--set".to_owned(), (*key).to_owned(), (*value).to_owned())).collect();
        let file = Some(PathBuf::from("/dev/null"));
        Config::from_settings(&Settings::load(&Sources { file, flags, ..Sources::default() })?)
    }

    #[test]
    fn the_defaults_are_a_valid_configuration() {
        let config = with(&[]).unwrap();
        assert_eq!(config.store, StoreChoice::Local(PathBuf::from("./rekindle-data")));
        assert!(config.shards >= 1);
        assert_eq!(config.output, Output::Durable);
    }

    #[test]
    fn an_open_admin_listener_needs_a_token() {
        let error = with(&[("admin.listen", "0.0.0.0:7780")]).unwrap_err().to_string();
        assert!(error.contains("set admin.token"), "{error}");
        assert!(with(&[("admin.listen", "0.0.0.0:7780"), ("admin.token", "s3cret")]).is_ok());
        let error = with(&[("dev", "true"), ("listen", "0.0.0.0:7777")]).unwrap_err().to_string();
        assert!(error.contains("must be loopback"), "{error}");
    }

    #[test]
    fn values_are_checked_with_their_origin() {
        for (key, value) in [
            ("listen", "localhost"),
            ("store", "postgres:"),
            ("node.name", ""),
            ("node.name", "a b"),
            ("log.filter", "=,="),
            ("beat_every", "0"),
        ] {
            let error = with(&[(key, value)]).unwrap_err().to_string();
            assert!(error.contains("RK-CONFIG-004") && error.contains(key) && error.contains("--set"), "{error}");
        }
    }
}
