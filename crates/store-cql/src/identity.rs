//! Which store this is. Tables that were restored on other servers, or into tables made anew, are
//! noticed; a snapshot that was put back under the tables is not.

use rekindle_schema::Epoch;
use rekindle_schema::lease::NodeLease;
use rekindle_store::identity::{
    Fresh, Holder, StoreId, StoreIdentity, announce, first, highest, next,
};
use rekindle_store::{Identity, Leases, StoreError, StoreResult};

use super::{CqlStore, id, migrate};

type Columns = (String, i64, i64, String, String);

impl CqlStore {
    async fn found(&self) -> Result<Option<StoreIdentity>, StoreError> {
        let what = "read the identity of the store";
        let rows = self.driver.rows(what, &self.statements.identity_row, &(self.space(),)).await?;
        let row: Option<Columns> =
            rows.maybe_first_row().map_err(|error| self.driver.unreadable(what, &error))?;
        let Some((name, floor, made, because, place)) = row else { return Ok(None) };
        let wrong = || self.driver.unreadable(what, &format!("`{name}` is no name of a store"));
        let id = StoreId::parse(&name).ok_or_else(wrong)?;
        Ok(Some(StoreIdentity {
            id,
            floor: Epoch(floor as u64),
            made_ms: made as u64,
            because,
            place,
        }))
    }

    /// Puts `new` where `old` stands, unless somebody was faster, and returns what stands then.
    async fn replace_identity(
        &self,
        old: Option<&StoreIdentity>,
        new: StoreIdentity,
    ) -> Result<StoreIdentity, StoreError> {
        let what = "write the identity of the store";
        let (name, floor, made) = (new.id.to_string(), id(new.floor.0), id(new.made_ms));
        let (because, place, space) = (new.because.as_str(), new.place.as_str(), self.space());
        if let Some(old) = old {
            let before = old.id.to_string();
            let values = (name.as_str(), floor, made, because, place, space, before.as_str());
            self.settled(what, &self.statements.identity_replace, &values).await?;
        } else {
            let values = (space, name.as_str(), floor, made, because, place);
            self.settled(what, &self.statements.identity_enter, &values).await?;
        }
        let gone = || self.driver.unreadable(what, &"the row that was written is not there");
        let standing = self.found().await?.ok_or_else(gone)?;
        if standing.id == new.id {
            announce(self.driver.place(), old, &new);
        }
        Ok(standing)
    }
}

impl Identity for CqlStore {
    fn current(&self) -> StoreResult<'_, Option<StoreIdentity>> {
        Box::pin(self.found())
    }

    fn ascertain(&self, fresh: Fresh) -> StoreResult<'_, StoreIdentity> {
        Box::pin(async move {
            let (found, here) =
                (self.found().await?, migrate::place(&self.driver, &self.options).await?);
            let new = match &found {
                Some(found) if found.place == here => return Ok(found.clone()),
                Some(old) => {
                    let why = format!(
                        "the tables were restored, or are on other servers: they were of {}, and \
                         are of {here}",
                        old.place
                    );
                    next(Some(old), fresh, here, &why, highest(&self.matches().await?))
                }
                None => first(fresh, here, highest(&self.matches().await?)),
            };
            self.replace_identity(found.as_ref(), new).await
        })
    }

    fn renew(&self, fresh: Fresh, because: &str, above: Epoch) -> StoreResult<'_, StoreIdentity> {
        let because = because.to_owned();
        Box::pin(async move {
            let (found, here) =
                (self.found().await?, migrate::place(&self.driver, &self.options).await?);
            let highest = highest(&self.matches().await?).max(Some(above));
            let new = next(found.as_ref(), fresh, here, &because, highest);
            let (name, standing) = (new.id, self.replace_identity(found.as_ref(), new).await?);
            let others = || {
                StoreError::Unavailable(
                    "another process gave the store a new identity at the same time".to_owned(),
                )
            };
            if standing.id == name { Ok(standing) } else { Err(others()) }
        })
    }

    fn holder(&self, _lease: &NodeLease) -> StoreResult<'_, Holder> {
        // Connections do not tell of which process they are.
        Box::pin(async { Ok(Holder::Unknown) })
    }
}
