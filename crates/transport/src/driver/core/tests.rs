//! A port without a socket, and clients that talk to it without a network.

use std::time::Duration;

use aws_lc_rs::{hkdf, hmac};
use quinn_proto::{Connection, Event};
use rustls::pki_types::PrivatePkcs8KeyDer;

use super::super::outbox::MAX_WAITING;
use super::*;
use crate::quic::certificates::Certificates;
use crate::quic::client::{SERVER_NAME, Trust, config, config_of};
use crate::quic::server::{ServerSetup, configs};

const IDLE: Duration = Duration::from_secs(5);

fn port() -> Arc<Port> {
    let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let setup = ServerSetup {
        certificates: Certificates::new(made.cert.der().clone(), key.into()).unwrap(),
        origins: Arc::default(),
        reset_key: hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]),
        retry_key: hkdf::Salt::new(hkdf::HKDF_SHA256, b"retry").extract(&[1; 32]),
        connection_id_key: 1,
        seed: Some([7; 32]),
        idle_timeout: IDLE,
        max_incoming: 16,
        datagram_send_buffer: 4 << 10,
    };
    let browsers = rcgen::generate_simple_self_signed(["node".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(browsers.signing_key.serialize_der());
    setup.certificates.set_browsers(vec![browsers.cert.der().clone()], key.into()).unwrap();
    let (endpoint, server) = configs(setup, 0).unwrap();
    Port::new(Core::new(endpoint, server, (false, 1), Arc::default()))
}

/// A client without a socket.
struct Peer {
    endpoint: Endpoint,
    handle: ConnectionHandle,
    quic: Connection,
    node: SocketAddr,
}

impl Peer {
    fn new(now: Instant) -> Self {
        Self::with(now, config(&Trust::InsecureAnyServer).unwrap())
    }

    fn with(now: Instant, config: quinn_proto::ClientConfig) -> Self {
        let node = SocketAddr::from(([10, 0, 0, 1], 1));
        let mut endpoint = Endpoint::new(Arc::default(), None, false, None);
        let (handle, quic) = endpoint.connect(now, config, node, SERVER_NAME).unwrap();
        Self { endpoint, handle, quic, node }
    }

    /// Carries packets to and fro, in no time, until there are none.
    fn talk(&mut self, core: &mut Core, port: &Port, now: Instant) {
        let addr = SocketAddr::from(([10, 0, 0, 2], 2));
        loop {
            let (mut bytes, mut quiet) = (Vec::new(), true);
            while let Some(packet) = self.quic.poll_transmit(now, 1, &mut bytes) {
                let (len, stride) = (packet.size, packet.size);
                let meta = RecvMeta { addr, len, stride, ecn: None, dst_ip: None };
                core.receive(now, &meta, &bytes, port);
                bytes.clear();
                quiet = false;
            }
            while core.drive(now, port) {}
            for packet in core.outbox.waiting() {
                let packet = BytesMut::from(packet.bytes());
                let event = self.endpoint.handle(now, self.node, None, None, packet, &mut bytes);
                if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
                    self.quic.handle_event(event);
                }
                quiet = false;
            }
            core.outbox.sent(core.outbox.waiting().len());
            while let Some(event) = self.quic.poll_endpoint_events() {
                if let Some(answer) = self.endpoint.handle_event(self.handle, event) {
                    self.quic.handle_event(answer);
                }
            }
            if quiet {
                return;
            }
        }
    }
}

#[test]
fn a_connection_lives_on_packets_and_time_alone() {
    let (port, begin) = (port(), Instant::now());
    let mut guard = port.core.lock();
    let core = &mut *guard;
    let mut peer = Peer::new(begin);
    peer.talk(core, &port, begin);
    let incoming = core.incoming.pop_front().expect("it wants in");
    let conn = core.accept(incoming, begin, &port.agenda).expect("its packet is good");
    let driven = Driven::new(conn);
    driven.touch();
    peer.talk(core, &port, begin);
    assert!(std::iter::from_fn(|| peer.quic.poll()).any(|e| matches!(e, Event::Connected)));

    let (arrived, arrivals) = std::sync::mpsc::channel();
    let _sink = driven.set_sink(Box::new(move |datagram| arrived.send(datagram).unwrap()));
    peer.quic.datagrams().send(Bytes::from_static(b"input"), true).unwrap();
    peer.talk(core, &port, begin);
    assert_eq!(arrivals.try_recv().unwrap(), "input");
    assert!(driven.send_datagram(Bytes::from_static(b"snapshot")));
    peer.talk(core, &port, begin);
    assert_eq!(peer.quic.datagrams().recv().unwrap(), "snapshot");

    // The client falls silent: nothing but the clock ends the connection.
    let mut now = begin;
    while core.open > 0 {
        now = core.next_timeout().expect("it has an end");
        core.expire(now);
        while core.drive(now, &port) {}
        core.outbox.sent(core.outbox.waiting().len());
    }
    assert_eq!(driven.close_reason(), Some(ConnectionError::TimedOut));
    assert!((IDLE..2 * IDLE).contains(&(now - begin)), "{:?}", now - begin);
    assert_eq!(core.next_timeout(), None);
    assert!(!driven.send_datagram(Bytes::new()));
}

