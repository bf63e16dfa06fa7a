//! Posts what is in the outbox. A *lane* is one match under one webhook: its effects go one after
//! the other, lanes go beside each other, so that a receiver that fails for one match holds up no
//! other.
//!
//! A lane is served by the node that entered its first effect; once that node is not live any
//! more, by the live node with the lowest number. For a moment two nodes may serve one: then an
//! effect is posted twice, but none before the one in front of it was taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use parking_lot::Mutex;
use rekindle_schema::lease::{NodeLease, NodeState};
use rekindle_schema::{Incarnation, MatchId};
use rekindle_store::{Store, StoreError};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};

use super::Webhook;
use super::outbox::{self, Found};
use super::post::{Answered, post};
use crate::clock;

/// How often the outbox is looked into if nothing was entered here.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The outbox is not looked into again before this has passed.
const BREATH: Duration = Duration::from_millis(50);
/// A node whose lease is overdue by so many milliseconds does not post any more.
const OVERDUE_MS: u64 = 10_000;
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// Requests at once to one receiver.
const AT_ONCE: usize = 16;
/// What was given up is remembered for so long.
const KEEP_GIVEN_UP: Duration = Duration::from_hours(7 * 24);

/// Which match, under which webhook.
type Lane = (String, MatchId);

/// Posts for all webhooks of a node.
pub(super) struct Pump {
    store: Store,
    me: Incarnation,
    webhooks: BTreeMap<String, (Arc<Webhook>, Semaphore)>,
    /// Lanes that are served at the moment.
    busy: Mutex<BTreeSet<Lane>>,
    entered: Notify,
}

impl Pump {
    /// Begins; it ends with the runtime.
    pub(super) fn start(store: Store, me: Incarnation, webhooks: Vec<Arc<Webhook>>) -> Arc<Self> {
        let with_slots =
            |webhook: Arc<Webhook>| (webhook.name.clone(), (webhook, Semaphore::new(AT_ONCE)));
        let pump = Arc::new(Self {
            store,
            me,
            webhooks: webhooks.into_iter().map(with_slots).collect(),
            busy: Mutex::default(),
            entered: Notify::new(),
        });
        tokio::spawn(Arc::clone(&pump).run());
        pump
    }

    /// Something was entered here.
    pub(super) fn nudge(&self) {
        self.entered.notify_one();
    }

    async fn run(self: Arc<Self>) {
        loop {
            // A store that does not answer is asked again; what is in it stays there.
            let looked = Instant::now();
            let next = self.look().await.unwrap_or(LOOK_EVERY);
            tokio::select! {
                () = self.entered.notified() => {}
                () = sleep(next) => {}
            }
            // Of many effects at once the outbox is not read for each.
            sleep_until(looked + BREATH).await;
        }
    }

    /// Has every lane served that is due and belongs to this node. Returns when to look again.
    async fn look(self: &Arc<Self>) -> Result<Duration, StoreError> {
        let (found, now_ms) = (outbox::all(&self.store).await?, clock::now_ms());
        self.tell(&found);
        if found.is_empty() {
            return Ok(LOOK_EVERY);
        }
        let nodes = self.store.leases.nodes().await?;
        // Nobody fences a node that had no matches: it is gone if it renews its lease no more. One
        // that is taken for gone by mistake has its effects posted twice.
        let renewed = |node: &&NodeLease| node.deadline_ms.saturating_add(OVERDUE_MS) > now_ms;
        let live = nodes.iter().filter(|node| node.state == NodeState::Live).filter(renewed);
        let live = live.map(|node| node.incarnation).chain([self.me]);
        let live: BTreeSet<Incarnation> = live.collect();
        let mine = |by: Incarnation| {
            by == self.me || (!live.contains(&by) && live.first() == Some(&self.me))
        };
        let mut heads: BTreeMap<Lane, (Incarnation, u64)> = BTreeMap::new();
        for Found { place, entry, .. } in found.iter().filter(|found| !found.entry.given_up) {
            let lane = (place.webhook.clone(), place.match_id);
            heads.entry(lane).or_insert((entry.by, entry.due_ms));
        }
        let mut next = LOOK_EVERY;
        for (lane, (by, due_ms)) in heads {
            if !self.webhooks.contains_key(&lane.0) || !mine(by) {
                continue;
            }
            if !is_due(due_ms, now_ms) {
                next = next.min(Duration::from_millis(due_ms - now_ms));
            } else if self.busy.lock().insert(lane.clone()) {
                tokio::spawn(Arc::clone(self).serve(lane, by));
            }
        }
        self.forget(found.into_iter().filter(|found| mine(found.entry.by)), now_ms).await?;
        Ok(next)
    }

