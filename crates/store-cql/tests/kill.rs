//! A CQL server that is killed with SIGKILL in the middle of its work. In a program of its own: all
//! tests share the server.

mod support;

use std::time::Duration;

use rekindle_schema::{Incarnation, MatchId};
use rekindle_store_conformance::{Backend, Scribe, read_all, register};
use support::{Space, control, insist};

const A: MatchId = MatchId(0x0a);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_under_load_loses_nothing() {
    let Some(space) = Space::fresh().await else { return };
    let Some(control) = control() else { return };
    let store = space.with(|options| options.timeout = Duration::from_secs(3)).await;
    let logs: Vec<Incarnation> = (1..=8).map(Incarnation).collect();
    for &log in &logs {
        register(&store, log).await;
    }
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers: Vec<_> = logs
        .iter()
        .map(|&log| {
            let (store, stopped) = (store.clone(), stopped.clone());
            tokio::spawn(async move {
                let (mut scribe, mut written, mut refused) = (Scribe::new(log), Vec::new(), 0);
                let payload = vec![log.0 as u8; 5_000];
                while !*stopped.borrow() {
                    let batch = scribe.batch(&[(A, &payload)]);
                    refused += insist(&store, &batch).await;
                    written.push(batch);
                }
                (log, written, refused)
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let control = tokio::task::spawn_blocking(move || {
        control.kill();
        std::thread::sleep(Duration::from_secs(1));
        control.start();
        control
    });
    control.await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.send_replace(true);
    let (mut all, mut refused) = (0, 0);
    let reader = space.open().await;
    for writer in writers {
        let (log, written, often) = tokio::time::timeout(Duration::from_mins(1), writer)
            .await
            .expect("the store recovers")
            .unwrap();
        (all, refused) = (all + written.len(), refused + often);
        assert!(
            read_all(&reader, log, 1, 4 << 20).await == written,
            "log {log} is not what was acknowledged"
        );
    }
    assert!(refused > 0, "the server was not missed");
    println!("{all} batches were acknowledged, {refused} appends refused meanwhile");
}
