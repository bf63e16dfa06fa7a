//! Over a bad link: 5 % lost, 2 % doubled, 80 ± 20 ms each way, reordered.

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use rekindle_client::{Client, ClientEvent, Snapshot};
use rekindle_gateway::Limits;
use rekindle_schema::{Epoch, PlayerId, Tick};
use rekindle_testkit::udp_proxy::{Link, UdpProxy};
use support::*;

const SEED: u64 = 3;

#[tokio::test]
async fn inputs_are_applied_once_each_in_order_and_views_are_the_servers() {
    let game = FakeMatch::start(30);
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let proxy = UdpProxy::start(gateway.local_addr(), Link::BAD, SEED).await.unwrap();
    let mut clients: Vec<Client> = (1..=3)
        .map(|player| Client::connect(client_config(proxy.addr(), player)).unwrap())
        .collect();
    for client in &mut clients {
        snapshot(client, |_| true).await;
    }
    let mut seen = Vec::new();
    let mut told = vec![Vec::new(); clients.len()];
    let mut sent = vec![Vec::new(); clients.len()];
    let mut timer = tokio::time::interval(Duration::from_millis(33));
    for _ in 0..150 {
        timer.tick().await;
        for (index, client) in clients.iter_mut().enumerate() {
            while let Some(event) = client.try_event() {
                match event {
                    ClientEvent::Snapshot(snapshot) => {
                        told[index].extend(snapshot.header.applied.iter().copied());
                        seen.push(snapshot);
                    }
                    ClientEvent::Disconnected { reason } => {
                        panic!("a lossy link is no reason to reconnect: {reason}")
                    }
                    _ => {}
                }
            }
            sent[index].extend(client.input(Bytes::from_static(b"go")).map(|sent| sent.seq));
        }
    }
    for (index, client) in clients.iter_mut().enumerate() {
        let player = PlayerId(index as u64 + 1);
        let last = *sent[index].last().unwrap();
        snapshot(client, |snapshot| {
            told[index].extend(snapshot.header.applied.iter().copied());
            snapshot.header.applied.last().is_some_and(|&(seq, _)| seq == last)
        })
        .await;
        let applied = game.applied_of(player);
        assert_eq!(
            applied.iter().map(|&(seq, _)| seq).collect::<Vec<_>>(),
            sent[index],
            "player {player}: each once, in order"
        );
        told[index].sort_unstable();
        told[index].dedup();
        assert!(
            told[index].iter().all(|claim| applied.contains(claim)),
            "nothing was declared that did not happen"
        );
        assert!(
            told[index].len() * 100 >= applied.len() * 98,
            "{} of {} were declared",
            told[index].len(),
            applied.len()
        );
    }
    let views = game.inner.lock().views.clone();
    let compared = seen
        .iter()
        .filter(|snapshot| snapshot.complete)
        .filter(|snapshot| {
            let truth = &views[&snapshot.header.tick];
            assert_eq!(
                (&snapshot.view.entities, &snapshot.view.values),
                (&truth.entities, &truth.values)
            );
            true
        })
        .count();
    let traffic = proxy.traffic();
    assert!(compared > 300, "{compared} snapshots of 450 arrived whole; {traffic:?}");
    assert!(
        traffic.lost > 30 && traffic.doubled > 10 && traffic.overtaken > 30,
        "the link was bad: {traffic:?}"
    );
}

