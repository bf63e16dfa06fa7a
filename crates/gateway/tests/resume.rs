//! A client that comes back to a match which does not go on from where it stood, and one that meets
//! a server which cannot serve it.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rekindle_client::{Client, ClientEvent};
use rekindle_gateway::Limits;
use rekindle_schema::record::Beat;
use rekindle_schema::wire::{
    ClientMessage, Credential, Enter, Hello, PROTOCOL, PROTOCOL_2, Role, ServerMessage, Stood,
};
use rekindle_schema::{Epoch, StateHash, Tick};
use support::*;

/// Plays until `tick` on a node of epoch 5, which is then killed. What a player saw.
async fn play_until(
    game: &Arc<FakeMatch>,
    node: &Arc<FakeNode>,
    tick: u64,
) -> (std::net::SocketAddr, Client, Tick) {
    game.inner.lock().epoch = Epoch(5);
    let process = Process::start(([127, 0, 0, 1], 0).into(), Limits::default(), node);
    let addr = process.addr;
    let mut client = Client::connect(client_config(addr, 1)).unwrap();
    let seen =
        snapshot(&mut client, |snapshot| snapshot.header.tick >= Tick(tick)).await.header.tick;
    game.inner.lock().paused = true;
    game.inner.lock().drop_subscribers();
    process.kill();
    eventually("the port is free", || std::net::UdpSocket::bind(addr).is_ok()).await;
    (addr, client, seen)
}

/// What the client is told before it sees the next tick, and that tick.
async fn comes_back(client: &mut Client) -> (Vec<(Epoch, Tick)>, Tick) {
    let (mut rewound, mut resumed) = (Vec::new(), false);
    let next = until(client, |event| match event {
        ClientEvent::Resumed { .. } => {
            resumed = true;
            None
        }
        ClientEvent::Rewound { epoch, to } => {
            rewound.push((epoch, to));
            None
        }
        ClientEvent::Snapshot(snapshot) if resumed => Some(snapshot.header.tick),
        _ => None,
    })
    .await;
    (rewound, next)
}

