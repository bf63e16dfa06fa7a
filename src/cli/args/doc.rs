//! `rekindle doc`, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::node::documents::reading::Source;

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
        /// How it is answered.
        #[command(flatten)]
        how: HowRead,
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
        /// How it is answered.
        #[command(flatten)]
        how: HowRead,
    },
    /// Shows the aggregates of a kind.
    Stats {
        /// The kind.
        kind: String,
        /// How it is answered.
        #[command(flatten)]
        how: HowRead,
    },
    /// Calls an action of a document.
    Call(DocCall),
    /// Says whether an action could be called and what would come of it; changes nothing.
    Can {
        /// Which action.
        #[command(flatten)]
        call: DocCall,
        /// How it is answered.
        #[command(flatten)]
        how: HowRead,
    },
}

/// Where an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// From memory if a node runs the collection, else from the store.
    Auto,
    /// From the memory of the node that runs the collection.
    Memory,
    /// From the store: the newest checkpoint and the records behind it.
    Store,
}

impl From {
    /// The source, if it is not left to the node.
    pub fn source(self) -> Option<Source> {
        match self {
            Self::Auto => None,
            Self::Memory => Some(Source::Memory),
            Self::Store => Some(Source::Store),
        }
    }
}

/// How a question is answered.
#[derive(Args)]
pub struct HowRead {
    /// Where the answer comes from. Without a node, `auto` and `store` read the configured store.
    #[arg(long, value_enum, default_value = "auto")]
    pub from: From,
    /// Says who answered, from what and why, as of which tick, and what it cost.
    #[arg(long)]
    pub explain: bool,
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
