//! Which store this is: a random name, and the lowest epoch in which its matches may be continued.
//!
//! Two stores with the same matches in them must never continue one of them in the same epoch:
//! clients tell what is newer by its epoch, and would take the one's frames for the other's. So
//! each store has an identity, kept beside its rows and never copied with them, and a copy gets one
//! of its own:
//!
//! * [`crate::transfer`] gives one to its target, before it writes the rows.
//! * A store that finds itself at another *place* than the one that its identity names (see
//!   [`crate::Identity::ascertain`]) was copied or restored by other means, and takes a new
//!   one.
//! * What a store cannot notice (a snapshot that was put back under it), an operator tells it:
//!   `rekindle store renew-identity`.
//!
//! A new identity has a new *floor*: the time in milliseconds, or more. A match that is taken over
//! goes on in that epoch or a higher one. The original reaches it only by a takeover in each
//! millisecond of its life. A new identity that was not needed costs nothing but a jump of epochs.
//!
//! This module has what all backends share: when which identity is made. It reads no clock and
//! draws no chance: see [`Fresh`].

use std::fmt;

use rekindle_schema::Epoch;
use rekindle_schema::lease::MatchLease;

/// A floor is at least so far above every epoch that is known, whatever the clock says.
const LEAP: u64 = 1 << 20;
/// No clock is believed beyond this, so that epochs stay exact wherever numbers are floating-point
/// (53 bits).
const LATEST_MS: u64 = 1 << 50;
const _: () = assert!(LATEST_MS + LEAP < 1 << 53, "epochs stay exact as floating-point numbers");

/// The name of a store: 128 random bits, shown as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub u128);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl StoreId {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

/// What a store knows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreIdentity {
    /// Its name.
    pub id: StoreId,
    /// A match that is taken over continues in this epoch or a higher one.
    pub floor: Epoch,
    /// When the identity was made, in milliseconds since 1970.
    pub made_ms: u64,
    /// Why it was made, in words, one line.
    pub because: String,
    /// Where the store was then: the backend's own words, compared with where it is now.
    pub place: String,
}

/// What a new identity is made of.
#[derive(Debug, Clone, Copy)]
pub struct Fresh {
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// 128 random bits.
    pub chance: u128,
}

/// What is known of the process that registered a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// It has ended.
    Gone,
    /// It runs, and has no file of this store open: it is a node of another store, of which this
    /// one is a copy.
    Stranger,
    /// It runs and has this very store open.
    Holds,
    /// Nobody can tell from here.
    Unknown,
}

/// The highest epoch of some rows; `None` if there are none.
pub fn highest(rows: &[MatchLease]) -> Option<Epoch> {
    rows.iter().map(|row| row.epoch).max()
}

fn floor(now_ms: u64, above: Epoch) -> Epoch {
    Epoch(now_ms.min(LATEST_MS).max(above.0.saturating_add(LEAP)))
}

/// The first identity of a store. Matches that are there already may have been copied: they are
/// continued above the floor.
pub fn first(fresh: Fresh, place: String, highest: Option<Epoch>) -> StoreIdentity {
    let (floor, because) = match highest {
        None => (Epoch(0), "the store is new"),
        Some(above) => (
            floor(fresh.now_ms, above),
            "there are matches, but no identity: an earlier release wrote them, or it was lost",
        ),
    };
    StoreIdentity {
        id: StoreId(fresh.chance),
        floor,
        made_ms: fresh.now_ms,
        because: because.to_owned(),
        place,
    }
}

/// Takes the place of `old`, whose epochs and those up to `highest` may have been seen elsewhere.
pub fn next(
    old: Option<&StoreIdentity>,
    fresh: Fresh,
    place: String,
    because: &str,
    highest: Option<Epoch>,
) -> StoreIdentity {
    let above = old.map_or(Epoch(0), |old| old.floor).max(highest.unwrap_or_default());
    let because = because.split_whitespace().collect::<Vec<_>>().join(" ");
    StoreIdentity {
        id: StoreId(fresh.chance),
        floor: floor(fresh.now_ms, above),
        made_ms: fresh.now_ms,
        because,
        place,
    }
}

/// Says so in the log. `store` is the store's address or directory.
pub fn announce(store: &str, old: Option<&StoreIdentity>, new: &StoreIdentity) {
    if old.is_none() && new.floor == Epoch(0) {
        tracing::debug!(store, id = %new.id, "a new store");
        return;
    }
    tracing::warn!(
        code = "RK-STORE-101",
        store,
        old = old.map(|old| old.id.to_string()),
        new = %new.id,
        because = new.because,
        floor = %new.floor,
        "this store takes a new identity: its matches continue in epochs that nobody has seen"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_000_000_000;

    fn fresh(now_ms: u64) -> Fresh {
        Fresh { now_ms, chance: 7 }
    }

    #[test]
    fn a_new_store_begins_at_the_bottom_and_one_with_matches_above_all_of_them() {
        assert_eq!(first(fresh(NOW), String::new(), None).floor, Epoch(0));
        assert_eq!(first(fresh(NOW), String::new(), Some(Epoch(3))).floor, Epoch(NOW));
    }

    #[test]
    fn floors_grow_whatever_the_clock_says() {
        let old = next(None, fresh(NOW), String::new(), "a\ncopy", Some(Epoch(9)));
        assert_eq!((old.floor, old.because.as_str()), (Epoch(NOW), "a copy"));
        for clock in [0, NOW - 86_400_000, NOW, NOW + 1] {
            let new = next(Some(&old), fresh(clock), String::new(), "again", Some(Epoch(NOW + 12)));
            assert!(new.floor >= Epoch(NOW + 12 + LEAP), "{clock}: {}", new.floor);
        }
        assert!(next(None, fresh(u64::MAX), String::new(), "no clock", None).floor.0 < 1 << 53);
    }

    #[test]
    fn a_name_is_read_as_it_is_written() {
        let id = StoreId(0x1f);
        assert_eq!(StoreId::parse(&id.to_string()), Some(id));
        assert_eq!((StoreId::parse("1f"), StoreId::parse(&"g".repeat(32))), (None, None));
    }
}
