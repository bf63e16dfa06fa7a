//! Tables of a CQL store: made, found missing, older, newer; and addresses that lead nowhere.

mod support;

use rekindle_schema::job::JobStatus;
use rekindle_schema::{Incarnation, JobId, MatchId};
use rekindle_store::StoreError;
use rekindle_store::identity::Fresh;
use rekindle_store::migration::SchemaState;
use rekindle_store::{Claim, NewJob, Outcome};
use rekindle_store_conformance::{Scribe, register};
use rekindle_store_cql::{self as cql, CqlOptions, CqlStore};
use support::{Keyspace, bare, server, unique};

async fn refused(options: &CqlOptions) -> String {
    match CqlStore::connect(options.clone()).await.map(drop) {
        Err(error @ StoreError::Refused { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_tables_of_this_release_are_used() {
    let Some(address) = server() else { return };
    let keyspace = Keyspace { address: address.clone(), name: unique("rekindle_schema") };
    let options = keyspace.options();
    assert_eq!(cql::schema_state(&options).await.unwrap(), SchemaState::Missing);
    let missing = refused(&options).await;
    assert!(missing.contains("store migrate") && missing.contains(&keyspace.name), "{missing}");

    let SchemaState::Current { version } = cql::migrate(&options).await.unwrap() else {
        panic!("not current after a migration")
    };
    assert_eq!(cql::schema_state(&options).await.unwrap(), SchemaState::Current { version });
    let store = CqlStore::connect(options.clone()).await.unwrap();
    register(&store, Incarnation(1)).await;
    Scribe::new(Incarnation(1)).append(&store, 2, &[MatchId(1)]).await;

    let session = bare(&address).await;
    let set = async |version: u32| {
        let write = format!(
            "INSERT INTO {}.schema_version (component, version) VALUES ('store', {version})",
            keyspace.name
        );
        session.query_unpaged(write, ()).await.unwrap();
    };
    set(version + 1).await;
    assert!(
        matches!(cql::schema_state(&options).await.unwrap(), SchemaState::Newer { found, .. } if found == version + 1)
    );
    assert!(refused(&options).await.contains("newer release"));
    let newer = cql::migrate(&options).await.unwrap_err();
    assert!(matches!(&newer, StoreError::Refused { .. }), "{newer}");
    set(version - 1).await;
    assert!(matches!(cql::schema_state(&options).await.unwrap(), SchemaState::Older { .. }));
    assert!(refused(&options).await.contains("store migrate"));

    // A migration that was interrupted: some tables are there, the version is not.
    session
        .query_unpaged(
            format!("DELETE FROM {}.schema_version WHERE component = 'store'", keyspace.name),
            (),
        )
        .await
        .unwrap();
    session.query_unpaged(format!("DROP TABLE {}.effect", keyspace.name), ()).await.unwrap();
    assert_eq!(cql::schema_state(&options).await.unwrap(), SchemaState::Missing);
    for _ in 0..2 {
        assert_eq!(cql::migrate(&options).await.unwrap(), SchemaState::Current { version });
    }
    // Tables that were made anew, as a restoration on other servers makes them, are another store.
    let ascertain = async |chance| {
        let store = CqlStore::connect(options.clone()).await.unwrap();
        store.identity.ascertain(Fresh { now_ms: 1_795_000_000_000, chance }).await.unwrap()
    };
    let first = ascertain(1).await;
    assert_eq!(ascertain(2).await, first);
    session
        .query_unpaged(
            format!("DELETE FROM {}.schema_version WHERE component = 'store'", keyspace.name),
            (),
        )
        .await
        .unwrap();
    session.query_unpaged(format!("DROP TABLE {}.node_lease", keyspace.name), ()).await.unwrap();
    cql::migrate(&options).await.unwrap();
    let second = ascertain(3).await;
    assert_eq!((second.id.0, second.floor.0), (3, 1_795_000_000_000), "{second:?}");
    assert_eq!(ascertain(4).await, second);
    let store = CqlStore::connect(options.clone()).await.unwrap();
    assert_eq!(
        store.journal.tail(Incarnation(1)).await.unwrap().last.0,
        2,
        "a migration keeps what is there"
    );
    assert!(store.effects.delivered().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_copies_than_nodes_are_refused_with_the_way_out() {
    let Some(address) = server() else { return };
    let keyspace = Keyspace { address: address.clone(), name: unique("rekindle_copies") };
    let mut options = keyspace.options();
    // Whatever the server for tests has, it has fewer nodes.
    options.replication = cql::Replication::Local(99);
    let refused = cql::migrate(&options).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Refused { .. }) && !refused.is_transient(), "{refused}");
    let words = refused.to_string();
    assert!(words.contains("RK-STORE-130") && words.contains("?replication=1"), "{words}");
    assert_eq!(
        cql::schema_state(&options).await.unwrap(),
        SchemaState::Missing,
        "no keyspace is left behind"
    );
    // One that was made like this by somebody else.
    let session = bare(&address).await;
    let datacentre = options.datacentre.clone().unwrap_or_else(|| "datacenter1".to_owned());
    let make = format!(
        "CREATE KEYSPACE {} WITH replication = {{'class': 'NetworkTopologyStrategy', \
         '{datacentre}': 99}}",
        keyspace.name
    );
    session.query_unpaged(make, ()).await.unwrap();
    let table = format!(
        "CREATE TABLE {}.schema_version (component text PRIMARY KEY, version int)",
        keyspace.name
    );
    session.query_unpaged(table, ()).await.unwrap();
    let found = CqlStore::connect(options).await.map(drop).unwrap_err().to_string();
    assert!(found.contains("RK-STORE-130"), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_addresses_are_told_apart() {
    let Some(address) = server() else { return };
    let mut options =
        CqlOptions::parse(&format!("scylla://{address}/nowhere?dc=atlantis")).unwrap();
    let atlantis = refused(&options).await;
    assert!(atlantis.contains("atlantis") && atlantis.contains("it has"), "{atlantis}");
    // A port on which nobody listens.
    options.hosts = vec!["127.0.0.1:9".to_owned()];
    let error = CqlStore::connect(options).await.map(drop).unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("127.0.0.1:9"), "{error}");
}

/// What jobs leave behind is deleted in windows, and nobody reads it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_of_jobs_that_are_over_are_left_behind() {
    const HOUR: u64 = 3_600_000;
    const NOW: u64 = 1_700_000_000_000;
    let Some(address) = server() else { return };
    let keyspace = Keyspace::make(&address).await;
    let store = CqlStore::connect(keyspace.options()).await.unwrap();
    let job = |number: u64, run_at_ms: u64| NewJob {
        id: JobId::at(NOW + number, number),
        queue: "work".to_owned(),
        kind: "copy".to_owned(),
        payload: bytes::Bytes::new(),
        unique: None,
        run_at_ms,
        max_attempts: 3,
        created_ms: NOW + number,
    };
    let claim = |now_ms: u64| Claim {
        queue: "work".to_owned(),
        by: Incarnation(1),
        now_ms,
        until_ms: now_ms + 1_000,
        limit: 50,
    };
    for number in 0..30 {
        store.jobs.enqueue(job(number, NOW + number)).await.unwrap();
    }
    let late = store.jobs.enqueue(job(30, NOW + HOUR)).await.unwrap();
    for done in store.jobs.claim(claim(NOW + 1_000)).await.unwrap() {
        store
            .jobs
            .finish(done.id, 1, NOW + 2_000, Outcome::Done { note: String::new() })
            .await
            .unwrap();
    }
    let session = bare(&address).await;
    let noted = async || {
        let rows = session
            .query_unpaged(format!("SELECT id FROM {}.job_due", keyspace.name), ())
            .await
            .unwrap();
        rows.into_rows_result().unwrap().rows_num()
    };
    assert!(noted().await > 30);
    assert!(store.jobs.claim(claim(NOW + HOUR / 2)).await.unwrap().is_empty());
    assert_eq!(noted().await, 1, "only what is still to come is noted");
    let row = session
        .query_unpaged(format!("SELECT first_window FROM {}.job_queue", keyspace.name), ())
        .await
        .unwrap();
    let (first,): (i64,) = row.into_rows_result().unwrap().first_row().unwrap();
    assert!(first as u64 > NOW / 600_000, "claims begin with window {first}");
    let claimed = store.jobs.claim(claim(NOW + HOUR)).await.unwrap();
    assert_eq!(claimed.iter().map(|job| job.id).collect::<Vec<_>>(), [late]);
    // Its holder falls silent for hours: it is still found.
    let again = store.jobs.claim(claim(NOW + 9 * HOUR)).await.unwrap();
    assert_eq!((again.len(), again[0].attempt), (1, 2));
    store
        .jobs
        .finish(late, 2, NOW + 9 * HOUR, Outcome::Dead { error: "no".to_owned() })
        .await
        .unwrap();
    assert_eq!(
        store.jobs.retry(late, NOW + 30 * HOUR, 1).await.unwrap().status(),
        JobStatus::Ready
    );
    assert_eq!(store.jobs.claim(claim(NOW + 30 * HOUR)).await.unwrap().len(), 1);
}
