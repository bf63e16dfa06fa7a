//! The host of matches, as migrations use it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use metrics::histogram;
use rekindle_actors::{FollowError, Following, Host};
use rekindle_cluster::migration::hands::{Followed, Hands, Telling};
use rekindle_cluster::migration::target::Stand;
use rekindle_schema::lease::MatchLease;
use rekindle_schema::peer::Cut;
use rekindle_schema::{BatchNo, MatchId, Tick};
use rekindle_store::Store;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::node::{Serving, from_store};

/// How often a followed log is read.
const POLL: Duration = Duration::from_millis(5);
/// So long after it came a match should have made a tick.
const FIRST_TICK: Duration = Duration::from_secs(10);
/// How long a follower waits for a store that does not answer.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// The host of this node, and what the node adds to a match that begins to run here.
pub struct HostHands {
    pub(super) host: Host,
    pub(super) store: Store,
    /// Matches of other regions do not come here.
    pub(super) region: String,
    /// Most matches that run here.
    pub(super) most: usize,
    /// The node goes down: nothing comes here any more.
    pub(super) draining: AtomicBool,
    /// An operator wants the node to be empty: nothing comes here meanwhile.
    pub(super) drained: AtomicBool,
    /// Plays house bots, watches over health. Set once the node serves.
    pub(super) node: Arc<OnceLock<Weak<Serving>>>,
}

impl HostHands {
    /// Of a node that does nothing for a match but run it: [`super::Mover`] adds the rest.
    pub fn new(host: Host, store: Store, region: String, most: usize) -> Self {
        let (draining, drained) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { host, store, region, most, draining, drained, node: Arc::default() }
    }

    /// Whether matches of others are refused from now on.
    pub fn take_nothing(&self, refuse: bool) {
        self.draining.store(refuse, Ordering::Release);
    }
}

/// What follows a match that runs here.
fn runs(node: &OnceLock<Weak<Serving>>, match_id: MatchId) {
    if let Some(node) = node.get().and_then(Weak::upgrade) {
        node.play_house_bots(match_id);
        node.watch_health(match_id, node.parts().config.healthy_after);
    }
}

impl Hands for HostHands {
    fn tick(&self, match_id: MatchId) -> Option<Tick> {
        self.host.find(match_id).map(|handle| handle.durable().tick)
    }

    fn next_batch(&self) -> BatchNo {
        self.host.next_batch()
    }

    fn stop(&self, match_id: MatchId) -> BoxFuture<'_, Result<Cut, String>> {
        async move { self.host.hand_off(match_id).await.map_err(|error| error.to_string()) }.boxed()
    }

    fn keep(&self, match_id: MatchId) -> BoxFuture<'_, Result<(), String>> {
        self.host.keep(match_id);
        std::future::ready(Ok(())).boxed()
    }

    fn keep_as(&self, row: MatchLease) -> BoxFuture<'_, Result<(), String>> {
        self.host.let_go(row.match_id);
        async move {
            let busy = "somebody else on this node is about to run the match";
            let _entered = self.host.enter(row.match_id).ok_or(busy)?;
            self.recover(row).await
        }
        .boxed()
    }

    fn let_go(&self, match_id: MatchId) -> BoxFuture<'_, ()> {
        self.host.let_go(match_id);
        std::future::ready(()).boxed()
    }

    fn enter(&self, match_id: MatchId) -> Option<Box<dyn Send>> {
        Some(Box::new(self.host.enter(match_id)?))
    }

    fn admits(&self, row: &MatchLease) -> Result<(), String> {
        if self.draining.load(Ordering::Acquire) || self.drained.load(Ordering::Acquire) {
            return Err("RK-NODE-180: that node is drained: it takes no matches".to_owned());
        }
        if row.region != self.region {
            return Err(format!(
                "RK-NODE-181: the match is at home in region {}, and that node is in {}",
                row.region, self.region
            ));
        }
        if self.host.list().len() >= self.most {
            return Err(format!(
                "RK-NODE-182: limits.matches = {} matches run on that node already",
                self.most
            ));
        }
        self.host.games().get(&row.spec.game).map(drop).map_err(|error| error.to_string())
    }

    fn follow(&self, row: MatchLease, tell: Telling) -> Box<dyn Followed> {
        let world = Arc::new(Mutex::new(None));
        let stop = Arc::new(AtomicBool::new(false));
        tokio::spawn(follow(self.host.clone(), row, Arc::clone(&world), Arc::clone(&stop), tell));
        let (host, node) = (self.host.clone(), Arc::clone(&self.node));
        Box::new(Follower { host, node, world, stop })
    }

    fn arrived(&self, match_id: MatchId, (last, stopped): (Tick, Instant)) {
        let Some(handle) = self.host.find(match_id) else { return };
        tokio::spawn(async move {
            let first = Tick(last.0 + 1);
            let ticked = tokio::time::timeout(FIRST_TICK, handle.wait_durable(first)).await;
            if !matches!(ticked, Ok(Some(_))) {
                tracing::warn!(code = "RK-NODE-225", %match_id, %first, "a match that came here \
                    has made no tick yet");
                return;
            }
            let pause = stopped.elapsed();
            histogram!("rekindle_migration_pause_seconds").record(pause);
            let pause_ms = pause.as_millis() as u64;
            tracing::info!(code = "RK-NODE-224", %match_id, %first, pause_ms, "a match that came \
                here ticks");
        });
    }

    fn recover(&self, row: MatchLease) -> BoxFuture<'_, Result<(), String>> {
        async move {
            from_store::run(&self.host, &self.store, &row).await?;
            runs(&self.node, row.match_id);
            Ok(())
        }
        .boxed()
    }
}

