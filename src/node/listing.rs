//! Where the matches of the store stand, as this node sees them: for lists, for one match, and for
//! the detail of a readiness answer. Called through [`Serving`]; changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use rekindle_actors::{BuildChange, MatchPhase, MatchStatus};
use rekindle_cluster::ownership::standing::Standing;
use rekindle_gateway::ClientLine;
use rekindle_schema::condition::Condition;
use rekindle_schema::lease::{MatchLease, MatchState, NodeLease, NodeState};
use rekindle_schema::{Epoch, Incarnation, MatchId, Tick};
use rekindle_sim::Properties;
use rekindle_sim::documents::collection_id;
use rekindle_store::StoreError;
use tokio::time::{Instant, timeout};

use super::standby::known::Follower;
use super::whereabouts::{Owner, Whereabouts};
use super::{ControlError, Serving};
use crate::text::counted;

/// How long an answer waits for the store before it is given from what the node knows.
const STORE_PATIENCE: Duration = Duration::from_secs(1);
/// How long a list of matches waits for the last ticks of those that do not run.
const TICKS_PATIENCE: Duration = Duration::from_millis(500);
/// So many last ticks are looked up for one list, so many at once, and so many are remembered.
const TICK_LOOKUPS: usize = 256;
const TICKS_AT_ONCE: usize = 8;
const TICKS_KEPT: usize = 10_000;
/// Most matches that the detail of a readiness answer names.
const NAMED: usize = 20;

const _: () = assert!(TICKS_AT_ONCE <= TICK_LOOKUPS && TICK_LOOKUPS <= TICKS_KEPT);

/// One match, as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchReport {
    /// Its id.
    pub match_id: MatchId,
    /// The name of its game type.
    pub game: String,
    /// Where it stands.
    pub condition: Condition,
    /// Why it does not run here, is over, or stands still; of a running one, that the store does
    /// not answer.
    pub reason: Option<String>,
    /// The newest published tick; of one that does not run here, that of its newest checkpoint.
    /// Absent if this node does not know.
    pub tick: Option<Tick>,
    /// The newest tick that is in the journal for good, if it runs here.
    pub durable: Option<Tick>,
    /// The name of the node that runs it, or ran it last; absent if nobody knows it any more.
    pub node: Option<String>,
    /// Ticks per second.
    pub tick_rate: u16,
    /// How many times longer than that says its ticks lie apart, if it runs here: more than 1 while
    /// this node has slowed it.
    pub slowdown: u8,
    /// The version of the game's rules that it began with; `None`: this node does not know.
    pub rules: Option<u32>,
    /// By what a lobby finds it; none while the directory does not answer.
    pub properties: Properties,
    /// Its owner's count: grows with every recovery.
    pub epoch: Epoch,
    /// Sessions in it, house bots included.
    pub players: usize,
    /// How many there can be; absent if this node does not have the game.
    pub seats: Option<usize>,
    /// How many of them are house bots.
    pub house_bots: u16,
    /// Recoveries since it last ran healthily; of one that was parked by trials, the processes that
    /// died of it.
    pub attempts: u32,
    /// Nodes that follow it.
    pub followers: Vec<Follower>,
    /// Set if it went on here with another build than before.
    pub build_change: Option<BuildChange>,
}

/// Where matches that do not run ended, as far as it was looked up: the version of the row then,
/// and the tick of the newest checkpoint if there is one. Bounded by [`TICKS_KEPT`].
#[derive(Default)]
pub(super) struct LastTicks(Mutex<BTreeMap<MatchId, (u64, Option<Tick>)>>);

/// What [`LastTicks`] knows of a match.
enum LastTick {
    /// The tick of its newest checkpoint, if it has one.
    Known(Option<Tick>),
    /// It has to be looked up.
    NotLookedUp,
}

impl LastTicks {
    /// What is known of a row as it stands.
    fn of(&self, row: &MatchLease) -> LastTick {
        match self.0.lock().get(&row.match_id) {
            Some(&(version, tick)) if version == row.version => LastTick::Known(tick),
            _ => LastTick::NotLookedUp,
        }
    }