    fn tell(&self, found: &[Found]) {
        for name in self.webhooks.keys() {
            let of_this = found.iter().filter(|found| found.place.webhook == *name);
            let (given_up, waiting): (Vec<_>, Vec<_>) =
                of_this.partition(|found| found.entry.given_up);
            let label = || name.clone();
            gauge!("rekindle_webhook_waiting", "webhook" => label()).set(waiting.len() as f64);
            gauge!("rekindle_webhook_given_up", "webhook" => label()).set(given_up.len() as f64);
        }
    }

    /// Removes what was given up long ago.
    async fn forget(
        &self,
        found: impl Iterator<Item = Found>,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let keep_ms = KEEP_GIVEN_UP.as_millis() as u64;
        for old in found.filter(|found| found.entry.given_up) {
            if now_ms.saturating_sub(old.entry.due_ms) > keep_ms {
                outbox::remove(&self.store, &old).await?;
            }
        }
        Ok(())
    }

    /// Posts the effects of one lane that `by` entered, until one fails or none is left.
    async fn serve(self: Arc<Self>, lane: Lane, by: Incarnation) {
        // A store that does not answer leaves the entry: what was posted is posted again.
        let served = self.serve_lane(&lane, by).await.is_ok();
        self.busy.lock().remove(&lane);
        if served {
            // Something may have been entered since the lane was read.
            self.nudge();
        }
    }

    async fn serve_lane(&self, (name, match_id): &Lane, by: Incarnation) -> Result<(), StoreError> {
        let Some((webhook, slots)) = self.webhooks.get(name) else { return Ok(()) };
        let Ok(_slot) = slots.acquire().await else { return Ok(()) };
        for found in outbox::lane(&self.store, name, *match_id).await? {
            if found.entry.given_up {
                continue;
            }
            // Where another node goes on with the match, that node posts what it entered.
            if found.entry.by != by
                || !is_due(found.entry.due_ms, clock::now_ms())
                || !self.post_one(webhook, found).await?
            {
                break;
            }
        }
        Ok(())
    }

    /// Posts one effect; whether the lane goes on with the next.
    async fn post_one(&self, webhook: &Webhook, mut found: Found) -> Result<bool, StoreError> {
        let posted = post(webhook, &found.place, &found.entry, clock::now_ms()).await;
        found.entry.attempts = found.entry.attempts.saturating_add(1);
        let (why, unwanted) = match posted {
            Answered::Taken => {
                count(webhook, "delivered");
                outbox::remove(&self.store, &found).await?;
                return Ok(true);
            }
            Answered::Failed(why) => (why, false),
            Answered::Unwanted(why) => (why, true),
        };
        let (match_id, attempts) = (found.place.match_id, found.entry.attempts);
        let (tick, ordinal) = (found.place.id.tick, found.place.id.ordinal);
        let given_up = unwanted || attempts >= webhook.attempts;
        let wait = pause(webhook.first_pause, attempts, clock::random());
        if given_up {
            count(webhook, "given_up");
            tracing::error!(
                code = "RK-NODE-292", %match_id, %tick, ordinal, attempts, webhook = webhook.name,
                why, "a webhook's receiver does not take an effect: it is given up"
            );
        } else {
            count(webhook, "failed");
            tracing::warn!(
                code = "RK-NODE-291", %match_id, %tick, ordinal, attempts, webhook = webhook.name,
                why, again_in_ms = wait.as_millis() as u64, "an effect could not be posted"
            );
        }
        found.entry.due_ms = clock::now_ms().saturating_add(wait.as_millis() as u64);
        (found.entry.last, found.entry.given_up) = (outbox::clipped(&why), given_up);
        outbox::change(&self.store, &found).await?;
        Ok(given_up)
    }
}

/// Whether an effect may be posted. A time further ahead than the longest pause comes of a clock
/// that was set back since.
fn is_due(due_ms: u64, now_ms: u64) -> bool {
    due_ms <= now_ms || due_ms - now_ms > LONGEST_PAUSE.as_millis() as u64
}

fn count(webhook: &Webhook, outcome: &'static str) {
    let name = webhook.name.clone();
    counter!("rekindle_webhook_posts_total", "webhook" => name, "outcome" => outcome).increment(1);
}

/// How long to wait behind so many failures: doubled each time up to a bound, and by chance up to a
/// quarter less, so that lanes that failed together do not come back together.
fn pause(first: Duration, failures: u32, random: u64) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let whole = doubled.min(LONGEST_PAUSE);
    let less = (whole.as_millis() as u64 / 4).max(1);
    whole.saturating_sub(Duration::from_millis(random % less))
}
