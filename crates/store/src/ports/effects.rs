//! The effect port: where results of matches and other effects are delivered, once each.
//!
//! Called by the host of matches once an effect's tick is durable.

use rekindle_schema::MatchId;
use rekindle_schema::record::Effect;

use super::StoreResult;

/// Where effects go. A sink remembers ids: the same effect delivered again changes nothing.
pub trait EffectSink: Send + Sync + 'static {
    /// Delivers one effect of a match; resolves once it is durable. `Ok(true)` if it was new.
    fn deliver(&self, match_id: MatchId, effect: Effect) -> StoreResult<'_, bool>;
    /// All that was delivered, ascending by (match, id).
    fn delivered(&self) -> StoreResult<'_, Vec<(MatchId, Effect)>>;
}
