//! Configuration: [`keys`] has the table of keys, [`layers`] loads text values with their origins,
//! [`Config`] is the typed result that the rest of the node reads. Everything is checked here,
//! before anything is opened.

pub mod check;
pub mod cluster;
pub mod edge;
mod effects;
pub mod jobs;
pub mod keys;
pub mod layers;
mod links;
pub mod lobbies;
pub mod retention;
pub mod secret;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use rekindle_actors::{OnStall, Output, Overload};
use rekindle_cluster::retention::Policy;
use rekindle_store_open::address::{AddressError, StoreAddress};

pub use layers::{ConfigError, Origin, Settings, Sources};
pub use secret::Secret;

use crate::node::webhook::Webhook;

/// The fewest characters of an admin token that can be tried from elsewhere than this host.
const MIN_TOKEN: usize = 16;

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
    /// Clients from one address.
    pub connections_per_address: usize,
    /// Clients with tickets of one player.
    pub connections_per_player: usize,
    /// Of the connections, those only for sessions that go on.
    pub reserve: usize,
    /// Spectators.
    pub spectators: usize,
    /// Bytes a second in the snapshots of one client; none: unbounded.
    pub snapshot_bytes: Option<u32>,
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
    pub store: StoreAddress,
    /// How long a start waits for a store that does not answer.
    pub store_wait: Duration,
    /// UDP address for players.
    pub listen: SocketAddr,
    /// Where players reach it from elsewhere, if not at `listen`.
    pub public: Option<SocketAddr>,
    /// Where effects of games are posted, besides what the executable registers.
    pub webhook: Option<Webhook>,
    /// Browsers.
    pub edge: edge::Edge,
    /// Address of the admin HTTP listener.
    pub admin_listen: SocketAddr,
    /// Connections of the admin listener.
    pub admin_connections: usize,
    /// What admin requests must carry.
    pub admin_token: Option<Secret>,
    /// Other nodes.
    pub cluster: cluster::Cluster,
    /// Seals the keys of the cluster.
    pub cluster_secret: Option<Secret>,
    /// Tickets for whoever asks.
    pub dev: bool,
    /// Name of this node.
    pub node_name: String,
    /// An operator has said so; if not, it is the usual one.
    pub node_name_is_set: bool,
    /// Where it runs.
    pub node_region: String,
    /// When a tick leaves the node.
    pub output: Output,
    /// What a match does when the store is slow.
    pub on_stall: OnStall,
    /// Ticks that a match which is behind makes back to back, at least 1.
    pub catch_up: u32,
    /// When matches of a thread with too much to do are slowed.
    pub overload: Overload,
    /// How much of matches is kept, and for how long.
    pub retention: Policy,
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
    /// Matches that clients may have made for them.
    pub lobbies: Vec<lobbies::Mode>,
    /// Work in the background.
    pub jobs: jobs::Jobs,
    /// For how long it is remembered what operators did; `None`: for ever.
    pub audit_keep: Option<Duration>,
    /// Where backups by schedule go, and how many are kept there.
    pub backup: Option<(PathBuf, usize)>,
    /// How long a match waits for a player who is away.
    pub session_timeout: Duration,
    /// A tick that takes longer ends the process; zero: never.
    pub watchdog: Duration,
    /// Processes in a row that may die of replaying a match before it is parked.
    pub recovery_attempts: u32,
    /// A recovered match that ran this long has recovered.
    pub healthy_after: Duration,
    /// CPU time per core that recovering all matches may cost.
    pub recovery_budget: Duration,
    /// How long a recovered match waits for its sessions.
    pub resume_grace: Duration,
    /// Threads that tick matches, at least 1.
    pub shards: usize,
    /// Threads that work on one match at a time, in its parallel queries: at least 1.
    pub match_threads: usize,
    /// How log events are written.
    pub log_format: LogFormat,
    /// Which log events are written.
    pub log_filter: String,
}

