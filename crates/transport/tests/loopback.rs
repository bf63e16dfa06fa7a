//! A node's endpoint and a client's over loopback: messages, datagrams, trust, and how a connection
//! ends.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{hkdf, hmac};
use bytes::Bytes;
use rekindle_schema::wire::{
    ClientMessage, PROTOCOL_6, RefuseCode, ServerMessage, StreamError, encode_client, encode_server,
};
use rekindle_transport::{
    AddressGuard, Certificates, ClientEndpoint, ClientSetup, ClosedBy, Connection, MessageReader,
    MessageWriter, SERVER_NAME, ServerEndpoint, ServerSetup, SocketSetup, Trust,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(5);

/// A node's endpoint, and its certificate.
fn node() -> (ServerEndpoint, Vec<u8>) {
    node_with(1)
}

/// The same, with so many loops.
fn node_with(loops: usize) -> (ServerEndpoint, Vec<u8>) {
    let (setup, der) = setup();
    let socket = SocketSetup { buffer: 64 << 10, gather: Duration::from_millis(1), loops };
    (ServerEndpoint::bind(([127, 0, 0, 1], 0).into(), socket, setup).unwrap(), der)
}

fn setup() -> (ServerSetup, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let der = certificate.to_vec();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let setup = ServerSetup {
        certificates: Certificates::new(certificate, key.into()).unwrap(),
        origins: Arc::default(),
        reset_key: hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]),
        retry_key: hkdf::Salt::new(hkdf::HKDF_SHA256, b"retry").extract(&[1; 32]),
        connection_id_key: 1,
        seed: None,
        idle_timeout: PATIENCE,
        max_incoming: 16,
        datagram_send_buffer: 4 << 10,
    };
    (setup, der)
}

fn client() -> ClientEndpoint {
    ClientEndpoint::bind(([127, 0, 0, 1], 0).into()).unwrap()
}

/// A connection between a client and a node, seen from both sides, and both ends of its stream.
struct Pair {
    client: Connection,
    client_stream: (MessageReader<ServerMessage>, MessageWriter),
    node: Connection,
    node_stream: (MessageReader<ClientMessage>, MessageWriter),
    _address: AddressGuard,
    endpoints: (ClientEndpoint, ServerEndpoint),
}

/// Of which the client's first message was [`ClientMessage::Bye`].
async fn pair() -> Pair {
    let (endpoint, certificate) = node();
    let (from, setup) = (client(), ClientSetup::new(&Trust::Certificate(certificate)).unwrap());
    let addr = endpoint.local_addr();
    let dialled = tokio::spawn({
        let from = from.clone();
        async move { from.connect(&setup, addr).unwrap().await.unwrap() }
    });
    let incoming = endpoint.accept().await.unwrap();
    let Ok((node, address)) = incoming.accept().complete(PATIENCE).await else {
        panic!("the handshake failed");
    };
    let client = dialled.await.unwrap();
    let (reader, mut writer) = client.open_stream().await.unwrap();
    writer.write(encode_client(&ClientMessage::Bye)).await.unwrap();
    let mut node_stream = node.accept_stream(1 << 10).await.unwrap();
    assert_eq!(node_stream.0.next().await, Ok(Some(ClientMessage::Bye)));
    Pair {
        client,
        client_stream: (reader, writer),
        node,
        node_stream,
        _address: address,
        endpoints: (from, endpoint),
    }
}

#[tokio::test]
async fn messages_and_datagrams_arrive_and_the_end_says_why() {
    let mut pair = pair().await;
    assert_eq!((pair.client.protocol(), pair.node.protocol()), (PROTOCOL_6, PROTOCOL_6));
    let told = |reason: usize| ServerMessage::Ended { reason: "x".repeat(reason) };
    let lengths = [0, 1, 4_000, 40_000];
    for length in lengths {
        let (reader, writer) = (&mut pair.client_stream.0, &mut pair.node_stream.1);
        let (written, read) =
            tokio::join!(writer.write(encode_server(&told(length))), reader.next());
        assert!(written.is_ok() && writer.is_idle());
        assert_eq!(read, Ok(Some(told(length))), "{length} bytes");
    }
    pair.client.send_datagram(Bytes::from_static(b"input")).unwrap();
    assert_eq!(pair.node.read_datagram().await.unwrap(), "input");
    assert!(pair.node.send_datagram(Bytes::from(vec![0; 60_000])).is_err(), "it is too long");
    assert!(pair.client.packets_received() > 0 && !pair.client.is_closed());
    pair.node.close(RefuseCode::Full.close_code(), b"no room");
    assert_eq!(pair.client_stream.0.next().await, Ok(None));
    let by = pair.client.closed().await.by();
    let code = u64::from(RefuseCode::Full.close_code());
    assert_eq!(by, ClosedBy::Peer { code, words: "no room".to_owned() });
    assert_eq!(pair.node.closed().await.by(), ClosedBy::Other);
    assert!(pair.client_stream.1.write(encode_client(&ClientMessage::Bye)).await.is_err());
}

