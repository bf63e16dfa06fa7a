//! What tests are made with: a virtual network and clock, a store that fails, judges that look at
//! what is left, hostile games, bad links.
//!
//! * One seed decides a whole simulation: [`faults`] says what goes wrong and when, [`stage`] does
//!   it to hosts and links, [`disk`] to the store; [`quic`] carries QUIC over the virtual network,
//!   [`seed`] has the dice, [`trace`] what happened.
//! * Clients write down [`evidence`]; when all is over, [`history`] reads the journal past all
//!   trimming and computes the match again from its first tick, and [`oracle`] holds one against
//!   the other.
//! * [`hazard`] is a game that misbehaves on request, [`udp_proxy`] a bad link between real
//!   sockets.
//!
//! The simulation of whole nodes is in `tests/simulation`: how its node starts and ends, what its
//! players do, how a seed is run and judged. A new kind of fault is a variant of [`faults::Fault`],
//! drawn in `Fault::draw` and carried out by the stage or the disk; a new promise is a function in
//! [`oracle`], called by `run.rs`, with a doctored history in `tests/oracles.rs` that it must
//! object to.

pub mod disk;
pub mod evidence;
pub mod faults;
pub mod hazard;
pub mod history;
pub mod oracle;
pub mod quic;
pub mod seed;
pub mod stage;
pub mod trace;
pub mod udp_proxy;