impl Config {
    /// The same, of a node that has this name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { node_name: name.to_owned(), ..self }
    }

    /// Gives the values types and checks that they go together.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        times(settings)?;
        let data_dir = directory(settings, "data_dir")?;
        let listen = parse(settings, "listen", "an address like 127.0.0.1:7777")?;
        let config = Self {
            store: store(settings, &data_dir)?,
            store_wait: Duration::from_secs(parse(settings, "store_wait_s", "seconds")?),
            listen,
            webhook: effects::webhook(settings)?,
            edge: edge::load(settings, listen)?,
            public: match text(settings, "public") {
                address if address.is_empty() => None,
                _ => Some(public(settings)?),
            },
            admin_listen: parse(settings, "admin.listen", "an address like 127.0.0.1:7780")?,
            admin_connections: at_least_one(settings, "admin.connections")?,
            admin_token: Some(text(settings, "admin.token"))
                .filter(|token| !token.is_empty())
                .map(Secret::new),
            cluster: cluster::load(settings)?,
            cluster_secret: Some(text(settings, "cluster.secret"))
                .filter(|secret| !secret.is_empty())
                .map(Secret::new),
            dev: parse(settings, "dev", "true or false")?,
            node_name: name(settings, "node.name")?,
            node_name_is_set: settings.is_set("node.name"),
            node_region: name(settings, "node.region")?,
            output: output(settings),
            on_stall: on_stall(settings),
            catch_up: at_least_one(settings, "overload.catch_up")?,
            overload: overload(settings)?,
            retention: retention::policy(settings)?,
            accept_build: parse(settings, "accept_build", "true or false")?,
            beat_every: at_least_one(settings, "beat_every")?,
            checkpoint_every: Duration::from_secs(at_least_one(settings, "checkpoint.every_s")?),
            checkpoint_chain: checkpoint_chain(settings)?,
            limits: limits(settings)?,
            lobbies: lobbies::modes(settings)?,
            jobs: jobs::load(settings)?,
            backup: backup(settings)?,
            audit_keep: Some(parse(settings, "audit.keep_days", "days")?)
                .filter(|&days| days > 0)
                .map(jobs::days),
            session_timeout: millis(settings, "session_timeout_ms")?,
            watchdog: millis(settings, "watchdog_ms")?,
            recovery_attempts: at_least_one(settings, "recovery.attempts")?,
            healthy_after: millis(settings, "recovery.healthy_ms")?,
            recovery_budget: millis(settings, "checkpoint.budget_ms")?,
            resume_grace: millis(settings, "resume_grace_ms")?,
            shards: match parse(settings, "shards", "a whole number")? {
                0 => std::thread::available_parallelism().map_or(1, usize::from),
                count => count,
            },
            match_threads: match parse(settings, "match_threads", "a whole number")? {
                count @ 1..=256 => count,
                _ => return Err(bad(settings, "match_threads", "a whole number, 1 to 256")),
            },
            log_format: log_format(settings),
            log_filter: log_filter(settings)?,
            data_dir,
        };
        config.check_together()?;
        Ok(config)
    }

    fn check_together(&self) -> Result<(), ConfigError> {
        if !self.admin_listen.ip().is_loopback() && self.admin_token.is_none() {
            return Err(ConfigError::Conflict(format!(
                "admin.listen = {} is not loopback and admin.token is not set: anyone who reaches \
                 it could stop matches; \
                 set admin.token or use 127.0.0.1",
                self.admin_listen
            )));
        }
        let short = self
            .admin_token
            .as_ref()
            .is_some_and(|token| token.reveal().chars().count() < MIN_TOKEN);
        if !self.admin_listen.ip().is_loopback() && short {
            return Err(ConfigError::Conflict(format!(
                "admin.listen = {} is not loopback and admin.token has fewer than {MIN_TOKEN} \
                 characters: whoever guesses it could stop \
                 matches; take a random one, as `openssl rand -hex 32` prints it",
                self.admin_listen
            )));
        }
        let secret = self.cluster_secret.as_ref();
        if secret.is_some_and(|secret| secret.reveal().chars().count() < MIN_TOKEN) {
            return Err(ConfigError::Conflict(format!(
                "cluster.secret has fewer than {MIN_TOKEN} characters: whoever guesses it has the \
                 keys of the cluster; take a random one, as `openssl rand -hex 32` prints it"
            )));
        }
        let Limits { connections, reserve, spectators, .. } = self.limits;
        if reserve >= connections || spectators > connections {
            return Err(ConfigError::Conflict(format!(
                "limits.reserve = {reserve} must be less than limits.connections = {connections}, \
                 limits.spectators = {spectators} no more"
            )));
        }
        if self.dev && !(self.listen.ip().is_loopback() && self.admin_listen.ip().is_loopback()) {
            return Err(ConfigError::Conflict(format!(
                "dev = true hands out tickets to whoever asks, so listen ({}) and admin.listen \
                 ({}) must be loopback; \
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

fn output(settings: &Settings) -> Output {
    if text(settings, "output") == "durable" { Output::Durable } else { Output::Immediate }
}

fn on_stall(settings: &Settings) -> OnStall {
    if text(settings, "on_stall") == "pause" { OnStall::Pause } else { OnStall::Degrade }
}

/// When matches are slowed.
fn overload(settings: &Settings) -> Result<Overload, ConfigError> {
    let late_s = parse(settings, "overload.slow_after_s", "seconds")?;
    Ok(Overload::after(late_s, at_least_one(settings, "overload.calm_s")?))
}

/// How many deltas stand on a full checkpoint; 0: all are full.
fn checkpoint_chain(settings: &Settings) -> Result<u32, ConfigError> {
    if parse(settings, "checkpoint.incremental", "true or false")? {
        at_least_one(settings, "checkpoint.chain")
    } else {
        Ok(0)
    }
}

/// Where backups go and how many are kept, if there is a place.
fn backup(settings: &Settings) -> Result<Option<(PathBuf, usize)>, ConfigError> {
    if text(settings, "backup.dir").is_empty() {
        return Ok(None);
    }
    Ok(Some((directory(settings, "backup.dir")?, at_least_one(settings, "backup.keep")?)))
}

fn millis(settings: &Settings, key: &str) -> Result<Duration, ConfigError> {
    Ok(Duration::from_millis(parse(settings, key, "milliseconds")?))
}

fn log_format(settings: &Settings) -> LogFormat {
    match text(settings, "log.format").as_str() {
        "human" => LogFormat::Human,
        "json" => LogFormat::Json,
        _ => LogFormat::Auto,
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
    ConfigError::BadValue {
        key: name.to_owned(),
        value: layers::shown(name, value),
        origin: origin.clone(),
        expected: expected.to_owned(),
    }
}

fn parse<T: FromStr>(settings: &Settings, name: &str, expected: &str) -> Result<T, ConfigError> {
    raw(settings, name).0.parse().map_err(|_| bad(settings, name, expected))
}

fn at_least_one<T: FromStr + PartialOrd + From<u8>>(
    settings: &Settings,
    name: &str,
) -> Result<T, ConfigError> {
    let value: T = parse(settings, name, "a whole number")?;
    if value >= T::from(1) {
        Ok(value)
    } else {
        Err(bad(settings, name, "a whole number, at least 1"))
    }
}

/// The longest time that a key may ask for, in seconds: ten years. Longer ones cannot be added to a
/// clock.
const LONGEST_S: u64 = 3_650 * 86_400;

/// Refuses times that no clock can count.
fn times(settings: &Settings) -> Result<(), ConfigError> {
    for key in keys::KEYS.iter().filter(|key| key.kind == keys::Kind::Number) {
        let most = match key.name.rsplit('_').next() {
            Some("ms") => LONGEST_S * 1_000,
            Some("s") => LONGEST_S,
            Some("days") => LONGEST_S / 86_400,
            _ => continue,
        };
        if parse::<u64>(settings, key.name, "a whole number")? > most {
            return Err(bad(settings, key.name, &format!("at most {most}, which is ten years")));
        }
    }
    Ok(())
}

/// A directory's path: some text, and no URL.
fn directory(settings: &Settings, name: &str) -> Result<PathBuf, ConfigError> {
    let dir = text(settings, name);
    if dir.trim().is_empty() || dir.contains("://") || dir.contains('\0') {
        return Err(bad(settings, name, "the path of a directory"));
    }
    Ok(PathBuf::from(dir))
}

fn public(settings: &Settings) -> Result<SocketAddr, ConfigError> {
    let expected = "an address that others can dial, like 203.0.113.7:7777";
    let address: SocketAddr = parse(settings, "public", expected)?;
    if address.ip().is_unspecified() || address.port() == 0 {
        Err(bad(settings, "public", expected))
    } else {
        Ok(address)
    }
}

fn limits(settings: &Settings) -> Result<Limits, ConfigError> {
    let connections: usize = at_least_one(settings, "limits.connections")?;
    // Zero stands for the usual share.
    let or = |name: &str, usual: usize| -> Result<usize, ConfigError> {
        let set = parse(settings, name, "a whole number")?;
        Ok(if set == 0 { usual } else { set })
    };
    Ok(Limits {
        connections,
        connections_per_address: or("limits.connections_per_address", connections.div_ceil(2))?,
        connections_per_player: at_least_one(settings, "limits.connections_per_player")?,
        reserve: or("limits.reserve", connections / 8)?,
        spectators: or("limits.spectators", connections.div_ceil(4))?,
        snapshot_bytes: snapshot_bytes(settings)?,
        datagrams: at_least_one(settings, "limits.datagrams")?,
        handshakes: at_least_one(settings, "limits.handshakes")?,
        handshakes_per_source: at_least_one(settings, "limits.handshakes_per_source")?,
        matches: at_least_one(settings, "limits.matches")?,
    })
}

/// Below this many bytes a second the heads of snapshots alone take all.
const MIN_SNAPSHOT_BYTES: u32 = 1500;

fn snapshot_bytes(settings: &Settings) -> Result<Option<u32>, ConfigError> {
    let (name, expected) = ("limits.snapshot_bytes", "0 (unbounded), or 1500 or more");
    match parse(settings, name, expected)? {
        0 => Ok(None),
        some if some >= MIN_SNAPSHOT_BYTES => Ok(Some(some)),
        _ => Err(bad(settings, name, expected)),
    }
}

fn store(settings: &Settings, data_dir: &Path) -> Result<StoreAddress, ConfigError> {
    let (value, origin) = raw(settings, "store");
    let refuse = |error: AddressError| ConfigError::BadValue {
        key: "store".to_owned(),
        value: error.shown,
        origin: origin.clone(),
        expected: error.expected,
    };
    let address = StoreAddress::parse(value, data_dir).map_err(refuse)?;
    let (password, file) =
        (text(settings, "store_password"), text(settings, "store_password_file"));
    let password = match (password.is_empty(), file.is_empty()) {
        (true, true) => return Ok(address),
        (false, true) => password,
        (true, false) => password_from(Path::new(&file))?,
        (false, false) => {
            let message = "store_password and store_password_file are both set: keep the password \
                in one place";
            return Err(ConfigError::Conflict(message.to_owned()));
        }
    };
    address.with_password(&password).map_err(refuse)
}

/// The first line of a file that holds a password.
pub fn password_from(path: &Path) -> Result<String, ConfigError> {
    let unreadable =
        |cause: String| ConfigError::Unreadable { path: path.display().to_string(), cause };
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    match text.lines().next().map(str::trim_end) {
        Some(password) if !password.is_empty() => Ok(password.to_owned()),
        _ => Err(unreadable("its first line should be a password, and is empty".to_owned())),
    }
}

/// Whether a text may be the name of a node or a region.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn name(settings: &Settings, key: &str) -> Result<String, ConfigError> {
    let name = text(settings, key);
    if is_name(&name) {
        Ok(name)
    } else {
        Err(bad(settings, key, "1 to 63 letters, digits, `-`, `_` or `.`"))
    }
}

fn log_filter(settings: &Settings) -> Result<String, ConfigError> {
    let filter = text(settings, "log.filter");
    let expected = "levels like `info` or `warn,rekindle_gateway=debug`";
    if tracing_subscriber::EnvFilter::try_new(&filter).is_err() {
        return Err(bad(settings, "log.filter", expected));
    }
    let words = || filter.split(',').map(str::trim).filter(|word| !word.is_empty());
    // `warning` alone is a filter for a part of the program with that name, of which there is none.
    let is_level = |word: &str| {
        LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level))
            || matches!(word, "1" | "2" | "3" | "4" | "5")
    };
    for word in words()
        .filter(|word| !is_level(word) && word.bytes().all(|byte| byte.is_ascii_alphabetic()))
    {
        if let Some(meant) = keys::nearest(&word.to_ascii_lowercase(), LEVELS.iter().copied()) {
            return Err(bad(
                settings,
                "log.filter",
                &format!("{expected}; `{word}` is no level, did you mean `{meant}`?"),
            ));
        }
    }
    let speaks = |word: &str| {
        let (target, level) = word.split_once('=').unwrap_or(if is_level(word) {
            ("", word)
        } else {
            (word, "trace")
        });
        (target.is_empty() || target.starts_with("rekindle"))
            && !matches!(level.to_ascii_lowercase().as_str(), "off" | "0")
    };
    if words().any(speaks) {
        return Ok(filter);
    }
    Err(bad(
        settings,
        "log.filter",
        &format!(
            "{expected}; this one lets no event of the node through, not even why it ends: use \
             `error`"
        ),
    ))
}

/// Levels of log events.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

#[cfg(test)]
mod tests {
    use super::*;

    fn with(flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let flags = flags
            .iter()
            .map(|(key, value)| ("--set".to_owned(), (*key).to_owned(), (*value).to_owned()))
            .collect();
        let file = Some(PathBuf::from("/dev/null"));
        Config::from_settings(&Settings::load(&Sources { file, flags, ..Sources::default() })?)
    }

    #[test]
    fn a_cluster_secret_is_long_and_shown_to_nobody() {
        let error = with(&[("cluster.secret", "s3cret")]).unwrap_err().to_string();
        assert!(error.contains("cluster.secret") && !error.contains("s3cret"), "{error}");
        assert_eq!(with(&[]).unwrap().cluster_secret, None);
        let config = with(&[("cluster.secret", "a-s3cret-of-some-length")]).unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
        assert_eq!(config.cluster_secret.unwrap().reveal(), "a-s3cret-of-some-length");
    }

    #[test]
    fn the_defaults_are_a_valid_configuration() {
        let config = with(&[]).unwrap();
        assert_eq!(config.store, StoreAddress::Local(PathBuf::from("./rekindle-data")));
        assert!(config.shards >= 1);
        assert_eq!(config.output, Output::Durable);
    }

    #[test]
    fn an_open_admin_listener_needs_a_token() {
        let error = with(&[("admin.listen", "0.0.0.0:7780")]).unwrap_err().to_string();
        assert!(error.contains("set admin.token"), "{error}");
        let config =
            with(&[("admin.listen", "0.0.0.0:7780"), ("admin.token", "a-s3cret-of-some-length")])
                .unwrap();
        assert!(
            !format!("{config:?}").contains("a-s3cret-of-some-length")
                && config.admin_token.unwrap().reveal() == "a-s3cret-of-some-length"
        );
        let error = with(&[("admin.listen", "0.0.0.0:7780"), ("admin.token", "x")])
            .unwrap_err()
            .to_string();
        assert!(error.contains("fewer than 16 characters"), "{error}");
        assert!(
            with(&[("admin.listen", "0.0.0.0:7780"), ("admin.token", "0123456789abcdef")]).is_ok()
        );
        assert!(with(&[("admin.token", "x")]).is_ok(), "only this host can try it");
        let error = with(&[("dev", "true"), ("listen", "0.0.0.0:7777")]).unwrap_err().to_string();
        assert!(error.contains("must be loopback"), "{error}");
    }

    #[test]
    fn strangers_pages_and_guests_are_welcome_on_loopback_only() {
        let edge = |flags: &[(&str, &str)]| with(flags).map(|config| config.edge);
        let near = edge(&[]).unwrap();
        assert!(near.guests && near.origins.allow(Some("https://a"), "b"));
        let far = edge(&[("listen", "0.0.0.0:7777")]).unwrap();
        assert!(!far.guests && !far.origins.allow(Some("https://a"), "a"));
        let far = edge(&[("edge.web", "0.0.0.0:7777")]).unwrap();
        assert!(!far.guests && !far.origins.allow(Some("https://a"), "a"));
        let flags = [("listen", "0.0.0.0:7777"), ("edge.origins", "self"), ("edge.guests", "true")];
        let asked = edge(&flags).unwrap();
        assert!(asked.guests && asked.origins.allow(Some("https://a"), "a"));
        assert_eq!(edge(&[("edge.web", "off")]).unwrap().web, edge::WebListen::Off);
        for (key, value) in [
            ("edge.web", "here"),
            ("edge.origins", "example"),
            ("edge.guests", "maybe"),
            ("edge.connections", "0"),
            ("edge.threads", "257"),
            ("match_threads", "0"),
            ("match_threads", "257"),
            ("edge.certificate", "only.pem"),
        ] {
            let error = with(&[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn nodes_speak_plainly_on_loopback_only() {
        let tls = |ca: &'static str, cert: &'static str, key: &'static str| {
            [("cluster.tls.ca", ca), ("cluster.tls.cert", cert), ("cluster.tls.key", key)]
        };
        let far = ("cluster.listen", "10.0.0.1:7790");
        let anywhere = ("cluster.listen", "0.0.0.0:7790");
        let public = ("cluster.public", "10.0.0.1:7790");
        for (flags, words) in [
            (vec![far], "RK-CONFIG-150"),
            (vec![far], "rekindle ca init"),
            (vec![anywhere, public], "RK-CONFIG-150"),
            (tls("a", "b", "").to_vec(), "RK-CONFIG-151"),
            ([&[anywhere][..], &tls("a", "b", "c")].concat(), "RK-CONFIG-152"),
            (vec![("cluster.join", "a:1,b")], "cluster.join"),
            (vec![("cluster.join", "a:0")], "cluster.join"),
            (vec![("cluster.public", "0.0.0.0:1")], "cluster.public"),
            (vec![("cluster.listen", "here")], "cluster.listen"),
        ] {
            let error = with(&flags).unwrap_err().to_string();
            assert!(error.contains(words), "{flags:?}: {error}");
        }
        let config = with(&[&[anywhere, public][..], &tls("a", "b", "c")].concat()).unwrap();
        assert!(config.cluster.tls.is_some());
        let config = with(&[("cluster.listen", ""), ("cluster.join", "a:1, b.example:2")]).unwrap();
        assert_eq!(config.cluster.listen, None);
        assert_eq!(config.cluster.join, ["a:1", "b.example:2"]);
        assert!(with(&[]).unwrap().cluster.listen.unwrap().ip().is_loopback());
    }

    #[test]
    fn the_bytes_of_snapshots_have_no_bound_or_one_that_holds_more_than_heads() {
        let set = |bytes| with(&[("limits.snapshot_bytes", bytes)]);
        assert_eq!(set("0").unwrap().limits.snapshot_bytes, None);
        assert_eq!(set("1500").unwrap().limits.snapshot_bytes, Some(1500));
        assert!(set("1499").unwrap_err().to_string().contains("0 (unbounded), or 1500 or more"));
    }

    #[test]
    fn places_are_shared_out_of_the_connections() {
        let limits = with(&[("limits.connections", "300")]).unwrap().limits;
        assert_eq!((limits.connections_per_address, limits.connections_per_player), (150, 8));
        assert_eq!((limits.reserve, limits.spectators), (37, 75));
        for wrong in [("limits.reserve", "300"), ("limits.spectators", "301")] {
            let error = with(&[("limits.connections", "300"), wrong]).unwrap_err().to_string();
            assert!(error.contains(wrong.0), "{error}");
        }
    }

    #[test]
    fn a_password_is_taken_from_where_it_is_kept_and_shown_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "s3cret\n").unwrap();
        let file = file.to_str().unwrap();
        let url = ("store", "postgres://game@db.example/rekindle");
        for secret in [("store_password", "s3cret"), ("store_password_file", file)] {
            let config = with(&[url, secret]).unwrap();
            assert_eq!(config.store.to_string(), "postgres://game:***@db.example/rekindle");
            assert!(config.store.has_password() && !format!("{config:?}").contains("s3cret"));
        }
        let wrong: [(&[(&str, &str)], &str); 4] = [
            (&[url, ("store_password_file", "/nowhere")], "cannot read /nowhere"),
            (&[url, ("store_password_file", "/dev/null")], "first line should be a password"),
            (&[url, ("store_password", "s3cret"), ("store_password_file", file)], "both set"),
            (
                &[("store", "postgres://game:s3cret@db/x"), ("store_password", "other")],
                "one password",
            ),
        ];
        for (flags, words) in wrong {
            let error = with(flags).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn values_are_checked_with_their_origin() {
        for (key, value) in [
            ("listen", "localhost"),
            ("store", "postgres:"),
            ("node.name", ""),
            ("node.name", "a b"),
            ("log.filter", "=,="),
            ("log.filter", "warning"),
            ("log.filter", "info,warning"),
            ("log.filter", "Err"),
            ("log.filter", "off"),
            ("log.filter", ""),
            ("log.filter", "quinn=debug"),
            ("data_dir", ""),
            ("data_dir", " "),
            ("data_dir", "postgres://u:s3cret@h/d"),
            ("backup.dir", "postgres://u:s3cret@h/d"),
            ("public", "0.0.0.0:7777"),
            ("public", "example.com"),
            ("checkpoint.every_s", "18446744073709551615"),
            ("session_timeout_ms", "18446744073709551615"),
            ("jobs.keep_days", "18446744073709551615"),
            ("beat_every", "0"),
            ("jobs.cron", "keep-house"),
            ("jobs.cron", "keep-house every 0s"),
            ("jobs.cron", "a every 1s; a every 2s"),
            ("jobs.lease_ms", "5"),
            ("jobs.keep_days", "0"),
        ] {
            let error = with(&[(key, value)]).unwrap_err().to_string();
            assert!(
                error.contains("RK-CONFIG-004") && error.contains(key) && error.contains("--set"),
                "{error}"
            );
            assert!(!error.contains("s3cret"), "{error}");
        }
        for filter in [
            "info",
            "WARN",
            "error",
            "3",
            "warn,rekindle_gateway=debug",
            "rekindle=info",
            "off,rekindle_actors=info",
            "info,quinn=off,hyper",
        ] {
            with(&[("log.filter", filter)]).unwrap();
        }
    }
}
