//! Browsers: what they play, how they are let go, what happens to those that break the rules. Both
//! carriers do the same.

mod support;

#[path = "support/page.rs"]
mod page;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use rekindle_gateway::{Gateway, Limits, Rate, browsers};
use rekindle_loadtest::flood::{Carrier, FloodConfig, flood};
use rekindle_netcode::{InputItem, InputPacket};
use rekindle_schema::wire::{
    Arrive, ClientMessage, Credential, Enter, Hello, PROTOCOL_4, PROTOCOL_5, RefuseCode, Role,
    ServerMessage, Welcome,
};
use rekindle_schema::{PlayerId, Tick};
use rekindle_transport::Origins;
use rekindle_web::{Guest, GuestRefused, GuestWanted, Site, WebConfig};
use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};
use web_transport_proto::{Frame, StreamUni, VarInt as Number};

use self::page::*;

/// A node with both listeners.
struct Node {
    gateway: Gateway,
    web: SocketAddr,
    hashes: Vec<[u8; 32]>,
}

struct FakeSite(Vec<[u8; 32]>);

impl Site for FakeSite {
    fn name(&self) -> &'static str {
        "n1"
    }

    fn games(&self) -> Vec<String> {
        vec!["fake".to_owned()]
    }

    fn browser_certificates(&self) -> Option<Vec<[u8; 32]>> {
        Some(self.0.clone())
    }

    fn guest(&self, wanted: GuestWanted) -> BoxFuture<'_, Result<Guest, GuestRefused>> {
        async move {
            if wanted.name.is_empty() {
                return Err(GuestRefused::Invalid("a name is wanted".to_owned()));
            }
            let (ticket, match_id) = (ticket(77, Role::Player), MATCH.to_string());
            Ok(Guest { ticket, match_id })
        }
        .boxed()
    }

    fn sketches(&self, match_id: &str) -> Option<BoxStream<'static, String>> {
        let pictures = ["{\"tick\":1}", "{\"tick\":3}"].map(str::to_owned);
        (match_id == MATCH.to_string()).then(|| futures::stream::iter(pictures).boxed())
    }
}

async fn node_with(limits: Limits, game: &Arc<FakeMatch>, origins: Origins) -> Node {
    let mut config = gateway_config(limits);
    config.origins = Arc::new(origins.clone());
    let gateway = Gateway::bind(config, FakeNode::with(game), keys()).unwrap();
    let made = browsers::renewed(None, 1_700_000_000_000).unwrap().unwrap();
    let (chain, key) = browsers::identity(&made.present);
    gateway.certificates().set_browsers(chain, key).unwrap();
    let hash = |made: &rekindle_schema::browsers::BrowserCertificate| {
        rekindle_gateway::keys::fingerprint(&made.certificate)
    };
    let hashes = vec![hash(&made.present), hash(&made.next)];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let web = listener.local_addr().unwrap();
    let config = WebConfig {
        origins,
        guests: true,
        connections: 64,
        tls: None,
        port: gateway.local_addr().port(),
        web_port: web.port(),
        advertised: gateway.local_addr(),
    };
    let site = Arc::new(FakeSite(hashes.clone()));
    let door = gateway.side_door();
    tokio::spawn(rekindle_web::serve(listener, config, site, door, std::future::pending()));
    Node { gateway, web, hashes }
}

async fn node(limits: Limits, game: &Arc<FakeMatch>) -> Node {
    node_with(limits, game, "http://page.example".parse().unwrap()).await
}

impl Node {
    async fn pages(&self) -> [Page; 2] {
        let transport = Page::transport(self.gateway.local_addr(), &self.hashes).await;
        [transport, Page::socket(self.web).await]
    }
}

fn arrive(ticket: String) -> ClientMessage {
    arrive_as(PROTOCOL_4, ticket)
}

fn arrive_as(protocol: u16, ticket: String) -> ClientMessage {
    let hello = Hello {
        protocol,
        role: Role::Player,
        credential: Credential::Ticket(ticket),
        match_id: None,
    };
    let enter = Enter { hello, game: None, stood: None };
    ClientMessage::Arrive(Arrive { enter, heard: None, redirects: 0 })
}

async fn enter(page: &mut Page, player: u64) -> Welcome {
    page.say(&arrive(ticket(player, Role::Player))).await;
    page.until(|message| match message {
        ServerMessage::Welcome(welcome) => Some(*welcome),
        ServerMessage::Refused { code, message } => panic!("{code:?}: {message}"),
        _ => None,
    })
    .await
}

