//! Sessions over real sockets: coming in, playing, resuming, being let go.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rekindle_client::{Client, ClientEvent};
use rekindle_gateway::Limits;
use rekindle_schema::PlayerId;
use support::*;

#[tokio::test]
async fn inputs_go_up_and_the_world_comes_down() {
    let game = FakeMatch::start(60);
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let mut client = Client::connect(client_config(gateway.local_addr(), 1)).unwrap();
    let welcome = until(&mut client, |event| match event {
        ClientEvent::Welcome(welcome) => Some(welcome),
        _ => None,
    })
    .await;
    assert_eq!((welcome.game.as_str(), welcome.player, welcome.resumed), ("fake", PlayerId(1), false));
    assert_eq!(welcome.config, Bytes::from_static(b"config"));
    snapshot(&mut client, |_| true).await;
    let mut sent = Vec::new();
    let mut told = Vec::new();
    while sent.len() < 30 {
        let snapshot = snapshot(&mut client, |_| true).await;
        told.extend(snapshot.header.applied.iter().copied());
        sent.extend(client.input(Bytes::from_static(b"go")).map(|sent| sent.seq));
    }
    let last = *sent.last().unwrap();
    let after = snapshot(&mut client, |snapshot| {
        told.extend(snapshot.header.applied.iter().copied());
        snapshot.header.applied.last().is_some_and(|&(seq, _)| seq == last)
    })
    .await;
    let applied = game.applied_of(PlayerId(1));
    assert_eq!(applied.iter().map(|&(seq, _)| seq).collect::<Vec<_>>(), sent, "each exactly once, in order");
    told.sort_unstable();
    told.dedup();
    assert_eq!(told, applied, "snapshots named every input with the tick that it was applied at");
    let views = game.inner.lock().views.clone();
    let truth = &views[&after.header.tick];
    assert_eq!((&after.view.entities, &after.view.values), (&truth.entities, &truth.values));
    assert_eq!(after.view.avatar(PlayerId(1)), Some(0));
}
