//! Why a node does not start or does not go on ([`NodeError`]), and why it does not do what an
//! operator asks ([`ControlError`]).
//!
//! Errors say what happened; which exit code that is, is decided by `src/exit.rs`, and which HTTP
//! status by `src/control.rs`.

use std::io;
use std::path::PathBuf;

use rekindle_actors::{Halt, HostError};
use rekindle_gateway::GatewayError;
use rekindle_schema::Incarnation;
use rekindle_sim::documents::wire::Refusal;
use rekindle_store::StoreError;

use super::cluster::ClusterError;
use super::documents::DocumentsError;
use super::keyring::KeyringError;
use super::operator::{Abandoned, NotWritten};
use super::recover::Trouble;
use crate::files::FileError;

/// Why a node does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data directory cannot be used.
    #[error(
        "RK-NODE-021: data directory {}: {error}; choose another with --data-dir", dir.display()
    )]
    DataDir {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A live node uses the data directory.
    #[error(
        "RK-NODE-022: a live node{who} uses {}; stop it with `rekindle drain`, or choose another \
         directory with --data-dir", dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// Which node, in brackets with a space before them; empty if that is not known.
        who: String,
    },
    /// The store did not answer for as long as a start waits for it.
    #[error(
        "RK-NODE-131: the store has not answered for {waited_s} s, which is as long as \
         store_wait_s lets a start wait ({error}): start the store, or check the address in \
         `store`"
    )]
    StoreSilent {
        /// How long the start waited, in seconds.
        waited_s: u64,
        /// What the store said last.
        error: StoreError,
    },
    /// An operator has decommissioned the node of this name.
    #[error(
        "RK-NODE-203: node {node} was decommissioned at {since} by {who}: no node of this name \
         starts on this store; `rekindle node undrain {node}` takes that back"
    )]
    Decommissioned {
        /// The configured name.
        node: String,
        /// Who asked for it.
        who: String,
        /// When, in words.
        since: String,
    },
    /// A live node of the same store has the name that this one is to have.
    #[error(
        "RK-NODE-250: a live node of this store has the name {name}: {node} at {at}; give this one \
         a name of its own with --node or node.name, or stop that one first"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// The run that has it.
        node: Incarnation,
        /// Where that is, in words.
        at: String,
    },
    /// The web listener cannot be had where it was asked for.
    #[error("RK-NODE-230: edge.web {addr}: {error}; choose another address, or set it to off")]
    Web {
        /// The address.
        addr: std::net::SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// Another node took this node's matches.
    #[error("RK-NODE-005: this node's lease is fenced: another node took its matches")]
    Fenced,
    /// The journal has ended: the store fenced this node or failed for good.
    #[error("{0}")]
    Halted(Halt),
    /// Nobody can play here any more, and only a new process gets the port back.
    #[error(
        "RK-NODE-121: QUIC has given up the game port: the node ends so that its matches go on in \
         a new process; see RK-GATE-123 in the log"
    )]
    PortLost,
    /// Whoever started this node for as long as it lives itself has ended.
    #[error("RK-NODE-025: the parent process is gone")]
    Abandoned,
    /// Whoever stops this node wanted it at once.
    #[error(
        "RK-NODE-026: stopped before all matches were put away: they resume from the journal at \
         the next start"
    )]
    StoppedAtOnce,
    /// The node stopped cleanly, but for some matches.
    #[error("RK-NODE-018: {matches} matches could not be put away: the next start replays them")]
    NotPutAway {
        /// How many.
        matches: usize,
    },
    /// What other nodes left could not be looked after.
    #[error(transparent)]
    Trouble(#[from] Trouble),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The host of the matches failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The jobs actor could not be started.
    #[error(transparent)]
    Jobs(#[from] rekindle_jobs::StartError),
    /// The edge failed.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The keys of the cluster cannot be had.
    #[error(transparent)]
    Keyring(KeyringError),
    /// The first match could not be created.
    #[error(transparent)]
    FirstMatch(#[from] ControlError),
    /// It cannot listen for other nodes, or its certificate is of no use.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A task that the node does not work without has failed.
    #[error(transparent)]
    Task(#[from] tokio::task::JoinError),
    /// The system refused something about a file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The system refused.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl From<KeyringError> for NodeError {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::Store(error) => Self::Store(error),
            error => Self::Keyring(error),
        }
    }
}

/// Why a node does not do what an operator asks.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No such match.
    #[error("RK-ADMIN-404: there is no match {0}; `rekindle match ls` lists them")]
    NoMatch(String),
    /// No such game type.
    #[error("RK-ADMIN-410: no game `{name}` here; this node has: {known}")]
    NoGame {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// No such node.
    #[error(
        "RK-ADMIN-520: the store knows no node `{0}`; `rekindle node ls --all` lists those that it \
         remembers"
    )]
    NoNode(String),
    /// The request makes no sense.
    #[error("RK-ADMIN-411: {0}")]
    Invalid(String),
    /// The request is understood and not allowed.
    #[error("RK-ADMIN-403: {0}")]
    Forbidden(String),
    /// No such job.
    #[error("RK-ADMIN-404: there is no job {0}; `rekindle jobs ls` lists them")]
    NoJob(String),
    /// It cannot be done to the thing as it stands.
    #[error("RK-ADMIN-409: {0}")]
    Refused(String),
    /// The node goes down.
    #[error("RK-ADMIN-503: this node is draining and takes no new matches")]
    Draining,
    /// The node is not far enough yet.
    #[error(
        "RK-ADMIN-503: this node works on jobs once its matches are recovered; ask again in a \
         moment"
    )]
    NotReady,
    /// The audit log could not be written.
    #[error(transparent)]
    NotWritten(#[from] NotWritten),
    /// A collection of documents refuses a call or a question.
    #[error("{why}{}", which_call(.which.as_ref()))]
    Document {
        /// Why.
        why: Refusal,
        /// Of an order of several calls: the place of the one that is refused, from 0, and how many
        /// there are.
        which: Option<(usize, usize)>,
    },
    /// A collection of documents does not answer.
    #[error(transparent)]
    Documents(#[from] DocumentsError),
    /// The store does not answer.
    #[error("RK-ADMIN-503: {0}")]
    Unavailable(String),
    /// It was tried and failed.
    #[error("RK-ADMIN-500: {0}")]
    Failed(String),
}

impl ControlError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoMatch(_) | Self::NoJob(_) => "RK-ADMIN-404",
            Self::NoNode(_) => "RK-ADMIN-520",
            Self::NoGame { .. } => "RK-ADMIN-410",
            Self::Invalid(_) => "RK-ADMIN-411",
            Self::Forbidden(_) => "RK-ADMIN-403",
            Self::Refused(_) => "RK-ADMIN-409",
            Self::Draining | Self::NotReady | Self::Unavailable(_) => "RK-ADMIN-503",
            Self::Document { why, .. } => why.code(),
            Self::Documents(error) => error.code(),
            Self::NotWritten(_) => "RK-ADMIN-507",
            Self::Failed(_) => "RK-ADMIN-500",
        }
    }
}

impl From<Refusal> for ControlError {
    fn from(why: Refusal) -> Self {
        Self::Document { why, which: None }
    }
}

fn which_call(which: Option<&(usize, usize)>) -> String {
    which.map_or_else(String::new, |(at, of)| {
        format!(" (call {} of {of}; none was applied)", at + 1)
    })
}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> Self {
        if error.is_transient() {
            Self::Unavailable(error.to_string())
        } else {
            Self::Failed(error.to_string())
        }
    }
}

impl From<Abandoned> for ControlError {
    fn from(error: Abandoned) -> Self {
        Self::Failed(error.to_string())
    }
}
