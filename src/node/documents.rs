//! Documents: what outlives matches. A collection is a match of a game that a declaration generates
//! ([`rekindle_sim::Collection`]); here is how orders and questions come to it.
//!
//! There is one collection of a kind in a store. Its match has an id that follows from the kind, so
//! every node finds its row, and whoever needs it first creates it: the directory takes one row of
//! an id. Orders and questions go to the node that the row names, over the link between nodes
//! ([`Serving::ask_documents`]); there a `clerk` brings orders to the match, and questions are
//! answered from its memory. `reading` decides whether a question is answered from there or from
//! the store, which `stored` reads. `desk` takes what players' clients ask. `effects` stands before
//! the sink of the store and takes the calls of matches.

pub(super) mod clerk;
pub(super) mod desk;
pub mod effects;
pub mod reading;
pub mod stored;

use std::sync::Arc;
use std::time::Duration;

use rekindle_actors::MatchHandle;
use rekindle_schema::lease::{MatchSpec, MatchState};
use rekindle_schema::peer::{PeerReply, PeerRequest};
use rekindle_schema::{Incarnation, MatchId};
use rekindle_sim::GameType;
use rekindle_sim::documents::collection_id;
use rekindle_sim::documents::wire::{
    Call, Caller, CollectionInfo, Done, Order, Outcome, Plan, Question, Reply, Submission,
};
use rekindle_store::StoreError;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

use super::serving::Parts;
use super::whereabouts::Whereabouts;
use super::{ControlError, Serving};
use crate::clock;
pub(super) use clerk::Clerks;

/// How long an order or a question may look for its collection.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long one attempt may take.
const ONE_ATTEMPT: Duration = Duration::from_secs(5);
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(50);

/// What is asked of a collection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// Change it.
    Order(Order),
    /// Say something of it.
    Question(Question),
}

/// What a collection says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// What came of an order. It is durable.
    Outcome(Outcome),
    /// The answer to a question, as of a durable tick.
    Reply {
        /// What was found.
        reply: Reply,
        /// The collection's tick.
        tick: u64,
        /// The node that answered from its memory.
        node: String,
        /// How it was found; none from a node of an earlier release.
        #[serde(default)]
        plan: Option<Plan>,
    },
}

/// What a node has, in words, whose executable registers no documents.
pub const NO_KINDS: &str = "no kinds of documents: `Node::document` in `main` registers one";

/// Why a collection does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentsError {
    /// No such kind.
    #[error("RK-DOC-120: no kind of document `{kind}` here; this node has {known}")]
    NoKind {
        /// What was asked for.
        kind: String,
        /// What there is.
        known: String,
    },
    /// Nothing was done.
    #[error("RK-DOC-121: the documents cannot be reached now, nothing was done: {0}")]
    Unreachable(String),
    /// It may have been done.
    #[error(
        "RK-DOC-122: it is unknown whether the order was applied ({0}): read the document, and \
         call again with --if-version"
    )]
    Unknown(String),
    /// What the store has of it cannot be read.
    #[error(
        "RK-DOC-130: the documents of kind `{kind}` cannot be read from the store: {problem}; \
         `rekindle verify` looks for damage"
    )]
    Unreadable {
        /// The kind.
        kind: String,
        /// What is damaged, or differs.
        problem: String,
    },
    /// To read it might end the process.
    #[error(
        "RK-DOC-131: the documents of kind `{kind}` are not read from the store: their nodes died \
         early, and so may whoever replays them: {how}"
    )]
    Deadly {
        /// The kind.
        kind: String,
        /// How a process of its own fared.
        how: String,
    },
    /// Nobody has ever used this kind.
    #[error("RK-DOC-132: the store has no documents of kind `{0}` yet: the first order makes it")]
    NeverStored(String),
}

/// An order that no effect is.
pub fn order(player: Option<u64>, calls: Vec<Call>) -> Order {
    Order { caller: player.map_or(Caller::Operator, Caller::Player), source: None, calls }
}

impl DocumentsError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoKind { .. } => "RK-DOC-120",
            Self::Unreachable(_) => "RK-DOC-121",
            Self::Unknown(_) => "RK-DOC-122",
            Self::Unreadable { .. } => "RK-DOC-130",
            Self::Deadly { .. } => "RK-DOC-131",
            Self::NeverStored(_) => "RK-DOC-132",
        }
    }

    /// Why it is so, without the code.
    fn reason(&self) -> String {
        match self {
            Self::Unreachable(words) | Self::Unknown(words) => words.clone(),
            other => other.to_string(),
        }
    }
}

