//! Sees that shards have too much to do, and has their matches slowed.
//!
//! A task of the host looks at all matches at even intervals: how many ticks they made, how many of
//! those were late, what a tick takes. Matches note that anyway, so their ticks cost nothing more.
//! What follows is decided by [`Shedding`], one for each shard; the matches' actors carry it out.

use std::collections::BTreeMap;
use std::sync::Arc;

use rekindle_schema::MatchId;
use tokio::time::{Instant, sleep_until};

use crate::core::shedding::{Load, Shedding};
use crate::messages::MatchMsg;
use crate::play::cell::MatchCell;
use crate::play::supervision::MatchPhase;
use crate::services::Services;

/// What the last look saw of a match: ticks that it had made, and how many had been late.
type Counts = BTreeMap<MatchId, (u64, u64)>;

/// Starts to look, if the configuration wants matches to be slowed. Ends with the host.
pub(crate) fn start(host: &Arc<Services>) {
    if !host.config.overload.slows() {
        return;
    }
    let services = Arc::clone(host);
    host.spawn(async move {
        let rules = services.config.overload.rules;
        let mut shards: Vec<_> = services.shards.iter().map(|_| Shedding::new(rules)).collect();
        let mut counts = Counts::new();
        let mut next = Instant::now();
        loop {
            // From now on, not from what was missed: a process that was stopped has seen nothing.
            next = (next + services.config.overload.look).max(Instant::now());
            sleep_until(next).await;
            look(&services, &mut shards, &mut counts);
        }
    });
}

fn look(host: &Services, shards: &mut [Shedding], counts: &mut Counts) {
    let cells: Vec<Arc<MatchCell>> = host.matches.lock().values().cloned().collect();
    let slowed = cells.iter().filter(|cell| cell.supervision.slowdown() > 1).count();
    host.meters.slowed.set(slowed as f64);
    let before = std::mem::take(counts);
    if cells.iter().all(|cell| cell.most_slowdown == 1) {
        return;
    }
    let mut loads = vec![Vec::new(); shards.len()];
    for cell in cells.iter().filter(|cell| cell.phase() == MatchPhase::Running) {
        let now = (cell.tick().0, cell.supervision.late());
        counts.insert(cell.match_id, now);
        // The first look at a match has nothing to compare with.
        if let Some(before) = before.get(&cell.match_id) {
            loads[cell.shard].push(load(cell, *before, now));
        }
    }
    for (shedding, loads) in shards.iter_mut().zip(&loads) {
        for change in shedding.look(loads) {
            let cell = cells.iter().find(|cell| cell.match_id == change.match_id);
            // One that has stopped meanwhile needs no rate.
            cell.map(|cell| cell.cast(MatchMsg::Slow(change.periods)));
        }
    }
}

fn load(cell: &MatchCell, before: (u64, u64), now: (u64, u64)) -> Load {
    let sessions = cell.doors.lock().ingress.len();
    Load {
        match_id: cell.match_id,
        made: now.0.saturating_sub(before.0),
        late: now.1.saturating_sub(before.1),
        demand: cell.checkpoints.tick_seconds() / cell.period.as_secs_f64(),
        periods: cell.supervision.slowdown(),
        most: cell.most_slowdown,
        players: sessions.saturating_sub(usize::from(cell.spec.house_bots)),
        priority: cell.priority,
    }
}