#[tokio::test]
async fn a_message_above_the_limit_is_not_read() {
    let mut pair = pair().await;
    pair.node_stream.0.set_limit(8);
    let command = ClientMessage::Command { seq: 1, payload: Bytes::from(vec![0; 100]) };
    pair.client_stream.1.write(encode_client(&command)).await.unwrap();
    let read = pair.node_stream.0.next().await;
    assert!(matches!(read, Err(StreamError::TooLong { limit: 8, .. })), "{read:?}");
}

#[tokio::test]
#[should_panic(expected = "a message is queued behind one that is half written")]
async fn a_half_written_message_is_not_cut_by_the_next() {
    let mut pair = pair().await;
    pair.client_stream.1.queue(encode_client(&ClientMessage::Bye));
    pair.client_stream.1.queue(encode_client(&ClientMessage::Bye));
}

#[tokio::test]
async fn a_client_talks_to_the_node_that_it_trusts_and_to_no_other() {
    let (endpoint, certificate) = node();
    let addr = endpoint.local_addr();
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(async move {
                if let Ok((connection, _address)) = incoming.accept().complete(PATIENCE).await {
                    connection.closed().await;
                }
            });
        }
    });
    let from = client();
    for (trust, trusted) in [
        (Trust::Certificate(certificate.clone()), true),
        (Trust::Certificate(node().1), false),
        (Trust::Fingerprint([7; 32]), false),
        (Trust::certificates([node().1, certificate.clone()]), true),
        (Trust::AnyOf(vec![Trust::Fingerprint([7; 32]), Trust::Certificate(node().1)]), false),
        (Trust::AnyOf(Vec::new()), false),
        (Trust::InsecureAnyServer, true),
    ] {
        let connecting = from.connect(&ClientSetup::new(&trust).unwrap(), addr).unwrap();
        assert_eq!(connecting.await.is_ok(), trusted, "{trust:?}");
    }
}

#[tokio::test]
async fn datagrams_are_delivered_as_they_arrive_those_that_wait_first() {
    let pair = pair().await;
    pair.client.send_datagram(Bytes::from_static(b"early")).unwrap();
    // It is here before the one message of the stream that follows it.
    let mut writer = pair.client_stream.1;
    writer.write(encode_client(&ClientMessage::Bye)).await.unwrap();
    let mut reader = pair.node_stream.0;
    assert_eq!(reader.next().await, Ok(Some(ClientMessage::Bye)));
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let delivery = pair.node.deliver_datagrams(move |datagram| arrived.send(datagram).unwrap());
    assert_eq!(arrivals.recv().await.unwrap(), "early");
    pair.client.send_datagram(Bytes::from_static(b"late")).unwrap();
    assert_eq!(arrivals.recv().await.unwrap(), "late");
    drop(delivery);
    assert_eq!(arrivals.recv().await, None, "nobody is called any more");
    pair.client.send_datagram(Bytes::from_static(b"afterwards")).unwrap();
    assert_eq!(pair.node.read_datagram().await.unwrap(), "afterwards");
}

#[tokio::test]
async fn a_connection_closes_with_its_last_handle_and_the_port_is_idle_then() {
    let pair = pair().await;
    let endpoint = pair.endpoints.1.clone();
    let half = (pair.node.clone(), pair.node_stream.1);
    drop((pair.node, pair.node_stream.0));
    assert!(!pair.client.is_closed());
    drop(half);
    let by = timeout(PATIENCE, pair.client.closed()).await.unwrap().by();
    assert_eq!(by, ClosedBy::Peer { code: 0, words: String::new() });
    timeout(PATIENCE, endpoint.wait_idle()).await.unwrap();
}

#[tokio::test]
async fn a_port_that_closes_tells_all_clients_and_takes_no_more() {
    let mut pair = pair().await;
    let endpoint = pair.endpoints.1.clone();
    endpoint.close(RefuseCode::Draining.close_code(), b"the node goes down");
    let by = timeout(PATIENCE, pair.client.closed()).await.unwrap().by();
    let code = u64::from(RefuseCode::Draining.close_code());
    assert_eq!(by, ClosedBy::Peer { code, words: "the node goes down".to_owned() });
    assert!(endpoint.accept().await.is_none());
    assert_eq!(pair.node_stream.0.next().await, Ok(None));
    let setup = ClientSetup::new(&Trust::InsecureAnyServer).unwrap();
    let refused = client().connect(&setup, endpoint.local_addr()).unwrap();
    assert!(timeout(PATIENCE, refused).await.unwrap().is_err());
    timeout(PATIENCE, endpoint.wait_idle()).await.unwrap();
}

