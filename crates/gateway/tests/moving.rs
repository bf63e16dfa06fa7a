//! Clients that follow their match from node to node, and what they are told of what happened
//! meanwhile.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rekindle_client::{Client, ClientEvent, Timing};
use rekindle_gateway::{Gateway, Limits};
use rekindle_schema::wire::{
    Arrive, ClientMessage, Credential, Enter, Heard, Hello, MAX_REDIRECTS, PROTOCOL_3, PROTOCOL_4,
    RefuseCode, Role, ServerMessage,
};
use rekindle_schema::{Epoch, PlayerId, Tick};
use support::*;

/// The match goes on elsewhere: the door there knows the players of the one here.
fn carry_on(from: &FakeMatch, to: &FakeMatch) {
    let (mut from, mut to) = (from.inner.lock(), to.inner.lock());
    from.paused = true;
    to.epoch = Epoch(from.epoch.0 + 1);
    to.tick = from.tick;
    to.events.clone_from(&from.events);
    to.players = from.players.iter().map(|(&id, player)| (id, player.copy())).collect();
}

/// A node that has no match and knows who has it.
fn pointer(addr: SocketAddr) -> Arc<FakeNode> {
    let node = FakeNode::default();
    *node.elsewhere.lock() = Some(addr.to_string());
    Arc::new(node)
}

async fn moved(client: &mut Client) -> (SocketAddr, SocketAddr) {
    until(client, |event| match event {
        ClientEvent::Moved { from, to, .. } => Some((from, to)),
        _ => None,
    })
    .await
}

fn arrive(player: u64, redirects: u8, heard: Option<Heard>) -> ClientMessage {
    let hello = Hello {
        protocol: PROTOCOL_3,
        role: Role::Player,
        credential: Credential::Ticket(ticket(player, Role::Player)),
        match_id: Some(MATCH),
    };
    ClientMessage::Arrive(Arrive {
        enter: Enter { hello, game: None, stood: None },
        heard,
        redirects,
    })
}

#[tokio::test]
async fn a_client_that_knows_one_node_finds_its_match_on_another() {
    let game = FakeMatch::start(60);
    let owner = start(Limits::default(), &FakeNode::with(&game));
    let asked = start(Limits::default(), &pointer(owner.local_addr()));
    let mut config = client_config(asked.local_addr(), 1);
    config.match_id = Some(MATCH);
    let mut client = Client::connect(config).unwrap();
    snapshot(&mut client, |_| true).await;
    assert_eq!((client.counts().redirects, client.counts().moves), (1, 0));
    assert_eq!((asked.clients(), owner.clients()), (0, 1));
}

#[tokio::test]
async fn a_running_session_follows_its_match_and_loses_no_input_and_no_command() {
    let (before, after) = (FakeMatch::start(60), FakeMatch::start(60));
    after.inner.lock().paused = true;
    let (old_node, new_node) = (FakeNode::with(&before), FakeNode::with(&after));
    let old = start(Limits::default(), &old_node);
    let new = start(Limits::default(), &new_node);
    let mut client = Client::connect(client_config(old.local_addr(), 1)).unwrap();
    snapshot(&mut client, |_| true).await;
    for _ in 0..20 {
        snapshot(&mut client, |_| true).await;
        client.input(Bytes::from_static(b"go")).unwrap();
    }
    client.command(Bytes::from_static(b"first")).unwrap();
    eventually("it is applied", || before.inner.lock().applied_commands.len() == 1).await;
    // The match stops here. What is sent from now on waits for it to go on elsewhere.
    carry_on(&before, &after);
    let last = client.input(Bytes::from_static(b"last")).unwrap();
    client.command(Bytes::from_static(b"second")).unwrap();
    *old_node.game.lock() = None;
    *old_node.elsewhere.lock() = Some(new.local_addr().to_string());
    after.inner.lock().paused = false;
    before.inner.lock().drop_subscribers();

    assert_eq!(moved(&mut client).await, (old.local_addr(), new.local_addr()));
    snapshot(&mut client, |snapshot| {
        snapshot.header.applied.iter().any(|&(seq, _)| seq == last.seq)
    })
    .await;
    eventually("the command too", || !after.inner.lock().applied_commands.is_empty()).await;
    let mut applied = before.applied_of(PlayerId(1));
    applied.extend(after.applied_of(PlayerId(1)));
    let numbers: Vec<u64> = applied.iter().map(|&(seq, _)| seq).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "none twice: {numbers:?}");
    assert_eq!(numbers.last(), Some(&last.seq));
    let commands = |game: &FakeMatch| -> Vec<Bytes> {
        game.inner.lock().applied_commands.iter().map(|(.., payload)| payload.clone()).collect()
    };
    assert_eq!(
        (commands(&before), commands(&after)),
        (vec!["first".into()], vec!["second".into()])
    );
    assert_eq!(client.counts().moves, 1);
}