#[tokio::test]
async fn commands_and_events_arrive_once_each_in_order() {
    let game = FakeMatch::start(30);
    game.inner.lock().events_per_tick = 1;
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let proxy = UdpProxy::start(gateway.local_addr(), Link::BAD, SEED + 1).await.unwrap();
    let mut client = Client::connect(client_config(proxy.addr(), 1)).unwrap();
    snapshot(&mut client, |_| true).await;
    for n in 0..30u8 {
        client.command(Bytes::from(vec![n])).unwrap();
    }
    let (mut done, mut events) = (Vec::new(), Vec::new());
    until(&mut client, |event| {
        match event {
            ClientEvent::CommandDone { seq, accepted, .. } => done.push((seq, accepted)),
            ClientEvent::Event { tick, .. } => events.push(tick.0),
            _ => {}
        }
        (done.len() == 30 && events.len() > 60).then_some(())
    })
    .await;
    assert_eq!(done, (1..=30).map(|seq| (seq, Some(true))).collect::<Vec<_>>());
    assert!(events.windows(2).all(|pair| pair[1] == pair[0] + 1), "{events:?}");
    let applied: Vec<_> =
        game.inner.lock().applied_commands.iter().map(|(_, seq, _)| *seq).collect();
    assert_eq!(applied, (1..=30).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_client_behind_a_bad_link_comes_back_after_the_node_died() {
    let game = FakeMatch::start(30);
    let node = FakeNode::with(&game);
    let process = Process::start(([127, 0, 0, 1], 0).into(), Limits::default(), &node);
    let proxy = UdpProxy::start(process.addr, Link::BAD, SEED + 2).await.unwrap();
    let mut client = Client::connect(client_config(proxy.addr(), 1)).unwrap();
    for _ in 0..30 {
        snapshot(&mut client, |_| true).await;
        client.input(Bytes::from_static(b"go"));
    }
    process.kill();
    tokio::time::sleep(Duration::from_millis(400)).await;
    game.inner.lock().epoch = Epoch(2);
    // Another node takes over, at another address: the proxy is what stays.
    let process = Process::start(([127, 0, 0, 1], 0).into(), Limits::default(), &node);
    proxy.set_target(process.addr);
    let begin = Instant::now();
    let next_input = until(&mut client, |event| match event {
        ClientEvent::Resumed { welcome, .. } => Some(welcome.next_input),
        _ => None,
    })
    .await;
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    snapshot(&mut client, |snapshot| snapshot.header.epoch == Epoch(2)).await;
    let sent = client.input(Bytes::from_static(b"on")).unwrap();
    assert!(sent.seq >= next_input);
    snapshot(&mut client, |snapshot| {
        snapshot.header.applied.iter().any(|&(seq, _)| seq == sent.seq)
    })
    .await;
    let applied = game.applied_of(PlayerId(1));
    assert!(
        applied.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "no input twice, none out of order: {applied:?}"
    );
}

#[tokio::test]
async fn a_link_that_is_cut_for_a_while_costs_the_session_nothing() {
    let game = FakeMatch::start(30);
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let proxy = UdpProxy::start(gateway.local_addr(), Link::GOOD, SEED + 3).await.unwrap();
    let mut client = Client::connect(client_config(proxy.addr(), 1)).unwrap();
    snapshot(&mut client, |_| true).await;
    let session = client.welcome().unwrap().session;
    proxy.set_link(Link::CUT);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let missed = game.inner.lock().tick;
    proxy.set_link(Link::GOOD);
    let begin = Instant::now();
    let back = snapshot(&mut client, |snapshot| snapshot.header.tick > missed).await;
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert!(back.header.tick > Tick(0));
    assert_eq!(client.welcome().unwrap().session, session);
}

#[tokio::test]
async fn a_handshake_that_takes_longer_than_a_first_attempt_may_is_made_all_the_same() {
    let game = FakeMatch::start(30);
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let slow = Link { delay: Duration::from_millis(800), ..Link::GOOD };
    let proxy = UdpProxy::start(gateway.local_addr(), slow, SEED + 4).await.unwrap();
    let config = client_config(proxy.addr(), 1);
    assert!(
        config.timing.attempt < slow.delay * 2,
        "a first attempt is given up before its answer comes"
    );
    let mut client = Client::connect(config).unwrap();
    snapshot(&mut client, |_| true).await;
}

/// Sixty entities that change with each tick want 20 kB/s and more.
#[tokio::test]
async fn a_narrow_link_gets_as_much_as_it_carries_and_what_comes_is_new() {
    let game = FakeMatch::start(30);
    game.inner.lock().crowd = 60;
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let narrow = Link { delay: Duration::from_millis(30), carries: Some(10_000), ..Link::GOOD };
    let proxy = UdpProxy::start(gateway.local_addr(), narrow, SEED + 5).await.unwrap();
    let mut client = Client::connect(client_config(proxy.addr(), 1)).unwrap();
    let age = |snapshot: &Snapshot| game.inner.lock().tick.0 - snapshot.header.tick.0;
    let begin = Instant::now();
    let mut queued = 0;
    // It takes two looks at the link, a second apart, to see a queue, and some more to empty it.
    let line = loop {
        let snapshot = snapshot(&mut client, |_| true).await;
        client.input(Bytes::from_static(b"go"));
        queued = queued.max(age(&snapshot));
        let line = gateway.lines(MATCH).pop().expect("one client");
        if line.pace.is_some() && line.rtt < Duration::from_millis(200) {
            break line;
        }
        assert!(begin.elapsed() < Duration::from_secs(25), "{line:?}, {queued} ticks late");
    };
    assert!(queued >= 6, "at first it is given too much: {queued} ticks late");
    let pace = line.pace.unwrap();
    assert!((2_000..20_000).contains(&pace), "{line:?}");
    let mut late: Vec<u64> = Vec::new();
    while late.len() < 15 {
        late.push(age(&snapshot(&mut client, |_| true).await));
        client.input(Bytes::from_static(b"go"));
    }
    late.sort_unstable();
    assert!(late[7] <= 8, "snapshots are new again, in ticks: {late:?}");
}
