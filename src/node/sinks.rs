//! What an executable does with effects of its games: functions of its own, by kind of effect.
//!
//! They stand in front of the store's sink. The host delivers an effect again until its sink says
//! that it has it, so a function is called until it succeeds; only then the store remembers the
//! effect, and the match is told that it is done.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rekindle_schema::MatchId;
use rekindle_schema::record::{Effect, EffectId};
use rekindle_sim::{Event, delivery_kind, value};
use rekindle_store::{EffectSink, Store, StoreError, StoreResult};
use tokio::time::timeout;

use super::webhook::Webhook;

/// How long one call may take. An effect waits for the one before it of the same match.
const PATIENCE: Duration = Duration::from_secs(10);

/// An event of a match, for a function of the executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered<E> {
    /// The match in which it happened.
    pub match_id: MatchId,
    /// Names it within its match for ever: a function that is called again after a crash tells by
    /// match and id what it has done already.
    pub id: EffectId,
    /// What happened.
    pub event: E,
}

type Outcome = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// A function that is given effects of one kind.
type Function = Arc<dyn Fn(MatchId, Effect) -> Outcome + Send + Sync>;

/// What an executable does with effects.
#[derive(Clone, Default)]
pub struct Sinks {
    /// Functions, by the kind of effect that they are for.
    functions: BTreeMap<String, Vec<Function>>,
    /// Where effects are posted.
    pub webhooks: Vec<Webhook>,
}

impl Sinks {
    /// `function` is given the effects of this kind, after those that were added before.
    pub fn add<F, R>(&mut self, kind: &str, function: F)
    where
        F: Fn(MatchId, Effect) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        let function: Function =
            Arc::new(move |match_id, effect| Box::pin(function(match_id, effect)));
        self.functions.entry(kind.to_owned()).or_default().push(function);
    }

    /// `function` is given the events that games declare as delivered, under this id.
    pub fn add_event<E, F, R>(&mut self, function: F)
    where
        E: Event,
        F: Fn(Delivered<E>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        let function: Function = Arc::new(move |match_id, effect| {
            match value::from_bytes::<E>(&effect.payload) {
                Ok(event) => Box::pin(function(Delivered { match_id, id: effect.id, event })),
                Err(error) => {
                    // To ask again would not help, and would keep the match from its end.
                    let (tick, ordinal) = (effect.id.tick, effect.id.ordinal);
                    tracing::error!(
                        code = "RK-NODE-290", %match_id, %tick, ordinal, kind = E::ID, %error,
                        "a delivered event cannot be read; its function is not called, the store \
                         keeps its bytes"
                    );
                    Box::pin(std::future::ready(Ok(())))
                }
            }
        });
        self.functions.entry(delivery_kind(E::ID)).or_default().push(function);
    }

    /// The store with these functions in front of its sink.
    pub(super) fn before(self, store: &Store) -> Store {
        let mut store = store.clone();
        if !self.functions.is_empty() {
            let behind = Arc::clone(&store.effects);
            store.effects = Arc::new(InFront { sinks: self, behind });
        }
        store
    }
}

/// The functions, and the sink that remembers what they have done.
struct InFront {
    sinks: Sinks,
    behind: Arc<dyn EffectSink>,
}

impl EffectSink for InFront {
    fn deliver(&self, match_id: MatchId, effect: Effect) -> StoreResult<'_, bool> {
        Box::pin(async move {
            for function in self.sinks.functions.get(&effect.kind).into_iter().flatten() {
                call(function, match_id, &effect).await?;
            }
            self.behind.deliver(match_id, effect).await
        })
    }

    fn delivered(&self) -> StoreResult<'_, Vec<(MatchId, Effect)>> {
        self.behind.delivered()
    }
}