#[tokio::test]
async fn a_command_that_waits_at_a_node_which_lets_its_match_go_is_given_to_the_next_owner() {
    let (before, after) = (FakeMatch::start(60), FakeMatch::start(60));
    after.inner.lock().paused = true;
    let (old_node, new_node) = (FakeNode::with(&before), FakeNode::with(&after));
    let old = Process::start(([127, 0, 0, 1], 0).into(), Limits::default(), &old_node);
    let addr = old.addr;
    let new = start(Limits::default(), &new_node);
    let mut client = Client::connect(client_config(addr, 1)).unwrap();
    snapshot(&mut client, |_| true).await;
    before.inner.lock().paused = true;
    let waits = client.command(Bytes::from_static(b"waits")).unwrap();
    let taken = |game: &FakeMatch| game.inner.lock().players[&PlayerId(1)].last_command;
    eventually("it waits there", || taken(&before) == waits).await;
    // The client comes back, and is told that the command is taken.
    old.kill();
    eventually("the port is free", || std::net::UdpSocket::bind(addr).is_ok()).await;
    let _old = Process::start(addr, Limits::default(), &old_node);
    until(&mut client, |event| match event {
        ClientEvent::Resumed { welcome, .. } => {
            assert_eq!(welcome.next_command, waits + 1);
            Some(())
        }
        _ => None,
    })
    .await;
    // The match goes on elsewhere, without what waited for it here.
    carry_on(&before, &after);
    after.inner.lock().players.get_mut(&PlayerId(1)).unwrap().last_command = 0;
    *old_node.game.lock() = None;
    *old_node.elsewhere.lock() = Some(new.local_addr().to_string());
    after.inner.lock().paused = false;
    before.inner.lock().drop_subscribers();
    let done = until(&mut client, |event| match event {
        ClientEvent::CommandDone { seq, accepted, .. } => Some((seq, accepted)),
        _ => None,
    })
    .await;
    assert_eq!(done, (waits, Some(true)));
    let applied =
        (before.inner.lock().applied_commands.len(), after.inner.lock().applied_commands.clone());
    assert_eq!(applied, (0, vec![(PlayerId(1), waits, Bytes::from_static(b"waits"))]));
}

#[tokio::test]
async fn a_client_that_waits_at_the_standby_goes_on_there_the_moment_the_match_comes() {
    let (before, after) = (FakeMatch::start(60), FakeMatch::start(60));
    after.inner.lock().paused = true;
    let survivor = Arc::new(FakeNode::default());
    let standby = start(Limits::default(), &survivor);
    let node = FakeNode::with(&before);
    let owner = start(Limits::default(), &node);
    let mut client = Client::connect(client_config(owner.local_addr(), 1)).unwrap();
    snapshot(&mut client, |_| true).await;
    node.standbys.send_replace(Arc::new([(MATCH, standby.local_addr().to_string())].into()));
    eventually("it waits there", || survivor.arrivals.receiver_count() > 0).await;
    assert_eq!((owner.clients(), standby.clients()), (1, 0), "who waits has no session");
    let last = client.input(Bytes::from_static(b"last")).unwrap();
    // Its owner says nothing, and does not fall silent either: the standby's word is enough.
    carry_on(&before, &after);
    *survivor.game.lock() = Some(Arc::clone(&after));
    after.inner.lock().paused = false;
    survivor.arrivals.send_modify(|arrivals| *arrivals += 1);
    assert_eq!(moved(&mut client).await, (owner.local_addr(), standby.local_addr()));
    snapshot(&mut client, |snapshot| snapshot.header.epoch == Epoch(2)).await;
    let applied = || [before.applied_of(PlayerId(1)), after.applied_of(PlayerId(1))].concat();
    eventually("the input too", || applied().iter().any(|&(seq, _)| seq == last.seq)).await;
    assert_eq!(client.counts().moves, 1);
}

