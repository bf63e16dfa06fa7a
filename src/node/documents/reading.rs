//! Questions about documents: answered from the memory of the node that runs the collection, or
//! from the store; and said which of them, and why.
//!
//! The memory is asked first. While no node runs the collection, because its owner is down, parked
//! it or waits for another build, the store has the answer ([`super::stored`]). A caller may ask
//! for one of them by name.

use std::time::Duration;

use rekindle_schema::Tick;
use rekindle_sim::documents::wire::{Outcome, Plan, Question, Refusal, Reply};
use rekindle_sim::documents::words;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tokio::time::{Instant, sleep};

use super::stored::{Row, Shelf, state_words};
use super::{AGAIN, Asked, DocumentsError, PATIENCE, Told};
use crate::clock;
use crate::node::{ControlError, Serving};
use crate::text::counted;

/// Where an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The memory of the node that runs the collection.
    Memory,
    /// The newest checkpoint in the store, and the records behind it.
    Store,
}

/// A question, and how it is to be answered: the body of `POST /v1/documents/KIND/ask`.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// What is asked.
    pub question: Question,
    /// From where; without it the node decides.
    pub from: Option<Source>,
    /// Say why, and what it cost.
    pub explain: bool,
}

impl Wanted {
    /// The question as JSON with `from` and `explain` beside it.
    pub fn to_json(&self) -> Json {
        let mut body = match serde_json::to_value(&self.question).unwrap_or_default() {
            // A question without arguments is its name.
            Json::String(name) => json!({ name: null }),
            other => other,
        };
        if let Some(from) = self.from {
            body["from"] = serde_json::to_value(from).unwrap_or_default();
        }
        if self.explain {
            body["explain"] = Json::Bool(true);
        }
        body
    }

    /// Reads what [`Wanted::to_json`] makes, and questions alone. An error says what is wrong.
    pub fn from_json(mut body: Json) -> Result<Self, Refusal> {
        let wrong = |what: &str, error: &serde_json::Error| Refusal::Question {
            problem: format!("{what}: {}", words::of(error)),
        };
        let mut take = |name: &str| {
            let fields = body.as_object_mut()?;
            fields.remove(name).filter(|value| !value.is_null())
        };
        let from = take("from").map(serde_json::from_value).transpose();
        let from = from.map_err(|error| wrong("`from` is `memory` or `store`", &error))?;
        let explain = take("explain").map(serde_json::from_value).transpose();
        let explain = explain.map_err(|error| wrong("`explain` is true or false", &error))?;
        let question =
            serde_json::from_value(body).map_err(|error| wrong("this is no question", &error))?;
        Ok(Self { question, from, explain: explain.unwrap_or(false) })
    }
}

/// Why an answer comes from where it does, and what it cost. For people and for scripts, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Explained {
    /// Why this source, in words.
    pub why: String,
    /// The node that owns the collection by the directory, if the store knows its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The state of the collection's match: `running`, `parked`, `ended`; none if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// How the documents were found, and how many were looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// From the store: how long before the answer its newest record was written, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// From the store: the last record that is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// From the store: the tick of the checkpoint that it rests on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_tick: Option<u64>,
    /// From the store: ticks that were made again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed_ticks: Option<u64>,
    /// From the store: it was built for a question a moment before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<bool>,
    /// How long the answer took, in microseconds.
    pub took_us: u64,
}

impl Explained {
    /// Adds what the directory says of the collection, as far as the store answers.
    async fn of_row(&mut self, shelf: &Shelf, kind: &str) {
        let Ok(Some(Row { lease, owner })) = shelf.row(kind).await else { return };
        self.owner = owner.map(|owner| owner.name);
        self.state = Some(state_words(&lease.state).to_owned());
    }

    /// For people, a line for each thing.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.why.clone()];
        let owner = self.owner.as_ref().map(|owner| format!(", owned by node {owner}"));
        let owner = owner.unwrap_or_default();
        lines.extend(self.state.as_ref().map(|state| format!("the collection is {state}{owner}")));
        lines.extend(self.plan.map(|plan| format!("documents found {plan}")));
        if let (Some(seq), Some(replayed)) = (self.seq, self.replayed_ticks) {
            let begins = self.checkpoint_tick.map_or_else(
                || "from its beginning".to_owned(),
                |tick| format!("from the checkpoint of tick {tick}"),
            );
            let kept = if self.kept == Some(true) { ", kept from a moment before" } else { "" };
            let ticks = counted(replayed as usize, "tick", "ticks");
            lines.push(format!("built {begins} and {ticks} behind it, to record {seq}{kept}"));
        }
        lines.extend(self.age_ms.map(|age| format!("its newest record is {age} ms old")));
        lines.push(format!("answered in {} us", self.took_us));
        lines
    }
}