/// The tick in the head of a snapshot: behind two bytes of flags and the epoch, each number in
/// groups of seven bits.
fn tick_of(snapshot: &[u8]) -> Tick {
    let mut rest = snapshot[2..].iter();
    let mut number = || {
        let mut value = 0;
        for (place, byte) in rest.by_ref().enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    };
    number();
    Tick(number())
}

fn input(seq: u64, target: Tick, acknowledged: Tick) -> Vec<u8> {
    let item = InputItem { seq, target, view: acknowledged, payload: Bytes::from_static(b"go") };
    let packet = InputPacket {
        ack_tick: acknowledged,
        clock_ms: 1,
        inputs: vec![item],
        ..InputPacket::default()
    };
    let mut out = Vec::new();
    packet.encode(&mut out);
    out
}

#[tokio::test]
async fn a_page_plays_over_either_carrier() {
    let game = FakeMatch::start(60);
    game.inner.lock().events_per_tick = 1;
    let node = node(Limits::default(), &game).await;
    for (mut page, player) in node.pages().await.into_iter().zip([1, 2]) {
        let welcome = enter(&mut page, player).await;
        assert_eq!((welcome.player, welcome.next_input), (PlayerId(player), 1));
        let tick = tick_of(&page.datagram().await);
        page.send_datagram(&input(1, tick, tick)).await;
        eventually("the input is applied", || !game.applied_of(PlayerId(player)).is_empty()).await;
        let later = loop {
            let later = tick_of(&page.datagram().await);
            if later > tick {
                break later;
            }
        };
        page.send_datagram(&input(2, later, later)).await;
        page.say(&ClientMessage::Command { seq: 1, payload: Bytes::from_static(b"do") }).await;
        let (mut done, mut events, mut beats) = (false, 0, 0);
        page.until(|message| {
            match message {
                ServerMessage::CommandDone { seq: 1, accepted: true, .. } => done = true,
                ServerMessage::Event { .. } => events += 1,
                ServerMessage::Beat { .. } => beats += 1,
                _ => {}
            }
            (done && events > 3 && beats > 0).then_some(())
        })
        .await;
        page.say(&ClientMessage::Bye).await;
        assert_eq!(page.closed().await, (0, "bye".to_owned()));
    }
    let gone = || game.inner.lock().players.is_empty();
    eventually("both have left for good", gone).await;
}

/// The high nibble of the first byte says how the body is coded; its lowest bit that it is full.
#[tokio::test]
async fn only_clients_of_version_5_get_range_coded_deltas() {
    let game = FakeMatch::start(60);
    let node = node(Limits::default(), &game).await;
    for (player, (protocol, kind)) in
        [(PROTOCOL_4, 0x10), (PROTOCOL_5, 0x30)].into_iter().enumerate()
    {
        for (mut page, of) in node.pages().await.into_iter().zip([1, 3]) {
            let player = player as u64 + of;
            page.say(&arrive_as(protocol, ticket(player, Role::Player))).await;
            let first = page.datagram().await;
            assert_eq!(first[0] & 0xf1, 0x11, "a full one first, in Rice codes for all");
            page.send_datagram(&input(1, tick_of(&first), tick_of(&first))).await;
            let delta = loop {
                let datagram = page.datagram().await;
                if datagram[0] & 1 == 0 {
                    break datagram;
                }
            };
            assert_eq!(delta[0] & 0xf0, kind, "protocol {protocol}");
        }
    }
}

#[tokio::test]
async fn pages_and_native_clients_play_in_one_match_and_are_let_go_alike() {
    let game = FakeMatch::start(60);
    let node = node(Limits::default(), &game).await;
    let addr = node.gateway.local_addr();
    let mut native = rekindle_client::Client::connect(client_config(addr, 9)).unwrap();
    snapshot(&mut native, |snapshot| snapshot.view.entities.len() == 1).await;
    let [mut transport, mut socket] = node.pages().await;
    for (page, player) in [(&mut transport, 1), (&mut socket, 2)] {
        enter(page, player).await;
        let seen = tick_of(&page.datagram().await);
        page.send_datagram(&input(1, seen, seen)).await;
    }
    let lines = || {
        let lines = node.gateway.lines(MATCH).into_iter();
        lines.map(|line| (line.player.0, line.carrier, line.has.is_some())).collect::<Vec<_>>()
    };
    let all = [(9, "quic", true), (1, "webtransport", true), (2, "websocket", true)];
    eventually("all have said what they have", || lines() == all).await;
    snapshot(&mut native, |snapshot| snapshot.view.entities.len() == 3).await;
    assert_eq!(node.gateway.clients(), 3);
    node.gateway.send_away("RK-TEST-1: somewhere else");
    for page in [transport, socket] {
        let code = u64::from(RefuseCode::Draining.close_code());
        assert_eq!(page.closed().await, (code, "RK-TEST-1: somewhere else".to_owned()));
    }
}