/// Calls a function once. It runs in a task of its own: one that panics fails alone.
async fn call(function: &Function, match_id: MatchId, effect: &Effect) -> Result<(), StoreError> {
    let (function, given) = (Arc::clone(function), effect.clone());
    let mut task = tokio::spawn(async move { function(match_id, given).await });
    let words = match timeout(PATIENCE, &mut task).await {
        Ok(Ok(Ok(()))) => return Ok(()),
        Ok(Ok(Err(words))) => words,
        Ok(Err(_)) => "it panicked".to_owned(),
        Err(_) => {
            task.abort();
            format!("no answer within {} s", PATIENCE.as_secs())
        }
    };
    let kind = &effect.kind;
    Err(StoreError::Unavailable(format!(
        "RK-NODE-280: the executable's sink for effects of kind `{kind}` failed: {words}"
    )))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use rekindle_schema::Tick;
    use rekindle_store_memory::MemoryStore;

    use super::*;

    const MATCH: MatchId = MatchId(7);

    fn effect(ordinal: u32, kind: &str) -> Effect {
        let id = EffectId { tick: Tick(9), ordinal };
        Effect { id, kind: kind.to_owned(), payload: (&b"[1]"[..]).into() }
    }

    #[tokio::test]
    async fn a_function_is_called_until_it_succeeds_and_the_store_has_it_only_then() {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let mut sinks = Sinks::default();
        let noted = Arc::clone(&calls);
        sinks.add("result", move |match_id, effect: Effect| {
            let mut calls = noted.lock().unwrap();
            calls.push((match_id, effect.id));
            let call = calls.len();
            async move {
                match call {
                    1 => Err("the backend is away".to_owned()),
                    2 => panic!("a fault of the function"),
                    _ => Ok(()),
                }
            }
        });
        let store = sinks.before(&MemoryStore::new().store());
        for words in ["the backend is away", "it panicked"] {
            let error = store.effects.deliver(MATCH, effect(0, "result")).await.unwrap_err();
            assert!(error.is_transient() && error.to_string().contains(words), "{error}");
            assert!(error.to_string().contains("RK-NODE-280"), "{error}");
            assert_eq!(store.effects.delivered().await.unwrap(), []);
        }
        assert!(store.effects.deliver(MATCH, effect(0, "result")).await.unwrap());
        // Of another kind: the store alone has it.
        assert!(store.effects.deliver(MATCH, effect(1, "loot")).await.unwrap());
        assert_eq!(*calls.lock().unwrap(), [(MATCH, effect(0, "").id); 3]);
        assert_eq!(store.effects.delivered().await.unwrap().len(), 2);
    }

    /// A kill.
    #[derive(Debug, Clone, PartialEq, Event)]
    #[event(id = "kill")]
    struct Kill {
        victim: u64,
    }

    #[tokio::test]
    async fn delivered_events_are_read_and_bytes_of_another_kind_hold_nobody_up() {
        let given = Arc::new(Mutex::new(Vec::new()));
        let mut sinks = Sinks::default();
        let noted = Arc::clone(&given);
        sinks.add_event::<Kill, _, _>(move |delivered| {
            noted.lock().unwrap().push(delivered);
            std::future::ready(Ok(()))
        });
        let store = sinks.before(&MemoryStore::new().store());
        let mut kill = effect(0, &delivery_kind("kill"));
        kill.payload = value::to_bytes(&Kill { victim: 3 }).into();
        assert!(store.effects.deliver(MATCH, kill.clone()).await.unwrap());
        // Bytes of another build.
        assert!(store.effects.deliver(MATCH, effect(1, &kill.kind)).await.unwrap());
        let event = Kill { victim: 3 };
        let expected = Delivered { match_id: MATCH, id: kill.id, event };
        assert_eq!(*given.lock().unwrap(), [expected]);
        assert_eq!(store.effects.delivered().await.unwrap().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_function_that_never_returns_is_given_up_and_called_again() {
        let mut sinks = Sinks::default();
        sinks.add("result", |_, _| std::future::pending());
        let store = sinks.before(&MemoryStore::new().store());
        let error = store.effects.deliver(MATCH, effect(0, "result")).await.unwrap_err();
        assert!(error.to_string().contains("no answer within 10 s"), "{error}");
    }
}
