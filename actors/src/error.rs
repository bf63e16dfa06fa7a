//! What can go wrong when a host starts, creates or recovers a match.

use rekindle_schema::{BatchNo, BuildId, Incarnation, MatchId, Seq, StateHash, Tick};
use rekindle_sim::SimError;
use rekindle_store::StoreError;

use crate::recovery::proof::Differs;

/// Why a host did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HostError {
    /// A match of a game that this node does not have.
    #[error("RK-HOST-001: no game `{name}` here; this build serves: {known}")]
    UnknownGame {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The log of this incarnation is not empty: incarnations are never used twice.
    #[error(
        "RK-HOST-002: the log of incarnation {0} already ends at batch {1}: each start needs a new \
         incarnation"
    )]
    LogInUse(Incarnation, BatchNo),
    /// The lease row names another owner.
    #[error("RK-HOST-003: match {0} belongs to incarnation {1}, this is {2}")]
    NotOwner(MatchId, Incarnation, Incarnation),
    /// It runs here already.
    #[error("RK-HOST-004: match {0} runs here already")]
    AlreadyHere(MatchId),
    /// The row's last stretch of lineage does not begin where the history ends.
    #[error(
        "RK-HOST-005: match {match_id}: the lease row says that its next record is {expected}, its \
         history ends at {found}"
    )]
    Lineage {
        /// Which match.
        match_id: MatchId,
        /// First seq of the newest stretch.
        expected: Seq,
        /// Last seq found.
        found: Seq,
    },
    /// The match could not be set up.
    #[error(transparent)]
    Sim(#[from] SimError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The host is stopping, or its journal has failed.
    #[error("RK-HOST-006: the host takes no new matches: {0}")]
    Stopping(String),
    /// No such match on this host.
    #[error("RK-HOST-007: match {0} does not run on this node")]
    NotHere(MatchId),
    /// A match cannot be handed to another node now.
    #[error("RK-HOST-052: match {0} cannot be moved now: {1}")]
    NotMoved(MatchId, String),
    /// A match is between two owners.
    #[error("RK-HOST-054: match {0} is being handed to another node: try again")]
    OnTheMove(MatchId),
    /// An actor or thread could not be started.
    #[error("RK-HOST-008: cannot start {what}: {cause}")]
    Spawn {
        /// What.
        what: &'static str,
        /// Why.
        cause: String,
    },
}

/// Why a history does not lead to a running match.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RecoveryError {
    /// Replay computed something else than what was journaled.
    #[error(
        "RK-RECOVERY-001: match {match_id} at tick {tick}: replay gives state hash {computed}, the \
         {source_of} says {recorded}: the game is not deterministic or the history is damaged; run \
         `rekindle verify`"
    )]
    HashMismatch {
        /// Which match.
        match_id: MatchId,
        /// At which tick.
        tick: Tick,
        /// What the journal or checkpoint says.
        recorded: StateHash,
        /// What replay gave.
        computed: StateHash,
        /// `journal` or `checkpoint`.
        source_of: &'static str,
    },
    /// Records were written by another build of the game, and nothing in them tells whether this
    /// one computes the same, or that is not asked.
    #[error(
        "RK-RECOVERY-002: match {match_id}: records from tick {tick} on were computed by build \
         {found}, this is build {ours}, and nothing recorded proves that it computes the same: \
         start the old build, or `rekindle match resume {} --accept`",
        match_id.short()
    )]
    OtherBuild {
        /// Which match.
        match_id: MatchId,
        /// First tick concerned.
        tick: Tick,
        /// The build that wrote them.
        found: BuildId,
        /// The build that runs.
        ours: BuildId,
    },
    /// This build computes something else than another one recorded.
    #[error("RK-RECOVERY-005: {0}")]
    Differs(Box<Differs>),
    /// The history has a hole or is out of order.
    #[error("RK-RECOVERY-003: match {match_id}, record {seq}: {problem}; run `rekindle verify`")]
    Broken {
        /// Which match.
        match_id: MatchId,
        /// Which record.
        seq: Seq,
        /// What is wrong.
        problem: String,
    },
    /// The game could not restore the checkpoint or repeat a step.
    #[error("RK-RECOVERY-004: match {match_id}: {error}")]
    Sim {
        /// Which match.
        match_id: MatchId,
        /// What the game said.
        error: SimError,
    },
    /// The match could not be run afterwards.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl HostError {
    /// The same may succeed later: the store does not answer.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }
}

impl RecoveryError {
    /// The same may succeed later: the store does not answer.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Host(error) if error.is_transient())
    }

    /// What this build lacks, in one word for metrics and lists, if the error is one of
    /// [`fits`](crate::recovery::fits).
    pub fn lacks(&self) -> &'static str {
        match self {
            Self::Host(HostError::UnknownGame { .. }) => "unknown_game",
            Self::OtherBuild { .. } | Self::Differs(_) => "other_build",
            Self::Sim { error: SimError::Config { .. }, .. } => "config",
            Self::Sim { error: SimError::Checkpoint { .. }, .. } => "checkpoint",
            _ => "replay",
        }
    }

    /// Trying again, here or elsewhere, cannot help: the match must be parked.
    pub fn parks(&self) -> bool {
        matches!(self, Self::HashMismatch { .. } | Self::Broken { .. } | Self::Sim { .. })
    }
}