/// A match that is followed here.
struct Follower {
    host: Host,
    node: Arc<OnceLock<Weak<Serving>>>,
    /// The world, whenever no step of it is being made.
    world: Arc<Mutex<Option<Following>>>,
    /// Ends the task that makes the steps, between two of them.
    stop: Arc<AtomicBool>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

impl Followed for Follower {
    fn run(self: Box<Self>, row: MatchLease) -> BoxFuture<'static, Result<(), String>> {
        self.stop.store(true, Ordering::Release);
        async move {
            let world = self.world.lock().await.take();
            let world = world.ok_or_else(|| "it is not followed any more".to_owned())?;
            let report =
                self.host.run_followed(&row, world).await.map_err(|error| error.to_string())?;
            tracing::info!(
                code = "RK-NODE-183", match_id = %row.match_id, epoch = %row.epoch,
                tick = report.tick.0, "a match came here from another node"
            );
            runs(&self.node, row.match_id);
            Ok(())
        }
        .boxed()
    }
}

/// Restores a match and follows its log until it is stopped.
async fn follow(
    host: Host,
    row: MatchLease,
    world: Arc<Mutex<Option<Following>>>,
    stop: Arc<AtomicBool>,
    tell: Telling,
) {
    let begun = match host.follow(&row).await {
        Ok(begun) => begun,
        Err(error) => return tell(Err(error.to_string())),
    };
    tell(Ok(stand(&host, &begun)));
    *world.lock().await = Some(begun);
    while !stop.load(Ordering::Acquire) {
        let wait = match step(&host, &world).await {
            Ok(Some(stand)) => {
                tell(Ok(stand));
                POLL
            }
            Ok(None) => POLL,
            Err(error) if error.is_transient() => ASK_AGAIN,
            Err(error) => return tell(Err(error.to_string())),
        };
        tokio::time::sleep(wait).await;
    }
}

/// Makes the ticks that have become durable; `None` if there are none, or the world was taken.
async fn step(host: &Host, world: &Mutex<Option<Following>>) -> Result<Option<Stand>, FollowError> {
    let mut world = world.lock().await;
    let Some(following) = world.as_mut() else { return Ok(None) };
    let records = host.catch_up(following).await?;
    Ok((records > 0).then(|| stand(host, following)))
}

fn stand(host: &Host, following: &Following) -> Stand {
    Stand {
        tick: following.tick(),
        seq: following.seq(),
        hash: following.hash().unwrap_or(rekindle_schema::StateHash([0; 32])),
        next_batch: host.next_batch(),
    }
}
