//! Netcode without I/O: snapshots, inputs, clocks, prediction. `docs/PROTOCOL.md` has the bytes.
//!
//! Called by the gateway (one [`SnapshotSender`] per session, one [`ViewHistory`] per match) and by
//! the client SDK ([`SnapshotReceiver`], [`InputSender`], [`ClockSync`], [`Interpolator`],
//! [`Predictor`]). Calls nothing but `rekindle-schema`. Knows no sockets, no runtime and no clock:
//! time comes in as an argument.
//!
//! ```text
//! server:  push view -> ViewHistory
//!          per session: acknowledge(packet) ... encode(header, view) -> datagram
//! client:  receive(datagram) -> view; acknowledgement() -> InputSender::packet -> datagram
//! ```
//!
//! One snapshot from a server to a client, and its acknowledgement back:
//!
//! ```
//! use std::sync::Arc;
//!
//! use rekindle_netcode::{
//!     InputPacket, InputSender, SnapshotHeader, SnapshotReceiver, SnapshotSender, ViewHistory,
//! };
//! use rekindle_schema::Tick;
//! use rekindle_schema::net::{FieldKind, NetComponent, NetEntity, NetField, NetSchema, NetView};
//!
//! let kind = FieldKind::Float { min: -100.0, max: 100.0, bits: 16 };
//! let field = NetField { name: "x".to_owned(), kind, rate: None };
//! let place = NetComponent { name: "place".to_owned(), fields: vec![field] };
//! let schema = Arc::new(NetSchema { components: vec![place], position: None });
//!
//! // The server publishes tick 7, with one entity at x = 12.5.
//! let view = Arc::new(NetView {
//!     tick: Tick(7),
//!     entities: vec![NetEntity { slot: 3, generation: 0, components: 1 }],
//!     values: vec![kind.quantise(12.5)],
//!     ..NetView::default()
//! });
//! let mut history = ViewHistory::new();
//! history.push(Arc::clone(&view));
//! let mut sender = SnapshotSender::new(Arc::clone(&schema));
//! let header = SnapshotHeader { tick: Tick(7), ..SnapshotHeader::default() };
//! let mut datagram = Vec::new();
//! let stats = sender.encode(&header, &view, &history, None, 1200, &mut datagram);
//! assert_eq!((stats.baseline, stats.sent), (None, 1)); // full: the client knows nothing
//!
//! // The client reads it, and says so in its next input packet.
//! let mut receiver = SnapshotReceiver::new(schema);
//! let received = receiver.receive(&datagram)?;
//! assert!((kind.dequantise(received.view.values[0]) - 12.5).abs() < 0.01);
//! let packet = InputSender::new(1).packet(receiver.acknowledgement(), 0, 1200);
//! let packet = InputPacket::decode(&packet, 64).unwrap();
//! sender.acknowledge(packet.ack_tick, packet.ack_bits);
//! assert_eq!(sender.baseline(), Some(Tick(7)));
//! # Ok::<(), rekindle_netcode::SnapshotError>(())
//! ```

mod bits;
mod bodies;
mod body;
mod clock;
mod deltas;
mod header;
mod history;
mod interest;
mod interpolate;
mod layout;
mod packet;
mod predict;
mod priority;
mod range;
mod receiver;
mod rewind;
mod sender;
mod sight;
mod slowdown;
mod snapshot;

pub use body::{Coding, MAX_ENTITIES};
pub use clock::ClockSync;
pub use header::{MAX_APPLIED, SnapshotHeader};
pub use history::{HISTORY, ViewHistory};
pub use interpolate::{Interpolator, Scene, sample};
pub use layout::{MAX_COLUMNS, MAX_COMPONENTS, SchemaError, check_schema};
pub use packet::{InputItem, InputPacket, InputSender, MAX_INPUTS, PacketError};
pub use predict::Predictor;
pub use receiver::{Received, SnapshotReceiver};
pub use rewind::{REWIND_MS, clamp_view, rewind_ticks};
pub use sender::{DEFAULT_TICK_RATE, SnapshotSender};
pub use snapshot::{EncodeStats, SnapshotError};
