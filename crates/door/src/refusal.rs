//! Why a client is not let in or has to go: one type for the match, the node and the edge.

use std::fmt;

use rekindle_schema::wire::{RefuseCode, ServerMessage};

/// Why a client is not let in, or has to go.
///
/// Made by whoever refuses: a match, the node that finds matches, or the edge. The edge sends it to
/// the client as [`ServerMessage::Refused`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For programs: the client decides by it whether to try again.
    pub code: RefuseCode,
    /// For people: what happened and what to do.
    pub words: String,
}

impl Refusal {
    /// `code` for programs, `words` for people.
    pub fn new(code: RefuseCode, words: impl Into<String>) -> Self {
        Self { code, words: words.into() }
    }
}

/// The words alone.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for ServerMessage {
    fn from(Refusal { code, words }: Refusal) -> Self {
        Self::Refused { code, message: words }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_hears_the_code_and_the_words() {
        let refusal = Refusal::new(RefuseCode::Full, "all 8 places are taken");
        assert_eq!(refusal.to_string(), "all 8 places are taken");
        let message = "all 8 places are taken".to_owned();
        assert_eq!(
            ServerMessage::from(refusal),
            ServerMessage::Refused { code: RefuseCode::Full, message }
        );
    }
}
