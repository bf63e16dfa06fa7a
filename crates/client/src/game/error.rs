//! Why a client of a game cannot do what it was asked for.

use rekindle_schema::wire::RefuseCode;
use rekindle_sim::SimError;
use rekindle_sim::value::DecodeError;

use crate::error::ClientError;

/// Why a client of a game cannot do what it was asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GameError {
    /// The match is one of another game.
    #[error("RK-CLIENT-040: the match is one of `{theirs}`, and this client plays `{ours}`")]
    OtherGame {
        /// The game of this client.
        ours: &'static str,
        /// The game of the match.
        theirs: String,
    },
    /// Snapshots of the server lack fields that this client reads.
    #[error("RK-CLIENT-041: the server plays another version of `{game}`: {lacking}")]
    OtherBuild {
        /// The game of both.
        game: &'static str,
        /// Each component and field that differs.
        lacking: String,
    },
    /// The game never tells this event.
    #[error("RK-CLIENT-042: `{game}` declares no event `{id}` with `game.tells`{hint}")]
    Undeclared {
        /// The id of the type that was asked for.
        id: &'static str,
        /// The game of this client.
        game: &'static str,
        /// A declared one with a similar id.
        hint: String,
    },
    /// It is not the event that it was read as.
    #[error("RK-CLIENT-043: it was read as the event `{wanted}`, and is `{got}`")]
    OtherEvent {
        /// The id of the type that it was read as.
        wanted: &'static str,
        /// What it is.
        got: String,
    },
    /// An event with the right id and other fields.
    #[error(
        "RK-CLIENT-044: {len} bytes are no event `{id}` ({problem}): the server plays another \
         version of the game"
    )]
    Bytes {
        /// The id of the type that it was read as.
        id: &'static str,
        /// The length of the payload.
        len: usize,
        /// What is wrong with it.
        problem: DecodeError,
    },
    /// The session is over, and what was waited for has not come.
    #[error("RK-CLIENT-045: the session is over: {message}")]
    Closed {
        /// What the server said, if it did.
        code: Option<RefuseCode>,
        /// Why, for people.
        message: String,
    },
    /// Documents refuse. Nothing was changed, but for `RK-GATE-170`.
    #[error("{message}")]
    Documents {
        /// The code of the refusal: `RK-DOC-...`.
        code: String,
        /// It in words, the code in front.
        message: String,
    },
    /// The connection broke, or their node died, before documents answered.
    #[error(
        "RK-CLIENT-046: it is unknown whether the documents of kind `{kind}` were changed: the \
         connection broke, or their node died, before they answered; read them, or call again with \
         `if_version`"
    )]
    Unknown {
        /// The kind.
        kind: &'static str,
    },
    /// Documents say something that this client does not understand.
    #[error("RK-CLIENT-047: the documents of kind `{kind}` answer in other words: {problem}")]
    Answer {
        /// The kind.
        kind: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The client under it cannot.
    #[error(transparent)]
    Client(#[from] std::sync::Arc<ClientError>),
    /// The game cannot be put together.
    #[error(transparent)]
    Game(#[from] SimError),
}

impl From<ClientError> for GameError {
    fn from(error: ClientError) -> Self {
        Self::Client(std::sync::Arc::new(error))
    }
}
