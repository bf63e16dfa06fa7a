//! The command line, as clap reads it.

mod developer;
mod doc;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use rekindle_admin::profile;
use rekindle_new::NewArgs;
use rekindle_schema::job::JobStatus;

use crate::exit;
pub use developer::{BugReportArgs, DEV_NODES, DevArgs, ReplayArgs, WhyArgs};
pub use doc::{DocCall, DocCommand, HowRead};

// None of these types is `Debug`: values on a command line may be secrets.

/// The command line of an executable that is called `program` and knows `games`.
pub fn command_line(program: &'static str, games: &[&str]) -> clap::Command {
    const ABOUT: &str = "A node for authoritative multiplayer games whose matches survive kill -9";
    let played = match games {
        [] => "Without a subcommand: a node, once this executable registers a game.".to_owned(),
        [game] => {
            format!(
                "Without a subcommand: a node on the local store in ./rekindle-data with one match \
                 of {game} and house bots in it."
            )
        }
        [game, ..] => format!(
            "Without a subcommand: a node on the local store in ./rekindle-data with one match of \
             {game} and house bots in it.\n\nGames: {}",
            games.join(", ")
        ),
    };
    let command = Cli::command().about(ABOUT).long_about(format!("{ABOUT}.\n\n{played}"));
    // The version is ours, whatever the executable is called.
    let version = if program == "rekindle" {
        env!("CARGO_PKG_VERSION")
    } else {
        concat!("with rekindle ", env!("CARGO_PKG_VERSION"))
    };
    command.name(program).bin_name(program).version(version)
}

