//! Carries out what a [`Source`] decides. Called for one match at a time by whoever moves matches:
//! an operator's order, a drain, the rebalancing.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, OptionFuture};
use rekindle_schema::lease::MatchLease;
use rekindle_schema::peer::PeerRequest;
use rekindle_schema::{Incarnation, MatchId, Tick};
use rekindle_store::{Store, StoreError};
use tokio::time::{Instant, sleep_until};

use super::hands::Hands;
use super::source::{Effect, Event, Move, Outcome, Patience, Source, Swapped};
use crate::bus::PeerBus;

/// How long the target may take to begin to follow, or to run what it follows.
const SLOW: Duration = Duration::from_secs(5);
/// How long it may take to say where it stands.
const QUICK: Duration = Duration::from_secs(1);

/// What moving matches takes.
#[derive(Clone)]
pub struct Giving {
    /// Asks the target.
    pub peers: Arc<dyn PeerBus>,
    /// Has the row.
    pub store: Store,
    /// Runs the match.
    pub hands: Arc<dyn Hands>,
}

/// Moves a match. Dropping this in the middle leaves the match as it stands, perhaps stopped: give
/// it a task of its own.
pub async fn give(parts: &Giving, order: Move, patience: Patience) -> Outcome {
    let begun = Instant::now();
    let now = || begun.elapsed().as_millis() as u64;
    let mut core = Source::new(order, patience);
    let mut effects: VecDeque<Effect> = core.begin(now()).into();
    let mut wakes = BTreeSet::new();
    let mut work: Option<BoxFuture<'_, Event>> = None;
    loop {
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Wake(at) => {
                    wakes.insert(at);
                }
                Effect::Tell(request) => tell(parts, order.target, request).await,
                Effect::Keep => said(order.match_id, parts.hands.keep(order.match_id).await),
                Effect::KeepAs(row) => said(order.match_id, parts.hands.keep_as(*row).await),
                Effect::LetGo => parts.hands.let_go(order.match_id).await,
                Effect::Ended(outcome) => return outcome,
                asks => work = begin(parts, order, patience, asks),
            }
        }
        assert!(work.is_some() || !wakes.is_empty(), "a migration waits for something");
        let next = wakes.first().copied();
        let sleep =
            OptionFuture::from(next.map(|at| sleep_until(begun + Duration::from_millis(at))));
        let event = tokio::select! {
            biased;
            Some(event) = OptionFuture::from(work.as_mut()) => {
                work = None;
                event
            }
            Some(()) = sleep => {
                wakes.pop_first();
                Event::Time
            }
        };
        effects.extend(
            core.handle(now().max(next.filter(|_| event == Event::Time).unwrap_or(0)), event),
        );
    }
}

/// Begins what takes time and ends with an event. At most one such thing is under way: the core
/// asks for the next when it has the answer, or does not want it any more.
fn begin(
    parts: &Giving,
    order: Move,
    patience: Patience,
    effect: Effect,
) -> Option<BoxFuture<'_, Event>> {
    let Move { match_id, target, .. } = order;
    Some(match effect {
        Effect::Ask(request) => async move {
            let reply = parts
                .peers
                .call(target, request.clone(), how_long(&request, patience))
                .await
                .map_err(|error| error.to_string());
            let tick = parts.hands.tick(match_id).unwrap_or(Tick(0));
            Event::Answered { reply, tick }
        }
        .boxed(),
        Effect::Stop => parts.hands.stop(match_id).map(Event::Halted).boxed(),
        Effect::Read => async move {
            let row = read(&parts.store, match_id).await.map_err(|error| error.to_string());
            Event::Read { row, next_batch: parts.hands.next_batch() }
        }
        .boxed(),
        Effect::Swap(row) => async move { Event::Swapped(swap(&parts.store, *row).await) }.boxed(),
        _ => return None,
    })
}

fn how_long(request: &PeerRequest, patience: Patience) -> Duration {
    match request {
        PeerRequest::Stopped { .. } => Duration::from_millis(patience.ready_ms),
        PeerRequest::Follow { .. } | PeerRequest::Yours { .. } => SLOW,
        _ => QUICK,
    }
}

/// The row of a match as it stands now.
pub(super) async fn read(
    store: &Store,
    match_id: MatchId,
) -> Result<Option<Box<MatchLease>>, StoreError> {
    Ok(store.leases.get(match_id).await?.map(Box::new))
}

async fn swap(store: &Store, row: MatchLease) -> Swapped {
    match store.leases.compare_and_set(row).await {
        Ok(Ok(())) => Swapped::Done,
        Ok(Err(standing)) => Swapped::Stands(standing.map(Box::new)),
        // These say that the request makes no sense to the store.
        Err(error @ (StoreError::Refused { .. } | StoreError::TooLarge { .. })) => {
            Swapped::Refused(error.to_string())
        }
        Err(error) => {
            tracing::warn!(code = "RK-CLUSTER-120", %error, "it is not known whether a match has \
                changed hands; it stands still until the store says so");
            Swapped::Unknown(error.to_string())
        }
    }
}

/// Waits for the answer only so that a migration that begins right behind this one is not meant by
/// it. A target that does not hear it finds out by itself.
async fn tell(parts: &Giving, target: Incarnation, request: PeerRequest) {
    let _ = parts.peers.call(target, request, QUICK).await;
}

fn said(match_id: MatchId, done: Result<(), String>) {
    if let Err(problem) = done {
        tracing::error!(code = "RK-CLUSTER-123", %match_id, problem, "a match that did not move \
            does not go on");
    }
}
