//! What a client that comes back has lost: asks [`crate::stood`] and the match, counts and logs it.

use rekindle_door::{MatchDoor, MatchInfo};
use rekindle_schema::wire::Stood;
use rekindle_schema::{PlayerId, Tick};
use tokio::time::Instant;

use crate::edge::Edge;
use crate::meters::Meters;
use crate::stood::{self, Lost};

/// What the client saw and the match does not have. One that does not say where it stood
/// (version 1) is told what the recovery found.
pub(super) fn lost(
    door: &dyn MatchDoor,
    info: &MatchInfo,
    stood: Option<&Stood>,
    resumed: bool,
) -> Option<Lost> {
    let recovered = door.holds_until().map(|to| Lost { to, why: "recovery" });
    let Some(stood) = stood else { return recovered.filter(|_| resumed) };
    let found = stood::lost(stood, info.epoch, info.tick, |tick| door.hash_at(tick));
    let recovered = recovered.filter(|lost| stood.epoch < info.epoch && stood.tick > lost.to);
    // The recovery compared every hash; the client knows a few.
    let known = match found {
        Some(lost) if lost.to > Tick(0) => Some(lost),
        other => recovered.or(other),
    };
    // Shown before it was durable, and made anew by a later owner while the client was away: the
    // match may have gone beyond that since, and between two hashes nothing differs.
    let anew = door.holds_of(stood.epoch).filter(|to| stood.tick > *to);
    let anew = anew.map(|to| Lost { to, why: "anew" });
    [known, anew].into_iter().flatten().min_by_key(|lost| lost.to)
}

/// Counts it, and logs it as often as lines may come.
pub(super) fn tell_lost(
    edge: &Edge,
    info: &MatchInfo,
    player: PlayerId,
    stood: Option<&Stood>,
    lost: Lost,
) {
    Meters::rewound(lost.why);
    if edge.rewound_lines.lock().take(1.0, Instant::now()) {
        let (epoch_seen, last) =
            stood.map_or((0, None), |stood| (stood.epoch.0, Some(stood.tick.0)));
        tracing::warn!(
            code = "RK-GATE-127",
            match_id = %info.match_id,
            %player,
            why = lost.why,
            from = lost.to.0 + 1,
            until = last,
            epoch_seen,
            epoch = info.epoch.0,
            "a client was shown ticks that the match does not have: it is rewound; was the store \
             put back to an earlier state?"
        );
    }
}
