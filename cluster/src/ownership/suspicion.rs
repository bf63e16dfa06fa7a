//! Which nodes look dead, judged by what one observer reads of their leases.
//!
//! A suspicion takes nothing away: it only decides when a takeover is tried, and the store decides
//! that. So a wrong one costs a node its matches for the time of a recovery, never a tick. No two
//! clocks are compared: a lease counts as abandoned when the observer has watched it stand still
//! for [`PATIENCE_MS`] *of its own time*, without a gap in its watch. After a gap (the store was
//! away, or the observer was paused) every watch begins anew, because in the meantime nobody else
//! could renew either.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_schema::Incarnation;
use rekindle_schema::lease::{NodeLease, NodeState};

use super::lease::{LEASE_MS, RENEW_EVERY};

/// How long a lease must stand still under watch, in milliseconds.
pub const PATIENCE_MS: u64 = LEASE_MS;
/// Looks that are further apart than this are no watch, in milliseconds.
const GAP_MS: u64 = 2 * RENEW_EVERY.as_millis() as u64;

const _: () = assert!(
    PATIENCE_MS >= 3 * RENEW_EVERY.as_millis() as u64,
    "a few missed renewals are no death"
);

/// What is known of the process that holds a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// It ran on this host and has ended.
    Gone,
    /// It may run: here, or where nobody can look.
    Unknown,
}

#[derive(Debug, Clone, Copy)]
struct Watch {
    deadline_ms: u64,
    since_ms: u64,
}

/// Remembers how long each lease has stood still.
#[derive(Debug, Default)]
pub struct Observer {
    watches: BTreeMap<Incarnation, Watch>,
    last_look_ms: Option<u64>,
}

impl Observer {
    /// Takes in the rows as just read, at `now_ms` of a clock that only this observer uses and that
    /// never goes back, and returns who looks dead: stopped and fenced nodes, those whose process
    /// has ended, and those whose lease was abandoned.
    pub fn look(
        &mut self,
        now_ms: u64,
        rows: &[NodeLease],
        process: impl Fn(&NodeLease) -> Process,
    ) -> BTreeSet<Incarnation> {
        if self.last_look_ms.is_none_or(|last| now_ms.saturating_sub(last) > GAP_MS) {
            self.watches.clear();
        }
        self.last_look_ms = Some(now_ms);
        let mut watches = BTreeMap::new();
        let mut dead = BTreeSet::new();
        for row in rows {
            if row.state != NodeState::Live || process(row) == Process::Gone {
                dead.insert(row.incarnation);
                continue;
            }
            let fresh = Watch { deadline_ms: row.deadline_ms, since_ms: now_ms };
            let watch = self
                .watches
                .get(&row.incarnation)
                .copied()
                .filter(|watch| watch.deadline_ms == row.deadline_ms)
                .unwrap_or(fresh);
            if now_ms - watch.since_ms >= PATIENCE_MS {
                dead.insert(row.incarnation);
            }
            watches.insert(row.incarnation, watch);
        }
        self.watches = watches;
        dead
    }
}

/// Adds to `dead` the nodes that membership suspects, unless more than half of all nodes, this one
/// counted, would look dead by hints alone: then it is this node that is cut off, most likely, and
/// the leases have to stand still before anything is done. `others` are the leases of all other
/// nodes as just read.
pub fn believe(
    dead: &mut BTreeSet<Incarnation>,
    others: &[NodeLease],
    suspected: &BTreeSet<Incarnation>,
) {
    let standing: Vec<Incarnation> = others
        .iter()
        .filter(|node| node.state == NodeState::Live && !dead.contains(&node.incarnation))
        .map(|node| node.incarnation)
        .collect();
    let hinted = || standing.iter().filter(|node| suspected.contains(node));
    if 2 * hinted().count() <= standing.len() + 1 {
        dead.extend(hinted());
    }
}

#[cfg(test)]
mod tests {
    use rekindle_schema::lease::DEFAULT_REGION;

    use super::*;

    const STEP: u64 = RENEW_EVERY.as_millis() as u64;