impl Serving {
    /// Has calls applied, all or none; `player` is for whom. Called for operators and backends.
    pub async fn call_documents(
        &self,
        kind: &str,
        player: Option<u64>,
        calls: Vec<Call>,
    ) -> Result<Vec<Done>, ControlError> {
        let order = order(player, calls);
        order.check()?;
        let count = order.calls.len();
        match self.ask_documents(kind, &Asked::Order(order)).await? {
            Told::Outcome(Outcome::Done(done)) => Ok(done),
            Told::Outcome(Outcome::Refused { at, why }) => {
                Err(ControlError::Document { why, which: (count > 1).then_some((at, count)) })
            }
            // It is said of effects alone.
            Told::Outcome(Outcome::Repeated | Outcome::Later) | Told::Reply { .. } => {
                Err(ControlError::Failed("the collection answered something else".to_owned()))
            }
        }
    }

    /// The collections that this executable declares.
    pub fn collections(&self) -> Vec<CollectionInfo> {
        self.parts().games.collections().collect()
    }

    /// Whether the matches of this game are a collection.
    pub(super) fn is_collection(&self, game: &str) -> bool {
        self.parts().games.get(game).is_ok_and(|game| game.collection().is_some())
    }

    /// Asks the collection of a kind, wherever it runs; if there is none yet, it is made. An order
    /// that comes of an effect may be asked for again, whatever came of it before.
    pub async fn ask_documents(&self, kind: &str, asked: &Asked) -> Result<Told, DocumentsError> {
        let harmless = match asked {
            Asked::Question(_) => true,
            Asked::Order(order) => order.source.is_some(),
        };
        let until = Instant::now() + PATIENCE;
        loop {
            let error = match self.ask_once(kind, asked).await {
                Ok(told) => return Ok(told),
                Err(error @ DocumentsError::NoKind { .. }) => return Err(error),
                Err(error) => error,
            };
            let again = harmless || matches!(error, DocumentsError::Unreachable(_));
            if !again || Instant::now() >= until {
                return Err(error);
            }
            sleep(AGAIN).await;
        }
    }

    /// One attempt to reach the collection of a kind where it runs.
    async fn ask_once(&self, kind: &str, asked: &Asked) -> Result<Told, DocumentsError> {
        let game = self.kind(kind)?;
        let attempt = self.attempt(collection_id(kind), &*game, asked);
        let silent = || DocumentsError::Unknown("no answer in time".to_owned());
        timeout(ONE_ATTEMPT, attempt).await.unwrap_or_else(|_| Err(silent()))
    }

    fn kind(&self, kind: &str) -> Result<Arc<dyn GameType>, DocumentsError> {
        let found = self.parts().games.get(kind).ok().filter(|game| game.collection().is_some());
        found.ok_or_else(|| DocumentsError::NoKind {
            kind: kind.to_owned(),
            known: match &self.collections()[..] {
                [] => NO_KINDS.to_owned(),
                all => all.iter().map(|found| &*found.kind).collect::<Vec<_>>().join(", "),
            },
        })
    }

    async fn attempt(
        &self,
        id: MatchId,
        game: &dyn GameType,
        asked: &Asked,
    ) -> Result<Told, DocumentsError> {
        let unreachable = |words: String| DocumentsError::Unreachable(words);
        let Parts { host, lookup, .. } = self.parts();
        if let Some(handle) = host.find(id) {
            return self.ask_here(&handle, asked).await;
        }
        let found = lookup.of(id).await.map_err(|error| unreachable(error.to_string()))?;
        match found {
            Whereabouts::At(owner) => self.ask_at(owner.incarnation, id, asked).await,
            Whereabouts::Here | Whereabouts::Nobody => {
                Err(unreachable(format!("collection {id} is between two owners")))
            }
            Whereabouts::Parked => Err(unreachable(format!(
                "collection {id} is parked: `rekindle match show {id}` says why"
            ))),
            Whereabouts::Ended(reason) => {
                Err(unreachable(format!("collection {id} was ended: {reason}")))
            }
            Whereabouts::Unknown => {
                let spec = MatchSpec {
                    game: game.name().to_owned(),
                    config: game.config_from_json("{}").map_err(|e| unreachable(e.to_string()))?,
                    // Nothing is drawn in it: the same everywhere.
                    seed: id.0,
                    tick_rate: game.tick_rate(),
                    house_bots: 0,
                    created_ms: clock::now_ms(),
                };
                // One node enters the row; who comes second finds it at the next attempt.
                let created = self.create_somewhere(id, spec).await;
                if created.is_ok() {
                    tracing::info!(
                        code = "RK-DOC-127", match_id = %id, kind = game.name(),
                        "the collection of this kind of document was created"
                    );
                }
                let words = created.err().map_or_else(String::new, |error| error.to_string());
                Err(unreachable(format!("the collection is being created: {words}")))
            }
        }
    }

