//! Follows matches of other nodes: those for which this node is the standby, and those that it
//! audits. What is followed is decided in `rekindle-cluster` (`standby`); this carries it out.
//!
//! * `worlds` has the followed worlds, log by log, and makes their ticks as they become durable.
//! * `promote` goes on with those whose owner has died; called by the recoverer.
//! * `operator`: how many standbys an operator wants of a match.
//! * [`known`] is what all nodes say of the matches that they follow: for operators, and for
//!   clients, which are told the address of their match's standby.

pub mod known;
mod operator;
mod promote;
#[cfg(test)]
mod tests;
mod worlds;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use parking_lot::Mutex;
use rekindle_actors::{FollowError, Following, Host, RecoveryError};
use rekindle_cluster::placement::Candidate;
use rekindle_cluster::standby::core::{Effect, Event, Failure, Limits, Phase, Standbys};
use rekindle_cluster::standby::wishes::Wishes;
use rekindle_schema::lease::{MatchLease, MatchState};
use rekindle_schema::peer::Purpose;
use rekindle_schema::standby::{
    FollowReport, FollowState, FollowedMatch, MAX_REPORT_WORDS, MAX_REPORTED,
};
use rekindle_schema::{Epoch, Incarnation, MatchId};
use rekindle_store::{Store, StoreError, members, standbys};
use tokio::time::{Instant, sleep};

use self::known::Known;
use self::worlds::Log;
use crate::{clock, text};

pub use promote::Promotions;

/// How often the directory is read for what is to be followed.
const READ_EVERY: Duration = Duration::from_secs(1);
/// What is followed is said again at least every so many reads.
const SAY_EVERY: u32 = 5;
/// Most matches that are restored at once.
const STARTING: usize = 2;

/// What a node follows matches with.
pub struct StandbyParts {
    /// Makes the ticks, and runs what is promoted.
    pub host: Host,
    /// Where matches are followed from.
    pub store: Store,
    /// This node.
    pub me: Incarnation,
    /// Its region.
    pub region: String,
    /// What the configuration wants.
    pub wishes: Wishes,
    /// Most matches at once.
    pub most: usize,
}

/// Follows matches of other nodes. One for each node.
pub struct Standby {
    parts: StandbyParts,
    core: Mutex<Standbys>,
    /// The logs that are followed, by the node that writes them.
    logs: Mutex<BTreeMap<Incarnation, Arc<Log>>>,
    /// What all nodes say of what they follow.
    known: Known,
    began: Instant,
}

impl Standby {
    /// Follows nothing until [`Standby::keep`] runs.
    pub fn new(parts: StandbyParts) -> Arc<Self> {
        let limits = Limits { most: parts.most, starting: STARTING };
        let core = Standbys::new(parts.me, parts.region.clone(), limits);
        Arc::new(Self {
            parts,
            core: Mutex::new(core),
            logs: Mutex::default(),
            known: Known::default(),
            began: Instant::now(),
        })
    }

    /// What all nodes say of the matches that they follow.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// The matches that a standby follows, and the node on which it does: the first to claim them.
    /// What this node follows itself it knows best.
    pub fn first_claimants(&self) -> BTreeMap<MatchId, Incarnation> {
        let mut first = self.known.standbys();
        first.retain(|_, node| *node != self.parts.me);
        first.extend(self.core.lock().ready().map(|id| (id, self.parts.me)));
        first
    }

    /// Reads what is to be followed, again and again, and follows it. Runs until it is dropped.
    pub async fn keep(self: &Arc<Self>) -> Infallible {
        let (mut reads, mut said) = (0_u32, Vec::new());
        loop {
            if let Err(error) = self.read(reads, &mut said).await {
                tracing::debug!(code = "RK-NODE-194", %error, "what is to be followed was not \
                    read again");
            }
            reads = reads.wrapping_add(1);
            sleep(READ_EVERY).await;
        }
    }