/// An answer to a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// What was found.
    pub reply: Reply,
    /// The collection's tick as of which it is true: all of it is durable.
    pub tick: u64,
    /// The node that answered.
    pub node: String,
    /// From where.
    pub source: Source,
    /// Why.
    pub explained: Explained,
}

impl Read {
    /// What was found, as JSON. A refusal has its code and words besides.
    pub fn reply_json(&self) -> Json {
        let mut json = serde_json::to_value(&self.reply).unwrap_or_default();
        if let Reply::Can(Outcome::Refused { why, .. }) = &self.reply {
            let refused = &mut json["can"]["refused"];
            (refused["code"], refused["message"]) = (why.code().into(), why.to_string().into());
        }
        json
    }
}

/// Why the store is asked, if it was asked for.
const ASKED_FOR: &str = "the caller asked for the store";

impl Source {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Store => "store",
        }
    }
}

impl Serving {
    /// Answers a question; without `from`, from memory if a node runs the collection, else from
    /// the store.
    pub async fn question_documents(
        &self,
        kind: &str,
        wanted: Wanted,
    ) -> Result<Read, ControlError> {
        let began = Instant::now();
        let Wanted { question, from, explain } = wanted;
        let mut read = match from {
            Some(Source::Memory) => {
                let told = self.ask_documents(kind, &Asked::Question(question)).await?;
                from_memory(told, "the caller asked for the memory")?
            }
            Some(Source::Store) => {
                self.kind(kind)?;
                from_store(&self.shelf, self.name(), kind, &question, ASKED_FOR).await?
            }
            None => self.memory_or_store(kind, question).await?,
        };
        if read.source == Source::Memory {
            self.shelf.told(kind, Tick(read.tick));
        }
        if explain {
            read.explained.of_row(&self.shelf, kind).await;
        }
        finished(read, began.elapsed())
    }

    /// The memory once, then the store. Both again if neither has it yet.
    async fn memory_or_store(&self, kind: &str, question: Question) -> Result<Read, ControlError> {
        let asked = Asked::Question(question.clone());
        let until = Instant::now() + PATIENCE;
        loop {
            let not_here = match self.ask_once(kind, &asked).await {
                Ok(told) => return from_memory(told, "a node runs the collection"),
                Err(error @ DocumentsError::NoKind { .. }) => return Err(error.into()),
                Err(error) => error,
            };
            let why = format!("no node answers from memory: {}", not_here.reason());
            match from_store(&self.shelf, self.name(), kind, &question, &why).await {
                // It is being made, or goes from one owner to the next.
                Err(ControlError::Documents(
                    DocumentsError::NeverStored(_) | DocumentsError::Unreachable(_),
                )) if Instant::now() < until => {}
                Err(ControlError::Documents(DocumentsError::NeverStored(_))) => {
                    return Err(not_here.into());
                }
                read => return read,
            }
            sleep(AGAIN).await;
        }
    }
}

fn from_memory(told: Told, why: &str) -> Result<Read, ControlError> {
    let Told::Reply { reply, tick, node, plan } = told else {
        let words = "the collection answered something else".to_owned();
        return Err(ControlError::Failed(words));
    };
    let explained = Explained { why: why.to_owned(), plan, ..Explained::default() };
    Ok(Read { reply, tick, node, source: Source::Memory, explained })
}

/// Answers from the store, where no node is asked. Called by `rekindle doc`.
pub async fn without_a_node(
    shelf: &Shelf,
    kind: &str,
    question: &Question,
    why: &str,
) -> Result<Read, ControlError> {
    let began = Instant::now();
    let mut read = from_store(shelf, "this command", kind, question, why).await?;
    read.explained.of_row(shelf, kind).await;
    finished(read, began.elapsed())
}

async fn from_store(
    shelf: &Shelf,
    me: &str,
    kind: &str,
    question: &Question,
    why: &str,
) -> Result<Read, ControlError> {
    let stored = shelf.answer(kind, question).await?;
    let stored = stored.ok_or_else(|| DocumentsError::NeverStored(kind.to_owned()))?;
    let age_ms = stored.written_ms.map(|written| clock::now_ms().saturating_sub(written));
    let explained = Explained {
        plan: stored.plan,
        age_ms,
        seq: Some(stored.seq.0),
        checkpoint_tick: stored.checkpoint.map(|tick| tick.0),
        replayed_ticks: Some(stored.replayed),
        kept: Some(stored.kept),
        why: why.to_owned(),
        ..Explained::default()
    };
    let (node, tick) = (me.to_owned(), stored.tick.0);
    Ok(Read { reply: stored.reply, tick, node, source: Source::Store, explained })
}

/// A question that makes no sense is refused, wherever that was found out.
fn finished(mut read: Read, took: Duration) -> Result<Read, ControlError> {
    if let Reply::Refused(why) = read.reply {
        return Err(why.into());
    }
    read.explained.took_us = took.as_micros() as u64;
    Ok(read)
}
