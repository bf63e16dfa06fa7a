//! Effects that call actions of documents: before the store's sink, which remembers them.
//!
//! The host delivers an effect again until its sink has it, one at a time and in order for each
//! match. So an effect is applied once if the collection drops what it has applied: it remembers
//! the newest effect of each match. A call that is refused is done with all the same: the log says
//! so, and the store remembers the refusal beside it.

use std::sync::{Arc, OnceLock, Weak};

use metrics::counter;
use rekindle_schema::MatchId;
use rekindle_schema::record::Effect;
use rekindle_sim::documents::CALL_EFFECT;
use rekindle_sim::documents::wire::{Caller, EffectCalls, Order, Outcome, Refusal, Source};
use rekindle_store::{EffectSink, Store, StoreError, StoreResult};
use serde_json::json;

use super::{Asked, DocumentsError, Told};
use crate::node::Serving;

/// The kind under which the store remembers an effect whose calls were refused.
pub const REFUSED: &str = "rekindle.call.refused";

/// The store, with calls going to the collections. `node` is set once it serves.
pub fn before(store: &Store, node: Arc<OnceLock<Weak<Serving>>>) -> Store {
    let mut store = store.clone();
    let behind = Arc::clone(&store.effects);
    store.effects = Arc::new(Calls { node, behind });
    store
}

/// The way to the collections, and the sink that remembers what went it.
struct Calls {
    node: Arc<OnceLock<Weak<Serving>>>,
    behind: Arc<dyn EffectSink>,
}

impl EffectSink for Calls {
    fn deliver(&self, match_id: MatchId, effect: Effect) -> StoreResult<'_, bool> {
        Box::pin(async move {
            let effect = match effect.kind.as_str() {
                CALL_EFFECT => self.call(match_id, effect).await?,
                _ => effect,
            };
            self.behind.deliver(match_id, effect).await
        })
    }

    fn delivered(&self) -> StoreResult<'_, Vec<(MatchId, Effect)>> {
        self.behind.delivered()
    }
}

impl Calls {
    /// Has the calls of an effect applied; returns what the store is to remember. An error: nobody
    /// knows yet, it is delivered again.
    async fn call(&self, match_id: MatchId, effect: Effect) -> Result<Effect, StoreError> {
        let asked: EffectCalls = match serde_json::from_slice(&effect.payload) {
            Ok(asked) => asked,
            Err(error) => {
                let why = Refusal::Malformed { problem: error.to_string() };
                return Ok(refused(match_id, &effect, 0, &why));
            }
        };
        let order = Order {
            caller: asked.player.map_or(Caller::Match(match_id.0), Caller::Player),
            source: Some(Source {
                match_id: match_id.0,
                tick: effect.id.tick.0,
                ordinal: effect.id.ordinal,
            }),
            calls: asked.calls,
        };
        // What no collection would look at does not travel either.
        if let Err(why) = order.check() {
            return Ok(refused(match_id, &effect, 0, &why));
        }
        let unavailable =
            |error: &dyn std::fmt::Display| StoreError::Unavailable(error.to_string());
        let Some(node) = self.node.get().and_then(Weak::upgrade) else {
            let error = DocumentsError::Unreachable("this node is starting".to_owned());
            return Err(unavailable(&error));
        };
        let told = node.ask_documents(&asked.kind, &Asked::Order(order)).await;
        match told.map_err(|error| unavailable(&error))? {
            Told::Outcome(Outcome::Done(_)) => {
                counter!("rekindle_document_calls_total", "outcome" => "done").increment(1);
                Ok(effect)
            }
            Told::Outcome(Outcome::Repeated) => {
                counter!("rekindle_document_calls_total", "outcome" => "repeated").increment(1);
                Ok(effect)
            }
            Told::Outcome(Outcome::Refused { at, why }) => Ok(refused(match_id, &effect, at, &why)),
            Told::Outcome(Outcome::Later) | Told::Reply { .. } => {
                Err(unavailable(&"the collection asks for a later attempt"))
            }
        }
    }
}

/// Says that calls were refused; returns what the store remembers instead of the effect.
fn refused(match_id: MatchId, effect: &Effect, at: usize, why: &Refusal) -> Effect {
    counter!("rekindle_document_calls_total", "outcome" => "refused").increment(1);
    let (tick, ordinal) = (effect.id.tick, effect.id.ordinal);
    tracing::warn!(
        code = "RK-DOC-125", %match_id, %tick, ordinal, call = at, %why,
        "a call of a match was refused, and changed nothing"
    );
    let asked = serde_json::from_slice::<serde_json::Value>(&effect.payload).ok();
    let words = why.to_string();
    let payload = json!({ "call": at, "refused": words, "asked": asked }).to_string();
    Effect { id: effect.id, kind: REFUSED.to_owned(), payload: payload.into() }
}
