//! Sessions over real sockets: coming in, playing, resuming, being let go.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rekindle_client::{Client, ClientEvent};
use rekindle_door::MatchDoor as _;
use rekindle_gateway::Limits;
use rekindle_schema::wire::{
    ClientMessage, Credential, Hello, PROTOCOL, RefuseCode, Role, Welcome,
};
use rekindle_schema::{Epoch, PlayerId, SessionId, StateHash, Tick};
use support::*;
use tokio::time::timeout;

async fn welcome(client: &mut Client) -> Arc<Welcome> {
    until(client, |event| match event {
        ClientEvent::Welcome(welcome) => Some(welcome),
        _ => None,
    })
    .await
}

async fn resumed(client: &mut Client) -> Arc<Welcome> {
    until(client, |event| match event {
        ClientEvent::Resumed { welcome, .. } => Some(welcome),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn inputs_go_up_and_the_world_comes_down() {
    let game = FakeMatch::start(60);
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let mut client = Client::connect(client_config(gateway.local_addr(), 1)).unwrap();
    let welcome = welcome(&mut client).await;
    assert_eq!(
        (welcome.game.as_str(), welcome.player, welcome.resumed),
        ("fake", PlayerId(1), false)
    );
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
    assert_eq!(
        applied.iter().map(|&(seq, _)| seq).collect::<Vec<_>>(),
        sent,
        "each exactly once, in order"
    );
    told.sort_unstable();
    told.dedup();
    assert_eq!(told, applied, "snapshots named every input with the tick that it was applied at");
    let views = game.inner.lock().views.clone();
    let truth = &views[&after.header.tick];
    assert_eq!((&after.view.entities, &after.view.values), (&truth.entities, &truth.values));
    assert_eq!(after.view.avatar(PlayerId(1)), Some(0));
}

#[tokio::test]
async fn beats_and_events_reach_everybody() {
    let game = FakeMatch::start(60);
    game.inner.lock().events_per_tick = 2;
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    for player in [1, 2] {
        let mut client = Client::connect(client_config(gateway.local_addr(), player)).unwrap();
        let (mut beats, mut events) = (Vec::new(), Vec::new());
        until(&mut client, |event| {
            match event {
                ClientEvent::Beat { tick, hash } => beats.push((tick, hash)),
                ClientEvent::Event { tick, ordinal, .. } => events.push((tick, ordinal)),
                _ => {}
            }
            (beats.len() >= 3).then_some(())
        })
        .await;
        assert!(beats.iter().all(
            |&(tick, hash)| tick.0.is_multiple_of(10) && hash == StateHash([tick.0 as u8; 32])
        ));
        assert!(
            beats.windows(2).all(|pair| pair[1].0.0 == pair[0].0.0 + 10),
            "none is missing: {beats:?}"
        );
        let first = events[0].0;
        let expected: Vec<_> =
            (0..events.len() as u64).map(|n| (Tick(first.0 + n / 2), (n % 2) as u32)).collect();
        assert_eq!(events, expected, "each once, in order");
    }
}

#[tokio::test]
async fn a_session_goes_on_when_the_node_is_killed_and_started_again() {
    let game = FakeMatch::start(60);
    let node = FakeNode::with(&game);
    let process = Process::start(([127, 0, 0, 1], 0).into(), Limits::default(), &node);
    let addr = process.addr;
    let mut client = Client::connect(client_config(addr, 1)).unwrap();
    let first = welcome(&mut client).await;
    snapshot(&mut client, |_| true).await;
    for _ in 0..20 {
        client.input(Bytes::from_static(b"go"));
        snapshot(&mut client, |_| true).await;
    }
    process.kill();
    // Inputs into the void: they are numbered, and nobody applies them.
    for _ in 0..30 {
        client.input(Bytes::from_static(b"void"));
        tokio::time::sleep(Duration::from_millis(16)).await;
    }
    game.inner.lock().epoch = Epoch(2);
    let start = Instant::now();
    let _process = Process::start(addr, Limits::default(), &node);
    let second = resumed(&mut client).await;
    let back = start.elapsed();
    println!("back in the session {back:?} after the port was open again");
    assert_eq!((second.session, second.resumed, second.epoch), (first.session, true, Epoch(2)));
    assert!(back < Duration::from_secs(2), "back {back:?} after the port was open");
    let before = game.applied_of(PlayerId(1)).len();
    snapshot(&mut client, |snapshot| snapshot.header.epoch == Epoch(2)).await;
    let sent = client.input(Bytes::from_static(b"on")).expect("the session is served");
    assert!(sent.seq >= second.next_input);
    snapshot(&mut client, |snapshot| {
        snapshot.header.applied.iter().any(|&(seq, _)| seq == sent.seq)
    })
    .await;
    let applied = game.applied_of(PlayerId(1));
    assert!(applied.len() > before);
    assert!(applied.windows(2).all(|pair| pair[0].0 < pair[1].0), "no input twice: {applied:?}");
}

#[tokio::test]
async fn a_match_that_stands_still_is_not_a_dead_server() {
    let game = FakeMatch::start(60);
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let mut client = Client::connect(client_config(gateway.local_addr(), 1)).unwrap();
    let mut watcher = Client::connect({
        let mut config = client_config(gateway.local_addr(), 2);
        config.role = Role::Spectator;
        config
    })
    .unwrap();
    snapshot(&mut client, |_| true).await;
    snapshot(&mut watcher, |_| true).await;
    game.inner.lock().paused = true;
    for _ in 0..60 {
        client.input(Bytes::from_static(b"go"));
        tokio::time::sleep(Duration::from_millis(16)).await;
    }
    game.inner.lock().paused = false;
    for client in [&mut client, &mut watcher] {
        let seen = game.inner.lock().tick;
        until(client, |event| match event {
            ClientEvent::Disconnected { reason } => panic!("{reason}"),
            ClientEvent::Snapshot(snapshot) if snapshot.header.tick > seen => Some(()),
            _ => None,
        })
        .await;
    }
}

#[tokio::test]
async fn a_second_connection_takes_the_session_over() {
    let game = FakeMatch::start(60);
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let mut first = Client::connect(client_config(gateway.local_addr(), 1)).unwrap();
    let session = welcome(&mut first).await.session;
    let mut second = Client::connect(client_config(gateway.local_addr(), 1)).unwrap();
    let again = welcome(&mut second).await;
    assert_eq!((again.session, again.resumed), (session, true));
    let (code, message) = closed(&mut first).await;
    assert_eq!(code, Some(RefuseCode::Superseded), "{message}");
    snapshot(&mut second, |_| true).await;
    let sent = second.input(Bytes::from_static(b"go")).unwrap();
    snapshot(&mut second, |snapshot| {
        snapshot.header.applied.iter().any(|&(seq, _)| seq == sent.seq)
    })
    .await;
    assert_eq!(gateway.clients(), 1);
    let calls = game.inner.lock().calls.clone();
    assert!(
        !calls.iter().any(|call| call.starts_with("away")),
        "the session was never away: {calls:?}"
    );
}

#[tokio::test]
async fn commands_are_sent_again_after_a_crash_and_applied_once() {
    let game = FakeMatch::start(60);
    let node = FakeNode::with(&game);
    let process = Process::start(([127, 0, 0, 1], 0).into(), Limits::default(), &node);
    let addr = process.addr;
    let mut client = Client::connect(client_config(addr, 1)).unwrap();
    welcome(&mut client).await;
    let mut done = Vec::new();
    for n in 0..5u8 {
        client.command(Bytes::from(vec![n])).unwrap();
    }
    until(&mut client, |event| {
        if let ClientEvent::CommandDone { seq, accepted, .. } = event {
            done.push((seq, accepted));
        }
        (done.len() == 5).then_some(())
    })
    .await;
    process.kill();
    for n in 5..10u8 {
        client.command(Bytes::from(vec![n])).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let _process = Process::start(addr, Limits::default(), &node);
    until(&mut client, |event| {
        if let ClientEvent::CommandDone { seq, accepted, .. } = event {
            done.push((seq, accepted));
        }
        (done.len() == 10).then_some(())
    })
    .await;
    assert_eq!(done, (1..=10).map(|seq| (seq, Some(true))).collect::<Vec<_>>());
    let applied: Vec<_> = game
        .inner
        .lock()
        .applied_commands
        .iter()
        .map(|(_, seq, payload)| (*seq, payload[0]))
        .collect();
    assert_eq!(applied, (0..10).map(|n| (u64::from(n) + 1, n)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_command_whose_answer_died_with_the_node_is_not_repeated() {
    let game = FakeMatch::start(60);
    let node = FakeNode::with(&game);
    let process = Process::start(([127, 0, 0, 1], 0).into(), Limits::default(), &node);
    let addr = process.addr;
    let mut client = Client::connect(client_config(addr, 1)).unwrap();
    snapshot(&mut client, |_| true).await;
    game.inner.lock().paused = true;
    let seq = client.command(Bytes::from_static(b"once")).unwrap();
    eventually("the match has it", || game.inner.lock().players[&PlayerId(1)].last_command == seq)
        .await;
    process.kill();
    {
        let mut inner = game.inner.lock();
        inner.drop_subscribers();
        inner.paused = false;
    }
    eventually("it is applied while nobody listens", || {
        game.inner.lock().applied_commands.len() == 1
    })
    .await;
    let _process = Process::start(addr, Limits::default(), &node);
    let done = until(&mut client, |event| match event {
        ClientEvent::CommandDone { seq, tick, accepted } => Some((seq, tick, accepted)),
        _ => None,
    })
    .await;
    assert_eq!(done, (seq, None, None), "it was taken; nobody knows what came of it");
    assert_eq!(client.command(Bytes::from_static(b"next")).unwrap(), seq + 1);
    eventually("the next one is applied", || game.inner.lock().applied_commands.len() == 2).await;
}

#[tokio::test]
async fn a_match_that_is_being_recovered_is_waited_for() {
    let game = FakeMatch::start(60);
    let node = Arc::new(FakeNode::default());
    let gateway = start(Limits::default(), &node);
    let mut client = Client::connect(client_config(gateway.local_addr(), 1)).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(client.try_event().is_none(), "neither let in nor refused");
    *node.game.lock() = Some(Arc::clone(&game));
    welcome(&mut client).await;
}

#[tokio::test]
async fn a_match_that_was_recovered_in_the_same_process_goes_on_for_its_clients() {
    let before = FakeMatch::start(60);
    let node = FakeNode::with(&before);
    let gateway = start(Limits::default(), &node);
    let mut client = Client::connect(client_config(gateway.local_addr(), 1)).unwrap();
    let session = welcome(&mut client).await.session;
    let seen = snapshot(&mut client, |snapshot| snapshot.header.tick >= Tick(40)).await.header.tick;
    // The recovered match stands half a second earlier: what `output = "immediate"` risks.
    let after = FakeMatch::start(60);
    {
        let mut inner = after.inner.lock();
        inner.epoch = Epoch(2);
        inner.tick = Tick(seen.0 - 30);
        inner.players = std::mem::take(&mut before.inner.lock().players);
    }
    *node.game.lock() = Some(Arc::clone(&after));
    before.inner.lock().paused = true;
    before.inner.lock().drop_subscribers();
    let mut rewound = None;
    until(&mut client, |event| match event {
        ClientEvent::Rewound { epoch, to } => {
            rewound = Some((epoch, to));
            None
        }
        ClientEvent::Disconnected { reason } => panic!("{reason}"),
        ClientEvent::Snapshot(snapshot)
            if snapshot.header.epoch == Epoch(2) && rewound.is_some() =>
        {
            Some(())
        }
        _ => None,
    })
    .await;
    let again = snapshot(&mut client, |snapshot| snapshot.header.epoch == Epoch(2)).await;
    assert!(
        again.header.tick <= seen,
        "the ticks that were taken back are seen again: {} after {seen}",
        again.header.tick
    );
    let (epoch, to) = rewound.unwrap();
    assert!(epoch == Epoch(2) && to < seen, "rewound to {to}, had seen {seen}");
    assert!(after.inner.lock().calls.contains(&format!("back {session}")));
    let sent = client.input(Bytes::from_static(b"go")).unwrap();
    snapshot(&mut client, |snapshot| {
        snapshot.header.applied.iter().any(|&(seq, _)| seq == sent.seq)
    })
    .await;
    assert_eq!(after.applied_of(PlayerId(1)).len(), 1);
}

#[tokio::test]
async fn the_end_of_a_match_is_told_with_its_reason() {
    let game = FakeMatch::start(60);
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let mut client = Client::connect(client_config(gateway.local_addr(), 1)).unwrap();
    snapshot(&mut client, |_| true).await;
    game.inner.lock().ended = Some("blue won".to_owned());
    let reason = until(&mut client, |event| match event {
        ClientEvent::Ended { reason } => Some(reason),
        _ => None,
    })
    .await;
    assert_eq!(reason, "blue won");
    assert_eq!(closed(&mut client).await.0, Some(RefuseCode::Ended));
    assert!(client.event().await.is_none());
}

#[tokio::test]
async fn a_player_who_leaves_is_gone_and_one_who_vanishes_is_away() {
    let game = FakeMatch::start(60);
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let mut leaves = Client::connect(client_config(gateway.local_addr(), 1)).unwrap();
    let mut vanishes = Client::connect(client_config(gateway.local_addr(), 2)).unwrap();
    let left = welcome(&mut leaves).await.session;
    let vanished = welcome(&mut vanishes).await.session;
    leaves.leave().await;
    drop(vanishes);
    eventually("both calls came", || {
        let calls = &game.inner.lock().calls;
        calls.contains(&format!("close {left}")) && calls.contains(&format!("away {vanished}"))
    })
    .await;
    assert_eq!(game.inner.lock().players.keys().copied().collect::<Vec<_>>(), [PlayerId(2)]);
    eventually("no seat is left behind", || gateway.clients() == 0).await;
}

#[tokio::test]
async fn a_removed_player_is_told_and_does_not_come_back() {
    let game = FakeMatch::start(60);
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let mut client = Client::connect(client_config(gateway.local_addr(), 1)).unwrap();
    snapshot(&mut client, |_| true).await;
    game.inner.lock().removed.push(PlayerId(1));
    let (code, message) = closed(&mut client).await;
    assert_eq!(code, Some(RefuseCode::Removed), "{message}");
}

#[tokio::test]
async fn a_shutdown_sends_clients_to_the_other_node() {
    let game = FakeMatch::start(60);
    let node = FakeNode::with(&game);
    let (old, new) = (start(Limits::default(), &node), start(Limits::default(), &node));
    let mut config = client_config(old.local_addr(), 1);
    config.addrs.push(new.local_addr());
    let mut client = Client::connect(config).unwrap();
    let session = welcome(&mut client).await.session;
    snapshot(&mut client, |_| true).await;
    let begin = Instant::now();
    old.shutdown("an upgrade").await;
    assert!(begin.elapsed() < Duration::from_secs(2));
    let mut told = String::new();
    let again = until(&mut client, |event| match event {
        ClientEvent::Disconnected { reason } => {
            told = reason;
            None
        }
        ClientEvent::Resumed { welcome, .. } => Some(welcome),
        _ => None,
    })
    .await;
    assert_eq!((again.session, told.as_str()), (session, "an upgrade"));
    snapshot(&mut client, |_| true).await;
    assert_eq!((old.clients(), new.clients()), (0, 1));
}

#[tokio::test]
async fn a_session_longer_than_the_clients_patience_outlives_a_shutdown() {
    let game = FakeMatch::start(60);
    let node = FakeNode::with(&game);
    let (old, new) = (start(Limits::default(), &node), start(Limits::default(), &node));
    let mut config = client_config(old.local_addr(), 1);
    config.addrs.push(new.local_addr());
    config.timing.give_up = Duration::from_secs(1);
    let mut client = Client::connect(config).unwrap();
    let session = welcome(&mut client).await.session;
    let began = game.inner.lock().tick;
    // Longer than it would search for a server, and long enough to count as a good connection.
    snapshot(&mut client, |snapshot| snapshot.header.tick.0 >= began.0 + 3 * 60).await;
    old.shutdown("an upgrade").await;
    let again = until(&mut client, |event| match event {
        ClientEvent::Resumed { welcome, .. } => Some(welcome),
        ClientEvent::Closed { code, message } => panic!("given up: {code:?}, {message}"),
        _ => None,
    })
    .await;
    assert_eq!(again.session, session);
}

#[tokio::test]
async fn a_spectator_sees_everything_and_takes_no_place() {
    let game = FakeMatch::start(60);
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let mut player = Client::connect(client_config(gateway.local_addr(), 1)).unwrap();
    snapshot(&mut player, |_| true).await;
    let mut config = client_config(gateway.local_addr(), 2);
    config.role = Role::Spectator;
    let mut spectator = Client::connect(config).unwrap();
    assert_eq!(welcome(&mut spectator).await.session, SessionId(0));
    let seen = snapshot(&mut spectator, |snapshot| snapshot.view.entities.len() == 1).await;
    assert_eq!(seen.view.avatar(PlayerId(2)), None);
    assert!(spectator.input(Bytes::from_static(b"go")).is_none());
    assert!(spectator.command(Bytes::from_static(b"go")).is_err());
    assert_eq!(game.inner.lock().players.len(), 1);
}

#[tokio::test]
async fn what_a_player_alone_may_see_reaches_that_player_alone() {
    let game = FakeMatch::start(60);
    game.inner.lock().shown = Shown::ToOwners;
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let mut players: Vec<Client> = (1..=3)
        .map(|player| Client::connect(client_config(gateway.local_addr(), player)).unwrap())
        .collect();
    for player in &mut players {
        snapshot(player, |_| true).await;
    }
    // One who only watches, and a player of the match who watches besides.
    let mut watchers: Vec<Client> = [7, 2]
        .map(|player| {
            let mut config = client_config(gateway.local_addr(), player);
            config.role = Role::Spectator;
            Client::connect(config).unwrap()
        })
        .into();
    eventually("all are in", || game.inner.lock().players.len() == 3).await;
    for (client, number) in players.iter_mut().zip(1..) {
        for _ in 0..30 {
            let seen = snapshot(client, |_| true).await;
            let slots: Vec<u32> = seen.view.entities.iter().map(|entity| entity.slot).collect();
            assert_eq!(slots, Vec::from_iter(seen.header.avatar));
            assert_eq!(seen.view.avatar(PlayerId(number)), seen.header.avatar);
        }
    }
    for client in &mut watchers {
        for _ in 0..30 {
            let seen = snapshot(client, |_| true).await;
            assert_eq!((&seen.view.entities[..], seen.header.avatar), (&[][..], None));
        }
    }
}

#[tokio::test]
async fn the_snapshots_of_a_client_keep_within_its_bytes_and_go_on() {
    const BYTES: u32 = 1500;
    let game = FakeMatch::start(60);
    let limits = Limits { snapshot_bytes: Some(BYTES), ..Limits::default() };
    let gateway = start(limits, &FakeNode::with(&game));
    for player in 1..=8 {
        let opened = game.open(PlayerId(player), String::new(), None).await;
        assert!(opened.is_ok());
    }
    let began = tokio::time::Instant::now();
    let mut raw = Raw::open(gateway.local_addr()).await;
    let hello = Hello {
        protocol: PROTOCOL,
        role: Role::Spectator,
        credential: Credential::Ticket(ticket(20, Role::Spectator)),
        match_id: None,
    };
    raw.say(&ClientMessage::Hello(hello)).await;
    // It acknowledges nothing, so that each snapshot is full: eight entities, more than the link
    // may carry sixty times a second.
    let mut bytes = 0;
    for _ in 0..80 {
        bytes += timeout(Duration::from_secs(10), raw.connection.read_datagram())
            .await
            .expect("snapshots go on")
            .unwrap()
            .len();
        let allowed = f64::from(BYTES) * began.elapsed().as_secs_f64() + 1200.0;
        assert!(bytes as f64 <= allowed, "{bytes} bytes, {allowed} allowed");
    }
    assert!(bytes > 80 * 15, "{bytes} bytes are not much more than heads");
}

#[tokio::test]
async fn a_match_whose_ticks_go_back_costs_its_clients_a_reconnect_and_nothing_else() {
    let game = FakeMatch::start(60);
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let mut client = Client::connect(client_config(gateway.local_addr(), 1)).unwrap();
    let seen = snapshot(&mut client, |snapshot| snapshot.header.tick > Tick(20)).await.header.tick;
    // The match tells ticks again, in the same epoch.
    game.inner.lock().tick = Tick(seen.0 - 15);
    let why = until(&mut client, |event| match event {
        ClientEvent::Disconnected { reason } => Some(reason),
        _ => None,
    })
    .await;
    assert!(why.starts_with("RK-GATE-130"), "{why}");
    until(&mut client, |event| matches!(event, ClientEvent::Resumed { .. }).then_some(())).await;
    let sent = client.input(Bytes::from_static(b"on")).unwrap();
    snapshot(&mut client, |snapshot| {
        snapshot.header.applied.iter().any(|(seq, _)| *seq == sent.seq)
    })
    .await;
}
