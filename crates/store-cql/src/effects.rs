//! Effects: one lightweight transaction each, so that of two deliveries one is new.

use rekindle_schema::MatchId;
use rekindle_schema::codec;
use rekindle_schema::record::{EFFECT_TAG, Effect, EffectId};
use rekindle_store::{EffectSink, StoreError, StoreResult};

use super::{CqlStore, id, migrate, ordered};

impl EffectSink for CqlStore {
    fn deliver(&self, match_id: MatchId, effect: Effect) -> StoreResult<'_, bool> {
        Box::pin(async move {
            let EffectId { tick, ordinal } = effect.id;
            let value = codec::encode(EFFECT_TAG, &effect);
            let key = (
                self.space(),
                id(match_id.0),
                ordered(tick.0),
                i64::from(ordinal),
                value.as_slice(),
            );
            // After an unknown outcome the row that stands may be ours. Whether it was new is then
            // not known either; saying that it was not is what a caller is told who delivers again
            // after a lost answer.
            let done =
                self.settled("deliver an effect", &self.statements.effect_deliver, &key).await?;
            Ok(done.applied)
        })
    }

    fn delivered(&self) -> StoreResult<'_, Vec<(MatchId, Effect)>> {
        Box::pin(async move {
            let what = "list effects";
            let key = (self.space(),);
            let all = self.driver.all(what, &self.statements.effect_rows, &key, |rows| {
                let rows = rows
                    .rows::<(i64, &[u8])>()
                    .map_err(|error| self.driver.unreadable(what, &error))?;
                let decode =
                    |row: Result<(i64, &[u8]), _>| -> Result<(MatchId, Effect), StoreError> {
                        let (match_id, value) =
                            row.map_err(|error: scylla::errors::DeserializationError| {
                                self.driver.unreadable(what, &error)
                            })?;
                        let effect = codec::decode(EFFECT_TAG, value).map_err(|error| {
                            migrate::undecodable(&self.driver, "effect", &error)
                        })?;
                        Ok((MatchId(match_id as u64), effect))
                    };
                rows.map(decode).collect()
            });
            let mut all = all.await?;
            all.sort_by_key(|(match_id, effect)| (*match_id, effect.id));
            Ok(all)
        })
    }
}