#[test]
fn a_flood_without_a_client_opens_nothing_and_its_answers_are_bounded() {
    let (port, now) = (port(), Instant::now());
    let mut core = port.core.lock();
    for count in 0..4 * MAX_WAITING {
        let [low, high, ..] = count.to_le_bytes();
        // A long header of a version that nobody speaks, from another address each.
        let mut packet = vec![0xaa; 1200];
        packet[..6].copy_from_slice(&[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8]);
        packet[14] = 8;
        let addr = SocketAddr::from(([10, 0, low, high], 9));
        let meta = RecvMeta { addr, len: 1200, stride: 1200, ecn: None, dst_ip: None };
        core.receive(now, &meta, &packet, &port);
        packet[0] = low;
        core.receive(now, &meta, &packet, &port);
    }
    assert!(!core.drive(now, &port), "no connection has anything to do");
    assert_eq!(core.outbox.waiting().len(), MAX_WAITING, "the rest of the answers is dropped");
    assert!(core.outbox.waiting().iter().all(|packet| packet.bytes().len() < 1200));
    assert_eq!((core.open, core.incoming.len(), core.next_timeout()), (0, 0, None));
}

/// Reads what has come on a stream.
fn read(peer: &mut Peer, id: quinn_proto::StreamId) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut stream = peer.quic.recv_stream(id);
    let Ok(mut chunks) = stream.read(true) else { return bytes };
    while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
        bytes.extend_from_slice(&chunk.bytes);
    }
    let _ = chunks.finalize();
    bytes
}

#[test]
fn a_browsers_session_lives_and_ends_on_packets_and_time_alone() {
    use quinn_proto::Dir;
    use web_transport_proto::{ConnectRequest, ConnectResponse, Settings};

    let (port, begin) = (port(), Instant::now());
    let mut guard = port.core.lock();
    let core = &mut *guard;
    let alpn = [crate::webtransport::ALPN];
    let mut browser = config_of(&Trust::InsecureAnyServer, &alpn).unwrap();
    browser.transport_config(Arc::default());
    let mut peer = Peer::with(begin, browser);
    peer.talk(core, &port, begin);
    let incoming = core.incoming.pop_front().expect("it wants in");
    let conn = core.accept(incoming, begin, &port.agenda).expect("its packet is good");
    let driven = Driven::new(conn);
    driven.touch();
    peer.talk(core, &port, begin);
    // Its stream comes first, then its request, and its settings last: each in pieces.
    let control = peer.quic.streams().open(Dir::Uni).unwrap();
    let request = peer.quic.streams().open(Dir::Bi).unwrap();
    let stream = peer.quic.streams().open(Dir::Bi).unwrap();
    let (mut settings, mut asked) = (Settings::default(), Vec::new());
    settings.enable_webtransport(1);
    let mut said = Vec::new();
    settings.encode(&mut said);
    let url = url::Url::parse("https://node/rekindle/4").unwrap();
    ConnectRequest::new(url).encode(&mut asked).unwrap();
    for (id, bytes) in [(stream, &b"\x40\x41\x00first"[..]), (request, &asked), (control, &said)] {
        assert_eq!(driven.session(), None, "not before all has come");
        for piece in bytes.chunks(1) {
            assert_eq!(peer.quic.send_stream(id).write(piece), Ok(1));
            peer.talk(core, &port, begin);
        }
    }
    assert_eq!(driven.session(), Some(request));
    let answer = read(&mut peer, request);
    assert_eq!(ConnectResponse::decode(&mut &answer[..]).unwrap().status, 200);

    // Quiet for long, but there: the node keeps it alive.
    let mut now = begin;
    while now - begin < 4 * IDLE {
        now = core.next_timeout().expect("it is kept alive").max(now);
        core.expire(now);
        peer.talk(core, &port, now);
        if let Some(due) = peer.quic.poll_timeout().filter(|due| *due <= now) {
            peer.quic.handle_timeout(due);
        }
    }
    assert_eq!(driven.close_reason(), None);

    // It is told why it ends, then the connection is closed whether or not it answers.
    driven.0.close(now, VarInt::from_u32(0x103), Bytes::from_static(b"full"));
    peer.talk(core, &port, now);
    let told = read(&mut peer, request);
    assert!(told.ends_with(b"\x68\x43\x08\x00\x00\x01\x03full"), "{told:x?}");
    assert!(!peer.quic.is_closed());
    while !peer.quic.is_closed() {
        now = core.next_timeout().expect("it has an end");
        core.expire(now);
        peer.talk(core, &port, now);
    }
    while core.open > 0 {
        now = core.next_timeout().expect("it has an end");
        core.expire(now);
        while core.drive(now, &port) {}
        core.outbox.sent(core.outbox.waiting().len());
    }
}