    /// Remembers what was looked up.
    fn note(&self, id: MatchId, version: u64, tick: Option<Tick>) {
        let mut known = self.0.lock();
        if known.len() >= TICKS_KEPT {
            known.clear();
        }
        known.insert(id, (version, tick));
    }
}

impl Serving {
    /// Which matches do not run as they should, one line each, with no words that players or games
    /// wrote: the answer is for everybody.
    pub fn detail(&self) -> Vec<String> {
        let line = |id: MatchId, state: &str, label: Option<&str>| {
            let label = label
                .filter(|&label| label != state)
                .map(|label| format!(" ({label})"))
                .unwrap_or_default();
            format!("match {id} {state}{label}: `rekindle match show {}`", id.short())
        };
        let mut lines = BTreeMap::new();
        for (row, standing) in self.parts().standings.all() {
            lines.insert(
                row.match_id,
                line(row.match_id, standing.condition().word(), standing.label()),
            );
        }
        for status in self.parts().host.list() {
            let state = match status.phase {
                MatchPhase::Stalled => "stalled",
                MatchPhase::Parked(_) => "parked",
                MatchPhase::Repairing => "repairing",
                MatchPhase::Running if status.slowdown > 1 => "slowed",
                _ => {
                    lines.remove(&status.match_id);
                    continue;
                }
            };
            lines.insert(status.match_id, line(status.match_id, state, None));
        }
        let more = lines.len().saturating_sub(NAMED);
        let drained = self.parts().mover.is_drained().then(|| {
            let left = counted(self.parts().host.list().len(), "match", "matches");
            format!("node {} is drained: it takes no matches; {left} here", self.name())
        });
        let matches = lines.into_values().take(NAMED);
        let mut lines: Vec<String> = drained.into_iter().chain(matches).collect();
        if more > 0 {
            lines.push(format!("and {more} more: `rekindle match ls`"));
        }
        lines
    }

    /// The matches that this node would run and that wait or are parked: each with why, as lists
    /// have it, ascending. Collections of documents are not among them.
    pub fn at_rest(&self) -> Vec<(MatchLease, Standing)> {
        let mut all = self.parts().standings.all();
        all.retain(|(row, standing)| {
            *standing != Standing::Recovering && row.match_id != collection_id(&row.spec.game)
        });
        all
    }

    /// What the store says, if it says it soon.
    async fn soon<T>(
        &self,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let late = |_| {
            StoreError::Unavailable(format!(
                "it has not answered for {} ms",
                STORE_PATIENCE.as_millis()
            ))
        };
        timeout(STORE_PATIENCE, answer).await.map_err(late)?
    }

