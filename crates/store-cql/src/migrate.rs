//! Tables and their version.

use rekindle_schema::codec::CodecError;
use rekindle_store::StoreError;
use rekindle_store::migration::SchemaState;
use scylla::client::session::Session;
use scylla::statement::{Consistency, Statement};
use scylla::value::CqlValue;

use super::driver::Driver;
use super::options::{CqlOptions, Replication};

/// Migrations in their order; the nth brings the tables to version n.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../schema/cql/0001_tables.cql"),
    include_str!("../../../schema/cql/0002_identity.cql"),
    include_str!("../../../schema/cql/0003_registry.cql"),
];
/// The version that this release needs.
pub(super) const KNOWN: u32 = MIGRATIONS.len() as u32;
/// Where the version stands.
const VERSION_TABLE: &str = "schema_version";

async fn query(
    driver: &Driver,
    what: &str,
    cql: String,
    values: impl scylla::serialize::row::SerializeRow,
) -> Result<Rows, StoreError> {
    let mut statement = Statement::new(cql);
    statement.set_consistency(Consistency::LocalQuorum);
    statement.set_is_idempotent(true);
    let result = driver
        .session()
        .query_unpaged(statement, values)
        .await
        .map_err(|error| driver.failed_at_open(what, &error))?;
    result.into_rows_result().map_err(|error| driver.unreadable(what, &error))
}

type Rows = scylla::response::query_result::QueryRowsResult;

/// How the tables of the keyspace compare with those of this release.
pub(super) async fn state(
    driver: &Driver,
    options: &CqlOptions,
) -> Result<SchemaState, StoreError> {
    let what = "look for the tables";
    let cql =
        "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
    let tables = query(driver, what, cql.to_owned(), (&options.keyspace, VERSION_TABLE)).await?;
    if tables.rows_num() == 0 {
        return Ok(SchemaState::Missing);
    }
    let cql = format!(
        "SELECT version FROM {}.{VERSION_TABLE} WHERE component = 'store'",
        options.keyspace
    );
    let rows = query(driver, what, cql, ()).await?;
    let row: Option<(i32,)> =
        rows.maybe_first_row().map_err(|error| driver.unreadable(what, &error))?;
    Ok(SchemaState::of(row.map(|(version,)| version as u32), KNOWN))
}

/// Makes or updates the tables.
pub(super) async fn migrate(options: &CqlOptions) -> Result<SchemaState, StoreError> {
    let driver = Driver::connect(options).await?;
    let before = state(&driver, options).await?;
    let done = match before {
        SchemaState::Current { .. } => return Ok(before),
        SchemaState::Newer { .. } => {
            return before.require_current(driver.place()).map(|()| before);
        }
        SchemaState::Older { found, .. } => found,
        SchemaState::Missing => {
            if let Replication::Local(copies) = options.replication {
                driver.enough_nodes(copies as usize / 2 + 1)?;
            }
            let tablets = knows_tablets(&driver).await;
            let datacentre = local_datacentre(driver.session(), options);
            change(&driver, create_keyspace(options, &datacentre, tablets)).await?;
            let columns = "(component text PRIMARY KEY, version int)";
            change(
                &driver,
                format!(
                    "CREATE TABLE IF NOT EXISTS {}.{VERSION_TABLE} {columns}",
                    options.keyspace
                ),
            )
            .await?;
            0
        }
    };
    for (version, migration) in (1..).zip(MIGRATIONS).skip(done as usize) {
        for statement in statements(migration, &options.keyspace) {
            change(&driver, statement).await?;
        }
        change(
            &driver,
            format!(
                "INSERT INTO {}.{VERSION_TABLE} (component, version) VALUES ('store', {version})",
                options.keyspace
            ),
        )
        .await?;
    }
    tracing::info!(
        code = "RK-STORE-041",
        place = driver.place(),
        version = KNOWN,
        "tables made or brought up to date"
    );
    state(&driver, options).await
}

/// Drops the keyspace with everything in it.
pub(super) async fn discard(options: &CqlOptions) -> Result<(), StoreError> {
    let driver = Driver::connect(options).await?;
    change(&driver, format!("DROP KEYSPACE IF EXISTS {}", options.keyspace)).await
}

/// Executes one change. The driver waits until all servers agree on the schema before it returns.
async fn change(driver: &Driver, cql: String) -> Result<(), StoreError> {
    let what = "change the tables";
    let mut statement = Statement::new(cql);
    statement.set_consistency(Consistency::LocalQuorum);
    statement.set_is_idempotent(true);
    // The keyspace may need to be created by every server; far slower than any request for data.
    statement.set_request_timeout(Some(std::time::Duration::from_mins(1)));
    let done = driver
        .session()
        .query_unpaged(statement, ())
        .await
        .map_err(|error| driver.failed_at_open(what, &error));
    done?;
    let agreed = driver.session().await_schema_agreement().await;
    agreed
        .map(drop)
        .map_err(|error| StoreError::Unavailable(format!("{}: {what}: {error}", driver.place())))
}

/// The statements of a migration, with tables named by their keyspace.
fn statements(migration: &str, keyspace: &str) -> Vec<String> {
    let code = migration
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .collect::<Vec<_>>()
        .join("\n");
    let split = code.split(';').map(str::trim).filter(|statement| !statement.is_empty());
    split
        .map(|statement| {
            statement.replacen("IF NOT EXISTS ", &format!("IF NOT EXISTS {keyspace}."), 1)
        })
        .collect()
}

