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
//! | `socket` | the UDP socket under a node: large buffers, batches |
//! | `unproven` | how much may be sent to an address that has not proved itself |
//!
//! # Where a second carrier goes
//!
//! Today there is one carrier, QUIC, and nothing outside of this crate names it. Clients speak it
//! with quinn, nodes with a loop of their own on quinn-proto (`driver`). A second carrier
//! (WebTransport for browsers) needs:
//!
//! 1. a folder beside `quic/` with its parameters and its handshake; over the same UDP port it is
//!    chosen by ALPN (`h3`) where [`Handshake::complete`] has the finished handshake,
//! 2. a variant in the private fields of [`Connection`], [`MessageReader`] and [`MessageWriter`],
//!    beside quinn's types and the driver's. Their methods are what a carrier must give, and are
//!    all that the edge and the client use.

mod client;
mod connection;
mod driver;
mod error;
pub mod quic;
mod server;
mod socket;
mod stream;
mod unproven;

pub use client::{ClientEndpoint, ClientSetup, ConnectError, Connecting};
pub use connection::{Closed, ClosedBy, Connection, DatagramDelivery, NotSent};
pub use error::SetupError;
pub use quic::client::{SERVER_NAME, Trust};
pub use quic::server::ServerSetup;
pub use server::{Aftermath, Handshake, HandshakeError, Incoming, ServerEndpoint, SocketSetup};
pub use stream::{MessageReader, MessageWriter, WriteError};
pub use unproven::AddressGuard;
