//! Has the node ask documents for a player: what a client says on its stream, and the answer.
//!
//! Questions of one connection wait in a queue of their own, so that the commands behind them do
//! not wait while a collection has no node. Called by [`crate::connection`]; bounds how many
//! clients ask at once.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_door::{DeskAnswer, DocumentDesk, NodeSide};
use rekindle_schema::PlayerId;
use rekindle_schema::wire::{DocumentsAsked, MAX_DOCUMENTS_JSON, ServerMessage, encode_server};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use crate::meters::Meters;
use crate::seat::Seat;

/// How many questions of a connection may wait.
const QUESTIONS: usize = 4;
/// How many clients are served at once; the others wait for their turn.
const CLIENTS_AT_ONCE: usize = 64;
/// How long a question waits for its turn.
const TURN_PATIENCE: Duration = Duration::from_secs(5);
/// Longest name of a kind that is handed on, in bytes.
const MAX_KIND: usize = 64;

/// The documents of the node's cluster, as the edge asks for them.
pub(crate) struct Desk {
    node: Arc<dyn DocumentDesk>,
    turns: Semaphore,
}

impl Desk {
    pub(crate) fn new(node: Arc<dyn NodeSide>) -> Self {
        Self { node, turns: Semaphore::new(CLIENTS_AT_ONCE) }
    }

    async fn ask(&self, player: PlayerId, kind: &str, json: &str) -> DeskAnswer {
        if kind.len() > MAX_KIND {
            return refused("RK-GATE-169", &format!("a kind has at most {MAX_KIND} bytes"));
        }
        let Ok(Ok(_turn)) = timeout(TURN_PATIENCE, self.turns.acquire()).await else {
            return refused("RK-GATE-172", "too many ask documents here: ask again in a moment");
        };
        let answer = self.node.ask(player, kind, json).await;
        if answer.json.len() > MAX_DOCUMENTS_JSON {
            let words = format!(
                "what was asked was done; its answer has {} bytes, and {MAX_DOCUMENTS_JSON} fit",
                answer.json.len()
            );
            return refused("RK-GATE-170", &words);
        }
        answer
    }
}

/// What a client is told that the edge does not ask for.
fn refused(code: &str, words: &str) -> DeskAnswer {
    let message = format!("{code}: {words}");
    let json = serde_json::json!({ "code": code, "message": message }).to_string();
    DeskAnswer { done: false, json }
}

fn tell(seat: &Seat, id: u64, DeskAnswer { done, json }: DeskAnswer) {
    Meters::documents(if done { "done" } else { "refused" });
    seat.tell(encode_server(&ServerMessage::Documents { id, done, json }));
}

/// The questions of a connection that wait for their turn. It takes no memory until there is one:
/// most clients never ask.
#[derive(Default)]
pub(crate) struct Questions {
    waiting: Mutex<VecDeque<DocumentsAsked>>,
    more: Notify,
}

impl Questions {
    /// Puts a question behind those that wait, or says that there are too many.
    pub(crate) fn put(&self, seat: &Seat, asked: DocumentsAsked) {
        let id = asked.id;
        let fits = {
            let mut waiting = self.waiting.lock();
            let fits = waiting.len() < QUESTIONS;
            if fits {
                waiting.push_back(asked);
            }
            fits
        };
        if fits {
            self.more.notify_one();
        } else {
            let words = format!("{QUESTIONS} questions wait for their answers: wait for one");
            tell(seat, id, refused("RK-GATE-168", &words));
        }
    }

    /// Answers them, one after the other, for as long as the connection stays.
    pub(crate) async fn answer(&self, desk: &Desk, seat: &Seat) -> Infallible {
        loop {
            let next = self.waiting.lock().pop_front();
            match next {
                Some(DocumentsAsked { id, kind, json }) => {
                    tell(seat, id, desk.ask(seat.player, &kind, &json).await);
                }
                None => self.more.notified().await,
            }
        }
    }
}
