//! The outside that a real node runs on: the wall clock and the system's randomness. Nothing else
//! in this crate asks for them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rekindle_schema::Incarnation;
use rekindle_store::identity::Fresh;

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// [`now_ms`] to be handed on.
pub fn wall() -> Arc<dyn Fn() -> u64 + Send + Sync> {
    Arc::new(now_ms)
}

/// 64 random bits of the system; without any, what the clock gives.
pub fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
    })
}

/// 128 of them.
pub fn chance() -> u128 {
    u128::from(random()) << 64 | u128::from(random())
}

/// What a store makes a new identity of, if it needs one now.
pub fn fresh() -> Fresh {
    Fresh { now_ms: now_ms(), chance: chance() }
}

/// A new incarnation: the time in milliseconds in front, so that they sort by age, then random
/// bits.
pub fn incarnation() -> Incarnation {
    Incarnation(now_ms() << 20 | random() >> 44)
}
