//! Sees a tick that never returns, which no supervisor can: the thread that would handle its
//! messages is the one that hangs.
//!
//! A thread looks at every match several times per period. A match that shows the same tick in the
//! making in [`LOOKS`] consecutive looks is hung. Looks are counted, not time: a process that was
//! stopped and continued has not looked meanwhile, so it accuses nobody.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rekindle_schema::lease::MatchState;
use rekindle_schema::{MatchId, Tick};

use crate::config::Hang;
use crate::recovery::poison::list;
use crate::services::Services;

/// Consecutive looks that must see the same tick.
const LOOKS: u32 = 10;
/// How long parking in the lease row may take before the process ends without it.
const PARK_LIMIT: Duration = Duration::from_secs(5);

/// What consecutive looks have seen: for each match the tick in the making, and how often.
#[derive(Debug, Default)]
pub(crate) struct Watch(BTreeMap<MatchId, (Tick, u32)>);

impl Watch {
    /// Takes one look; returns the matches that hang.
    pub(crate) fn look(&mut self, running: impl Iterator<Item = (MatchId, Tick)>) -> Vec<MatchId> {
        let mut seen = BTreeMap::new();
        for (match_id, tick) in running {
            let count = match self.0.get(&match_id) {
                Some(&(before, count)) if before == tick => count + 1,
                _ => 1,
            };
            seen.insert(match_id, (tick, count));
        }
        self.0 = seen;
        self.0
            .iter()
            .filter(|(_, (_, count))| *count == LOOKS)
            .map(|(&match_id, _)| match_id)
            .collect()
    }
}

/// Starts the watchdog thread. It ends with the host.
pub(crate) fn start(host: &Arc<Services>) -> std::io::Result<()> {
    let period = host.config.watchdog / LOOKS;
    let host = Arc::downgrade(host);
    std::thread::Builder::new()
        .name("watchdog".to_owned())
        .spawn(move || watch(&host, period))
        .map(drop)
}

fn watch(host: &Weak<Services>, period: Duration) {
    let mut looks = Watch::default();
    loop {
        std::thread::sleep(period);
        let Some(host) = host.upgrade() else { return };
        if host.is_aborted() {
            return;
        }
        let cells: Vec<_> = host.matches.lock().values().cloned().collect();
        let running = cells
            .iter()
            .filter_map(|cell| Some((cell.match_id, cell.supervision.probe().running()?.0)));
        for match_id in looks.look(running) {
            if let Some(hang) = describe(&host, match_id) {
                report(&host, hang);
            }
        }
    }
}

fn describe(host: &Services, match_id: MatchId) -> Option<Hang> {
    let cell = host.matches.lock().get(&match_id).cloned()?;
    let probe = cell.supervision.probe();
    let (tick, system) = probe.running()?;
    let players = cell.supervision.players_in(tick);
    Some(Hang {
        match_id,
        tick,
        system: system.to_owned(),
        players: players.unwrap_or_default(),
        parked: false,
    })
}

fn report(host: &Services, mut hang: Hang) {
    let limit = host.config.watchdog;
    let text = format!(
        "system `{}` did not return from tick {} within {limit:?} (players with inputs in that \
         tick: {})",
        hang.system,
        hang.tick,
        list(hang.players.iter().copied())
    );
    // The node's own runtimes may be what hangs: the row is written from here.
    let parking =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map(|runtime| {
            let state = MatchState::Parked { report: text.clone() };
            runtime.block_on(async {
                tokio::time::timeout(PARK_LIMIT, host.set_row(hang.match_id, state)).await
            })
        });
    hang.parked = matches!(parking, Ok(Ok(Ok(true))));
    host.meters.parked.increment(1);
    tracing::error!(
        code = "RK-HOST-024",
        match_id = %hang.match_id,
        system = %hang.system,
        tick = %hang.tick,
        parked = hang.parked,
        "{text}; the process ends so that its other matches go on"
    );
    (host.config.on_hang)(hang);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_tick_in_all_consecutive_looks_is_a_hang() {
        let (slow, hung) = (MatchId(1), MatchId(2));
        let mut watch = Watch::default();
        for round in 1..LOOKS {
            assert!(
                watch
                    .look([(slow, Tick(u64::from(round))), (hung, Tick(7))].into_iter())
                    .is_empty(),
                "round {round}"
            );
        }
        assert_eq!(watch.look([(slow, Tick(99)), (hung, Tick(7))].into_iter()), [hung]);
        assert!(watch.look([(hung, Tick(7))].into_iter()).is_empty(), "reported once");
    }

    #[test]
    fn a_look_that_finds_it_idle_starts_the_count_again() {
        let mut watch = Watch::default();
        for _ in 1..LOOKS {
            watch.look([(MatchId(1), Tick(3))].into_iter());
        }
        watch.look(std::iter::empty());
        assert!(watch.look([(MatchId(1), Tick(3))].into_iter()).is_empty());
    }
}