    fn row(id: u64, deadline_ms: u64, state: NodeState) -> NodeLease {
        let (host, region) = (String::new(), DEFAULT_REGION.to_owned());
        let (incarnation, reached, loss_accepted_ms) = (Incarnation(id), None, None);
        let name = "n".into();
        NodeLease {
            incarnation,
            name,
            state,
            pid: 1,
            pid_start: 1,
            deadline_ms,
            seal: None,
            host,
            region,
            reached,
            loss_accepted_ms,
        }
    }

    fn unknown(_: &NodeLease) -> Process {
        Process::Unknown
    }

    #[test]
    fn a_lease_that_moves_is_alive_and_one_that_stands_still_is_not() {
        let mut observer = Observer::default();
        let mut died_at = None;
        for now in (0..10 * STEP).step_by(STEP as usize) {
            // The second one's clock is days off: only whether its deadline moves counts.
            let rows = [row(1, 77, NodeState::Live), row(2, now + 1_000_000_000, NodeState::Live)];
            let dead = observer.look(now, &rows, unknown);
            assert!(!dead.contains(&Incarnation(2)));
            if dead.contains(&Incarnation(1)) {
                died_at.get_or_insert(now);
            }
        }
        assert_eq!(died_at, Some(PATIENCE_MS));
    }

    #[test]
    fn after_a_gap_in_the_watch_everybody_gets_their_full_time_again() {
        let mut observer = Observer::default();
        let rows = [row(1, 77, NodeState::Live)];
        for now in [0, STEP, 2 * STEP, 3 * STEP] {
            assert!(observer.look(now, &rows, unknown).is_empty());
        }
        let back = 3 * STEP + 60_000;
        for now in [back, back + STEP, back + 2 * STEP, back + 3 * STEP] {
            assert!(observer.look(now, &rows, unknown).is_empty(), "judged by an outage");
        }
        assert_eq!(observer.look(back + 4 * STEP, &rows, unknown).len(), 1);
    }

    #[test]
    fn hints_of_a_minority_that_sees_nobody_do_not_count() {
        let ids = |ids: &[u64]| ids.iter().copied().map(Incarnation).collect::<BTreeSet<_>>();
        let rows: Vec<NodeLease> = (1..=4).map(|id| row(id, 1, NodeState::Live)).collect();
        let believed = |rows: &[NodeLease], known_dead: &[u64], suspected: &[u64]| {
            let mut dead = ids(known_dead);
            believe(&mut dead, rows, &ids(suspected));
            dead.into_iter().map(|node| node.0).collect::<Vec<_>>()
        };
        // Of five nodes two look dead: three do not.
        assert_eq!(believed(&rows, &[], &[1, 2]), [1, 2]);
        assert_eq!(believed(&rows, &[], &[1, 2, 3]), [0; 0]);
        // A process that has ended on this host is no hint, and the dead have no voice.
        assert_eq!(believed(&rows, &[1, 2], &[3]), [1, 2, 3]);
        assert_eq!(believed(&rows, &[1, 2], &[3, 4]), [1, 2]);
        // Of two nodes one may look dead.
        assert_eq!(believed(&rows[..1], &[], &[1]), [1]);
        // Whom the store does not have as live is no subject of hints.
        assert_eq!(believed(&rows[..1], &[], &[1, 7, 8, 9]), [1]);
        let fenced = [row(1, 1, NodeState::Fenced), row(2, 1, NodeState::Live)];
        assert_eq!(believed(&fenced, &[1], &[1, 2]), [1, 2]);
    }

    #[test]
    fn a_process_that_ended_here_is_not_waited_for() {
        let rows = [
            row(1, 5, NodeState::Live),
            row(2, 5, NodeState::Stopped),
            row(3, 5, NodeState::Fenced),
            row(4, 5, NodeState::Live),
        ];
        let gone =
            |row: &NodeLease| if row.incarnation.0 == 4 { Process::Gone } else { Process::Unknown };
        let dead = Observer::default().look(0, &rows, gone);
        assert_eq!(dead.into_iter().map(|node| node.0).collect::<Vec<_>>(), [2, 3, 4]);
    }
}