#[tokio::test]
async fn who_waits_shows_a_credential_names_a_match_and_finds_a_place() {
    let wait = |protocol, credential: &str, match_id| {
        let credential = Credential::Ticket(credential.to_owned());
        ClientMessage::Wait(Hello { protocol, role: Role::Player, credential, match_id })
    };
    let good = ticket(1, Role::Player);
    let full = Limits { max_waiting: 0, ..Limits::default() };
    let cases = [
        (Limits::default(), wait(PROTOCOL_4, "forged", Some(MATCH)), RefuseCode::Credential),
        (Limits::default(), wait(PROTOCOL_3, &good, Some(MATCH)), RefuseCode::Protocol),
        (Limits::default(), wait(PROTOCOL_4, &good, None), RefuseCode::Malformed),
        (full, wait(PROTOCOL_4, &good, Some(MATCH)), RefuseCode::RateLimited),
    ];
    for (limits, message, expected) in cases {
        let node = start(limits, &Arc::new(FakeNode::default()));
        let mut raw = Raw::open(node.local_addr()).await;
        raw.say(&message).await;
        let answer = raw.hear().await;
        assert!(
            matches!(answer, ServerMessage::Refused { code, .. } if code == expected),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn the_owner_is_killed_and_the_client_knows_where_else_to_ask() {
    let (before, after) = (FakeMatch::start(60), FakeMatch::start(60));
    after.inner.lock().paused = true;
    let survivor = Arc::new(FakeNode::default());
    let other = start(Limits::default(), &survivor);
    let node = FakeNode::with(&before);
    node.nodes.send_replace(vec!["nonsense".to_owned(), other.local_addr().to_string()]);
    let owner = Process::start(([127, 0, 0, 1], 0).into(), Limits::default(), &node);
    let owner_addr = owner.addr;
    let mut client = Client::connect(client_config(owner_addr, 1)).unwrap();
    // A beat comes behind the list of nodes on the stream.
    until(&mut client, |event| matches!(event, ClientEvent::Beat { .. }).then_some(())).await;
    carry_on(&before, &after);
    owner.kill();
    *survivor.game.lock() = Some(Arc::clone(&after));
    after.inner.lock().paused = false;
    assert_eq!(moved(&mut client).await, (owner_addr, other.local_addr()));
}

/// All events that a client is told until the one of `tick` has come.
async fn events_until(client: &mut Client, tick: Tick) -> Vec<(Tick, u32)> {
    let mut told = Vec::new();
    until(client, |event| match event {
        ClientEvent::Event { tick: at, ordinal, .. } => {
            told.push((at, ordinal));
            (at >= tick).then_some(())
        }
        ClientEvent::EventsMissed { from, to } => panic!("{from} to {to} are there"),
        _ => None,
    })
    .await;
    told
}

#[tokio::test]
async fn events_between_two_connections_are_told_to_all_exactly_once() {
    let (before, after) = (FakeMatch::start(60), FakeMatch::start(60));
    after.inner.lock().paused = true;
    let survivor = Arc::new(FakeNode::default());
    let other = start(Limits::default(), &survivor);
    let node = FakeNode::with(&before);
    let owner = Process::start(([127, 0, 0, 1], 0).into(), Limits::default(), &node);
    let mut clients = Vec::new();
    for player in 1..=8 {
        let mut config = client_config(owner.addr, player);
        config.addrs.push(other.local_addr());
        let mut client = Client::connect(config).unwrap();
        snapshot(&mut client, |_| true).await;
        clients.push(client);
    }
    before.inner.lock().events_per_tick = 2;
    let begun = before.inner.lock().tick.next();
    let mut told = Vec::new();
    for client in &mut clients {
        let first = events_until(client, Tick(begun.0 + 3)).await;
        told.push(first);
    }
    // Nobody hears of the ticks between the death and the first one of the next owner.
    owner.kill();
    let killed = before.inner.lock().tick;
    eventually("it goes on unheard", || before.inner.lock().tick.0 > killed.0 + 10).await;
    carry_on(&before, &after);
    let until = {
        let mut inner = after.inner.lock();
        inner.events_per_tick = 2;
        inner.paused = false;
        inner.tick.0 + 5
    };
    *survivor.game.lock() = Some(Arc::clone(&after));
    for (client, told) in clients.iter_mut().zip(&mut told) {
        // The last is the second event of its tick, or the first.
        told.extend(events_until(client, Tick(until)).await);
        let first = told[0].0;
        let expected: Vec<(Tick, u32)> = (first.0..)
            .flat_map(|tick| [(Tick(tick), 0), (Tick(tick), 1)])
            .take(told.len())
            .collect();
        assert!(first <= Tick(begun.0 + 1), "from the first on: {first}");
        assert_eq!(*told, expected, "each once, in order");
    }
}

#[tokio::test]
async fn events_that_nobody_remembers_are_named_as_missed() {
    let game = FakeMatch::start(60);
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    {
        let mut client = Client::connect(client_config(gateway.local_addr(), 1)).unwrap();
        snapshot(&mut client, |snapshot| snapshot.header.tick > Tick(60)).await;
    }
    {
        let mut inner = game.inner.lock();
        inner.events_per_tick = 1;
        inner.events_from = Tick(50);
    }
    let from = game.inner.lock().tick.next();
    eventually("events", || game.inner.lock().events.len() > 3).await;
    let mut raw = Raw::open(gateway.local_addr()).await;
    raw.say(&arrive(1, 0, Some(Heard { tick: Tick(20), ordinal: 1 }))).await;
    assert!(matches!(raw.hear().await, ServerMessage::Welcome(welcome) if welcome.resumed));
    match raw.hear().await {
        ServerMessage::EventsMissed { from, to } => assert_eq!((from, to), (Tick(20), Tick(49))),
        other => panic!("{other:?}"),
    }
    for expected in from.0..from.0 + 3 {
        match raw.hear().await {
            ServerMessage::Event { tick, ordinal, .. } => {
                assert_eq!((tick, ordinal), (Tick(expected), 0));
            }
            ServerMessage::Beat { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_client_that_was_sent_on_too_often_is_told_to_wait() {
    let game = FakeMatch::start(60);
    let owner = start(Limits::default(), &FakeNode::with(&game));
    let limits = Limits { unavailable_wait: Duration::ZERO, ..Limits::default() };
    let asked = start(limits, &pointer(owner.local_addr()));
    let mut raw = Raw::open(asked.local_addr()).await;
    raw.say(&arrive(1, MAX_REDIRECTS - 1, None)).await;
    match raw.hear().await {
        ServerMessage::Redirect { addr } => assert_eq!(addr, owner.local_addr().to_string()),
        other => panic!("{other:?}"),
    }
    let mut raw = Raw::open(asked.local_addr()).await;
    raw.say(&arrive(1, MAX_REDIRECTS, None)).await;
    match raw.hear().await {
        ServerMessage::Refused { code: RefuseCode::Unavailable, message } => {
            assert!(message.contains("RK-GATE-151"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_waited_at_a_node_is_told_where_the_match_went_on_however_often_it_was_sent_on() {
    let game = FakeMatch::start(60);
    let owner = start(Limits::default(), &FakeNode::with(&game));
    let node = Arc::new(FakeNode::default());
    let asked = start(Limits::default(), &node);
    let mut raw = Raw::open(asked.local_addr()).await;
    raw.say(&arrive(1, MAX_REDIRECTS, None)).await;
    eventually("the client waits", || node.sought.load(Ordering::Relaxed) > 1).await;
    *node.elsewhere.lock() = Some(owner.local_addr().to_string());
    match raw.hear().await {
        ServerMessage::Redirect { addr } => assert_eq!(addr, owner.local_addr().to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_that_is_sent_back_to_a_silent_owner_finds_the_next_one() {
    let (before, after) = (FakeMatch::start(60), FakeMatch::start(60));
    after.inner.lock().paused = true;
    let node = FakeNode::with(&before);
    let owner = Process::start(([127, 0, 0, 1], 0).into(), Limits::default(), &node);
    // It does not know yet that the owner is gone.
    let survivor = pointer(owner.addr);
    let other = start(Limits::default(), &survivor);
    node.nodes.send_replace(vec![other.local_addr().to_string()]);
    let mut client = Client::connect(client_config(owner.addr, 1)).unwrap();
    until(&mut client, |event| matches!(event, ClientEvent::Beat { .. }).then_some(())).await;
    carry_on(&before, &after);
    let owner_addr = owner.addr;
    owner.kill();
    let mut sent_back = 0;
    until(&mut client, |event| {
        let ClientEvent::Disconnected { reason } = event else { return None };
        sent_back += u32::from(reason.contains("RK-CLIENT-022"));
        (sent_back == 2).then_some(())
    })
    .await;
    assert_eq!(client.counts().redirects, 0, "none of them led on");
    *survivor.elsewhere.lock() = None;
    *survivor.game.lock() = Some(Arc::clone(&after));
    after.inner.lock().paused = false;
    assert_eq!(moved(&mut client).await, (owner_addr, other.local_addr()));
}

#[tokio::test]
async fn two_nodes_that_point_at_each_other_end_in_a_clear_error() {
    let limits = || Limits { unavailable_wait: Duration::ZERO, ..Limits::default() };
    let (first, second) = (Arc::new(FakeNode::default()), Arc::new(FakeNode::default()));
    let gateways: [Gateway; 2] = [start(limits(), &first), start(limits(), &second)];
    *first.elsewhere.lock() = Some(gateways[1].local_addr().to_string());
    *second.elsewhere.lock() = Some(gateways[0].local_addr().to_string());
    let mut config = client_config(gateways[0].local_addr(), 1);
    config.match_id = Some(MATCH);
    config.timing = Timing { give_up: Duration::from_secs(3), ..Timing::default() };
    let mut client = Client::connect(config).unwrap();
    let words = closed(&mut client).await;
    assert!(words.contains("RK-CLIENT-011") && words.contains("RK-"), "{words}");
    let redirects = client.counts().redirects;
    assert!((4..120).contains(&redirects), "{redirects} redirects in three seconds");
}

async fn closed(client: &mut Client) -> String {
    until(client, |event| match event {
        ClientEvent::Closed { message, .. } => Some(message),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_redirect_to_nonsense_ends_in_a_clear_error() {
    for addr in ["", "nonsense", "0.0.0.0:80", "127.0.0.1:0", "224.0.0.1:9", &"9".repeat(10_000)] {
        let node = Arc::new(FakeNode::default());
        *node.elsewhere.lock() = Some(addr.to_owned());
        let gateway = start(Limits::default(), &node);
        let mut config = client_config(gateway.local_addr(), 1);
        config.match_id = Some(MATCH);
        config.timing = Timing { give_up: Duration::from_millis(300), ..Timing::default() };
        let mut client = Client::connect(config).unwrap();
        let disconnected = until(&mut client, |event| match event {
            ClientEvent::Disconnected { reason } => Some(reason),
            _ => None,
        })
        .await;
        assert!(disconnected.contains("RK-CLIENT-020"), "{disconnected}");
        assert!(closed(&mut client).await.contains("RK-CLIENT-011"));
        assert_eq!(client.counts().redirects, 0);
    }
}
