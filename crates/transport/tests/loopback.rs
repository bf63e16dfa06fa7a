//! A node's endpoint and a client's over loopback: messages, datagrams, trust, and how a connection
//! ends.

use std::time::Duration;

use aws_lc_rs::{hkdf, hmac};
use bytes::Bytes;
use rekindle_schema::wire::{
    ClientMessage, PROTOCOL_4, RefuseCode, ServerMessage, StreamError, encode_client, encode_server,
};
use rekindle_transport::{
    AddressGuard, ClientEndpoint, ClientSetup, ClosedBy, Connection, MessageReader, MessageWriter,
    SERVER_NAME, ServerEndpoint, ServerSetup, SocketSetup, Trust,
};
use rustls::pki_types::PrivatePkcs8KeyDer;

const PATIENCE: Duration = Duration::from_secs(5);

/// A node's endpoint, and its certificate.
fn node() -> (ServerEndpoint, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let der = certificate.to_vec();
    let setup = ServerSetup {
        certificate,
        private_key: PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into(),
        reset_key: hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]),
        retry_key: hkdf::Salt::new(hkdf::HKDF_SHA256, b"retry").extract(&[1; 32]),
        connection_id_key: 1,
        seed: None,
        idle_timeout: PATIENCE,
        max_incoming: 16,
        datagram_send_buffer: 4 << 10,
    };
    let socket = SocketSetup { buffer: 64 << 10, gather: Duration::from_millis(1) };
    (ServerEndpoint::bind(([127, 0, 0, 1], 0).into(), socket, setup).unwrap(), der)
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
    _endpoints: (ClientEndpoint, ServerEndpoint),
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
        _endpoints: (from, endpoint),
    }
}

#[tokio::test]
async fn messages_and_datagrams_arrive_and_the_end_says_why() {
    let mut pair = pair().await;
    assert_eq!((pair.client.protocol(), pair.node.protocol()), (PROTOCOL_4, PROTOCOL_4));
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
        (Trust::InsecureAnyServer, true),
    ] {
        let connecting = from.connect(&ClientSetup::new(&trust).unwrap(), addr).unwrap();
        assert_eq!(connecting.await.is_ok(), trusted, "{trust:?}");
    }
}
