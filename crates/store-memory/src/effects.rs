//! The effect port.

use rekindle_schema::MatchId;
use rekindle_schema::record::Effect;
use rekindle_store::{EffectSink, StoreResult};

use super::{MemoryStore, Op};

impl EffectSink for MemoryStore {
    fn deliver(&self, match_id: MatchId, effect: Effect) -> StoreResult<'_, bool> {
        Box::pin(self.run(Op::Effect, move |shared| {
            let key = (match_id, effect.id);
            let new = !shared.effects.contains_key(&key);
            shared.effects.entry(key).or_insert(effect);
            Ok(new)
        }))
    }

    fn delivered(&self) -> StoreResult<'_, Vec<(MatchId, Effect)>> {
        Box::pin(self.run(Op::Effect, |shared| {
            Ok(shared
                .effects
                .iter()
                .map(|(&(match_id, _), effect)| (match_id, effect.clone()))
                .collect())
        }))
    }
}
