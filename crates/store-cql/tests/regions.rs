//! Two datacentres: a store in one of them needs nothing of the other, and the other gets a copy.

mod support;

use std::time::{Duration, Instant};

use rekindle_schema::{Incarnation, MatchId};
use rekindle_store::StoreError;
use rekindle_store_conformance::{Scribe, match_lease, read_all, register};
use rekindle_store_cql::{self as cql, CqlOptions, CqlStore};
use support::{Keyspace, bare, server, unique};

const A: MatchId = MatchId(0x0a);
const NODE: Incarnation = Incarnation(0xa1);

/// The datacentres of the cluster, ascending.
async fn datacentres(address: &str) -> Vec<String> {
    let state = bare(address).await.get_cluster_state();
    let mut names: Vec<String> =
        state.get_nodes_info().iter().filter_map(|node| node.datacenter.clone()).collect();
    names.sort();
    names.dedup();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datacentre_stands_on_its_own_and_the_other_gets_a_copy() {
    if server().is_none() {
        return;
    }
    let nodes = rekindle_testservers::cql().map_or(Vec::new(), |cql| cql.nodes);
    let address = nodes.iter().map(|node| node.address.clone()).collect::<Vec<_>>().join(",");
    let names = datacentres(&address).await;
    if names != ["eu", "us"] {
        rekindle_testservers::skipped(
            "two datacentres",
            &format!("the CQL cluster has {names:?}, not eu and us"),
        );
        return;
    }
    let keyspace = Keyspace { address: address.clone(), name: unique("rekindle_regions") };
    let options = |dc: &str| {
        let parameters = format!("{dc}replication=eu:1,us:1&timeout=10s");
        CqlOptions::parse(&format!("scylla://{address}/{}?{parameters}", keyspace.name)).unwrap()
    };
    let unnamed = cql::migrate(&options("")).await.unwrap_err();
    assert!(
        matches!(&unnamed, StoreError::Refused { problem, .. } if problem.contains("?dc=") && problem.contains("eu, us")),
        "{unnamed}"
    );
    cql::migrate(&options("dc=eu&")).await.unwrap();
    let home = CqlStore::connect(options("dc=eu&")).await.unwrap();
    register(&home, NODE).await;
    home.leases.create(match_lease(A, &[(NODE, 1)])).await.unwrap();
    let mut scribe = Scribe::new(NODE);
    let mut written = scribe.append(&home, 20, &[A]).await;

    // The other datacentre is gone: nothing here waits for it.
    let abroad = nodes.into_iter().find(|node| node.datacenter.as_deref() == Some("us"));
    if let Some(control) = abroad.and_then(|node| node.control) {
        control.kill();
        written.extend(scribe.append(&home, 20, &[A]).await);
        let mut row = home.leases.get(A).await.unwrap().unwrap();
        row.version += 1;
        home.leases.compare_and_set(row).await.unwrap().unwrap();
        assert_eq!(read_all(&home, NODE, 1, 1 << 20).await, written);
        control.start();
    } else {
        rekindle_testservers::skipped("a datacentre that is gone", "its server is not ours");
    }
    // The copy arrives over there, also of what was written meanwhile.
    let begun = Instant::now();
    let abroad = loop {
        match CqlStore::connect(options("dc=us&")).await {
            Ok(store) => break store,
            Err(error) => assert!(begun.elapsed() < Duration::from_mins(1), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    loop {
        let found = abroad.journal.read(NODE, rekindle_schema::BatchNo(1), 8 << 20).await;
        if found.as_ref().is_ok_and(|found| *found == written) {
            break;
        }
        assert!(
            begun.elapsed() < Duration::from_mins(2),
            "of {} batches abroad: {:?}",
            written.len(),
            found.map(|found| found.len())
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("all {} batches were abroad {:?} later", written.len(), begun.elapsed());
    assert_eq!(abroad.leases.nodes().await.unwrap().len(), 1);
    assert_eq!(abroad.leases.matches().await.unwrap().len(), 1);
}
