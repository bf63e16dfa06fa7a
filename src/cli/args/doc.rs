//! `rekindle doc`, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `rekindle doc …`
#[derive(Subcommand)]
pub enum DocCommand {
    /// Lists the kinds of document, their attributes and actions.
    Kinds,
    /// Shows one document.
    Get {
        /// The kind.
        kind: String,
        /// The document's key, such as the number of a player.
        key: String,
    },
    /// Lists documents.
    #[command(visible_alias = "query")]
    Ls {
        /// The kind.
        kind: String,
        /// Only those for which this holds: `rating >= 1500 and not (name = "x")`.
        #[arg(long = "where", value_name = "FILTER")]
        filter: Option<String>,
        /// The field to sort by, `-` before it for descending [default: key].
        #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
        sort: Option<String>,
        /// Most documents, at most 1000; with 0 they are only counted.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// So many are left out at the beginning.
        #[arg(long, default_value_t = 0)]
        skip: usize,
        /// Says who answered, from what, and as of which tick.
        #[arg(long)]
        explain: bool,
    },
    /// Shows the aggregates of a kind.
    Stats {
        /// The kind.
        kind: String,
    },
    /// Calls an action of a document.
    Call(DocCall),
    /// Says whether an action could be called and what would come of it; changes nothing.
    Can(DocCall),
}

/// Which action is called, on what.
#[derive(Args)]
pub struct DocCall {
    /// The kind.
    pub kind: String,
    /// The action, unless --file has the calls.
    #[arg(required_unless_present = "file")]
    pub action: Option<String>,
    /// The document's key.
    #[arg(required_unless_present = "file")]
    pub key: Option<String>,
    /// The arguments, as JSON.
    #[arg(value_name = "JSON")]
    pub args: Option<String>,
    /// Refused if the document has another version.
    #[arg(long, value_name = "VERSION", conflicts_with = "file")]
    pub if_version: Option<u64>,
    /// The player for whom it is called: the policies ask whether that player may.
    #[arg(long, value_name = "PLAYER")]
    pub player: Option<u64>,
    /// Calls from a file: a JSON list of objects with action, key and args. All or none.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["action", "key", "args"])]
    pub file: Option<PathBuf>,
}
