//! Places and credentials: how many of one player, of one address, of spectators get in; which
//! tickets count; what one packet can make the port send.

mod support;

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rekindle_client::{Client, ClientConfig, ClientEvent, Timing, Trust};
use rekindle_door::NodeSide;
use rekindle_gateway::{Gateway, Limits, Ticket};
use rekindle_schema::wire::{
    Arrive, ClientMessage, Credential, Enter, Hello, PROTOCOL_6, RefuseCode, Role, Seek,
    ServerMessage,
};
use rekindle_schema::{MatchId, PlayerId};
use support::*;

fn watcher(gateway: &Gateway, player: u64) -> ClientConfig {
    let mut config = client_config(gateway.local_addr(), player);
    config.role = Role::Spectator;
    config.timing = Timing { give_up: Duration::from_secs(1), ..Timing::default() };
    config
}

/// Whether it gets in; if not, what it is told in the end.
async fn gets_in(client: &mut Client) -> Result<(), String> {
    until(client, |event| match event {
        ClientEvent::Snapshot(_) => Some(Ok(())),
        ClientEvent::Closed { message, .. } => Some(Err(message)),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn one_spectator_ticket_takes_a_few_places_and_players_get_in() {
    let game = FakeMatch::start(60);
    let limits = Limits {
        max_connections: 12,
        reserve: 2,
        max_spectators: 6,
        per_player: 3,
        ..Limits::default()
    };
    let gateway = start(limits, &FakeNode::with(&game));
    let mut watching = Vec::new();
    for number in 0..6 {
        let mut client = Client::connect(watcher(&gateway, 100)).unwrap();
        let outcome = gets_in(&mut client).await;
        assert_eq!(outcome.is_ok(), number < 3, "{number}: {outcome:?}");
        assert!(outcome.err().is_none_or(|words| words.contains("RK-GATE-122")));
        watching.push(client);
    }
    for player in 200..203 {
        let mut client = Client::connect(watcher(&gateway, player)).unwrap();
        assert_eq!(gets_in(&mut client).await, Ok(()));
        watching.push(client);
    }
    let seventh = gets_in(&mut Client::connect(watcher(&gateway, 300)).unwrap()).await;
    assert!(seventh.is_err_and(|words| words.contains("6 spectators")));
    // Six watch; ten places are for those who come anew. From the fifth player on one spectator has
    // to go for each.
    let mut players = Vec::new();
    for player in 1..=10 {
        let mut client = Client::connect(client_config(gateway.local_addr(), player)).unwrap();
        assert_eq!(gets_in(&mut client).await, Ok(()), "player {player}");
        players.push(client);
    }
    eventually("ten are in, and they are the players", || gateway.clients() == 10).await;
    let mut config = client_config(gateway.local_addr(), 11);
    config.timing = Timing { give_up: Duration::from_secs(1), ..Timing::default() };
    let late = gets_in(&mut Client::connect(config).unwrap()).await;
    assert!(late.is_err_and(|words| words.contains("RK-GATE-122")));
    // Who is in comes back, on a place that is kept for that.
    let mut again = Client::connect(client_config(gateway.local_addr(), 1)).unwrap();
    assert_eq!(gets_in(&mut again).await, Ok(()));
}

#[tokio::test]
async fn a_ticket_that_expired_leads_back_into_the_session_that_lives_and_opens_none() {
    let game = FakeMatch::start(60);
    let time = Arc::new(AtomicU64::new(NOW_MS));
    let mut config = gateway_config(Limits::default());
    let clock = Arc::clone(&time);
    config.clock = Arc::new(move || clock.load(Ordering::Relaxed));
    let gateway =
        Gateway::bind(config, FakeNode::with(&game) as Arc<dyn NodeSide>, keys()).unwrap();
    let mut first = Client::connect(client_config(gateway.local_addr(), 1)).unwrap();
    snapshot(&mut first, |_| true).await;
    let session = first.welcome().unwrap().session;
    drop(first);
    time.store(NOW_MS + 3_600_000, Ordering::Relaxed);
    // The game was started anew: all it has is the ticket.
    let mut again = Client::connect(client_config(gateway.local_addr(), 1)).unwrap();
    snapshot(&mut again, |_| true).await;
    assert_eq!(
        again.welcome().map(|welcome| (welcome.session, welcome.resumed)),
        Some((session, true))
    );
    let mut stranger = Client::connect(client_config(gateway.local_addr(), 2)).unwrap();
    let (code, words) = closed(&mut stranger).await;
    assert!(code == Some(RefuseCode::Credential) && words.starts_with("RK-GATE-012"), "{words}");
    let (code, _) = closed(&mut Client::connect(watcher(&gateway, 1)).unwrap()).await;
    assert_eq!(code, Some(RefuseCode::Credential), "it lets nobody watch");
}

#[tokio::test]
async fn tickets_for_the_nodes_own_players_do_not_count() {
    let game = FakeMatch::start(60);
    let limits = Limits { first_own_player: 1 << 62, ..Limits::default() };
    let gateway = start(limits, &FakeNode::with(&game));
    for player in [1 << 62, u64::MAX] {
        let (code, words) =
            closed(&mut Client::connect(client_config(gateway.local_addr(), player)).unwrap())
                .await;
        assert!(
            code == Some(RefuseCode::Credential) && words.starts_with("RK-GATE-013"),
            "{words}"
        );
    }
    assert!(game.inner.lock().players.is_empty());
}

#[tokio::test]
async fn a_ticket_without_a_match_opens_no_second_session_while_the_first_lives() {
    let game = FakeMatch::start(60);
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let mut first = Client::connect(client_config(gateway.local_addr(), 1)).unwrap();
    snapshot(&mut first, |_| true).await;
    let mut config = client_config(gateway.local_addr(), 1);
    config.match_id = Some(MatchId(5));
    let (code, words) = closed(&mut Client::connect(config.clone()).unwrap()).await;
    assert!(code == Some(RefuseCode::Credential) && words.starts_with("RK-GATE-014"), "{words}");
    // A ticket that names the other match is for that one.
    let player = PlayerId(1);
    let bound = Ticket {
        player,
        name: "p".into(),
        match_id: Some(MatchId(5)),
        role: Role::Player,
        expires_ms: NOW_MS + 1,
        nonce: 0,
    };
    config.credential =
        rekindle_schema::wire::Credential::Ticket(keys().issue_ticket(&bound).unwrap());
    assert_eq!(closed(&mut Client::connect(config).unwrap()).await.0, Some(RefuseCode::NoMatch));
}

#[tokio::test]
async fn a_match_that_ended_meanwhile_is_told_to_be_over() {
    let game = FakeMatch::start(60);
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let mut config = client_config(gateway.local_addr(), 1);
    config.match_id = Some(OVER);
    for _ in 0..2 {
        let told = closed(&mut Client::connect(config.clone()).unwrap()).await;
        assert_eq!(told, (Some(RefuseCode::Ended), "blue won".to_owned()));
    }
}

#[tokio::test]
async fn one_packet_makes_the_port_send_three_times_its_bytes_at_most() {
    let game = FakeMatch::start(60);
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    // The first packet of a real client, caught on its way.
    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    sink.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let quic = rekindle_transport::quic::client::config(&Trust::InsecureAnyServer).unwrap();
    let connecting = endpoint
        .connect_with(quic, sink.local_addr().unwrap(), rekindle_transport::SERVER_NAME)
        .unwrap();
    let mut first = vec![0; 2048];
    let len = tokio::task::spawn_blocking(move || {
        let len = sink.recv(&mut first).unwrap();
        first.truncate(len);
        first
    });
    let first = len.await.unwrap();
    drop(connecting);
    assert!(first.len() >= 1200);
    // Sent once from somewhere else, as who forges its sender does.
    let addr = gateway.local_addr();
    let back = tokio::task::spawn_blocking(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        socket.send_to(&first, addr).unwrap();
        let (begin, mut packets) = (Instant::now(), Vec::new());
        let mut buffer = [0; 2048];
        while begin.elapsed() < Duration::from_millis(4_500) {
            packets.extend(socket.recv(&mut buffer).ok());
        }
        (first.len(), packets)
    });
    let (sent, packets) = back.await.unwrap();
    let back: usize = packets.iter().sum();
    assert!(back >= sent && back <= 3 * sent, "{back} bytes came back for {sent}: {packets:?}");
}

#[tokio::test]
async fn who_looks_for_a_match_says_for_which_and_not_too_much() {
    let game = FakeMatch::start(60);
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let seek = |game: Option<&str>, match_id, properties: Vec<(String, String)>| {
        let hello = Hello {
            protocol: PROTOCOL_6,
            role: Role::Player,
            credential: Credential::Ticket(ticket(2, Role::Player)),
            match_id,
        };
        let enter = Enter { hello, game: game.map(str::to_owned), stood: None };
        let arrive = Arrive { enter, heard: None, redirects: 0 };
        ClientMessage::Seek(Seek { arrive, properties, create: false })
    };
    let property = |len: usize| ("n".repeat(len), "v".to_owned());
    for (message, code, words) in [
        (seek(None, None, Vec::new()), RefuseCode::Malformed, "RK-GATE-166"),
        (seek(Some("fake"), Some(MATCH), Vec::new()), RefuseCode::Malformed, "RK-GATE-166"),
        (seek(Some("fake"), None, vec![property(1); 17]), RefuseCode::Malformed, "RK-GATE-167"),
        (seek(Some("fake"), None, vec![property(65)]), RefuseCode::Malformed, "RK-GATE-167"),
        // What is no such match is for the node to say.
        (seek(Some("chess"), None, vec![property(64); 16]), RefuseCode::NoMatch, "no such match"),
    ] {
        let mut raw = Raw::open(gateway.local_addr()).await;
        raw.say(&message).await;
        let ServerMessage::Refused { code: said, message } = raw.hear().await else {
            panic!("{words}: it is let in")
        };
        assert!(said == code && message.starts_with(words), "{words}: {said:?} {message}");
    }
    let mut raw = Raw::open(gateway.local_addr()).await;
    raw.say(&seek(Some("fake"), None, vec![property(1)])).await;
    assert!(matches!(raw.hear().await, ServerMessage::Welcome(_)), "it is let in");
}
