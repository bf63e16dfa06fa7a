//! The commands of those who write games: `rekindle dev`, `replay`, `bugreport`, `why`.

use std::path::PathBuf;

use clap::Args;

/// Most nodes that `rekindle dev` runs.
pub const DEV_NODES: u16 = 9;

/// `rekindle dev`.
#[derive(Clone, Args)]
pub struct DevArgs {
    /// How many.
    #[arg(long, default_value_t = 3,
        value_parser = clap::value_parser!(u16).range(1..=i64::from(DEV_NODES)))]
    pub nodes: u16,
    /// Builds this executable again when its sources change, and starts all nodes again with it;
    /// their matches go on. For executables that cargo built: cargo run -- dev --watch
    #[arg(long)]
    pub watch: bool,
}

/// `rekindle replay`.
#[derive(Clone, Args)]
pub struct ReplayArgs {
    /// A unique prefix of the match's id.
    #[arg(value_name = "MATCH", required_unless_present = "file", conflicts_with = "file")]
    pub prefix: Option<String>,
    /// Which tick [default: the last one that is durable].
    #[arg(long)]
    pub to: Option<u64>,
    /// The last tick that was recorded by then: 2026-11-25T12:00:00Z, or 5m (s, m, h, d).
    #[arg(long, value_name = "TIME", allow_hyphen_values = true,
        conflicts_with_all = ["to", "file"])]
    pub at: Option<String>,
    /// The match of a bug report; no store is read.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Prints every value of the state, not how much there is of what. With --json it is there
    /// anyway.
    #[arg(long)]
    pub state: bool,
}

/// `rekindle bugreport`.
#[derive(Clone, Args)]
pub struct BugReportArgs {
    /// A unique prefix of the match's id.
    #[arg(value_name = "MATCH")]
    pub prefix: String,
    /// The tick from which on it is to be played again; with 1 from the first [default: at least
    /// its last minute].
    #[arg(long, value_name = "TICK")]
    pub from: Option<u64>,
    /// Which file, which must not exist [default: the beginning of the id, with .rkbug].
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `rekindle why`.
#[derive(Clone, Args)]
pub struct WhyArgs {
    /// A unique prefix of the match's id, or the file of a bug report: one that ends with .rkbug.
    #[arg(value_name = "MATCH")]
    pub of: String,
    /// The event: TICK.ORDINAL, as `rekindle events` prints it.
    #[arg(value_name = "EVENT")]
    pub event: String,
    /// Leaves out inputs from this tick on only: what was before is taken as given [default: as
    /// few ticks as the cause lies in, up to five minutes].
    #[arg(long, value_name = "TICK")]
    pub from: Option<u64>,
    /// Breaks off after so many seconds, with the fewest inputs that were found by then.
    #[arg(long, default_value_t = 60, value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
}
