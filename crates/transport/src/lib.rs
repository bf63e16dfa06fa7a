//! Carriers: how the bytes of the client protocol travel between a client and a node.
//!
//! A carrier gives both sides a [`Connection`]: one framed stream of messages
//! ([`MessageReader`], [`MessageWriter`]) and datagrams that may be lost. The edge
//! (`rekindle-gateway`) takes connections from a [`ServerEndpoint`], the client SDK
//! (`rekindle-client`) makes them with a [`ClientEndpoint`]. What the messages mean is none of this
//! crate's business: it knows their encoding from `rekindle-schema`, and neither tickets, nor
//! sessions, nor matches.
//!
//! | module | answers |
//! |---|---|
//! | [`Connection`] (`connection`) | what both sides can do with a connection, and how it ended |
//! | [`MessageReader`], [`MessageWriter`] (`stream`) | how messages are cut from and put on the stream |
//! | [`ServerEndpoint`], [`Incoming`] (`server`) | how a node takes connections |
//! | [`ClientEndpoint`], [`Connecting`] (`client`) | how a client makes one |
//! | [`quic`] | the parameters of QUIC and TLS on either side, connection ids |
//! | `driver` | a node's QUIC: all connections of a port in one loop, on quinn-proto |
//! | `webtransport` | browsers on that port: HTTP/3 on top of a connection of the loop |
//! | [`websocket`] | browsers without WebTransport: messages over TCP |
//! | [`Origins`] (`origin`) | which pages may connect |
//! | `socket` | the UDP socket under a node: large buffers, batches |
//! | `unproven` | how much may be sent to an address that has not proved itself |
//!
//! # Three carriers
//!
//! A client comes by QUIC (`driver` on the node's side, quinn on its own), a browser by
//! WebTransport or WebSocket. Nothing outside of this crate names them, but for what makes a
//! WebSocket ([`websocket::accept`]). Another one goes beside them: its handshake, and a variant in
//! the private fields of [`Connection`], [`MessageReader`] and [`MessageWriter`]. Their methods are
//! what a carrier must give, and are all that the edge uses.

mod client;
mod connection;
mod driver;
mod error;
mod origin;
pub mod quic;
mod server;
mod socket;
mod stream;
mod unproven;
pub mod websocket;
mod webtransport;

/// The path at which browsers connect, over WebTransport and WebSocket: its number is the version
/// of the client protocol.
pub const WEB_PATH: &str = "/rekindle/4";

pub use client::{ClientEndpoint, ClientSetup, ConnectError, Connecting};
pub use connection::{Closed, ClosedBy, Connection, DatagramDelivery, NotSent, PathState};
pub use error::SetupError;
pub use origin::{BadOrigin, Origins};
pub use quic::certificates::{Certificates, identity_from_pem, web_tls};
pub use quic::client::{SERVER_NAME, Trust};
pub use quic::server::ServerSetup;
pub use server::{Aftermath, Handshake, HandshakeError, Incoming, ServerEndpoint, SocketSetup};
pub use stream::{MessageReader, MessageWriter, WriteError};
pub use unproven::AddressGuard;
