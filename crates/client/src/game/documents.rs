//! What a player's client asks of documents, in the types that declare them.
//!
//! ```no_run
//! # use rekindle_client::{GameClient, GameError};
//! # use rekindle_sim::doc_game::Duel;
//! # use rekindle_sim::{Action, Component, Declaration, Document, Who};
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Debug, Clone, PartialEq, Component, Serialize)]
//! # #[component(id = "profile")]
//! # struct Profile { credits: i64, hat: String }
//! # const DRESS: Action<Profile, String> = Action::new("dress");
//! impl Document for Profile {
//!     const KIND: &'static str = "profile";
//!
//!     fn declare(profile: &mut Declaration<Self>) {
//!         profile.read_by([Who::Owner]);
//!         profile
//!             .upsert(DRESS, |profile, hat, _| {
//!                 profile.hat = hat;
//!                 Ok(())
//!             })
//!             .by([Who::Owner]);
//!     }
//! }
//!
//! # async fn dress(client: &mut GameClient<Duel>) -> Result<(), GameError> {
//! let player = client.joined().await?.player;
//! let done = client.call::<Profile>(vec![DRESS.on(player, &"bowler".to_owned())]).await?;
//! let own = client.get::<Profile>(&player.to_string()).await?;
//! assert_eq!(own.map(|row| row.version), Some(done[0].version));
//! # Ok(())
//! # }
//! ```

use rekindle_sim::documents::wire::{Call, Done, Query, Question, Reply, Row};
use rekindle_sim::{Document, Game};
use serde::{Deserialize, Serialize};

use super::{GameClient, GameError};
use crate::event::{ClientEvent, DocumentsAnswer};

/// The code of a server that does not know whether an order was applied.
const UNKNOWN: &str = "RK-DOC-122";

/// The answer to an order.
#[derive(Deserialize)]
struct Ordered {
    done: Vec<Done>,
}

/// The answer to a question.
#[derive(Deserialize)]
struct Replied {
    reply: Reply,
}

/// Why something was not done.
#[derive(Deserialize)]
struct Problem {
    code: String,
    message: String,
}

impl<G: Game> GameClient<G> {
    /// Calls actions of documents as this player, all of them or none, and waits until that is
    /// durable.
    ///
    /// # Errors
    /// [`GameError::Documents`] with the code of the refusal: nothing was changed, but for
    /// `RK-GATE-170`, whose answer was too long. [`GameError::Unknown`] if the connection broke or
    /// the node of the documents died meanwhile.
    pub async fn call<D: Document>(&mut self, calls: Vec<Call>) -> Result<Vec<Done>, GameError> {
        #[derive(Serialize)]
        struct Order {
            calls: Vec<Call>,
        }
        Ok(self.asked::<D, Ordered>(&Order { calls }).await?.done)
    }

    /// Reads a document.
    ///
    /// # Errors
    /// As [`GameClient::call`]; if the kind does not let this player read it (`read_by`).
    pub async fn get<D: Document>(&mut self, key: &str) -> Result<Option<Row>, GameError> {
        match self.asked::<D, Replied>(&Question::Get { key: key.to_owned() }).await?.reply {
            Reply::Document(row) => Ok(row),
            other => Err(other_answer(D::KIND, &other)),
        }
    }

    /// Lists documents, if the kind lets players ([`Who::Player`](rekindle_sim::Who)).
    ///
    /// # Errors
    /// As [`GameClient::get`].
    pub async fn query<D: Document>(&mut self, query: Query) -> Result<Vec<Row>, GameError> {
        match self.asked::<D, Replied>(&Question::Query(query)).await?.reply {
            Reply::Rows { rows, .. } => Ok(rows),
            other => Err(other_answer(D::KIND, &other)),
        }
    }

    /// Asks, and waits for the answer. Other events wait for those who ask for them.
    async fn asked<D: Document, A: for<'a> Deserialize<'a>>(
        &mut self,
        asked: &impl Serialize,
    ) -> Result<A, GameError> {
        let unreadable = |problem: String| GameError::Answer { kind: D::KIND, problem };
        let json = serde_json::to_string(asked).map_err(|error| unreadable(error.to_string()))?;
        let number = self.client.ask_documents(D::KIND, json)?;
        let answer = self.wait(|event| match event {
            ClientEvent::DocumentsDone { id, answer } if *id == number => Some(Ok(answer.clone())),
            _ => None,
        });
        match answer.await? {
            DocumentsAnswer::Done(json) => {
                serde_json::from_str(&json).map_err(|error| unreadable(error.to_string()))
            }
            DocumentsAnswer::Refused(json) => {
                let Problem { code, message } =
                    serde_json::from_str(&json).map_err(|error| unreadable(error.to_string()))?;
                // The server asked, and was not told either.
                if code == UNKNOWN {
                    return Err(GameError::Unknown { kind: D::KIND });
                }
                Err(GameError::Documents { code, message })
            }
            DocumentsAnswer::Unknown => Err(GameError::Unknown { kind: D::KIND }),
        }
    }
}

fn other_answer(kind: &'static str, reply: &Reply) -> GameError {
    match reply {
        Reply::Refused(why) => {
            GameError::Documents { code: why.code().to_owned(), message: why.to_string() }
        }
        other => GameError::Answer { kind, problem: format!("{other:?} answers something else") },
    }
}
