//! Why a client cannot do what it was asked for.

use rekindle_transport::SetupError;

use crate::questions::{MAX_QUESTION, MAX_QUESTIONS};

/// Most commands that may wait for their result.
pub const MAX_COMMANDS: usize = 256;

/// Why a client cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no server to ask.
    #[error("RK-CLIENT-001: no address of a node was given")]
    NoAddress,
    /// The certificate or the TLS library is of no use.
    #[error("RK-CLIENT-002: TLS cannot be set up: {0}")]
    Tls(String),
    /// No local socket.
    #[error("RK-CLIENT-003: no UDP socket: {0}")]
    Socket(std::io::Error),
    /// There has been no welcome yet, or the client has stopped.
    #[error("RK-CLIENT-004: there is no session (yet): wait for `Welcome`")]
    NoSession,
    /// Too many commands wait for their result.
    #[error("RK-CLIENT-005: {MAX_COMMANDS} commands wait for their result: wait for `CommandDone`")]
    TooManyCommands,
    /// Spectators do not play.
    #[error("RK-CLIENT-006: a spectator sends no inputs and no commands")]
    Spectator,
    /// Too many questions to documents wait.
    #[error(
        "RK-CLIENT-008: {MAX_QUESTIONS} questions to documents wait to be sent: wait for answers"
    )]
    TooManyQuestions,
    /// A question to documents that no server takes.
    #[error(
        "RK-CLIENT-048: a question to documents of {0} bytes: at most {MAX_QUESTION} are taken; \
         call fewer actions at once"
    )]
    QuestionTooLong(usize),
    /// The server is of an earlier release.
    #[error(
        "RK-CLIENT-009: the server speaks version {0} of the protocol, and documents are asked \
         under version 6"
    )]
    NoDocuments(u16),
    /// A lobby without a game.
    #[error("RK-CLIENT-007: a lobby is of a game: set `game` beside `lobby`")]
    NoGame,
}

impl From<SetupError> for ClientError {
    fn from(error: SetupError) -> Self {
        match error {
            SetupError::Tls(problem) | SetupError::Random(problem) => Self::Tls(problem),
            SetupError::Bind(problem) | SetupError::Endpoint(problem) => Self::Socket(problem),
        }
    }
}
