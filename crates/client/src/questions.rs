//! What a client asks of documents: what waits to be sent, and what waits for its answer. Pure.

use std::collections::VecDeque;

use rekindle_schema::wire::DocumentsAsked;

use crate::error::ClientError;

/// Most questions that may wait to be sent.
pub const MAX_QUESTIONS: usize = 256;
/// Longest kind and JSON of a question together, in bytes: a server ends the session of a client
/// whose message has more than 16 KiB.
pub const MAX_QUESTION: usize = (16 << 10) - 32;
/// Most that are sent and not answered: a server refuses more.
const OPEN: usize = 4;

/// The questions of a client.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    waiting: VecDeque<DocumentsAsked>,
    /// Numbers of those that were sent over the connection at hand.
    open: Vec<u64>,
    /// The number of the newest one.
    newest: u64,
}

impl Questions {
    /// Puts a question behind the others; its number.
    pub(crate) fn ask(&mut self, kind: &str, json: String) -> Result<u64, ClientError> {
        let length = kind.len() + json.len();
        if length > MAX_QUESTION {
            return Err(ClientError::QuestionTooLong(length));
        }
        if self.waiting.len() >= MAX_QUESTIONS {
            return Err(ClientError::TooManyQuestions);
        }
        self.newest += 1;
        self.waiting.push_back(DocumentsAsked { id: self.newest, kind: kind.to_owned(), json });
        Ok(self.newest)
    }

    /// The next one to send, unless too many are open.
    pub(crate) fn next(&mut self) -> Option<DocumentsAsked> {
        let next = if self.open.len() < OPEN { self.waiting.pop_front() } else { None }?;
        self.open.push(next.id);
        Some(next)
    }

    /// An answer has come; whether it is one to an open question.
    pub(crate) fn answered(&mut self, id: u64) -> bool {
        let before = self.open.len();
        self.open.retain(|open| *open != id);
        self.open.len() < before
    }

    /// The connection is gone: the numbers of those that nobody will answer.
    pub(crate) fn lost(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.open)
    }

    /// The numbers of those that wait, which the server at hand does not understand.
    pub(crate) fn drop_waiting(&mut self) -> Vec<u64> {
        self.waiting.drain(..).map(|asked| asked.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use rekindle_schema::wire::{ClientMessage, encode_client};

    use super::*;

    #[test]
    fn four_are_open_at_a_time_and_each_answer_lets_the_next_one_go() {
        let mut questions = Questions::default();
        for number in 1..=6 {
            assert_eq!(questions.ask("profile", String::new()).unwrap(), number);
        }
        let sent: Vec<u64> = std::iter::from_fn(|| questions.next()).map(|sent| sent.id).collect();
        assert_eq!(sent, [1, 2, 3, 4]);
        assert!(questions.answered(2) && !questions.answered(2) && !questions.answered(5));
        assert_eq!(questions.next().map(|sent| sent.id), Some(5));
        assert_eq!(questions.lost(), [1, 3, 4, 5], "what was not sent is not lost");
        assert_eq!(questions.next().map(|sent| sent.id), Some(6));
    }

    #[test]
    fn a_question_for_which_a_server_would_end_the_session_is_not_sent() {
        let mut questions = Questions::default();
        let json = |length: usize| "x".repeat(length - "profile".len());
        let refused = questions.ask("profile", json(MAX_QUESTION + 1)).unwrap_err();
        assert!(matches!(refused, ClientError::QuestionTooLong(length) if length > MAX_QUESTION));
        questions.ask("profile", json(MAX_QUESTION)).unwrap();
        let mut longest = questions.next().expect("the one that fits");
        longest.id = u64::MAX;
        let bytes = encode_client(&ClientMessage::Documents(longest));
        assert!(bytes.len() - 4 <= 16 << 10, "{} bytes", bytes.len());
    }

    #[test]
    fn more_than_fit_are_refused() {
        let mut questions = Questions::default();
        for number in 1..=MAX_QUESTIONS as u64 {
            assert_eq!(questions.ask("profile", String::new()).unwrap(), number);
        }
        let refused = questions.ask("profile", String::new()).unwrap_err();
        assert!(matches!(refused, ClientError::TooManyQuestions));
        assert_eq!(questions.drop_waiting().len(), MAX_QUESTIONS);
    }
}