    /// Reads wishes, reports, and, if anything is wanted, directory and members; carries out what
    /// follows from it, and says what is followed. `said`: what was said last.
    async fn read(
        self: &Arc<Self>,
        reads: u32,
        said: &mut Vec<FollowedMatch>,
    ) -> Result<(), StoreError> {
        let StandbyParts { store, me, .. } = &self.parts;
        let by_match = standbys::wishes(store).await?;
        let by_match = by_match.into_iter().map(|(id, wish)| (id, wish.standbys)).collect();
        let wishes = Wishes { by_match, ..self.parts.wishes.clone() };
        let idle = self.core.lock().entries().is_empty() && self.known.is_empty();
        if wishes.are_none() && idle && !reads.is_multiple_of(SAY_EVERY) {
            return Ok(());
        }
        let members = members::live(store).await?;
        self.known.replace(standbys::reports(store).await?, &members);
        if wishes.are_none() && idle {
            return Ok(());
        }
        let rows = store.leases.matches().await?;
        let nodes: Vec<Candidate> = members
            .values()
            .map(|member| Candidate {
                node: member.incarnation,
                weight: 1,
                matches: 0,
                draining: member.draining,
                region: member.region.clone(),
            })
            .collect();
        let effects = {
            let (wishes, wall_ms) = (&wishes, clock::now_ms());
            let read = Event::Read { rows: &rows, nodes: &nodes, wishes, wall_ms };
            self.core.lock().handle(self.now_ms(), read)
        };
        for effect in effects {
            self.carry_out(effect).await;
        }
        self.forget_wishes(&rows, &wishes).await;
        self.publish();
        let follows = self.follows();
        if reads.is_multiple_of(SAY_EVERY) && !follows.is_empty() || !is_same(&follows, said) {
            said.clone_from(&follows);
            let (incarnation, at_ms) = (*me, clock::now_ms());
            standbys::report(store, &FollowReport { incarnation, at_ms, matches: follows }).await?;
        }
        Ok(())
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    async fn carry_out(self: &Arc<Self>, effect: Effect) {
        match effect {
            Effect::Follow(row, purpose) => {
                tracing::info!(
                    code = "RK-NODE-190", match_id = %row.match_id, epoch = %row.epoch,
                    owner = %row.incarnation, ?purpose, "match is followed"
                );
                let standby = Arc::clone(self);
                tokio::spawn(async move { standby.begin(*row).await });
            }
            Effect::Drop(match_id) => {
                let logs: Vec<Arc<Log>> = self.logs.lock().values().cloned().collect();
                for log in logs {
                    log.drop_world(match_id).await;
                }
            }
            Effect::Alarm { match_id, epoch, words } => alarm(match_id, epoch, &words),
            // Only when the recoverer asks.
            Effect::Promote(_) => {}
        }
    }

    /// Restores a match and puts its world among those that follow its owner's log.
    async fn begin(self: Arc<Self>, row: MatchLease) {
        let match_id = row.match_id;
        let following = match self.parts.host.follow(&row).await {
            Ok(following) => following,
            Err(error) => return self.failed(&row, None, error).await,
        };
        let log = self.log_of(row.incarnation);
        let mut worlds = log.worlds.lock().await;
        // It may have been dropped meanwhile, or begun anew under another owner.
        let wanted = self.core.lock().entries().get(&match_id).is_some_and(|entry| {
            (entry.epoch, entry.owner) == (row.epoch, row.incarnation)
                && entry.phase == Phase::Starting
        });
        if wanted {
            self.stands(&following, 0);
            worlds.insert(match_id, (row, following));
        }
    }

    /// The worlds that follow a log; a task that makes their ticks begins with the first of them.
    fn log_of(self: &Arc<Self>, owner: Incarnation) -> Arc<Log> {
        let mut logs = self.logs.lock();
        let log = logs.entry(owner).or_insert_with(|| {
            let log = Arc::new(Log::new(owner));
            tokio::spawn(worlds::follow(Arc::downgrade(self), Arc::clone(&log)));
            log
        });
        Arc::clone(log)
    }

    /// A match cannot be followed any further. If a hash differs, it is found out in what first.
    async fn failed(&self, row: &MatchLease, following: Option<Following>, error: FollowError) {
        let match_id = row.match_id;
        let failure = match (error.difference(), following) {
            (Some(difference), Some(following)) => {
                let found = self.parts.host.diagnose(row, following, difference).await;
                Failure::Differs(found.to_string())
            }
            (Some(_), None) => Failure::Differs(error.to_string()),
            (None, _) => failure_of(&error),
        };
        if !matches!(failure, Failure::Differs(_)) {
            let reason = text::with_causes(&error);
            tracing::warn!(code = "RK-NODE-193", %match_id, %reason, "match is followed no \
                further");
        }
        let effects = self.core.lock().handle(self.now_ms(), Event::Failed(match_id, failure));
        for effect in effects {
            if let Effect::Alarm { match_id, epoch, words } = effect {
                alarm(match_id, epoch, &words);
            }
        }
    }

    fn stands(&self, following: &Following, lag: u64) {
        let stand = worlds::stand(following, lag);
        self.core.lock().handle(self.now_ms(), Event::Stands(following.match_id(), stand));
    }

    /// Operators' wishes end with their matches.
    async fn forget_wishes(&self, rows: &[MatchLease], wishes: &Wishes) {
        let over: BTreeSet<MatchId> = rows
            .iter()
            .filter(|row| matches!(row.state, MatchState::Ended { .. }))
            .map(|row| row.match_id)
            .filter(|id| wishes.by_match.contains_key(id))
            .collect();
        for id in over {
            if let Err(error) = standbys::wish(&self.parts.store, id, None).await {
                tracing::debug!(code = "RK-NODE-198", match_id = %id, %error, "a wish for the \
                    standbys of a match that is over stays");
            }
        }
    }

    /// What is followed here, as it is said.
    fn follows(&self) -> Vec<FollowedMatch> {
        let core = self.core.lock();
        let entries = core.entries().iter().take(MAX_REPORTED);
        entries
            .map(|(match_id, entry)| FollowedMatch {
                match_id: *match_id,
                epoch: entry.epoch,
                purpose: entry.purpose,
                state: match &entry.phase {
                    Phase::Starting | Phase::Waits { .. } => FollowState::Starting,
                    Phase::Follows(stand) => {
                        FollowState::Follows { tick: stand.tick, lag: stand.lag }
                    }
                    Phase::Cannot(why) => FollowState::Stopped(shortened(why)),
                    Phase::Differs(words) => FollowState::Differs(shortened(words)),
                },
            })
            .collect()
    }

    fn publish(&self) {
        let core = self.core.lock();
        let (mut standbys, mut audits, mut lag) = (0, 0, 0);
        for entry in core.entries().values() {
            let Phase::Follows(stand) = &entry.phase else { continue };
            match entry.purpose {
                Purpose::Audit => audits += 1,
                Purpose::Standby | Purpose::Migration => standbys += 1,
            }
            lag = lag.max(stand.lag);
        }
        gauge!("rekindle_standbys", "purpose" => "standby").set(f64::from(standbys));
        gauge!("rekindle_standbys", "purpose" => "audit").set(f64::from(audits));
        gauge!("rekindle_standby_lag_ticks").set(lag as f64);
        gauge!("rekindle_standbys_left_out").set(core.left_out() as f64);
    }
}

/// Operators must know that two nodes computed a match differently.
fn alarm(match_id: MatchId, epoch: Epoch, words: &str) {
    counter!("rekindle_standby_alarms_total").increment(1);
    tracing::error!(code = "RK-CLUSTER-141", %match_id, %epoch, words, "what two nodes computed of \
        a match differs: its follower is given up and takes nothing over");
}

/// Whether two lists say the same of everything but of how far worlds stand.
fn is_same(a: &[FollowedMatch], b: &[FollowedMatch]) -> bool {
    let same = |(a, b): (&FollowedMatch, &FollowedMatch)| {
        let follows = |state: &FollowState| matches!(state, FollowState::Follows { .. });
        (a.match_id, a.epoch, a.purpose) == (b.match_id, b.epoch, b.purpose)
            && (a.state == b.state || follows(&a.state) && follows(&b.state))
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}

/// The beginning of words, as long as a report takes them.
fn shortened(words: &str) -> String {
    words.chars().take(MAX_REPORT_WORDS / 4).collect()
}

/// What it means for what is to be done that a match cannot be followed.
fn failure_of(error: &FollowError) -> Failure {
    let words = error.to_string();
    match error {
        FollowError::Replay(RecoveryError::HashMismatch { .. }) => Failure::Differs(words),
        FollowError::Replay(RecoveryError::Host(_) | RecoveryError::Broken { .. })
        | FollowError::History(_)
        | FollowError::Abandoned(..)
        | FollowError::ElsewhereThanCut { .. } => Failure::Later(words),
        FollowError::Replay(_) => Failure::Never(words),
    }
}
