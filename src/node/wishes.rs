//! What operators want of nodes: that they be drained, decommissioned, or neither. [`set`] enters a
//! wish into the store, called by commands and by whichever node is asked; `keep` carries out the
//! wishes about this node. What follows from a wish is decided in
//! [`rekindle_cluster::placement::emptying`].

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rekindle_actors::MatchPhase;
use rekindle_cluster::placement::emptying::{Effect, Emptying, Event, Held, Pace};
use rekindle_schema::MatchId;
use rekindle_schema::lease::NodeState;
use rekindle_schema::wish::{DrainProgress, NodeWish, Wanted};
use rekindle_store::{Store, StoreError, wishes};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::migrate::Plan;
use super::serving::Parts;
use super::{ControlError, Serving};
use crate::clock;

/// How often the node looks what is wanted of it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a node that is being emptied looks at its matches.
const ROUND: Duration = Duration::from_millis(50);
/// How often it tells how far it has come, at most.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// After so long it is read again where matches can go.
const PLAN_FOR: Duration = Duration::from_secs(1);

/// What has come of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wished {
    /// What was wanted of the node before.
    pub before: Option<Wanted>,
    /// A process of the node runs, by its lease.
    pub runs: bool,
}

/// Enters what is wanted of the node of this name; `None`: that it serves. Refused for a node of
/// which the store knows nothing.
pub async fn set(
    store: &Store,
    name: &str,
    wanted: Option<Wanted>,
    who: &str,
) -> Result<Wished, ControlError> {
    let before = wishes::of(store, name).await?.map(|wish| wish.wanted);
    let nodes = store.leases.nodes().await?;
    let known = nodes.iter().any(|node| node.name == name);
    if !known && before.is_none() {
        return Err(ControlError::NoNode(name.to_owned()));
    }
    let runs = nodes.iter().any(|node| node.name == name && node.state == NodeState::Live);
    match wanted {
        Some(wanted) => {
            let (node, who) = (name.to_owned(), who.to_owned());
            let wish = NodeWish { node, wanted, since_ms: clock::now_ms(), who };
            wishes::wish(store, &wish).await?;
        }
        None => {
            wishes::take_back(store, name).await?;
        }
    }
    Ok(Wished { before, runs })
}

/// Carries out what operators want of this node.
pub(super) async fn keep(node: &Arc<Serving>) -> Infallible {
    let (done, mut came) = mpsc::channel(Pace::default().at_once);
    let mut keeper = Keeper::new(Arc::clone(node), done);
    let mut looked = None::<Instant>;
    loop {
        if looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            looked = Some(Instant::now());
            keeper.look().await;
        }
        let wait = if keeper.emptying.wanted().is_some() {
            keeper.carry_out(Event::Holds(held(node))).await;
            keeper.tell().await;
            ROUND
        } else {
            LOOK_EVERY
        };
        // It holds a sender itself, so something comes or time passes.
        if let Ok(Some(event)) = tokio::time::timeout(wait, came.recv()).await {
            keeper.carry_out(event).await;
        }
    }
}

/// The matches that are to go before the node is empty.
fn held(node: &Serving) -> Vec<Held> {
    let statuses = node.parts().host.list().into_iter();
    let runs = statuses.filter(|status| !matches!(status.phase, MatchPhase::Parked(_)));
    runs.map(|status| Held {
        match_id: status.match_id,
        players: status.sessions,
        movable: matches!(
            status.phase,
            MatchPhase::Running | MatchPhase::Waiting | MatchPhase::Stalled
        ),
    })
    .collect()
}

/// Obeys the core.
struct Keeper {
    node: Arc<Serving>,
    emptying: Emptying,
    begun: Instant,
    /// What has come of the matches that are on their way. Never more than it has room for.
    done: mpsc::Sender<Event>,
    plan: Option<(Instant, Arc<Plan>)>,
    /// What is to be told, and when something was told last.
    telling: (Option<DrainProgress>, Option<Instant>),
}

impl Keeper {
    fn new(node: Arc<Serving>, done: mpsc::Sender<Event>) -> Self {
        let Parts { config, incarnation, .. } = node.parts();
        let emptying = Emptying::new(&config.node_name, *incarnation, Pace::default());
        Self { node, emptying, begun: Instant::now(), done, plan: None, telling: (None, None) }
    }