/// Tablets and lightweight transactions do not go together on every release of `ScyllaDB`, so they
/// are switched off where they are known.
fn create_keyspace(options: &CqlOptions, local: &str, tablets: bool) -> String {
    let copies: Vec<String> = match &options.replication {
        Replication::Local(copies) => vec![format!("'{local}': {copies}")],
        Replication::Datacentres(all) => {
            all.iter().map(|(name, copies)| format!("'{name}': {copies}")).collect()
        }
    };
    let copies = copies.join(", ");
    let tablets = if tablets { " AND tablets = {'enabled': false}" } else { "" };
    format!(
        "CREATE KEYSPACE IF NOT EXISTS {} WITH replication = {{'class': 'NetworkTopologyStrategy', \
         {copies}}} AND durable_writes = true{tablets}",
        options.keyspace
    )
}

fn local_datacentre(session: &Session, options: &CqlOptions) -> String {
    let state = session.get_cluster_state();
    let first = state.get_nodes_info().iter().find_map(|node| node.datacenter.clone());
    options.datacentre.clone().or(first).unwrap_or_default()
}

/// Whether the server is a `ScyllaDB` that may use tablets. Others do not even have the column.
async fn knows_tablets(driver: &Driver) -> bool {
    let cql = "SELECT supported_features FROM system.local".to_owned();
    let Ok(rows) = query(driver, "look for tablets", cql, ()).await else { return false };
    let features: Option<(Option<String>,)> = rows.maybe_first_row().unwrap_or_default();
    features
        .and_then(|(features,)| features)
        .is_some_and(|features| features.split(',').any(|feature| feature == "TABLETS"))
}

/// Says so if the server answers writes before they are on disk. What cannot be found out is not
/// complained about: not every user may read it.
pub(super) async fn warn_if_unsynced(driver: &Driver) {
    let name = "commitlog_sync";
    for table in ["system_views.settings", "system.config"] {
        let cql = format!("SELECT value FROM {table} WHERE name = '{name}'");
        let Ok(rows) = query(driver, "look at the settings", cql, ()).await else { continue };
        let Ok(Some((Some(value),))) = rows.maybe_first_row::<(Option<String>,)>() else {
            continue;
        };
        if value.trim_matches('"') == "periodic" {
            tracing::warn!(
                code = "RK-STORE-040",
                place = driver.place(),
                "the server answers writes before they are on disk (commitlog_sync: periodic): \
                 what is acknowledged is lost if a majority of its \
                 replicas loses power at once; set it to batch or group"
            );
        }
        return;
    }
}

/// What changes when tables are restored on other servers or made anew: the name of the cluster,
/// and the id that it gave to the table of leases. Tables whose files are put back under them keep
/// both.
pub(super) async fn place(driver: &Driver, options: &CqlOptions) -> Result<String, StoreError> {
    let what = "look for the place of the tables";
    let text = |rows: &Rows| -> Result<String, StoreError> {
        let row: Option<(CqlValue,)> =
            rows.maybe_first_row().map_err(|error| driver.unreadable(what, &error))?;
        Ok(match row {
            Some((CqlValue::Text(text) | CqlValue::Ascii(text),)) => text,
            Some((CqlValue::Uuid(id),)) => id.to_string(),
            _ => "unknown".to_owned(),
        })
    };
    let cluster =
        query(driver, what, "SELECT cluster_name FROM system.local".to_owned(), ()).await?;
    let id =
        "SELECT id FROM system_schema.tables WHERE keyspace_name = ? AND table_name = 'node_lease'";
    let table = query(driver, what, id.to_owned(), (&options.keyspace,)).await?;
    Ok(format!("cluster `{}` table {}", text(&cluster)?, text(&table)?))
}

/// Bytes of a table do not decode.
pub(super) fn undecodable(driver: &Driver, table: &str, error: &CodecError) -> StoreError {
    StoreError::Corrupt {
        place: format!("{}, table {table}", driver.place()),
        problem: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyspaces_are_replicated_where_they_are_told() {
        let options = |url: &str| CqlOptions::parse(url).unwrap();
        let one = create_keyspace(&options("scylla://a/k?replication=1"), "eu", false);
        assert_eq!(
            one,
            "CREATE KEYSPACE IF NOT EXISTS k WITH replication = {'class': \
             'NetworkTopologyStrategy', 'eu': 1} AND durable_writes = true"
        );
        let two = create_keyspace(&options("scylla://a/k?replication=eu:3,us:2"), "eu", true);
        assert!(
            two.contains("'eu': 3, 'us': 2}") && two.ends_with("AND tablets = {'enabled': false}"),
            "{two}"
        );
    }

    #[test]
    fn migrations_are_statements_that_can_be_repeated() {
        for migration in MIGRATIONS {
            let found = statements(migration, "k");
            assert!(!found.is_empty());
            for statement in found {
                assert!(statement.starts_with("CREATE TABLE IF NOT EXISTS k."), "{statement}");
            }
        }
        assert_eq!(
            statements("-- a; b\nCREATE TABLE IF NOT EXISTS t (a int);\n\n;", "k"),
            ["CREATE TABLE IF NOT EXISTS k.t (a int)"]
        );
    }
}
