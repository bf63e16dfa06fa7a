//! How a connection came to its end, as the parts that serve it say it.

use rekindle_door::Refusal;
use rekindle_schema::wire::RefuseCode;

use crate::seat::Dismissal;

/// How a connection came to its end.
pub(super) enum End {
    /// Somebody here wants it to.
    Dismissed(Dismissal),
    /// The player leaves for good.
    Bye,
    /// The connection is gone.
    Lost,
}

impl End {
    /// The client is told this and has to go.
    pub(super) fn refused(code: RefuseCode, words: impl Into<String>) -> Self {
        Self::Dismissed(Refusal::new(code, words).into())
    }
}
