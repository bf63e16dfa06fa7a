//! Virtual network and clock, faulty store, oracles and history checker.

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
