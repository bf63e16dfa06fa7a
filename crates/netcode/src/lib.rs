//! Netcode without I/O: snapshots, inputs, clocks, prediction. `docs/PROTOCOL.md` has the bytes.
//!
//! Called by the gateway (one [`SnapshotSender`] per session, one [`ViewHistory`] per match) and by
//! the client SDK ([`SnapshotReceiver`], [`InputSender`], [`ClockSync`], [`Interpolator`],
//! [`Predictor`]). Calls nothing but `rekindle-schema`. Knows no sockets, no runtime and no clock:
//! time comes in as an argument.
//!
//! ```text
//! server:  push view -> ViewHistory;  per session: acknowledge(packet) ... encode(header, view) -> datagram
//! client:  receive(datagram) -> view; acknowledgement() -> InputSender::packet -> datagram
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
mod receiver;
mod rewind;
mod sender;
mod snapshot;

pub use body::MAX_ENTITIES;
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
