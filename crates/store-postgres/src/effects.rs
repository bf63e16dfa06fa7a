//! The effect port: one row for each effect.

use rekindle_schema::record::{EFFECT_TAG, Effect};
use rekindle_schema::{MatchId, codec};
use rekindle_store::{EffectSink, StoreError, StoreResult};
use tokio_postgres::Row;

use super::PostgresStore;
use super::convert::{column, count, decoded, id};

const EFFECTS: &str = "effect";

impl EffectSink for PostgresStore {
    fn deliver(&self, match_id: MatchId, effect: Effect) -> StoreResult<'_, bool> {
        Box::pin(async move {
            let sql = "INSERT INTO effect (match_id, tick, ordinal, kind, effect) VALUES ($1, $2, \
                $3, $4, $5) ON CONFLICT DO NOTHING RETURNING true";
            let (tick, ordinal) = (count("tick", effect.id.tick.0)?, i64::from(effect.id.ordinal));
            let bytes = codec::encode(EFFECT_TAG, &effect);
            let rows = self
                .0
                .facts(
                    "delivering an effect",
                    sql,
                    &[&id(match_id.0), &tick, &ordinal, &effect.kind, &bytes],
                )
                .await?;
            Ok(!rows.is_empty())
        })
    }

    fn delivered(&self) -> StoreResult<'_, Vec<(MatchId, Effect)>> {
        Box::pin(async move {
            let rows =
                self.0.facts("listing effects", "SELECT match_id, effect FROM effect", &[]).await?;
            let read = |row: &Row| -> Result<(MatchId, Effect), StoreError> {
                let match_id = MatchId(column::<i64>(row, 0, EFFECTS)?.cast_unsigned());
                Ok((
                    match_id,
                    decoded(EFFECTS, codec::decode(EFFECT_TAG, column(row, 1, EFFECTS)?))?,
                ))
            };
            let mut found = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
            found.sort_by_key(|(match_id, effect)| (*match_id, effect.id));
            Ok(found)
        })
    }
}
