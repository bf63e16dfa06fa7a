//! A Postgres store notices that its tables are others than they were: restored from a dump, or
//! brought back to a point in time.

mod support;

use std::fs;
use std::process::Command;

use rekindle_schema::{Epoch, Incarnation, MatchId};
use rekindle_store::Store;
use rekindle_store::identity::{Fresh as New, StoreIdentity};
use rekindle_store_conformance::match_lease;
use rekindle_store_postgres::PostgresStore;
use support::{Fresh, PrivateServer, beside, until};

const NOW: u64 = 1_795_000_000_000;

async fn ascertain(store: &Store, chance: u128) -> StoreIdentity {
    store.identity.ascertain(New { now_ms: NOW, chance }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_were_made_anew_have_a_new_identity() {
    let Some(fresh) = Fresh::new().await else { return };
    let store = fresh.store().await;
    let first = ascertain(&store, 1).await;
    assert_eq!(first.floor, Epoch(0));
    assert!(
        ["system", "timeline 00", "table"].iter().all(|word| first.place.contains(word)),
        "{}",
        first.place
    );
    store.leases.create(match_lease(MatchId(1), &[(Incarnation(1), 1)])).await.unwrap();
    assert_eq!(ascertain(&fresh.store().await, 2).await, first);
    // As a dump and its restoration do it.
    let sql = fresh.client().await;
    let anew = "CREATE TABLE restored (LIKE node_lease INCLUDING ALL); DROP TABLE node_lease; \
        ALTER TABLE restored RENAME TO node_lease";
    sql.batch_execute(anew).await.unwrap();
    let second = ascertain(&fresh.store().await, 3).await;
    assert_eq!((second.id.0, second.floor), (3, Epoch(NOW)), "{second:?}");
    assert_eq!(ascertain(&store, 4).await, second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_went_back_to_a_point_in_time_has_a_new_identity() {
    let Some(server) = beside(|| PrivateServer::start("")).await else { return };
    let fresh = Fresh::on(&server.address()).await;
    let store = fresh.store().await;
    let first = ascertain(&store, 1).await;
    let row = match_lease(MatchId(1), &[(Incarnation(1), 1)]);
    store.leases.create(row.clone()).await.unwrap();
    assert_eq!(ascertain(&store, 2).await, first);
    let (data, saved) = (server.data(), server.root().join("saved"));
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    };
    server.down();
    copy(&data, &saved);
    server.up();
    // It goes on; a crash changes nothing.
    until("the server is back", async || store.leases.matches().await.is_ok()).await;
    let mut taken = row;
    (taken.version, taken.epoch) = (2, Epoch(2));
    store.leases.compare_and_set(taken).await.unwrap().unwrap();
    assert_eq!(ascertain(&store, 3).await, first);

    server.down();
    fs::remove_dir_all(&data).unwrap();
    copy(&saved, &data);
    let conf = fs::read_to_string(data.join("postgresql.conf")).unwrap();
    // The archive is empty: it goes back to what was saved, and from there on in a timeline of its
    // own.
    fs::write(data.join("postgresql.conf"), conf + "restore_command = 'false'\n").unwrap();
    fs::write(data.join("recovery.signal"), "").unwrap();
    server.up();
    until("the server is a primary again", async || {
        PostgresStore::connect(fresh.options.clone()).await.is_ok()
    })
    .await;
    let store = fresh.store().await;
    assert_eq!(
        store.leases.get(MatchId(1)).await.unwrap().unwrap().epoch,
        Epoch(1),
        "it went back"
    );
    let second = ascertain(&store, 4).await;
    assert_eq!((second.id.0, second.floor), (4, Epoch(NOW)), "{second:?}");
    assert!(second.because.contains("timeline"), "{}", second.because);
    assert_eq!(ascertain(&store, 5).await, second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_tell_what_it_is_has_an_identity_all_the_same() {
    let Some(server) = beside(|| PrivateServer::start("")).await else { return };
    let admin = Fresh::on(&server.address()).await;
    let sql = admin.client().await;
    let plain = format!(
        "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC; CREATE ROLE plain LOGIN; \
         GRANT ALL ON SCHEMA {0} TO plain; \
         GRANT ALL ON ALL TABLES IN SCHEMA {0} TO plain",
        admin.schema()
    );
    sql.batch_execute(&plain).await.unwrap();
    let address = server.address().replace("rekindle@", "plain@");
    let text = format!("{address}?schema={}", admin.schema());
    let store =
        PostgresStore::connect(rekindle_store_postgres::PostgresOptions::parse(&text).unwrap())
            .await
            .unwrap();
    let first = ascertain(&store, 1).await;
    assert!(first.place.starts_with("database"), "{}", first.place);
    assert_eq!(ascertain(&store, 2).await, first);
}
