//! The effect port: a table of `node.db`.

use rekindle_schema::MatchId;
use rekindle_schema::codec;
use rekindle_schema::record::{EFFECT_TAG, Effect};
use rekindle_store::{EffectSink, StoreResult};

use super::LocalStore;
use super::facts::{Table, decoded};

impl EffectSink for LocalStore {
    fn deliver(&self, match_id: MatchId, effect: Effect) -> StoreResult<'_, bool> {
        Box::pin(self.facts.change(move |rows| {
            let key = [match_id.0, effect.id.tick.0, u64::from(effect.id.ordinal)];
            if rows.get(Table::Effect, key)?.is_some() {
                return Ok(false);
            }
            rows.put(Table::Effect, key, Some(&codec::encode(EFFECT_TAG, &effect)))?;
            Ok(true)
        }))
    }

    fn delivered(&self) -> StoreResult<'_, Vec<(MatchId, Effect)>> {
        Box::pin(self.facts.look(|rows| {
            let found = rows.all(Table::Effect)?;
            found
                .iter()
                .map(|(key, value)| {
                    Ok((MatchId(key[0]), decoded(Table::Effect, codec::decode(EFFECT_TAG, value))?))
                })
                .collect()
        }))
    }
}
