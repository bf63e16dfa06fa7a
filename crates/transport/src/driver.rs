//! A node's side of QUIC: all connections of a port, driven by one loop, or by a few.
//!
//! quinn gives each connection a task, a timer and two channels, and that costs as much as QUIC
//! itself when each connection has one small packet a tick in either direction. Here a loop owns
//! a socket. It takes a batch of packets, hands them to their connections, runs the timers that
//! are due, asks all connections that have something to say for their packets, and sends those in
//! a batch. What a connection's users do (queue a datagram, write to the stream) notes the
//! connection in the loop's agenda and wakes the loop once, however many connections do so.
//!
//! | module | answers |
//! |---|---|
//! | `core` | what happens: packets, time and connections in, packets out. No socket, no clock |
//! | `conn` | one connection, shared by the core and its users |
//! | `handle` | what a user of a connection holds, and the futures that wait for it |
//! | `agenda` | which connections have something to do; wakes the loop |
//! | `timers` | when connections want to be called |
//! | `outbox` | the packets of a batch |
//! | `siblings` | the other loops of the port, and which of them has a connection |
//! | `run` | the loop: the socket, the clock and the core |
//!
//! Locks are taken in this order: core, connection, agenda. A user of a connection never takes the
//! core's.

mod agenda;
mod conn;
mod core;
mod handle;
mod outbox;
mod run;
mod siblings;
mod timers;

pub(crate) use conn::DatagramSink;
pub(crate) use core::{Knock, Port, make};
pub(crate) use handle::{Driven, ReadHalf, SinkGuard, WriteHalf};
pub(crate) use outbox::{Outbox, Packet};
pub(crate) use siblings::introduce;
