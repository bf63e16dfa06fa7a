//! Opens the store that an address names, and looks after the tables of remote ones.
//!
//! Each backend is a cargo feature. A build without it parses the backend's addresses and refuses
//! to open them. Called by the node and by commands; calls the backends. Its futures are boxed, so
//! that the backends are compiled here and not where an address is opened.

#[cfg(not(all(
    feature = "local",
    feature = "memory",
    feature = "postgres",
    feature = "cql"
)))]
use rekindle_store::StoreError;
use rekindle_store::migration::SchemaState;
use rekindle_store::{Store, StoreResult};
#[cfg(feature = "cql")]
use rekindle_store_cql::{self as cql, CqlOptions, CqlStore};
#[cfg(feature = "local")]
use rekindle_store_local::{LocalOptions, LocalStore};
#[cfg(feature = "memory")]
use rekindle_store_memory::MemoryStore;
#[cfg(feature = "postgres")]
use rekindle_store_postgres::{self as postgres, PostgresOptions, PostgresStore};

use crate::address::StoreAddress;

impl StoreAddress {
    /// Opens the store. A local one is created if it does not exist; the tables of a remote one
    /// must be those of this release. `Refused` if this build is without that backend.
    pub fn open(&self) -> StoreResult<'_, Store> {
        Box::pin(async move {
            match self {
                #[cfg(feature = "local")]
                Self::Local(dir) => LocalStore::open(dir, LocalOptions::default()),
                #[cfg(feature = "memory")]
                Self::Memory => Ok(MemoryStore::new().store()),
                #[cfg(feature = "postgres")]
                Self::Postgres(url) => {
                    PostgresStore::connect(PostgresOptions::parse(url.secret())?).await
                }
                #[cfg(feature = "cql")]
                Self::Cql(url) => CqlStore::connect(CqlOptions::parse(url.secret())?).await,
                #[cfg(not(all(
                    feature = "local",
                    feature = "memory",
                    feature = "postgres",
                    feature = "cql"
                )))]
                _ => Err(self.left_out()),
            }
        })
    }

    /// How the tables of the store compare with those of this release; `None` if it needs none.
    pub fn schema_state(&self) -> StoreResult<'_, Option<SchemaState>> {
        Box::pin(async move {
            match self {
                Self::Local(_) | Self::Memory => Ok(None),
                #[cfg(feature = "postgres")]
                Self::Postgres(url) => {
                    postgres::schema_state(&PostgresOptions::parse(url.secret())?).await.map(Some)
                }
                #[cfg(feature = "cql")]
                Self::Cql(url) => {
                    cql::schema_state(&CqlOptions::parse(url.secret())?).await.map(Some)
                }
                #[cfg(not(all(feature = "postgres", feature = "cql")))]
                _ => Err(self.left_out()),
            }
        })
    }

    /// Removes the tables of the store with everything in them. For stores that were made
    /// [apart](Self::apart) and are needed no longer.
    pub fn discard(&self) -> StoreResult<'_, ()> {
        Box::pin(async move {
            match self {
                Self::Local(_) | Self::Memory => Ok(()),
                #[cfg(feature = "postgres")]
                Self::Postgres(url) => {
                    postgres::discard(&PostgresOptions::parse(url.secret())?).await
                }
                #[cfg(feature = "cql")]
                Self::Cql(url) => cql::discard(&CqlOptions::parse(url.secret())?).await,
                #[cfg(not(all(feature = "postgres", feature = "cql")))]
                _ => Err(self.left_out()),
            }
        })
    }

    /// Brings the tables of the store to what this release needs, and returns how they were before;
    /// `None` if it needs no tables.
    pub fn migrate(&self) -> StoreResult<'_, Option<SchemaState>> {
        Box::pin(async move {
            let Some(before) = self.schema_state().await? else { return Ok(None) };
            match self {
                Self::Local(_) | Self::Memory => {}
                #[cfg(feature = "postgres")]
                Self::Postgres(url) => {
                    drop(postgres::migrate(&PostgresOptions::parse(url.secret())?).await?);
                }
                #[cfg(feature = "cql")]
                Self::Cql(url) => drop(cql::migrate(&CqlOptions::parse(url.secret())?).await?),
                #[cfg(not(all(feature = "postgres", feature = "cql")))]
                _ => return Err(self.left_out()),
            }
            Ok(Some(before))
        })
    }

    /// This build is without the backend of this address.
    #[cfg(not(all(feature = "local", feature = "memory", feature = "postgres", feature = "cql")))]
    fn left_out(&self) -> StoreError {
        StoreError::Refused {
            place: self.to_string(),
            problem: format!("this program was built without stores of the kind `{}`", self.kind()),
        }
    }
}
