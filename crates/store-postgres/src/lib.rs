//! A Postgres server as the store: for a cluster whose nodes share no disk, with tools that
//! operators know.
//!
//! ```text
//! node_lease, match_lease, effect     one row each, changed by single statements
//! checkpoint, checkpoint_chunk        manifests with small states, and the chunks of large ones
//! batch_LOG_FIRST                     the partitions of the logs: one row for each batch
//! segment                             which partitions there are
//! archive_chunk, pin                  what is kept beyond what recovery needs
//! job, audit                          work to be done, and what operators did
//! store_identity                      which store this is, one row
//! ```
//!
//! Statements are single and autocommitted, so a node that stops between two of them holds no lock;
//! the only transactions of several statements are those of a large checkpoint and of claiming
//! jobs, which the server ends if their node falls silent. Every error of the connection is
//! `Unavailable`, which means: repeat the same request; all of them are harmless to repeat. The
//! tables are in `schema/sql`; [`migrate`] makes them, opening a store never does. `docs/STORES.md`
//! says what it takes to run one.
//!
//! This module is not responsible for repeating requests (callers know what they would rather do),
//! nor for who may take over what.

mod archive;
mod audit;
mod checkpoints;
mod convert;
mod effects;
mod errors;
mod guards;
mod identity;
mod jobs;
mod journal;
mod leases;
mod migrate;
mod options;
mod pools;
mod registry;
mod tls;

use std::sync::Arc;

use rekindle_store::{Store, StoreError, StoreResult};

use self::checkpoints::Known;
use self::convert::column;
use self::journal::Writers;
use self::pools::{Lane, Pools};

#[cfg(feature = "mutants")]
pub use self::guards::Mutant;
pub use self::migrate::{SCHEMA_VERSION, discard, migrate, schema_state};
pub use self::options::{DEFAULT_SCHEMA, PostgresOptions, Tls};

/// The oldest server that the tables work on.
const MIN_SERVER: i32 = 130_000;

/// What the ports of one store share.
struct Inner {
    options: PostgresOptions,
    pools: Pools,
    writers: Writers,
    known: Known,
}

/// A Postgres server, connected.
#[derive(Clone)]
pub struct PostgresStore(Arc<Inner>);

impl PostgresStore {
    /// Connects, and checks that the server and its tables are fit for use. `Refused` says what is
    /// not; `Unavailable` if there is no answer.
    pub fn connect(options: PostgresOptions) -> StoreResult<'static, Store> {
        Box::pin(async move { Self::open(options).await.map(|this| this.store()) })
    }

    /// As [`Self::connect`], for those who want to know more than the ports tell.
    pub async fn open(options: PostgresOptions) -> Result<Self, StoreError> {
        migrate::schema_state(&options).await?.require_current(&options.to_string())?;
        let known = Known::new(options.checkpoint_queue);
        let this = Self(Arc::new(Inner {
            pools: Pools::new(&options)?,
            writers: Writers::default(),
            known,
            options,
        }));
        this.check_server().await?;
        Ok(this)
    }

    /// The ports.
    pub fn store(&self) -> Store {
        let this = Arc::new(self.clone());
        Store {
            journal: this.clone(),
            checkpoints: this.clone(),
            leases: this.clone(),
            effects: this.clone(),
            archive: this.clone(),
            jobs: this.clone(),
            audit: this.clone(),
            identity: this.clone(),
            registry: this,
        }
    }

    /// How many connections are open now; never more than [`PostgresOptions::pool`].
    pub fn connections(&self) -> usize {
        self.0.pools.open()
    }

    /// A server that loses what it has committed makes every promise of this store void.
    async fn check_server(&self) -> Result<(), StoreError> {
        let sql = "SELECT current_setting('server_version_num')::int, current_setting('fsync'), \
                   current_setting('full_page_writes'), \
                   current_setting('synchronous_commit'), pg_is_in_recovery()";
        let rows =
            self.0.pools.rows(Lane::Facts, "asking for the server's settings", sql, &[]).await?;
        let place = self.0.options.to_string();
        let refuse = |problem: String| Err(StoreError::Refused { place: place.clone(), problem });
        let Some(row) = rows.first() else {
            return refuse("the server does not tell its settings".to_owned());
        };
        let version: i32 = column(row, 0, "pg_settings")?;
        let setting = |index| column::<&str>(row, index, "pg_settings");
        let (fsync, pages, commit) = (setting(1)?, setting(2)?, setting(3)?);
        if version < MIN_SERVER {
            return refuse(format!(
                "the server has version {}, Rekindle needs 13 or later",
                version / 10_000
            ));
        }
        if column(row, 4, "pg_settings")? {
            return refuse(
                "this server is a standby; name the primary, or several hosts with \
                 `target_session_attrs=read-write`"
                    .to_owned(),
            );
        }
        if commit != "on" {
            return refuse(format!(
                "sessions have `synchronous_commit = {commit}` although this one asked for `on`; \
                 is a proxy in between?"
            ));
        }
        if fsync != "on" && !self.0.options.unsafe_server {
            let hint =
                "a crash of that machine loses what was acknowledged and may destroy the rest";
            return refuse(format!(
                "the server runs with `fsync = {fsync}`: {hint}; set it to `on`"
            ));
        }
        if fsync != "on" {
            tracing::warn!(code = "RK-STORE-034", store = %place, "the server runs without fsync: \
                nothing survives a crash of its machine");
        }
        if pages != "on" {
            tracing::warn!(
                code = "RK-STORE-035",
                store = %place,
                "the server runs with full_page_writes = off: right only on a file system that \
                 never tears a page"
            );
        }
        Ok(())
    }
}
