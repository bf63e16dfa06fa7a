//! Documents, as players' clients ask for them over the edge ([`rekindle_door::DocumentDesk`]).
//!
//! A player calls as itself and is let by the policies of actions; it reads what the kind says that
//! players may (`read_by`). Called by [`super::super::links`].

use rekindle_door::DeskAnswer;
use rekindle_schema::PlayerId;
use rekindle_sim::documents::wire::{Call, Query, Question, Refusal};
use rekindle_sim::documents::words;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::order;
use super::reading::Wanted;
use crate::node::{ControlError, Serving};

/// What a client asks, as JSON.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Asked {
    /// Call these, all or none.
    Calls(Vec<Call>),
    /// Read a document.
    Get {
        /// Its key.
        key: String,
    },
    /// List documents.
    Query(Query),
    /// All aggregates.
    Stats,
    /// What would come of these calls.
    Can {
        /// The calls.
        calls: Vec<Call>,
    },
}

/// Asks the documents of a kind for a player.
pub(in crate::node) async fn ask(
    node: &Serving,
    player: PlayerId,
    kind: &str,
    json: &str,
) -> DeskAnswer {
    match answer(node, player, kind, json).await {
        Ok(answer) => DeskAnswer { done: true, json: answer.to_string() },
        Err(error) => refuse(&error),
    }
}

/// Nothing was done.
pub(in crate::node) fn refuse(error: &ControlError) -> DeskAnswer {
    let problem = json!({ "code": error.code(), "message": error.to_string() });
    DeskAnswer { done: false, json: problem.to_string() }
}

async fn answer(
    node: &Serving,
    PlayerId(player): PlayerId,
    kind: &str,
    json: &str,
) -> Result<Json, ControlError> {
    let asked = serde_json::from_str(json).map_err(|error| Refusal::Question {
        problem: format!("this is nothing that documents are asked: {}", words::of(&error)),
    })?;
    let question = match asked {
        Asked::Calls(calls) => {
            let done = node.call_documents(kind, Some(player), calls).await?;
            return Ok(json!({ "done": done }));
        }
        Asked::Get { key } => Question::Get { key },
        Asked::Query(query) => Question::Query(query),
        Asked::Stats => Question::Stats,
        Asked::Can { calls } => {
            let order = order(Some(player), calls);
            order.check()?;
            Question::Can(order)
        }
    };
    if let Some(info) = node.kind(kind)?.collection() {
        info.may_read(player, &question)?;
    }
    let wanted = Wanted { question, from: None, explain: false };
    let read = node.question_documents(kind, wanted).await?;
    Ok(json!({ "reply": read.reply_json(), "as_of_tick": read.tick }))
}