    /// Reads what is wanted. While the store does not say, that stays as it was.
    async fn look(&mut self) {
        let Parts { store, config, .. } = self.node.parts();
        match wishes::of(store, &config.node_name).await {
            Ok(wish) => self.carry_out(Event::Wish(wish.map(|wish| wish.wanted))).await,
            Err(error) => {
                tracing::debug!(code = "RK-NODE-202", %error, "what operators want of this node \
                    was not read");
            }
        }
    }

    async fn carry_out(&mut self, event: Event) {
        let now_ms = self.begun.elapsed().as_millis() as u64;
        for effect in self.emptying.handle(now_ms, event) {
            match effect {
                Effect::Close => self.close().await,
                Effect::Open => self.open().await,
                Effect::Give(match_id) => self.give(match_id).await,
                Effect::Tell(progress) => self.telling.0 = Some(progress),
                Effect::End => {
                    self.telling.1 = None;
                    self.tell().await;
                    tracing::info!(
                        code = "RK-NODE-205",
                        "this node is decommissioned and runs \
                        nothing any more: it ends"
                    );
                    self.node.begin_drain();
                }
            }
        }
    }

    async fn close(&self) {
        let Parts { mover, .. } = self.node.parts();
        mover.set_drained(true);
        let wanted = self.emptying.wanted().map_or("", Wanted::word);
        tracing::info!(
            code = "RK-NODE-200",
            wanted,
            "an operator wants this node to be empty: it \
            takes no matches, and gives those that it has to others"
        );
        self.announce(true).await;
    }

    async fn open(&mut self) {
        let Parts { mover, store, config, .. } = self.node.parts();
        mover.set_drained(false);
        tracing::info!(code = "RK-NODE-201", "this node takes matches again");
        self.announce(false).await;
        if let Err(error) = wishes::forget(store, &config.node_name).await {
            not_told(&error);
        }
        self.telling = (None, None);
    }

    /// What fails here is written later by those who keep the members.
    async fn announce(&self, draining: bool) {
        let announced = self.node.parts().members.announce(|own| own.draining = draining).await;
        if let Err(error) = announced {
            not_told(&error);
        }
    }

    /// Begins to give a match away.
    async fn give(&mut self, match_id: MatchId) {
        let plan = self.plan().await;
        let (mover, done) = (Arc::clone(&self.node.parts().mover), self.done.clone());
        tokio::spawn(async move {
            let moved = match plan {
                Ok(plan) => mover.move_away(match_id, &plan).await,
                Err(error) => Err(error.to_string()),
            };
            let event = match moved {
                Ok(moved) => {
                    tracing::info!(code = "RK-NODE-185", %match_id, to = moved.to,
                        pause_ms = moved.pause_ms, "match moved");
                    Event::Moved(match_id, moved.pause_ms)
                }
                Err(why) => Event::Stayed(match_id, why),
            };
            // Nobody listens any more when the node goes down.
            let _ = done.send(event).await;
        });
    }

    async fn plan(&mut self) -> Result<Arc<Plan>, StoreError> {
        let fresh = self.plan.as_ref().filter(|(read, _)| read.elapsed() < PLAN_FOR);
        if let Some((_, plan)) = fresh {
            return Ok(Arc::clone(plan));
        }
        let plan = Arc::new(self.node.parts().mover.plan().await?);
        self.plan = Some((Instant::now(), Arc::clone(&plan)));
        Ok(plan)
    }

    /// Tells what is to be told, unless something was told just now.
    async fn tell(&mut self) {
        let (progress, last) = &mut self.telling;
        if last.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            return;
        }
        let Some(told) = progress.take() else { return };
        *last = Some(Instant::now());
        if let Err(error) = wishes::report(&self.node.parts().store, &told).await {
            not_told(&error);
            progress.get_or_insert(told);
        }
    }
}

fn not_told(error: &StoreError) {
    tracing::debug!(code = "RK-NODE-202", %error, "how far this node has come is not in the store \
        yet");
}