#[tokio::test]
async fn a_server_that_was_put_back_rewinds_its_clients_at_once_whatever_its_epoch() {
    for epoch in [1, 5, 9] {
        let game = FakeMatch::start(60);
        let node = FakeNode::with(&game);
        let (addr, mut client, seen) = play_until(&game, &node, 90).await;
        let back = Tick(seen.0 - 60);
        {
            let mut inner = game.inner.lock();
            (inner.tick, inner.epoch, inner.paused) = (back, Epoch(epoch), true);
        }
        let (begin, before) = (Instant::now(), game.inner.lock().subscriptions);
        let _process = Process::start(addr, Limits::default(), &node);
        let resumed = async {
            eventually("somebody listens", || game.inner.lock().subscriptions > before).await;
            game.inner.lock().paused = false;
        };
        let ((rewound, next), ()) = tokio::join!(comes_back(&mut client), resumed);
        assert_eq!(rewound, [(Epoch(epoch), back)], "epoch {epoch}");
        assert!(
            next > back && next < seen,
            "the next tick it sees is {next}, it had seen {seen} and was put back to {back}"
        );
        assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
        let sent = client.input("go".into()).expect("it plays on");
        snapshot(&mut client, |snapshot| {
            snapshot.header.applied.iter().any(|&(seq, _)| seq == sent.seq)
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_with_another_hash_rewinds_its_clients_to_the_last_equal_one() {
    let game = FakeMatch::start(60);
    let node = FakeNode::with(&game);
    let (addr, mut client, seen) = play_until(&game, &node, 60).await;
    // It has gone on from tick 40 in another way, in the same epoch, and is further than the client
    // was.
    {
        let mut inner = game.inner.lock();
        inner.other_hashes = Some((Tick(40), 0xee));
        (inner.tick, inner.paused) = (Tick(seen.0 + 40), false);
    }
    let _process = Process::start(addr, Limits::default(), &node);
    let (rewound, next) = comes_back(&mut client).await;
    assert_eq!(rewound, [(Epoch(5), Tick(40))]);
    assert!(next.0 > seen.0 + 40);
}

#[tokio::test]
async fn a_match_that_goes_on_from_there_rewinds_nobody() {
    let game = FakeMatch::start(60);
    let node = FakeNode::with(&game);
    let (addr, mut client, seen) = play_until(&game, &node, 60).await;
    (game.inner.lock().epoch, game.inner.lock().paused) = (Epoch(6), false);
    let _process = Process::start(addr, Limits::default(), &node);
    let (rewound, next) = comes_back(&mut client).await;
    assert_eq!(rewound, []);
    assert!(next > seen);
}

#[tokio::test]
async fn ticks_that_a_recovery_computed_in_another_way_are_taken_back() {
    let game = FakeMatch::start(60);
    let node = FakeNode::with(&game);
    let (addr, mut client, seen) = play_until(&game, &node, 60).await;
    {
        let mut inner = game.inner.lock();
        inner.holds_until = Some(Tick(33));
        (inner.epoch, inner.paused) = (Epoch(6), false);
    }
    let _process = Process::start(addr, Limits::default(), &node);
    let (rewound, next) = comes_back(&mut client).await;
    assert_eq!(rewound, [(Epoch(6), Tick(33))]);
    assert!(next > seen);
    // A client of version 1 does not say where it stood, and knows no message before the welcome.
    let credential = Credential::Ticket(ticket(1, Role::Player));
    let hello = Hello { protocol: PROTOCOL, role: Role::Player, credential, match_id: None };
    let mut old = Raw::open(addr).await;
    old.say(&ClientMessage::Hello(hello)).await;
    assert!(matches!(old.hear().await, ServerMessage::Welcome(welcome) if welcome.resumed));
    assert_eq!(old.hear().await, ServerMessage::Rewound { epoch: Epoch(6), to: Tick(33) });
}

#[tokio::test]
async fn a_forged_claim_harms_nobody_but_its_sender() {
    let game = FakeMatch::start(60);
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let mut honest = Client::connect(client_config(gateway.local_addr(), 1)).unwrap();
    snapshot(&mut honest, |snapshot| snapshot.header.tick > Tick(20)).await;
    let hello = || Hello {
        protocol: PROTOCOL_2,
        role: Role::Player,
        credential: Credential::Ticket(ticket(2, Role::Player)),
        match_id: None,
    };
    let claims = [
        Stood { epoch: Epoch(u64::MAX), tick: Tick(u64::MAX), beats: Vec::new() },
        Stood {
            epoch: Epoch(1),
            tick: Tick(20),
            beats: vec![Beat { tick: Tick(10), hash: StateHash([0xab; 32]) }; 60],
        },
    ];
    for stood in claims {
        let mut raw = Raw::open(gateway.local_addr()).await;
        raw.say(&ClientMessage::Enter(Enter { hello: hello(), game: None, stood: Some(stood) }))
            .await;
        let to = match raw.hear().await {
            ServerMessage::Rewound { epoch: Epoch(1), to } => to,
            other => panic!("{other:?}"),
        };
        let ServerMessage::Welcome(welcome) = raw.hear().await else { panic!("a welcome follows") };
        assert!(to <= welcome.tick && raw.connection.close_reason().is_none());
    }
    let seen = game.inner.lock().tick;
    until(&mut honest, |event| match event {
        ClientEvent::Disconnected { .. } | ClientEvent::Rewound { .. } => panic!("{event:?}"),
        ClientEvent::Snapshot(snapshot) => (snapshot.header.tick > seen).then_some(()),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn the_first_message_of_either_version_opens_a_session() {
    let game = FakeMatch::start(60);
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let hello = |protocol, player| {
        let credential = Credential::Ticket(ticket(player, Role::Player));
        Hello { protocol, role: Role::Player, credential, match_id: None }
    };
    let enter = |protocol, game: Option<&str>| {
        ClientMessage::Enter(Enter {
            hello: hello(protocol, 3),
            game: game.map(str::to_owned),
            stood: None,
        })
    };
    let mut first = Raw::open(gateway.local_addr()).await;
    first.say(&ClientMessage::Hello(hello(PROTOCOL, 2))).await;
    assert!(matches!(first.hear().await, ServerMessage::Welcome(_)));
    for (message, fine) in [
        (enter(PROTOCOL_2, Some("fake")), true),
        (enter(PROTOCOL_2, Some("chess")), false),
        (enter(PROTOCOL, None), false),
        (ClientMessage::Hello(hello(PROTOCOL_2, 4)), false),
        (enter(PROTOCOL_2, Some(&"x".repeat(65))), false),
    ] {
        let mut raw = Raw::open(gateway.local_addr()).await;
        raw.say(&message).await;
        let answer = raw.hear().await;
        assert_eq!(matches!(answer, ServerMessage::Welcome(_)), fine, "{message:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_server_that_takes_a_session_on_and_lets_it_fall_is_asked_more_and_more_rarely() {
    let game = FakeMatch::start(60);
    game.inner.lock().parked = true;
    let limits = Limits { unavailable_wait: Duration::ZERO, ..Limits::default() };
    let gateway = start(limits, &FakeNode::with(&game));
    let _client = Client::connect(client_config(gateway.local_addr(), 1)).unwrap();
    let opened = || game.inner.lock().calls.iter().filter(|call| call.starts_with("open")).count();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let first = opened();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let then = opened() - first;
    assert!(
        (3..=20).contains(&first) && (1..=10).contains(&then),
        "{first} tries within 3 s, {then} within the next 4 s"
    );
}

#[tokio::test]
async fn ticks_that_a_later_owner_made_anew_are_taken_back_also_when_it_has_gone_beyond_them() {
    let game = FakeMatch::start(60);
    let node = FakeNode::with(&game);
    let (addr, mut client, seen) = play_until(&game, &node, 62).await;
    // The next owner took over what lay before, and has gone far beyond; no hash tells them apart.
    let held = Tick(seen.0 - 2);
    let before = {
        let mut inner = game.inner.lock();
        (inner.tick, inner.epoch, inner.took_over) = (Tick(seen.0 + 200), Epoch(6), Some(held));
        inner.subscriptions
    };
    let _process = Process::start(addr, Limits::default(), &node);
    let resumed = async {
        eventually("somebody listens", || game.inner.lock().subscriptions > before).await;
        game.inner.lock().paused = false;
    };
    let ((rewound, next), ()) = tokio::join!(comes_back(&mut client), resumed);
    assert_eq!(rewound, [(Epoch(6), held)]);
    assert!(next > seen);
}

#[tokio::test]
async fn an_owner_that_was_replaced_rewinds_nobody() {
    let (old, new) = (FakeMatch::start(60), FakeMatch::start(60));
    new.inner.lock().epoch = Epoch(7);
    (old.inner.lock().epoch, old.inner.lock().stale) = (Epoch(6), true);
    let (stale, owner) = (start(Limits::default(), &FakeNode::with(&old)), FakeNode::with(&new));
    let process = Process::start(([127, 0, 0, 1], 0).into(), Limits::default(), &owner);
    let addr = process.addr;
    let mut config = client_config(addr, 1);
    config.addrs.push(stale.local_addr());
    let mut client = Client::connect(config).unwrap();
    let seen = snapshot(&mut client, |snapshot| snapshot.header.tick > Tick(10)).await.header.tick;
    let session = client.welcome().unwrap().session;
    old.inner.lock().players = std::mem::take(&mut new.inner.lock().players);
    process.kill();
    eventually("the port is free", || std::net::UdpSocket::bind(addr).is_ok()).await;
    // Meanwhile the stale one answers alone, and is further behind.
    tokio::time::sleep(Duration::from_millis(500)).await;
    new.inner.lock().players =
        old.inner.lock().players.iter().map(|(&id, known)| (id, known.copy())).collect();
    let _process = Process::start(addr, Limits::default(), &owner);
    let (rewound, next) = comes_back(&mut client).await;
    assert!(rewound.is_empty() && next > seen, "{rewound:?}");
    assert_eq!(
        client.welcome().map(|welcome| (welcome.epoch, welcome.session)),
        Some((Epoch(7), session))
    );
}