    /// All matches in the directory, those of this node with where they stand. While the store does
    /// not answer, only what this node knows by itself.
    pub async fn matches(&self) -> Result<Vec<MatchReport>, ControlError> {
        let leases = &self.parts().store.leases;
        let answer = self.soon(async { tokio::try_join!(leases.matches(), leases.nodes()) }).await;
        // Afterwards, so that it is not older than the answer.
        let here: BTreeMap<MatchId, MatchStatus> =
            self.parts().host.list().into_iter().map(|status| (status.match_id, status)).collect();
        match answer {
            Ok((rows, nodes)) => {
                let nodes: BTreeMap<Incarnation, NodeLease> =
                    nodes.into_iter().map(|node| (node.incarnation, node)).collect();
                let still: Vec<&MatchLease> =
                    rows.iter().filter(|row| !here.contains_key(&row.match_id)).collect();
                let ticks = self.ticks_at_rest(&still, &nodes).await;
                let view = |row: &MatchLease| {
                    let tick = ticks.get(&row.match_id).copied().flatten();
                    self.report_as_owned(row, here.get(&row.match_id), &nodes, tick)
                };
                Ok(rows.iter().map(view).collect())
            }
            Err(error) if error.is_transient() => {
                let mut known: BTreeMap<MatchId, MatchReport> = here
                    .values()
                    .map(|status| {
                        (
                            status.match_id,
                            unconfirmed(status, &self.parts().config.node_name, &error),
                        )
                    })
                    .collect();
                for (row, standing) in self.parts().standings.all() {
                    known.entry(row.match_id).or_insert_with(|| remembered(&row, &standing));
                }
                if known.is_empty() { Err(error.into()) } else { Ok(known.into_values().collect()) }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Where in the cluster a match is, and what this node is to players.
    pub async fn whereabouts(&self, id: MatchId) -> Result<(Whereabouts, Owner), ControlError> {
        let found = self.soon(self.parts().lookup.of(id)).await?;
        // Its row may name this node before it runs here.
        let found = match (found, self.parts().host.find(id)) {
            (Whereabouts::Unknown, None) => return Err(ControlError::NoMatch(id.to_string())),
            (Whereabouts::Here, None) => Whereabouts::Nobody,
            (found, _) => found,
        };
        Ok((found, Owner::of(&self.parts().members.own())))
    }

    /// One match. While the store does not answer, what this node knows of it.
    pub async fn match_report(&self, id: MatchId) -> Result<MatchReport, ControlError> {
        let leases = &self.parts().store.leases;
        let answer = self.soon(async { tokio::try_join!(leases.get(id), leases.nodes()) }).await;
        // Afterwards, so that it is not older than the answer.
        let here = self.parts().host.list().into_iter().find(|status| status.match_id == id);
        match (answer, here) {
            (Ok((Some(row), nodes)), here) => {
                let nodes: BTreeMap<Incarnation, NodeLease> =
                    nodes.into_iter().map(|node| (node.incarnation, node)).collect();
                let still: Vec<&MatchLease> = if here.is_none() { vec![&row] } else { Vec::new() };
                let tick = self.ticks_at_rest(&still, &nodes).await.remove(&id).flatten();
                Ok(self.report_as_owned(&row, here.as_ref(), &nodes, tick))
            }
            (Ok((None, _)), _) => Err(ControlError::NoMatch(id.to_string())),
            (Err(error), Some(status)) if error.is_transient() => {
                Ok(unconfirmed(&status, &self.parts().config.node_name, &error))
            }
            (Err(error), None) if error.is_transient() => {
                let known =
                    self.parts().standings.all().into_iter().find(|(row, _)| row.match_id == id);
                known.map(|(row, standing)| remembered(&row, &standing)).ok_or_else(|| error.into())
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    /// The lines of the clients that a match has at this node, players and spectators.
    pub fn lines(&self, id: MatchId) -> Vec<ClientLine> {
        self.parts().gateway.lines(id)
    }

    /// Where matches that nobody runs ended, from their newest checkpoints: as many as can be had
    /// soon.
    async fn ticks_at_rest(
        &self,
        rows: &[&MatchLease],
        nodes: &BTreeMap<Incarnation, NodeLease>,
    ) -> BTreeMap<MatchId, Option<Tick>> {
        let live = |row: &MatchLease| {
            nodes.get(&row.incarnation).is_some_and(|node| node.state == NodeState::Live)
        };
        // One that runs elsewhere is already further.
        let at_rest = rows.iter().filter(|row| {
            row.state != MatchState::Running
                || !live(row)
                || self.parts().standings.is_dead(row.incarnation)
        });
        let mut found = BTreeMap::new();
        let mut open = Vec::new();
        for row in at_rest {
            if let LastTick::Known(tick) = self.last_ticks.of(row) {
                found.insert(row.match_id, tick);
            } else if open.len() < TICK_LOOKUPS {
                open.push((row.match_id, row.version));
            }
        }
        let checkpoints = &self.parts().store.checkpoints;
        let mut lookups = futures::stream::iter(open)
            .map(|(id, version)| async move { (id, version, checkpoints.list(id).await) })
            .buffer_unordered(TICKS_AT_ONCE);
        let until = Instant::now() + TICKS_PATIENCE;
        while let Ok(Some((id, version, listed))) =
            tokio::time::timeout_at(until, lookups.next()).await
        {
            let Ok((metas, _)) = listed else { continue };
            let tick = metas.iter().map(|meta| meta.tick).max();
            found.insert(id, tick);
            self.last_ticks.note(id, version, tick);
        }
        found
    }

    /// What the directory says of a match, and what this node knows of its owner.
    fn report_as_owned(
        &self,
        row: &MatchLease,
        here: Option<&MatchStatus>,
        nodes: &BTreeMap<Incarnation, NodeLease>,
        last_tick: Option<Tick>,
    ) -> MatchReport {
        let parts = self.parts();
        let node = nodes.get(&row.incarnation);
        let mut report = report_of(row, here);
        report.node = node.map(|node| node.name.clone());
        report.seats = self.seats(row);
        report.followers = parts.standby.known().of(row.match_id);
        if here.is_some() {
            return report;
        }
        report.tick = last_tick;
        if row.state != MatchState::Running {
            return report;
        }
        let live = node.is_some_and(|node| node.state == NodeState::Live)
            && !parts.standings.is_dead(row.incarnation);
        let standing = parts.standings.of(row.match_id).unwrap_or(Standing::Recovering);
        let name = report.node.as_deref().unwrap_or("another node");
        let (condition, reason) = if row.incarnation != parts.incarnation && live {
            (Condition::Elsewhere, format!("it runs on node {name}: ask there for where it stands"))
        } else if row.region != parts.config.node_region {
            let words = "its node is gone, and only nodes of its region take it over; `rekindle \
                region promote` moves it";
            (Condition::Waits, format!("it is at home in region {}: {words}", row.region))
        } else {
            (standing.condition(), standing.words())
        };
        (report.condition, report.reason) = (condition, Some(reason));
        report
    }
}

/// Why a match that runs makes no ticks.
const STALLED: &str = "it stands still until the store has caught up";

/// What a row says of its match, and what the host says if the match is here.
pub(super) fn report_of(row: &MatchLease, here: Option<&MatchStatus>) -> MatchReport {
    let (condition, reason) = match (&row.state, here.map(|status| &status.phase)) {
        (MatchState::Running, Some(MatchPhase::Stalled)) => {
            (Condition::Stalled, Some(STALLED.to_owned()))
        }
        (MatchState::Ended { reason }, _) => (Condition::Ended, Some(reason.clone())),
        (MatchState::Parked { report }, _) | (_, Some(MatchPhase::Parked(report))) => {
            (Condition::Parked, Some(report.clone()))
        }
        (MatchState::Running, Some(_)) => (Condition::Running, None),
        (MatchState::Running, None) => (Condition::Recovering, None),
    };
    MatchReport {
        match_id: row.match_id,
        game: row.spec.game.clone(),
        condition,
        reason,
        tick: here.map(|status| status.published),
        durable: here.map(|status| status.durable),
        node: None,
        tick_rate: row.spec.tick_rate,
        slowdown: here.map_or(1, |status| status.slowdown),
        rules: Some(rekindle_sim::rules_of(&row.spec.config)),
        properties: rekindle_sim::properties_of(&row.spec.config),
        epoch: row.epoch,
        players: here.map_or(0, |status| status.sessions),
        seats: None,
        house_bots: row.spec.house_bots,
        attempts: row.attempts,
        followers: Vec::new(),
        build_change: here.and_then(|status| status.build_change),
    }
}

/// What this node knows of a match by itself.
fn unconfirmed(status: &MatchStatus, node: &str, error: &StoreError) -> MatchReport {
    let (condition, reason) = match &status.phase {
        MatchPhase::Parked(report) => (Condition::Parked, report.clone()),
        MatchPhase::Stalled => (Condition::Stalled, format!("{STALLED}: {error}")),
        _ => (
            Condition::Running,
            format!(
                "not confirmed by the directory, and matches that do not run on this node are not \
                 listed: {error}"
            ),
        ),
    };
    MatchReport {
        match_id: status.match_id,
        game: status.game.clone(),
        condition,
        reason: Some(reason),
        tick: Some(status.published),
        durable: Some(status.durable),
        node: Some(node.to_owned()),
        tick_rate: status.tick_rate,
        slowdown: status.slowdown,
        rules: None,
        properties: Properties::new(),
        epoch: status.epoch,
        players: status.sessions,
        seats: None,
        house_bots: status.house_bots,
        attempts: 0,
        followers: Vec::new(),
        build_change: status.build_change,
    }
}

/// What this node remembers of a match that does not run here, while the store does not answer.
fn remembered(row: &MatchLease, standing: &Standing) -> MatchReport {
    MatchReport {
        condition: standing.condition(),
        reason: Some(standing.words()),
        ..report_of(row, None)
    }
}