#[tokio::test]
async fn a_refusal_is_told_on_the_stream_and_by_the_close() {
    let game = FakeMatch::start(60);
    let node = node(Limits::default(), &game).await;
    for mut page in node.pages().await {
        page.say(&arrive("v4.public.nonsense".to_owned())).await;
        let told = page.until(|message| match message {
            ServerMessage::Refused { code, message } => Some((code, message)),
            _ => None,
        });
        let (code, words) = told.await;
        assert_eq!(code, RefuseCode::Credential);
        let closed = page.closed().await;
        assert_eq!(closed, (u64::from(code.close_code()), words));
    }
    let pending = || node.gateway.side_door().knock([127, 0, 0, 1].into()).is_ok();
    eventually("nobody is pending", pending).await;
}

#[tokio::test]
async fn a_page_that_goes_is_away_and_comes_back_over_the_other_carrier() {
    let game = FakeMatch::start(60);
    let node = node(Limits::default(), &game).await;
    let [mut transport, mut socket] = node.pages().await;
    let welcome = enter(&mut transport, 1).await;
    let Page::Transport(mut page) = transport else { panic!() };
    page.request.0.write_all(&close_capsule(0, "closed tab")).await.unwrap();
    let away = |session| format!("away {session}");
    let gone = away(welcome.session);
    eventually("it is away", || game.inner.lock().calls.contains(&gone)).await;
    let hello = Hello {
        protocol: PROTOCOL_4,
        role: Role::Player,
        credential: Credential::Resume(welcome.resume_token.clone()),
        match_id: Some(welcome.match_id),
    };
    let enter = Enter { hello, game: None, stood: None };
    socket.say(&ClientMessage::Arrive(Arrive { enter, heard: None, redirects: 0 })).await;
    let back = socket.until(|message| match message {
        ServerMessage::Welcome(welcome) => Some(*welcome),
        _ => None,
    });
    let back = back.await;
    assert_eq!((back.session, back.resumed), (welcome.session, true));
    game.inner.lock().calls.clear();
    drop(socket);
    eventually("it is away again", || game.inner.lock().calls.contains(&gone)).await;
}

