//! Versions of the tables, what a server must be fit for, TLS, and passwords.

mod support;

use std::fmt::Write as _;
use std::io;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rekindle_schema::{BatchNo, Incarnation, MatchId};
use rekindle_store::StoreError;
use rekindle_store::migration::SchemaState;
use rekindle_store_conformance::{Scribe, register};
use rekindle_store_postgres::{self as postgres, PostgresOptions, PostgresStore, SCHEMA_VERSION};
use support::{Fresh, PrivateServer, address};

const NODE: Incarnation = Incarnation(0xa1);
const A: MatchId = MatchId(0x0a);

async fn refusal(options: &PostgresOptions) -> String {
    match PostgresStore::connect(options.clone()).await {
        Err(error @ StoreError::Refused { .. }) => error.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was opened"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_other_releases_are_refused() {
    let Some(address) = address() else { return };
    let fresh = Fresh::unmigrated(&address);
    let options = &fresh.options;
    assert_eq!(postgres::schema_state(options).await.unwrap(), SchemaState::Missing);
    let missing = refusal(options).await;
    assert!(missing.contains("no tables") && missing.contains("store migrate"), "{missing}");
    assert_eq!(
        postgres::schema_state(options).await.unwrap(),
        SchemaState::Missing,
        "looking changes nothing"
    );
    assert_eq!(postgres::migrate(options).await.unwrap(), (1..=SCHEMA_VERSION).collect::<Vec<_>>());
    assert!(postgres::migrate(options).await.unwrap().is_empty());
    assert_eq!(
        postgres::schema_state(options).await.unwrap(),
        SchemaState::Current { version: SCHEMA_VERSION }
    );
    PostgresStore::connect(options.clone()).await.unwrap();
    let sql = fresh.client().await;

    sql.execute("INSERT INTO schema_version VALUES (1000, 'from the future')", &[]).await.unwrap();
    let newer = refusal(options).await;
    assert!(newer.contains("version 1000") && newer.contains("newer release"), "{newer}");
    assert!(
        matches!(postgres::migrate(options).await, Err(StoreError::Refused { .. })),
        "a newer schema is left alone"
    );
    sql.execute("DELETE FROM schema_version WHERE version = 1000", &[]).await.unwrap();

    // As the first release left it.
    sql.batch_execute(
        "DROP TABLE job, audit, archive_chunk, pin, store_identity, registry; DROP SEQUENCE \
        archive_put; DELETE FROM schema_version WHERE version > 1",
    )
    .await
    .unwrap();
    let older = refusal(options).await;
    assert!(older.contains("version 1") && older.contains("store migrate"), "{older}");
    assert_eq!(postgres::migrate(options).await.unwrap(), (2..=SCHEMA_VERSION).collect::<Vec<_>>());
    PostgresStore::connect(options.clone()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_migrators_each_version_is_applied_by_one() {
    let Some(address) = address() else { return };
    let fresh = Fresh::unmigrated(&address);
    let applied =
        futures::future::join_all((0..6).map(|_| postgres::migrate(&fresh.options))).await;
    let mut applied: Vec<u32> = applied
        .into_iter()
        .flat_map(|applied| applied.expect("waiting for another migrator is no error"))
        .collect();
    applied.sort_unstable();
    assert_eq!(applied, (1..=SCHEMA_VERSION).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_fails_leaves_what_was_there() {
    let Some(address) = address() else { return };
    let fresh = Fresh::unmigrated(&address);
    let sql = fresh.client().await;
    sql.batch_execute(&format!(
        "CREATE SCHEMA {0}; CREATE TABLE {0}.effect (in_the_way int)",
        fresh.schema()
    ))
    .await
    .unwrap();
    let failed = postgres::migrate(&fresh.options).await.unwrap_err();
    assert!(
        matches!(failed, StoreError::Refused { .. }) && failed.to_string().contains("effect"),
        "{failed}"
    );
    assert_eq!(postgres::schema_state(&fresh.options).await.unwrap(), SchemaState::Missing);
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = $1";
    assert_eq!(sql.query_one(tables, &[&fresh.schema()]).await.unwrap().get::<_, i64>(0), 1);
    sql.batch_execute(&format!("DROP TABLE {}.effect", fresh.schema())).await.unwrap();
    postgres::migrate(&fresh.options).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_made_ahead_and_go_as_a_whole() {
    let Some(fresh) = Fresh::new().await else { return };
    let store = fresh.store_with(|options| options.segment_batches = 10).await;
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    let sql = fresh.client().await;
    let firsts = async || -> Vec<i64> {
        let rows = sql.query("SELECT first FROM segment ORDER BY first", &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    scribe.append(&store, 5, &[A]).await;
    assert_eq!(firsts().await, [1]);
    scribe.append(&store, 1, &[A]).await;
    support::until("the next partition is there", async || firsts().await == [1, 11]).await;
    scribe.append(&store, 39, &[A]).await;
    assert_eq!(firsts().await[..5], [1, 11, 21, 31, 41]);
    store.journal.trim(NODE, BatchNo(31)).await.unwrap();
    assert_eq!(firsts().await[..2], [31, 41]);
    let children = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'batch'::regclass";
    assert_eq!(
        sql.query_one(children, &[]).await.unwrap().get::<_, i64>(0),
        firsts().await.len() as i64
    );
    assert_eq!(store.journal.logs().await.unwrap()[0].first, BatchNo(31));
    // A reader of an old partition does not hold up appends, only the trimming of what it reads.
    sql.batch_execute("BEGIN; SELECT count(*) FROM batch").await.unwrap();
    let held = store.journal.trim(NODE, BatchNo(41)).await.unwrap_err();
    assert!(held.is_transient(), "{held}");
    scribe.append(&store, 20, &[A]).await;
    sql.batch_execute("COMMIT").await.unwrap();
    store.journal.trim(NODE, BatchNo(41)).await.unwrap();
    assert_eq!(firsts().await[0], 41);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_loses_what_it_has_committed_is_refused() {
    let Some(server) = PrivateServer::start("fsync = off") else { return };
    let fresh = Fresh::unmigrated(&server.address());
    postgres::migrate(&fresh.options).await.unwrap();
    let refused = refusal(&fresh.options).await;
    assert!(refused.contains("fsync = off"), "{refused}");
    let text = format!("{}?schema={}&durability=unchecked", server.address(), fresh.schema());
    PostgresStore::connect(PostgresOptions::parse(&text).unwrap()).await.expect("it was asked for");
}

/// What was logged, as text.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_password_is_never_printed() {
    const SECRET: &str = "hunter2correcthorse";
    let Some(server) = PrivateServer::start("password_encryption = 'scram-sha-256'") else {
        return;
    };
    let fresh = Fresh::on(&server.address()).await;
    let sql = fresh.client().await;
    let schema = fresh.schema();
    sql.batch_execute(&format!("CREATE ROLE player LOGIN SUPERUSER PASSWORD '{SECRET}'"))
        .await
        .unwrap();
    let hba = server.data().join("pg_hba.conf");
    std::fs::write(
        &hba,
        "host all player 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n",
    )
    .unwrap();
    sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();

    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let port = server.address().rsplit_once(':').map(|(_, rest)| rest.to_owned()).unwrap();
    let mut shown = String::new();
    let good = PostgresOptions::parse(&format!(
        "postgres://player:{SECRET}@127.0.0.1:{port}?schema={schema}"
    ))
    .unwrap();
    let store = PostgresStore::connect(good.clone()).await.expect("the password is used");
    register(&store, NODE).await;
    Scribe::new(NODE).append(&store, 1, &[A]).await;
    let _ = write!(shown, "{good} {good:?} {:?}", store.journal.tail(NODE).await);

    let wrong = PostgresOptions::parse(&format!(
        "postgres://player:{SECRET}x@127.0.0.1:{port}?schema={schema}"
    ))
    .unwrap();
    let refused =
        PostgresStore::connect(wrong.clone()).await.err().expect("a wrong password is refused");
    assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
    let _ = write!(shown, "{wrong} {wrong:?} {refused} {refused:?}");
    let absent = PostgresOptions::parse_with(
        &format!("postgres://player@127.0.0.1:{port}?schema={schema}"),
        None,
    )
    .unwrap();
    let refused =
        PostgresStore::connect(absent).await.err().expect("without a password nobody gets in");
    assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
    let _ = write!(shown, "{refused} {refused:?}");
    let nowhere =
        PostgresOptions::parse(&format!("postgres://player:{SECRET}@127.0.0.1:1?schema={schema}"))
            .unwrap();
    let gone = PostgresStore::connect(nowhere).await.err().expect("nobody listens there");
    assert!(gone.is_transient(), "{gone}");
    let _ = write!(shown, "{gone} {gone:?}");
    shown += &String::from_utf8_lossy(&logged.0.lock().unwrap());
    assert!(!shown.contains(SECRET), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_checked_as_asked() {
    let Some(server) = PrivateServer::start("") else { return };
    let certify = |names: &[&str]| {
        rcgen::generate_simple_self_signed(
            names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(),
        )
        .unwrap()
    };
    let (ours, other) = (certify(&["127.0.0.1", "localhost"]), certify(&["127.0.0.1"]));
    let (root, strange) = (server.root().join("root.pem"), server.root().join("strange.pem"));
    std::fs::write(&root, ours.cert.pem()).unwrap();
    std::fs::write(&strange, other.cert.pem()).unwrap();
    let fresh = Fresh::on(&server.address()).await;
    let parse = |mode: &str| {
        PostgresOptions::parse(&format!("{}?schema={}&{mode}", server.address(), fresh.schema()))
            .unwrap()
    };

    // Before the server has a certificate.
    PostgresStore::connect(parse("sslmode=prefer")).await.expect("prefer goes without");
    let refused = refusal(&parse("sslmode=require")).await;
    assert!(refused.contains("TLS"), "{refused}");

    let (key, certificate) = (server.data().join("server.key"), server.data().join("server.crt"));
    std::fs::write(&key, ours.signing_key.serialize_pem()).unwrap();
    std::fs::write(&certificate, ours.cert.pem()).unwrap();
    assert!(Command::new("chmod").arg("600").arg(&key).status().unwrap().success());
    let owner = Command::new("chown")
        .arg("--reference")
        .arg(server.data())
        .arg(&key)
        .arg(&certificate)
        .status()
        .unwrap();
    assert!(owner.success());
    let sql = fresh.client().await;
    sql.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
    sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl \
        AND application_name = $1";

    for (mode, fits) in [
        ("sslmode=disable".to_owned(), true),
        ("sslmode=prefer".to_owned(), true),
        ("sslmode=require".to_owned(), true),
        (format!("sslmode=require&sslrootcert={}", root.display()), true),
        (format!("sslmode=verify-full&sslrootcert={}", root.display()), true),
        (format!("sslmode=verify-full&sslrootcert={}", strange.display()), false),
        (format!("sslmode=require&sslrootcert={}", strange.display()), false),
        ("sslmode=verify-full&sslrootcert=/nowhere/root.pem".to_owned(), false),
    ] {
        let options = parse(&format!("{mode}&application_name=mode"));
        // The server takes its certificate a moment after it was told to.
        let mut outcome = PostgresStore::connect(options.clone()).await;
        for _ in 0..100 {
            if !matches!(&outcome, Err(error) if error.to_string().contains("does not support TLS"))
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            outcome = PostgresStore::connect(options.clone()).await;
        }
        match outcome {
            Ok(store) => {
                assert!(fits, "{mode}");
                register(&store, NODE).await;
                let count: i64 = sql.query_one(encrypted, &[&"mode"]).await.unwrap().get(0);
                assert_eq!(
                    count > 0,
                    mode != "sslmode=disable",
                    "{mode}: {count} encrypted connections"
                );
            }
            Err(error) => {
                assert!(!fits && matches!(error, StoreError::Refused { .. }), "{mode}: {error}");
            }
        }
    }
}