#[tokio::test]
async fn a_knock_is_refused_ignored_or_has_to_prove_its_address() {
    let (endpoint, certificate) = node();
    let (from, setup) = (client(), ClientSetup::new(&Trust::Certificate(certificate)).unwrap());
    let addr = endpoint.local_addr();
    let dial = || from.connect(&setup, addr).unwrap();
    let dialled = tokio::spawn(dial());
    drop(endpoint.accept().await.unwrap());
    assert!(timeout(PATIENCE, dialled).await.unwrap().unwrap().is_err(), "it is refused");
    let dialled = tokio::spawn(dial());
    let knock = endpoint.accept().await.unwrap();
    assert!(!knock.is_validated());
    // The client knocks again.
    knock.ignore();
    endpoint.accept().await.unwrap().retry();
    let knock = endpoint.accept().await.unwrap();
    assert!(knock.is_validated());
    let Ok((connection, _address)) = knock.accept().complete(PATIENCE).await else {
        panic!("the handshake failed");
    };
    let client = timeout(PATIENCE, dialled).await.unwrap().unwrap().unwrap();
    assert!(!client.is_closed() && !connection.is_closed());
}

/// A client that keeps its connection and changes its address.
fn moving_client(certificate: &[u8]) -> quinn::Endpoint {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.to_vec().into()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![rekindle_schema::wire::ALPN_4.to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    endpoint
}

async fn connect(
    client: &quinn::Endpoint,
    node: &ServerEndpoint,
) -> (quinn::Connection, (Connection, AddressGuard)) {
    let connecting = client.connect(node.local_addr(), SERVER_NAME).unwrap();
    let taken = async { node.accept().await.unwrap().accept().complete(PATIENCE).await };
    let (connected, taken) = tokio::join!(connecting, taken);
    (connected.unwrap(), taken.ok().unwrap())
}

#[tokio::test]
async fn a_client_keeps_its_connection_when_its_new_address_belongs_to_another_loop() {
    let (endpoint, certificate) = node_with(4);
    let client = moving_client(&certificate);
    let (connected, (node, _address)) = connect(&client, &endpoint).await;
    // Each new address is another loop's in three of four cases.
    for round in 0..24u8 {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.rebind(socket).unwrap();
        connected.send_datagram(Bytes::copy_from_slice(&[round])).unwrap();
        let came = timeout(PATIENCE, node.read_datagram()).await.expect("it is handed over");
        assert_eq!(came.unwrap(), [round][..]);
        node.send_datagram(Bytes::copy_from_slice(&[round])).unwrap();
        let back = timeout(PATIENCE, connected.read_datagram()).await.expect("it is answered");
        assert_eq!(back.unwrap(), [round][..]);
    }
}

#[tokio::test]
async fn clients_of_all_loops_are_taken_and_told_of_the_end() {
    let (endpoint, certificate) = node_with(4);
    let mut pairs = Vec::new();
    for _ in 0..24 {
        let client = moving_client(&certificate);
        let (connected, taken) = connect(&client, &endpoint).await;
        pairs.push((client, connected, taken));
    }
    endpoint.close(7, b"done");
    for (_, client, _) in &pairs {
        match timeout(PATIENCE, client.closed()).await.unwrap() {
            quinn::ConnectionError::ApplicationClosed(close) => {
                assert_eq!((close.error_code.into_inner(), &*close.reason), (7, &b"done"[..]));
            }
            other => panic!("{other}"),
        }
    }
    assert!(endpoint.accept().await.is_none(), "no more are taken");
    timeout(PATIENCE, endpoint.wait_idle()).await.expect("all have ended");
}

#[tokio::test]
async fn an_address_that_another_port_has_is_not_shared_with_it() {
    let (endpoint, _) = node_with(2);
    let taken = std::net::UdpSocket::bind(endpoint.local_addr());
    assert_eq!(taken.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    let setup = setup().0;
    let socket = SocketSetup { buffer: 64 << 10, gather: Duration::from_millis(1), loops: 2 };
    let second = ServerEndpoint::bind(endpoint.local_addr(), socket, setup);
    assert!(second.is_err(), "two nodes would each get a part of the clients");
}
