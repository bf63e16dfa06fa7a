//! The worlds that follow one log, and the task that makes their ticks. The log is read once for
//! all of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use metrics::counter;
use rekindle_actors::{FollowError, Following};
use rekindle_cluster::standby::core::Stand;
use rekindle_schema::lease::MatchLease;
use rekindle_schema::{Incarnation, MatchId};
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::Standby;

/// How often a followed log is read: about once for each tick of its matches. What is missing when
/// its owner dies is read then in any case, so a shorter pause would gain the CPU time of a tick at
/// that moment, and cost reads that find nothing.
const POLL: Duration = Duration::from_millis(33);
/// How long it waits for a store that does not answer.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// Most chunks that are read before others get at the worlds.
const CHUNKS: usize = 16;

/// A followed world, with the row under which it is followed.
pub(super) type World = (MatchLease, Following);

/// The worlds that follow the log of one node.
pub(super) struct Log {
    pub(super) owner: Incarnation,
    /// Locked while ticks are made.
    pub(super) worlds: Mutex<BTreeMap<MatchId, World>>,
}

impl Log {
    pub(super) fn new(owner: Incarnation) -> Self {
        Self { owner, worlds: Mutex::default() }
    }

    /// Gives up the world of a match, if it is here.
    pub(super) async fn drop_world(&self, match_id: MatchId) {
        self.worlds.lock().await.remove(&match_id);
    }
}

/// Where a world stands.
pub(super) fn stand(following: &Following, lag: u64) -> Stand {
    Stand { tick: following.tick(), lag, sessions: following.sessions() }
}

/// Makes the ticks of a log's worlds as they become durable, until there is no world any more, or
/// the node is gone.
pub(super) async fn follow(standby: Weak<Standby>, log: Arc<Log>) {
    loop {
        let Some(standby) = standby.upgrade() else { return };
        if standby.has_ended(&log).await {
            return;
        }
        let pause = standby.make_ticks(&log).await;
        drop(standby);
        sleep(pause).await;
    }
}

impl Standby {
    /// Whether a log has no worlds, so that nobody follows it any more.
    async fn has_ended(&self, log: &Arc<Log>) -> bool {
        let worlds = log.worlds.lock().await;
        let mut logs = self.logs.lock();
        // Two: the table's and the task's own. A third one is about to put a world into it.
        let ended = worlds.is_empty() && Arc::strong_count(log) <= 2;
        if ended {
            logs.remove(&log.owner);
        }
        ended
    }

    /// Makes the ticks that have become durable; how long to wait before the next.
    async fn make_ticks(self: &Arc<Self>, log: &Log) -> Duration {
        let mut worlds = log.worlds.lock().await;
        let before: BTreeMap<MatchId, u64> =
            worlds.iter().map(|(id, (_, world))| (*id, world.tick().0)).collect();
        let mut pause = POLL;
        for _ in 0..CHUNKS {
            let mut all: Vec<&mut Following> =
                worlds.values_mut().map(|(_, following)| following).collect();
            let caught = self.parts.host.catch_up_together(log.owner, &mut all, None).await;
            let failed = match caught {
                Ok(caught) if caught.batches == 0 => break,
                Ok(caught) => {
                    counter!("rekindle_standby_ticks_total").increment(caught.ticks);
                    caught.failed
                }
                Err(error) => {
                    let error = FollowError::from(error);
                    if error.is_transient() {
                        pause = ASK_AGAIN;
                        break;
                    }
                    worlds.keys().map(|id| (*id, error.clone())).collect()
                }
            };
            for (id, error) in failed {
                let Some((row, following)) = worlds.remove(&id) else { continue };
                let standby = Arc::clone(self);
                // A second replay takes its time; the others do not wait for it.
                tokio::spawn(async move { standby.failed(&row, Some(following), error).await });
            }
        }
        for (id, (_, following)) in worlds.iter() {
            let lag = following.tick().0 - before.get(id).copied().unwrap_or_default();
            if lag > 0 {
                self.stands(following, lag);
            }
        }
        pause
    }
}