#[tokio::test]
async fn only_pages_of_listed_origins_connect_and_only_at_the_path() {
    let game = FakeMatch::start(60);
    let node = node(Limits::default(), &game).await;
    let addr = node.gateway.local_addr();
    for (path, origin, wanted) in [
        ("/rekindle/4", Some("http://page.example"), 200),
        ("/rekindle/4", None, 200),
        ("/rekindle/4", Some("http://evil.example"), 403),
        ("/rekindle/4", Some("null"), 403),
        ("/rekindle/3", Some("http://page.example"), 404),
        ("/", None, 404),
    ] {
        let quic = dial_h3(addr, &node.hashes).await.unwrap();
        let answer = ask(&quic, &request(addr, path, origin)).await;
        // The reader of answers has none for a refusal.
        assert_eq!(answer.is_some(), wanted == 200, "{path} {origin:?}");
        let socket = dial_ws(node.web, path, (origin, "rekindle.4")).await;
        match socket {
            Ok(_) => assert_eq!(wanted, 200),
            Err(Error::Http(response)) if path == "/" => assert!(response.status() == 200),
            Err(Error::Http(response)) => {
                assert_eq!(response.status(), wanted, "{path} {origin:?}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    let refused = dial_ws(node.web, "/rekindle/4", (None, "chat")).await.unwrap_err();
    assert!(matches!(refused, Error::Http(response) if response.status() == 400));
}

#[tokio::test]
async fn a_certificate_that_is_replaced_is_shown_to_the_next_connection() {
    let game = FakeMatch::start(60);
    let node = node(Limits::default(), &game).await;
    let addr = node.gateway.local_addr();
    let [present, next] = [node.hashes[0], node.hashes[1]];
    let mut page = Page::transport(addr, &[present]).await;
    enter(&mut page, 1).await;
    assert!(dial_h3(addr, &[next]).await.is_err(), "it is not shown yet");
    // Who does not speak a browser's protocol is shown what is pinned, and pins it.
    let mut native = rekindle_client::Client::connect(client_config(addr, 9)).unwrap();
    snapshot(&mut native, |_| true).await;
    let made = browsers::renewed(None, 1_700_000_000_000).unwrap().unwrap();
    let (chain, key) = browsers::identity(&made.present);
    let third = rekindle_gateway::keys::fingerprint(&made.present.certificate);
    node.gateway.certificates().set_browsers(chain, key).unwrap();
    assert!(dial_h3(addr, &[present, next]).await.is_err());
    let mut other = Page::transport(addr, &[third]).await;
    enter(&mut other, 2).await;
    page.datagram().await;
}

#[tokio::test]
async fn a_rotated_certificate_is_shown_when_its_overlap_is_over_to_clients_that_trust_both() {
    use rekindle_gateway::keyring::make_set;
    use rekindle_schema::keyring::Keyring;
    let game = FakeMatch::start(60);
    let mut ring = Keyring::new(make_set(1, (0, 0), None).unwrap());
    let keys = rekindle_gateway::Keys::of_ring(&ring, 100).unwrap();
    let before = keys.certificates_der();
    let finder = FakeNode::with(&game);
    let gateway = Gateway::bind(gateway_config(Limits::default()), finder, keys).unwrap();
    ring.rotate(make_set(2, (100, 110), None).unwrap(), 1_000, 100).unwrap();
    assert!(gateway.keys().adopt(&ring, 100).unwrap());
    let both = gateway.keys().certificates_der();
    assert!(both.len() == 2 && both[0] == before[0]);
    let enters = async |trusted: &[Bytes]| {
        let trust = rekindle_client::Trust::certificates(trusted.iter().map(|der| der.to_vec()));
        let setup = rekindle_transport::ClientSetup::new(&trust).unwrap();
        let from = rekindle_transport::ClientEndpoint::bind(([127, 0, 0, 1], 0).into()).unwrap();
        from.connect(&setup, gateway.local_addr()).unwrap().await.is_ok()
    };
    assert!(enters(&before).await && enters(&both).await && !enters(&both[1..]).await);
    assert!(!gateway.keys().adopt(&ring, 1_109).unwrap(), "it is what it was");
    assert!(gateway.keys().adopt(&ring, 1_110).unwrap());
    assert!(!enters(&before).await && enters(&both).await && enters(&both[1..]).await);
    assert_eq!(gateway.keys().certificates_der(), both[1..]);
}

/// What a hostile client sends on which stream, and what it is closed with.
#[tokio::test]
async fn what_is_no_http3_ends_the_connection_with_its_code() {
    let game = FakeMatch::start(60);
    let node = node(Limits::default(), &game).await;
    let addr = node.gateway.local_addr();
    let number = |value: u64| {
        let mut bytes = Vec::new();
        Number::from_u64(value).unwrap().encode(&mut bytes);
        bytes
    };
    let frame = |kind: u64, len: u64| [number(kind), number(len)].concat();
    let control = number(StreamUni::CONTROL.0.into_inner());
    let uni = |rest: Vec<u8>| [control.clone(), rest].concat();
    for (what, unis, bi, code) in [
        ("settings that are too long", vec![uni(frame(4, 1 << 40))], vec![], 0x107),
        ("no settings first", vec![uni([frame(7, 1), vec![0]].concat())], vec![], 0x10a),
        (
            "settings cut in the middle",
            vec![uni([frame(4, 1), vec![0xc0]].concat())],
            vec![],
            0x109,
        ),
        ("two control streams", vec![settings(), settings()], vec![], 0x103),
        ("a push stream", vec![number(1)], vec![], 0x103),
        ("a third stream of QPACK", vec![number(2), number(3), number(2)], vec![], 0x103),
        ("a request of another frame", vec![], frame(0, 4), 0x106),
        ("a head that never ends", vec![], frame(1, 1 << 40), 0x107),
    ] {
        let quic = dial_h3(addr, &node.hashes).await.unwrap();
        let mut kept = Vec::new();
        for bytes in unis {
            let mut stream = quic.open_uni().await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            kept.push(stream);
        }
        let (mut send, _recv) = quic.open_bi().await.unwrap();
        if bi.is_empty() {
            send.write_all(&[0x40]).await.unwrap();
        } else {
            send.write_all(&[bi, vec![0; 4]].concat()).await.unwrap();
        }
        assert_eq!(quic_code(&quic).await.into_inner(), code, "{what}");
    }
    // A control stream that ends takes the connection along.
    let quic = dial_h3(addr, &node.hashes).await.unwrap();
    let mut stream = quic.open_uni().await.unwrap();
    stream.write_all(&settings()).await.unwrap();
    stream.finish().unwrap();
    assert_eq!(quic_code(&quic).await.into_inner(), 0x104);
}

#[tokio::test]
async fn streams_for_nothing_and_floods_of_capsules_are_bounded() {
    let game = FakeMatch::start(60);
    let node = node(Limits::default(), &game).await;
    let addr = node.gateway.local_addr();
    let mut page = Page::transport(addr, &node.hashes).await;
    enter(&mut page, 1).await;
    let Page::Transport(mut transport) = page else { panic!() };
    // Capsules that mean nothing, in many frames, and frames that mean nothing.
    let mut flood = Vec::new();
    for kind in 0..2_000_u32 {
        let mut capsule = Vec::new();
        Number::from_u32(0x3000 + kind).encode(&mut capsule);
        Number::from_u32(20).encode(&mut capsule);
        capsule.extend_from_slice(&[7; 20]);
        for piece in capsule.chunks(9) {
            Frame::DATA.encode(&mut flood);
            Number::from_u32(piece.len() as u32).encode(&mut flood);
            flood.extend_from_slice(piece);
        }
        Frame(Number::from_u32(0x21)).encode(&mut flood);
        Number::from_u32(3).encode(&mut flood);
        flood.extend_from_slice(&[1; 3]);
    }
    transport.request.0.write_all(&flood).await.unwrap();
    let quic = transport.quic.clone();
    let mut page = Page::Transport(transport);
    page.say(&ClientMessage::Command { seq: 1, payload: Bytes::new() }).await;
    page.until(|message| match message {
        ServerMessage::CommandDone { seq: 1, .. } => Some(()),
        _ => None,
    })
    .await;
    // A second stream of the session is refused, and so are those of sessions that are none.
    let open = |session: u32| {
        let quic = quic.clone();
        async move {
            let (mut send, mut recv) = quic.open_bi().await.ok()?;
            let mut prefix = Vec::new();
            Frame::WEBTRANSPORT.encode(&mut prefix);
            Number::from_u32(session).encode(&mut prefix);
            send.write_all(&prefix).await.ok()?;
            Some(recv.read(&mut [0; 8]).await)
        }
    };
    for session in [0, 4, 400] {
        let refused = timeout(PATIENCE, open(session)).await.unwrap();
        assert!(matches!(refused, Some(Err(_))), "{session}: {refused:?}");
    }
    page.datagram().await;
    let flood = async { while open(8).await.is_some() {} };
    timeout(PATIENCE, flood).await.expect("it ends");
    assert_eq!(quic_code(&quic).await.into_inner(), 0x107);
}

#[tokio::test]
async fn garbage_over_http3_harms_nobody() {
    let game = FakeMatch::start(60);
    let node = node(Limits::default(), &game).await;
    let addr = node.gateway.local_addr();
    let mut page = Page::transport(addr, &node.hashes).await;
    enter(&mut page, 1).await;
    // A generator of numbers, so that a failure repeats.
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    for _ in 0..30 {
        let quic = dial_h3(addr, &node.hashes).await.unwrap();
        let mut kept = Vec::new();
        for _ in 0..3 {
            let bytes: Vec<u8> = (0..64).map(|_| random()).collect();
            let Ok(mut stream) = quic.open_uni().await else { break };
            let _ = stream.write_all(&bytes).await;
            let Ok((mut send, recv)) = quic.open_bi().await else { break };
            let _ = send.write_all(&bytes).await;
            let _ = quic.send_datagram(bytes.into());
            kept.push((stream, send, recv));
        }
        quic.close(0_u32.into(), b"");
    }
    let before = tick_of(&page.datagram().await);
    while tick_of(&page.datagram().await) <= before {}
}

#[tokio::test]
async fn messages_that_are_none_close_a_socket_as_malformed() {
    let game = FakeMatch::start(60);
    let node = node(Limits::default(), &game).await;
    let malformed = u64::from(RefuseCode::Malformed.close_code());
    let binary = |bytes: Vec<u8>| Message::Binary(bytes.into());
    for (message, code) in [
        (Message::Text("hello".into()), "RK-GATE-145"),
        (binary(vec![]), "RK-GATE-146"),
        (binary(vec![9, 1]), "RK-GATE-146"),
        (binary(vec![1; 2_000]), "RK-GATE-147"),
        (binary(vec![0; 40_000]), "RK-GATE-148"),
        (binary([vec![0], vec![0xff; 4]].concat()), ""),
    ] {
        let mut page = Page::socket(node.web).await;
        if let Page::Socket(page) = &mut page {
            page.ws.send(message).await.unwrap();
        }
        let (closed, words) = page.closed().await;
        assert_eq!(closed, malformed);
        assert!(words.starts_with(code), "{words}");
    }
    // Not even a frame.
    let mut page = Page::socket(node.web).await;
    if let Page::Socket(page) = &mut page {
        page.ws.get_mut().write_all(&[0xff; 64]).await.unwrap();
    }
    assert_eq!(page.closed().await.0, malformed);
}

#[tokio::test]
async fn who_says_no_hello_is_let_go_and_who_says_nothing_at_all_is_gone() {
    let game = FakeMatch::start(60);
    let limits = Limits {
        hello_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(600),
        ..Limits::default()
    };
    let node = node(limits, &game).await;
    for page in node.pages().await {
        let (code, words) = page.closed().await;
        assert_eq!(code, u64::from(RefuseCode::Malformed.close_code()));
        assert!(words.starts_with("RK-GATE-040"), "{words}");
    }
    // One that is in and answers nothing any more: a cable that was pulled.
    let mut page = Page::socket(node.web).await;
    let welcome = enter(&mut page, 1).await;
    let gone = format!("away {}", welcome.session);
    eventually("it is gone", || game.inner.lock().calls.contains(&gone)).await;
    drop(page);
}

#[tokio::test]
async fn a_socket_that_is_read_slowly_gets_the_newest_snapshots() {
    let game = FakeMatch::start(120);
    let node = node(Limits::default(), &game).await;
    let mut page = Page::socket(node.web).await;
    enter(&mut page, 1).await;
    let first = tick_of(&page.datagram().await);
    // It stands still for two seconds' worth of ticks.
    eventually("the match goes on", || game.inner.lock().tick.0 > first.0 + 240).await;
    let stood = game.inner.lock().tick;
    let (mut old, mut newest) = (0, first);
    while newest < stood {
        newest = tick_of(&page.datagram().await);
        old += 1;
    }
    assert!(old <= 48, "{old} snapshots of what was long over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_over_the_carriers_of_browsers_disturbs_no_player() {
    let game = FakeMatch::start(30);
    let limits = Limits { handshakes_per_source: Rate::new(50.0, 100.0), ..Limits::default() };
    let node = node(limits, &game).await;
    let addr = node.gateway.local_addr();
    for (player, carrier) in [(1, Carrier::WebTransport), (2, Carrier::WebSocket)] {
        let (target, mut page) = match carrier {
            Carrier::WebTransport => (addr, Page::transport(addr, &node.hashes).await),
            _ => (node.web, Page::socket(node.web).await),
        };
        enter(&mut page, player).await;
        let config = FloodConfig {
            target,
            packets_per_second: 0,
            connections_per_second: 20,
            carrier,
            duration: Duration::from_secs(2),
            seed: 1,
        };
        let report = flood(&config).await.unwrap();
        assert!(report.sessions >= 10, "{carrier:?}: {report:?}");
        let now = game.inner.lock().tick;
        while tick_of(&page.datagram().await) < now {}
    }
}

#[tokio::test]
async fn sockets_count_as_connections_do() {
    let game = FakeMatch::start(60);
    let limits = Limits { max_connections: 2, ..Limits::default() };
    let node = node(limits, &game).await;
    let mut first = Page::socket(node.web).await;
    enter(&mut first, 1).await;
    let second = Page::socket(node.web).await;
    let third = dial_ws(node.web, "/rekindle/4", (None, "rekindle.4")).await.unwrap_err();
    assert!(matches!(third, Error::Http(response) if response.status() == 429));
    drop(second);
    let mut again = None;
    for _ in 0..200 {
        if let Ok(page) = dial_ws(node.web, "/rekindle/4", (None, "rekindle.4")).await {
            again = Some(page);
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(again.is_some(), "the place is free again");
    node.gateway.send_away("going");
    let refused = dial_ws(node.web, "/rekindle/4", (None, "rekindle.4")).await.unwrap_err();
    assert!(matches!(refused, Error::Http(response) if response.status() == 503));
}

/// One request by hand; the whole answer.
async fn fetch(addr: SocketAddr, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let length = body.len();
    let request = format!("{head}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_page_is_told_how_to_connect() {
    let game = FakeMatch::start(60);
    let node = node(Limits::default(), &game).await;
    let (web, udp) = (node.web, node.gateway.local_addr().port());
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost:{}", web.port());
    let answer = fetch(web, &get("/edge.json"), "").await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("access-control-allow-origin: *")
    );
    let hash = |hash: &[u8; 32]| {
        let digits = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect::<String>()
    };
    for part in [
        r#""protocols":[4,5,6],"node":"n1""#.to_owned(),
        format!(
            r#""webtransport":{{"url":"https://localhost:{udp}/rekindle/4","hashes":["{}","{}"]}}"#,
            hash(&node.hashes[0]),
            hash(&node.hashes[1])
        ),
        format!(r#""websocket":{{"url":"ws://localhost:{}/rekindle/4""#, web.port()),
        r#""datagrams":false},"games":["fake"],"guest":true"#.to_owned(),
    ] {
        assert!(answer.contains(&part), "{part} in {answer}");
    }
    let forged = fetch(web, "GET /edge.json HTTP/1.1\r\nhost: evil.example", "").await;
    assert!(!forged.contains("evil") && forged.contains("https://127.0.0.1:"), "{forged}");
    for (head, status) in [
        (get("/"), 200),
        (get("/favicon.ico"), 200),
        (get("/").replace("GET", "HEAD"), 200),
        (get("/nothing"), 404),
        (get("/play/nothing.js"), 404),
        (get("/play/../Cargo.toml"), 404),
        (get("/play/ticket"), 405),
        (get("/rekindle/4"), 426),
        (format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "y".repeat(20_000)), 431),
        ("nonsense".to_owned(), 400),
    ] {
        let answer = fetch(web, &head, "").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{head}: {answer}");
    }
}

#[tokio::test]
async fn pages_are_shown_sketches_of_a_match_that_runs_here() {
    let game = FakeMatch::start(60);
    let node = node(Limits::default(), &game).await;
    let get = |origin: &str, name: &str| {
        format!("GET /play/sketch/{name} HTTP/1.1\r\nhost: x\r\norigin: {origin}")
    };
    let (good, here) = ("http://page.example", MATCH.to_string());
    let answer = fetch(node.web, &get(good, &here), "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for part in [
        "content-type: text/event-stream",
        "access-control-allow-origin: http://page.example",
        "data: {\"tick\":1}\n\n",
        "data: {\"tick\":3}\n\n",
    ] {
        assert!(answer.contains(part), "{part}: {answer}");
    }
    for (origin, name, status, code) in [
        (good, "00000000000000ff", 404, "RK-GATE-165"),
        (good, "x", 404, "RK-GATE-165"),
        ("http://evil.example", &*here, 403, "RK-GATE-143"),
    ] {
        let answer = fetch(node.web, &get(origin, name), "").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{origin} {name}: {answer}");
        assert!(answer.contains(code), "{answer}");
    }
}

#[tokio::test]
async fn guests_get_tickets_and_play_with_them() {
    let game = FakeMatch::start(60);
    let node = node(Limits::default(), &game).await;
    let post = |origin: &str, kind: &str| {
        format!("POST /play/ticket HTTP/1.1\r\nhost: x\r\norigin: {origin}\r\ncontent-type: {kind}")
    };
    let (good, json) = ("http://page.example", "application/json");
    let answer = fetch(node.web, &post(good, json), r#"{"name":"Ada","game":"fake"}"#).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let ticket = answer.split(r#""ticket":""#).nth(1).unwrap().split('"').next().unwrap();
    for mut page in node.pages().await {
        page.say(&arrive(ticket.to_owned())).await;
        let player = page.until(|message| match message {
            ServerMessage::Welcome(welcome) => Some(welcome.player),
            _ => None,
        });
        assert_eq!(player.await, PlayerId(77));
    }
    for (origin, kind, body, status) in [
        (good, json, r#"{"name":""}"#.to_owned(), 400),
        (good, json, "{".to_owned(), 400),
        (good, json, format!(r#"{{"name":"{}"}}"#, "x".repeat(5_000)), 400),
        (good, "text/plain", r#"{"name":"Ada"}"#.to_owned(), 400),
        ("http://evil.example", json, r#"{"name":"Ada"}"#.to_owned(), 403),
    ] {
        let answer = fetch(node.web, &post(origin, kind), &body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{origin} {body}: {answer}");
    }
}

#[tokio::test]
async fn idle_connections_take_no_more_than_their_places() {
    let game = FakeMatch::start(60);
    let node = node(Limits::default(), &game).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(TcpStream::connect(node.web).await.unwrap());
    }
    // Of 64 places one address has a quarter: the others were closed at once.
    let mut closed = 0;
    let until = std::time::Instant::now() + PATIENCE;
    while closed < 84 && std::time::Instant::now() < until {
        let mut open = Vec::new();
        for mut stream in idle {
            let read = timeout(Duration::from_millis(5), stream.read(&mut [0; 1])).await;
            if matches!(read, Ok(Ok(0) | Err(_))) { closed += 1 } else { open.push(stream) }
        }
        idle = open;
    }
    assert!(closed >= 84 && idle.len() <= 16, "{closed} of 100 were closed");
    drop(idle);
    let mut answered = false;
    for _ in 0..200 {
        if let Ok(mut stream) = TcpStream::connect(node.web).await {
            let _ = stream.write_all(b"GET /favicon.ico HTTP/1.0\r\n\r\n").await;
            answered = matches!(stream.read(&mut [0; 16]).await, Ok(1..));
        }
        if answered {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(answered, "places are free again");
}

/// The bytes of a sample of `docs/PROTOCOL.md`; writes `new` if the file is missing and that was
/// asked for.
fn golden(name: &str, new: &[u8]) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = path.join("../../schema/golden/protocol").join(name);
    if !path.exists() && std::env::var("REKINDLE_GOLDEN").is_ok_and(|value| value == "new") {
        std::fs::write(&path, new).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[tokio::test]
async fn the_samples_of_the_document_are_what_a_node_says_and_understands() {
    let game = FakeMatch::start(60);
    let origins = "https://play.example".parse().unwrap();
    let node = node_with(Limits::default(), &game, origins).await;
    let quic = dial_h3(node.gateway.local_addr(), &node.hashes).await.unwrap();
    // What the node says first.
    let mut control = quic.accept_uni().await.unwrap();
    let mut first = vec![0; 256];
    let length = control.read(&mut first).await.unwrap().unwrap();
    assert_eq!(golden("h3-settings.bin", &first[..length]), &first[..length]);
    // What a client says, and the answer.
    let client = golden("h3-settings-client.bin", &[0, 4, 7, 0x33, 1, 0x80, 0xff, 0xd2, 0x77, 1]);
    let mut up = quic.open_uni().await.unwrap();
    up.write_all(&client).await.unwrap();
    let example = "192.0.2.7:4433".parse().unwrap();
    let asked =
        golden("h3-connect.bin", &request(example, "/rekindle/4", Some("https://play.example")));
    let (mut send, mut recv) = quic.open_bi().await.unwrap();
    send.write_all(&asked).await.unwrap();
    let answer = web_transport_proto::ConnectResponse::read(&mut recv).await.unwrap();
    assert_eq!(answer.status, 200);
    // The stream of the session begins with its prefix; the first message follows.
    let hello = golden("hello.bin", &[]);
    let stream = golden("h3-stream.bin", &[&[0x40, 0x41, 0x00][..], &hello].concat());
    let (mut send, _down) = quic.open_bi().await.unwrap();
    send.write_all(&stream).await.unwrap();
    let mut close = recv.read_to_end(4 << 10).await.unwrap();
    let words = b"RK-GATE-010";
    assert!(close.windows(words.len()).any(|window| window == words));
    // The document's words are shorter.
    close.clear();
    let sample = golden("h3-close.bin", &close_capsule(0x103, "the match has no room"));
    assert_eq!(sample, close_capsule(0x103, "the match has no room"));
    let datagram = golden("h3-datagram.bin", &[&[0][..], &golden("inputs.bin", &[])].concat());
    assert_eq!(datagram[1..], golden("inputs.bin", &[]));
    // Over WebSocket.
    let mut page = dial_ws(node.web, "/rekindle/4", (None, "rekindle.4")).await.unwrap();
    let message = golden("ws-stream.bin", &[&[0][..], &hello].concat());
    page.send(Message::Binary(message.into())).await.unwrap();
    let mut socket = Page::of_socket(page);
    let refused = |message| matches!(message, ServerMessage::Refused { .. }).then_some(());
    socket.until(refused).await;
    let datagram = golden("ws-datagram.bin", &[&[1][..], &golden("inputs.bin", &[])].concat());
    assert_eq!(datagram[1..], golden("inputs.bin", &[]));
}