/// What was typed.
#[derive(Parser)]
#[command(name = "rekindle", version, after_help = exit::TABLE)]
pub struct Cli {
    /// Settings that every command takes.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Settings that every command takes.
#[derive(Clone, Default, Args)]
pub struct Common {
    /// Configuration file [default: ./rekindle.toml if it exists].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Sets any configuration key: --set shards=4.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Where keys, certificate, node.json and the local store are.
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Where matches are stored: `local`, `local:DIR`, `postgres://USER@HOST/DATABASE`,
    /// `scylla://HOST,HOST/KEYSPACE` or `memory`.
    #[arg(long, global = true, value_name = "URL")]
    pub store: Option<String>,
    /// UDP address for players.
    #[arg(long, global = true, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Address of the admin HTTP listener (for clients: of the node to ask).
    #[arg(long, global = true, value_name = "ADDR")]
    pub admin: Option<String>,
    /// Log format: auto, human or json.
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log: Option<String>,
    /// Answers in JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// The subcommands.
#[derive(Subcommand)]
pub enum Command {
    /// Runs a node that serves only what it is asked for.
    Start {
        /// Hands out tickets to whoever asks; loopback only.
        #[arg(long)]
        dev: bool,
        /// Goes on with matches that another build computed otherwise, as this build computes them.
        #[arg(long)]
        accept_build: bool,
        /// Joins these nodes: HOST:PORT,HOST:PORT [default: those that the store knows].
        #[arg(long, value_name = "NODES")]
        join: Option<String>,
        /// The name of this node.
        #[arg(long, value_name = "NAME")]
        node: Option<String>,
        /// Where it runs: it takes over matches of this region only.
        #[arg(long, value_name = "REGION")]
        region: Option<String>,
        /// Ends without ado when standard input is closed: for parents that must not leave a node
        /// behind.
        #[arg(long, hide = true)]
        until_stdin_closes: bool,
    },
    /// Replays what it is given, for the node that started it.
    #[command(hide = true, name = crate::node::trial::COMMAND)]
    TryReplay,
    /// Makes a crate with a small game that runs at once, to be made into one's own.
    New(NewArgs),
    /// The show: matches full of bots, SIGKILL in mid-fight, and the verdict of the bots.
    Demo(DemoArgs),
    /// Several nodes on one store in this terminal, for developers. Ctrl-C stops all cleanly.
    Dev(DevArgs),
    /// Reads and changes documents: what outlives matches, such as the profiles of players.
    Doc {
        /// What to do.
        #[command(subcommand)]
        command: DocCommand,
    },
    /// Lists effects of matches, such as results, that were delivered.
    Effects {
        /// What to do.
        #[command(subcommand)]
        command: EffectsCommand,
    },
    /// Shows what the games of this executable are made of.
    Game {
        /// What to do.
        #[command(subcommand)]
        command: GameCommand,
    },
    /// Lists and shows the nodes that share a store.
    Node {
        /// What to do.
        #[command(subcommand)]
        command: NodeCommand,
    },
    /// Says how all nodes of a store are, on one page; evens out what they run.
    Cluster {
        /// What to do.
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Draws a live match in the terminal.
    Watch {
        /// Which match: a unique prefix of its id [default: the first].
        #[arg(value_name = "MATCH")]
        prefix: Option<String>,
        /// Stops so many seconds after the first picture.
        #[arg(long)]
        seconds: Option<u64>,
    },
    /// Plays with bots over the network.
    Bots(BotsArgs),
    /// Lists, shows, creates and stops matches.
    Match {
        /// What to do.
        #[command(subcommand)]
        command: MatchCommand,
    },
    /// Shows work in the background, has it done, and calls it off.
    Jobs {
        /// What to do.
        #[command(subcommand)]
        command: JobsCommand,
    },
    /// Prints what operators did, newest last: from the running node, or from the store if none
    /// runs.
    Audit(AuditArgs),
    /// Stops the node cleanly: every match is checkpointed first.
    Drain,
    /// Prints what players were told, by type and fields: of one match, of a game, or of all; what
    /// is stored, or what comes.
    Events(EventsArgs),
    /// Prints what was applied to a match: inputs, events and hash beats, in order.
    Journal {
        /// A unique prefix of the match's id.
        #[arg(value_name = "MATCH")]
        prefix: String,
        /// First tick.
        #[arg(long, default_value = "1")]
        from: u64,
        /// Last tick [default: the last one that is durable].
        #[arg(long)]
        to: Option<u64>,
        /// Leaves out what was recorded before: 2026-11-25T12:00:00Z, or 5m (s, m, h, d).
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        since: Option<String>,
        /// Ends with the last record that is not later.
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        until: Option<String>,
    },
    /// Checks every record, checkpoint and hash of a store by simulating it again. Reads only.
    Verify {
        /// The directory of a local store [default: the configured store].
        dir: Option<PathBuf>,
    },
    /// Tries all matches of a store with this build before it is deployed: which of them it would
    /// go on with, and what it computes otherwise. Reads only, also while nodes run on the store.
    Preflight(PreflightArgs),
    /// Looks after a store: what is in it, its tables, copies, backups.
    Store {
        /// What to do.
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// Measures what this host and the store give, and says what to do about what is short.
    Doctor,
    /// Plays a match again up to a tick: prints what is in its state, and its hash.
    Replay(ReplayArgs),
    /// Writes a match into one file, which `replay` and a test play again: its records, the
    /// checkpoint that they need, and what was known of it. No secrets are in it.
    #[command(name = "bugreport")]
    BugReport(BugReportArgs),
    /// Says which inputs caused an event: leaves others out and simulates again, until none of
    /// those that are left can be left out.
    Why(WhyArgs),
    /// Moves the home of matches to another region, after a region was lost.
    Region {
        /// What to do.
        #[command(subcommand)]
        command: RegionCommand,
    },
    /// Lists or rotates the keys with which the cluster signs tickets and resume tokens.
    Keys {
        /// What to do.
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Issues tickets that let players in.
    Ticket {
        /// What to do.
        #[command(subcommand)]
        command: TicketCommand,
    },
    /// Makes the certificates with which nodes of a cluster know each other.
    Ca {
        /// What to do.
        #[command(subcommand)]
        command: CaCommand,
    },
    /// Checks or shows the configuration.
    Config {
        /// What to do.
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

/// `rekindle preflight`.
#[derive(Clone, Args)]
pub struct PreflightArgs {
    /// Only this match: a unique prefix of its id. May be given several times [default: all].
    #[arg(long = "match", value_name = "MATCH")]
    pub matches: Vec<String>,
    /// Leaves out matches that have ended.
    #[arg(long)]
    pub live: bool,
    /// For a build that changes the rules on purpose: counts what happened then and what happens
    /// now, with the inputs that were recorded. A difference is no failure.
    #[arg(long)]
    pub backtest: bool,
    /// So many matches at a time [default: one for each core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: Option<u16>,
}

/// `rekindle match create`.
#[derive(Clone, Args)]
pub struct CreateArgs {
    /// The game type [default: the first that the node has].
    #[arg(long)]
    pub game: Option<String>,
    /// The game's configuration, as JSON.
    #[arg(long, default_value = "{}", value_name = "JSON")]
    pub game_config: String,
    /// The version of the game's rules that it is played by, as long as it lasts [default: the
    /// newest].
    #[arg(long, value_name = "N")]
    pub rules: Option<u32>,
    /// By what a lobby finds it, like mode=duel; may be given several times. The game does not see
    /// it.
    #[arg(long, value_name = "NAME=VALUE", value_parser = rekindle_sim::property)]
    pub property: Vec<(String, String)>,
    /// How many house bots play in it.
    #[arg(long, default_value_t = 0)]
    pub bots: u16,
    /// Seed of the world's random numbers [default: random].
    #[arg(long)]
    pub seed: Option<u64>,
    /// Ticks per second [default: the game's].
    #[arg(long)]
    pub tick_rate: Option<u16>,
    /// The node that is to run it: its name, or its incarnation [default: one that has less to
    /// do than others].
    #[arg(long, value_name = "NODE")]
    pub on: Option<String>,
    /// Players who get a ticket for it: numbers of their accounts, like 41,42. Needs a node in
    /// dev mode or with an admin.token.
    #[arg(long, value_name = "PLAYERS", value_delimiter = ',')]
    pub ticket: Vec<u64>,
    /// For how many seconds their tickets are good [default: 300].
    #[arg(long, requires = "ticket", value_name = "SECONDS")]
    pub ttl: Option<u64>,
}

/// `rekindle demo`.
#[derive(Clone, Args)]
pub struct DemoArgs {
    /// How often the node is killed.
    #[arg(long, default_value_t = 1)]
    pub kills: u32,
    /// So many nodes on one store: one is killed, one frozen, one drained, in turn.
    #[arg(long, default_value_t = 1, conflicts_with = "kills",
        value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,
    /// With --nodes: how often all of that happens.
    #[arg(long, default_value_t = 1, conflicts_with = "kills",
        value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// Decides when. The same seed aims at the same moments.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many bots [default: 32, or as many as there is room for].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub players: Option<u16>,
    /// How many matches [default: two for each node, and as many as the bots need].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub matches: Option<u16>,
    /// Which game [default: the first of this executable].
    #[arg(long)]
    pub game: Option<String>,
    /// The game's configuration, as JSON [default: the showcase of this executable].
    #[arg(long, value_name = "JSON")]
    pub game_config: Option<String>,
    /// A shell command that runs between each kill and the restart: drills cut the power of the
    /// disk with it.
    #[arg(long, value_name = "COMMAND", hide = true)]
    pub after_kill: Option<String>,
}

/// `rekindle effects …`
#[derive(Subcommand)]
pub enum EffectsCommand {
    /// Lists what the store has of them, by match and tick. It asks no node.
    Ls {
        /// Of which match: a unique prefix of its id [default: of all].
        #[arg(value_name = "MATCH")]
        prefix: Option<String>,
        /// Only effects of this kind, such as `result`.
        #[arg(long)]
        kind: Option<String>,
    },
    /// Has webhooks post again what they gave up, and now what waits for its next attempt. It asks
    /// no node: those that run find it in the store.
    Retry {
        /// Of which match: a unique prefix of its id [default: of all].
        #[arg(value_name = "MATCH")]
        prefix: Option<String>,
    },
}

/// `rekindle game …`
#[derive(Subcommand)]
pub enum GameCommand {
    /// Draws a game as a Mermaid diagram.
    #[command(group(ArgGroup::new("chart").required(true)))]
    Graph {
        /// The game [default: the first of this executable].
        #[arg(value_name = "GAME")]
        game: Option<String>,
        /// Its state machines: states, transitions, guards, timeouts.
        #[arg(long, group = "chart")]
        states: bool,
        /// Its systems, stage by stage, in the order in which they run.
        #[arg(long, group = "chart")]
        systems: bool,
    },
    /// Prints what snapshots of a game carry: its networked components and their fields.
    Schema {
        /// The game [default: the first of this executable].
        #[arg(value_name = "GAME")]
        game: Option<String>,
        /// As a TypeScript module with strict types, for `@rekindle/client`.
        #[arg(long)]
        ts: bool,
        /// Where that module imports the client from.
        #[arg(long, value_name = "MODULE", default_value = "@rekindle/client", requires = "ts")]
        from: String,
    },
}

/// `rekindle node ...`.
#[derive(Subcommand)]
pub enum NodeCommand {
    /// Lists nodes: those that run, and those that ended within the last hour.
    Ls {
        /// Also those that ended before, as long as the store remembers them.
        #[arg(long)]
        all: bool,
    },
    /// Shows one node.
    Show {
        /// Its name, or the incarnation of one of its runs.
        #[arg(value_name = "NODE")]
        name: String,
    },
    /// Empties a node: it gives its matches to others while they are played, takes no further
    /// ones, and goes on, also over its restart, until `undrain`.
    Drain {
        /// Its name.
        #[arg(value_name = "NODE")]
        name: String,
        /// Whether it is waited for.
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Takes back that a node is drained or decommissioned.
    Undrain {
        /// Its name.
        #[arg(value_name = "NODE")]
        name: String,
    },
    /// Empties a node for good: when nothing runs on it its process ends with exit code 0, and no
    /// node of this name starts on the store, until `undrain`.
    Decommission {
        /// Its name.
        #[arg(value_name = "NODE")]
        name: String,
        /// Whether it is waited for.
        #[command(flatten)]
        waiting: Waiting,
    },
}

/// Whether a command waits for what it began.
#[derive(Clone, Copy, Args)]
pub struct Waiting {
    /// Waits until the node is empty, and shows how far it is.
    #[arg(long)]
    pub wait: bool,
    /// Waits for so many seconds at most. The node goes on with it [default: no end].
    #[arg(long, requires = "wait", value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

/// `rekindle cluster ...`.
#[derive(Subcommand)]
pub enum ClusterCommand {
    /// The verdict first, then matches without an owner, whether one more node may die, what
    /// happened in the last hour, and what can be done. Exit code 5 if players are hurt or matches
    /// wait for an operator.
    Status,
    /// Moves matches so that all nodes run their share: shows what moves, from where to where and
    /// why, then has it done. Exit code 1 if not all of it was done.
    Rebalance {
        /// Only shows it.
        #[arg(long)]
        dry_run: bool,
    },
}

/// `rekindle bots`.
#[derive(Clone, Args)]
pub struct BotsArgs {
    /// UDP address of the node [default: the running one].
    #[arg(long, value_name = "ADDR")]
    pub connect: Option<SocketAddr>,
    /// How many bots.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    pub count: u16,
    /// For how long.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// In which match: a unique prefix of its id [default: any with room].
    #[arg(long = "match", value_name = "MATCH")]
    pub prefix: Option<String>,
    /// In matches of which game [default: that of the first match that runs].
    #[arg(long, conflicts_with = "prefix")]
    pub game: Option<String>,
    /// They join and do nothing, as players who are away.
    #[arg(long)]
    pub idle: bool,
}

/// Which events are printed.
#[derive(Args)]
pub struct EventsArgs {
    /// A unique prefix of a match's id [default: all matches].
    #[arg(value_name = "MATCH")]
    pub prefix: Option<String>,
    /// All matches of this game type.
    #[arg(long, conflicts_with = "prefix")]
    pub game: Option<String>,
    /// Only events of these types: kill,death.
    #[arg(long = "type", value_name = "TYPES", value_delimiter = ',')]
    pub kind: Vec<String>,
    /// Only events that concern this player: it alone was told, or one of the fields is it.
    #[arg(long)]
    pub player: Option<u64>,
    /// First tick.
    #[arg(long, requires = "prefix", conflicts_with = "follow")]
    pub from: Option<u64>,
    /// Last tick [default: the last one that is durable].
    #[arg(long, requires = "prefix", conflicts_with = "follow")]
    pub to: Option<u64>,
    /// Leaves out what was recorded before: 2026-11-25T12:00:00Z, or 5m (s, m, h, d).
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Ends with the last record that is not later.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with = "follow")]
    pub until: Option<String>,
    /// Goes on with what comes, from all nodes, until the match is over. With --since what was
    /// recorded since then comes first.
    #[arg(long)]
    pub follow: bool,
}

/// `rekindle match ...`.
#[derive(Subcommand)]
pub enum MatchCommand {
    /// Lists all matches.
    Ls {
        /// Only matches of this game type.
        #[arg(long)]
        game: Option<String>,
        /// Only those of all nodes that run and have a free seat.
        #[arg(long)]
        open: bool,
        /// Only those that were made with this property; may be given several times.
        #[arg(long, value_name = "NAME=VALUE", value_parser = rekindle_sim::property)]
        property: Vec<(String, String)>,
        /// Only those for which it holds: `players > 4 and properties.mode = "duel"`; fields as
        /// `--json` shows them.
        #[arg(long = "where", value_name = "FILTER")]
        filter: Option<String>,
        /// By which field they are sorted, `-` before it for descending [default: id].
        #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
        sort: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Shows one match.
    Show {
        /// A unique prefix of its id.
        #[arg(value_name = "MATCH")]
        prefix: String,
    },
    /// Measures what the ticks of a match take, by stage and system. Ask the node that runs it.
    Profile {
        /// A unique prefix of its id.
        #[arg(value_name = "MATCH")]
        prefix: String,
        /// For how many seconds.
        #[arg(long, default_value_t = profile::SECONDS, value_name = "N",
            value_parser = clap::value_parser!(u64).range(1..=profile::MOST_SECONDS))]
        seconds: u64,
    },
    /// Prints the statistics that its game declares: from the running node, or from the store.
    Stats {
        /// A unique prefix of its id.
        #[arg(value_name = "MATCH")]
        prefix: String,
    },
    /// Prints the values that its game declares under names, and whether what must hold does: from
    /// the running node, or from the store.
    Values {
        /// A unique prefix of its id.
        #[arg(value_name = "MATCH")]
        prefix: String,
    },
    /// Says which node of the cluster has a match, and where players reach it.
    Where {
        /// A unique prefix of its id.
        #[arg(value_name = "MATCH")]
        prefix: String,
    },
    /// Creates a match.
    Create(CreateArgs),
    /// Keeps a stretch of a match for replay, whatever the retention policy says. No node need run.
    Pin(PinArgs),
    /// Removes the pin of a match.
    Unpin {
        /// A unique prefix of its id.
        #[arg(value_name = "MATCH")]
        prefix: String,
    },
    /// Lists pins.
    Pins,
    /// Has a match tried again that is parked, or that waits for another build.
    Resume {
        /// A unique prefix of its id.
        #[arg(value_name = "MATCH")]
        prefix: String,
        /// If this build computes ticks otherwise than another one recorded them: goes on from the
        /// last state that is equal. What was played since is undone, and players are told.
        #[arg(long, conflicts_with = "accept")]
        from_last_equal: bool,
        /// If this build computes ticks otherwise than another one recorded them: goes on with what
        /// this build makes of them.
        #[arg(long)]
        accept: bool,
    },
    /// Moves a match to another node; its players follow, and no tick is lost.
    Migrate {
        /// A unique prefix of its id.
        #[arg(value_name = "MATCH")]
        prefix: String,
        /// The node that takes it: its name, or its incarnation.
        #[arg(long, value_name = "NODE")]
        to: String,
    },
    /// Has another node follow a match, so that it goes on there at once if its node dies; or says
    /// who follows it.
    Standby {
        /// A unique prefix of its id.
        #[arg(value_name = "MATCH")]
        prefix: String,
        /// `default`: what the configuration has for its game.
        #[arg(value_enum)]
        what: StandbyWord,
    },
    /// Ends a match.
    Stop {
        /// A unique prefix of its id.
        #[arg(value_name = "MATCH")]
        prefix: String,
        /// Why, for the players.
        #[arg(long, default_value = "stopped by the operator")]
        reason: String,
    },
}

/// What is done about the standbys of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StandbyWord {
    /// One node follows it.
    On,
    /// None does.
    Off,
    /// As many as the configuration has for its game.
    Default,
    /// Says who follows it.
    Show,
}

/// `rekindle match pin`.
#[derive(Clone, Args)]
pub struct PinArgs {
    /// A unique prefix of the match's id.
    #[arg(value_name = "MATCH")]
    pub prefix: String,
    /// First tick.
    #[arg(long, default_value_t = 1)]
    pub from: u64,
    /// Last tick [default: the end, wherever that will be].
    #[arg(long)]
    pub to: Option<u64>,
}

/// `rekindle store ...`.
#[derive(Subcommand)]
pub enum StoreCommand {
    /// Says what is in the store, and whether it can be used.
    Status,
    /// Brings the tables of the store to what this release needs. A local store has none.
    Migrate,
    /// As `rekindle verify`: checks every record, checkpoint and hash.
    Verify,
    /// Gives up the end of a log that is lost: its matches go on from what is left. Says what would
    /// be lost, and does it with --yes.
    AcceptLoss {
        /// Whose log: the incarnation that `verify` or the start of a node named.
        #[arg(value_name = "LOG")]
        incarnation: String,
        /// Do it.
        #[arg(long)]
        yes: bool,
    },
    /// Says that the store was restored by other means than `store restore`: its matches go on in
    /// epochs that nobody has seen, as those of a copy. No node may run on it. A directory that was
    /// copied, and tables that were restored into others or to a point in time, notice it by
    /// themselves.
    RenewIdentity {
        /// Why, in words, for the log and the audit.
        #[arg(
            long,
            value_name = "TEXT",
            default_value = "an operator said that the store was restored"
        )]
        reason: String,
    },
    /// Copies matches into another store, whatever kind the two are. No node may run on either.
    /// Killed in the middle, it goes on when it is run again.
    Copy {
        /// From where [default: the configured store].
        #[arg(long, value_name = "URL")]
        from: Option<String>,
        /// A file with the password for --from.
        #[arg(long, value_name = "FILE")]
        from_password_file: Option<PathBuf>,
        /// To where.
        #[arg(long, value_name = "URL")]
        to: String,
        /// A file with the password for --to.
        #[arg(long, value_name = "FILE")]
        to_password_file: Option<PathBuf>,
        /// Only these matches: their full ids [default: all].
        #[arg(long = "match", value_name = "MATCH")]
        matches: Vec<String>,
    },
    /// Writes a backup into a new directory, while nodes run. It is a local store: `verify DIR`,
    /// `replay` and `journal` read it.
    Backup {
        /// Which directory: it must not exist, or be empty.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Copies a backup into the configured store, which must not hold other versions of the same
    /// matches.
    Restore {
        /// Which directory.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Only these matches: their full ids [default: all].
        #[arg(long = "match", value_name = "MATCH")]
        matches: Vec<String>,
    },
}

/// `rekindle region ...`.
#[derive(Subcommand)]
pub enum RegionCommand {
    /// Says what this side of the store has of each match at home in a region; with --yes it makes
    /// them at home in another one, whose nodes then take them over. What the old region
    /// acknowledged and has not replicated to here is lost.
    Promote {
        /// The region that is lost.
        #[arg(value_name = "REGION")]
        from: String,
        /// The region whose nodes are to take over.
        #[arg(long, value_name = "REGION")]
        to: String,
        /// Does it. Without, nothing is changed.
        #[arg(long)]
        yes: bool,
    },
}

/// `rekindle keys ...`.
#[derive(Subcommand)]
pub enum KeysCommand {
    /// Lists the sets of keys: which signs, and until when each is accepted. Never a secret.
    Ls,
    /// Adds a set of keys, which signs from ten seconds on. Nodes that run learn of it by
    /// themselves, and no session ends.
    Rotate {
        /// For how long tickets and resume tokens of the keys before are accepted: as long as the
        /// longest match; 0s if a key has become known to others.
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        overlap: String,
        /// Makes a certificate for native clients as well. Nodes show it once the overlap is over;
        /// until then clients are to be given both.
        #[arg(long)]
        tls: bool,
    },
}

/// `rekindle jobs ...`.
#[derive(Subcommand)]
pub enum JobsCommand {
    /// Lists jobs, newest first.
    Ls {
        /// Those of one queue.
        #[arg(long)]
        queue: Option<String>,
        /// Those of one kind.
        #[arg(long)]
        kind: Option<String>,
        /// Those in one state: ready, running, done, dead or cancelled.
        #[arg(long)]
        state: Option<JobStatus>,
        /// At most so many, up to 1000.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Shows one job.
    Show {
        /// A unique prefix of its id.
        #[arg(value_name = "JOB")]
        prefix: String,
    },
    /// Has something done once, now: verify-store, checkpoint-all, ...
    Run {
        /// What.
        kind: String,
        /// Its arguments, as its handler reads them.
        #[arg(long, default_value = "")]
        payload: String,
        /// Waits for its end, for so many seconds; a job that is dead or cancelled is exit code 5.
        #[arg(long, value_name = "SECONDS")]
        wait: Option<u64>,
    },
    /// Has a dead, cancelled or waiting job tried now.
    Retry {
        /// A unique prefix of its id.
        #[arg(value_name = "JOB")]
        prefix: String,
    },
    /// Calls a job off; one that runs is stopped when its node next hears of it.
    Cancel {
        /// A unique prefix of its id.
        #[arg(value_name = "JOB")]
        prefix: String,
    },
}

/// `rekindle audit`.
#[derive(Clone, Args)]
pub struct AuditArgs {
    /// Leaves out what was done before: 2026-11-25T12:00:00Z, or 5m (s, m, h, d).
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Leaves out what was done from then on.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
    /// At most so many entries, the newest ones, up to 10000.
    #[arg(long, default_value_t = 1000)]
    pub limit: usize,
}

/// `rekindle ticket ...`.
#[derive(Subcommand)]
pub enum TicketCommand {
    /// Issues a ticket, signed with the key in the data directory. No node need run.
    Issue {
        /// Number of the player's account.
        #[arg(long)]
        player: u64,
        /// The name to show, 1 to 32 bytes [default: player-N].
        #[arg(long)]
        name: Option<String>,
        /// Lets its owner watch only.
        #[arg(long)]
        spectator: bool,
        /// The only match that it opens: a unique prefix of its id [default: any].
        #[arg(long = "match", value_name = "MATCH")]
        match_id: Option<String>,
        /// For how many seconds it is valid.
        #[arg(long, default_value_t = 3600)]
        ttl: u64,
    },
}

/// `rekindle ca ...`.
#[derive(Subcommand)]
pub enum CaCommand {
    /// Makes a private authority in a new directory. Keep its key off the nodes.
    Init {
        /// Which directory.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Makes the certificate of one node: ca.pem, node.pem and node.key, for cluster.tls.*.
    Issue {
        /// The node's name, as in node.name.
        name: String,
        /// The directory of the authority.
        #[arg(long, value_name = "DIR")]
        ca: PathBuf,
        /// Where the three files go.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// `rekindle config ...`.
#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Says whether the configuration is valid.
    Check,
    /// Prints all keys with their values.
    Show {
        /// Also prints where each value came from.
        #[arg(long)]
        origin: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::command_line;

    #[test]
    fn the_command_line_is_consistent() {
        command_line("rekindle", &["arena"]).debug_assert();
        command_line("x", &[]).debug_assert();
    }

    #[test]
    fn a_studios_executable_speaks_of_itself() {
        let mut command = command_line("duel", &["chess", "duel"]);
        let help = command.render_long_help().to_string();
        assert!(
            help.contains("Usage: duel ")
                && help.contains("match of chess")
                && help.contains("Games: chess, duel"),
            "{help}"
        );
        assert!(!help.contains("arena"), "{help}");
        assert!(command.render_version().starts_with("duel with rekindle "));
    }
}
