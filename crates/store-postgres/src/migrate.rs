//! Versions of the tables: numbered files in `schema/sql`, applied in order, each in a transaction
//! together with its line in `schema_version`.

use rekindle_store::StoreError;
use rekindle_store::migration::SchemaState;
use std::time::Duration;
use tokio_postgres::Client;

use super::options::PostgresOptions;
use super::{errors, pools, tls};

/// All versions, ascending from 1 without gaps: name and statements.
const MIGRATIONS: [(&str, &str); 5] = [
    ("base", include_str!("../../../schema/sql/0001_base.sql")),
    ("jobs_audit", include_str!("../../../schema/sql/0002_jobs_audit.sql")),
    ("archive", include_str!("../../../schema/sql/0003_archive.sql")),
    ("identity", include_str!("../../../schema/sql/0004_identity.sql")),
    ("registry", include_str!("../../../schema/sql/0005_registry.sql")),
];

/// The version of the tables that this release needs.
pub const SCHEMA_VERSION: u32 = MIGRATIONS.len() as u32;

/// Opens one connection without limits on statements.
async fn connect(options: &PostgresOptions, doing: &str) -> Result<Client, StoreError> {
    let config = options.session(Duration::ZERO);
    let (client, _task) = pools::dial(&config, tls::connector(options)?)
        .await
        .map_err(|error| errors::classify(&error, doing))?;
    Ok(client)
}

async fn found(
    client: &Client,
    options: &PostgresOptions,
) -> Result<Option<u32>, tokio_postgres::Error> {
    let table = format!("\"{}\".schema_version", options.schema());
    if client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]).await?.get(0) {
        let newest: Option<i32> =
            client.query_one("SELECT max(version) FROM schema_version", &[]).await?.get(0);
        return Ok(newest.map(i32::cast_unsigned));
    }
    Ok(None)
}

/// How the tables at this address compare with those that this release needs. Changes nothing.
pub async fn schema_state(options: &PostgresOptions) -> Result<SchemaState, StoreError> {
    const DOING: &str = "reading the version of the tables";
    let client = connect(options, DOING).await?;
    let found = found(&client, options).await.map_err(|error| errors::classify(&error, DOING))?;
    Ok(SchemaState::of(found, SCHEMA_VERSION))
}

/// Brings the tables up to what this release needs and returns the versions that were applied, none
/// if they were current. Several may run at once: they wait for each other. `Refused` if a newer
/// release made the tables; nothing is changed then.
pub async fn migrate(options: &PostgresOptions) -> Result<Vec<u32>, StoreError> {
    const DOING: &str = "migrating the tables";
    let failed = |error: tokio_postgres::Error| errors::classify(&error, DOING);
    let mut client = connect(options, DOING).await?;
    // Until the connection ends: whoever dies in the middle lets the next one in.
    let lock = "SELECT pg_advisory_lock(hashtextextended('rekindle.migrate.' || $1, 0))";
    client.query(lock, &[&options.schema()]).await.map_err(failed)?;
    let before = found(&client, options).await.map_err(failed)?;
    if let state @ SchemaState::Newer { .. } = SchemaState::of(before, SCHEMA_VERSION) {
        state.require_current(&options.to_string())?;
    }
    let mut applied = Vec::new();
    for (version, (name, statements)) in
        (1_u32..).zip(MIGRATIONS).skip(before.unwrap_or(0) as usize)
    {
        let transaction = client.transaction().await.map_err(failed)?;
        if version == 1 {
            let schema = options.schema();
            let table = "CREATE TABLE schema_version (version int PRIMARY KEY, name text NOT NULL, \
                applied timestamptz NOT NULL DEFAULT now())";
            transaction
                .batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"; {table}"))
                .await
                .map_err(failed)?;
        }
        transaction.batch_execute(statements).await.map_err(failed)?;
        let line = "INSERT INTO schema_version (version, name) VALUES ($1, $2)";
        transaction.execute(line, &[&version.cast_signed(), &name]).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        applied.push(version);
    }
    Ok(applied)
}

/// Drops the schema with everything in it: for a store that was made for one purpose and has served
/// it. Harmless to repeat.
pub async fn discard(options: &PostgresOptions) -> Result<(), StoreError> {
    const DOING: &str = "dropping the tables";
    let failed = |error: tokio_postgres::Error| errors::classify(&error, DOING);
    let client = connect(options, DOING).await?;
    // In pieces: one transaction that drops hundreds of partitions may need more locks than there
    // are.
    let partitions = "SELECT format('DROP TABLE IF EXISTS %I.%I', schemaname, tablename) \
                      FROM pg_tables \
                      WHERE schemaname = $1 AND tablename LIKE 'batch\\_%'";
    for row in client.query(partitions, &[&options.schema()]).await.map_err(failed)? {
        client.batch_execute(row.try_get(0).map_err(failed)?).await.map_err(failed)?;
    }
    client
        .batch_execute(&format!("DROP SCHEMA IF EXISTS {} CASCADE", options.schema()))
        .await
        .map_err(failed)
}