    /// Over the link to the node that runs it.
    async fn ask_at(
        &self,
        owner: Incarnation,
        match_id: MatchId,
        asked: &Asked,
    ) -> Result<Told, DocumentsError> {
        let unknown = |words: String| DocumentsError::Unknown(words);
        let json = serde_json::to_string(asked).map_err(|error| unknown(error.to_string()))?;
        let Parts { peers, cluster, .. } = self.parts();
        let request = PeerRequest::Documents { match_id, json };
        let answered = tokio::select! {
            biased;
            answered = peers.call(owner, request, ONE_ATTEMPT) => answered,
            () = cluster.until_dead(owner) => {
                return Err(unknown("its node looks dead".to_owned()));
            }
        };
        match answered {
            Ok(PeerReply::Documents { json }) => {
                serde_json::from_str(&json).map_err(|error| unknown(error.to_string()))
            }
            Ok(PeerReply::Refused { words }) => Err(DocumentsError::Unreachable(words)),
            Ok(_) => Err(unknown("it answered something else".to_owned())),
            Err(error) if error.is_certain() => Err(DocumentsError::Unreachable(error.to_string())),
            Err(error) => Err(unknown(error.to_string())),
        }
    }

    /// For another node: the answer as JSON, none if it is unknown what came of an order; or, in
    /// words, that nothing was done.
    pub(super) async fn ask_collection_here(
        &self,
        match_id: MatchId,
        json: &str,
    ) -> Result<Option<String>, String> {
        let asked: Asked = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let found = self.parts().host.find(match_id);
        let handle = found.filter(|handle| self.is_collection(&handle.spec().game));
        let handle = handle.ok_or_else(|| format!("collection {match_id} does not run here"))?;
        match self.ask_here(&handle, &asked).await {
            Ok(told) => serde_json::to_string(&told).map(Some).map_err(|error| error.to_string()),
            Err(DocumentsError::Unknown(words)) => {
                tracing::warn!(
                    code = "RK-DOC-128", %match_id, words,
                    "an order from another node has an unknown outcome"
                );
                Ok(None)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    async fn ask_here(&self, handle: &MatchHandle, asked: &Asked) -> Result<Told, DocumentsError> {
        match asked {
            Asked::Order(order) => {
                let over = self.is_over(order).await;
                if over.map_err(|error| DocumentsError::Unreachable(error.to_string()))? {
                    return Ok(Told::Outcome(Outcome::Repeated));
                }
                let desk = self.clerks.of(handle, &self.parts().store);
                let submission = Submission::Order(order.clone());
                clerk::bring(&desk, submission).await.map(Told::Outcome)
            }
            Asked::Question(question) => self.read_here(handle, question).await,
        }
    }

    /// Whether an order is the effect of a match that is over. Such a match has delivered all its
    /// effects, and may be forgotten: this one comes from a node that does not know yet.
    async fn is_over(&self, order: &Order) -> Result<bool, StoreError> {
        let Some(source) = order.source else { return Ok(false) };
        let row = self.parts().store.leases.get(MatchId(source.match_id)).await?;
        Ok(row.is_none_or(|row| matches!(row.state, MatchState::Ended { .. })))
    }

    /// One document is looked up where the collection is; what goes through all of them is done on
    /// a copy, so that no match waits for it.
    async fn read_here(
        &self,
        handle: &MatchHandle,
        question: &Question,
    ) -> Result<Told, DocumentsError> {
        let unreachable = |words: &str| DocumentsError::Unreachable(words.to_owned());
        let encode = |question: &Question| {
            serde_json::to_vec(question).map_err(|error| unreachable(&error.to_string()))
        };
        let json = encode(question)?;
        let plan = encode(&Question::Plan(Box::new(question.clone())))?;
        let stopped = || unreachable("the collection stopped meanwhile");
        let ((answer, plan), tick) = if matches!(question, Question::Get { .. } | Question::Can(_))
        {
            let read = handle.read(move |world| (world.answer(&json), world.answer(&plan))).await;
            read.ok_or_else(stopped)?
        } else {
            let read = handle.read(move |world| (world.checkpoint(), world.answer(&plan))).await;
            let ((copy, plan), tick) = read.ok_or_else(stopped)?;
            let game = self.kind(&handle.spec().game)?;
            let work = move || game.restore(&copy).ok().and_then(|world| world.answer(&json));
            let answered = tokio::task::spawn_blocking(work).await;
            ((answered.map_err(|error| unreachable(&error.to_string()))?, plan), tick)
        };
        let reply = answer.and_then(|answer| serde_json::from_slice(&answer).ok());
        let reply = reply.ok_or_else(|| unreachable("the question panicked"))?;
        let plan = match plan.and_then(|plan| serde_json::from_slice(&plan).ok()) {
            Some(Reply::Plan(plan)) => Some(plan),
            _ => None,
        };
        Ok(Told::Reply { reply, tick: tick.0, node: self.name().to_owned(), plan })
    }
}
