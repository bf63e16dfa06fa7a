//! Every byte of Rekindle that outlives a process or crosses one.
//!
//! * [`ids`]: the identifiers that everything else speaks of.
//! * [`codec`]: the one place that names the serialisation library; every encoded value carries a
//!   two-byte format tag.
//! * [`record`] and [`batch`]: the journal, as frames packed into batches of a node's log.
//! * [`checkpoint`]: what a stored checkpoint says of itself; [`delta`]: what one with a base
//!   stores.
//! * [`archive`]: what the archive says of its chunks; pins.
//! * [`lease`]: rows that decide who runs what. [`condition`]: where a match stands, in one word.
//! * [`job`]: work that a store remembers. [`audit`]: what operators did.
//! * [`net`]: descriptors of networked fields and the quantised view of a world that snapshots are
//!   made from.
//! * [`wire`]: the client protocol. [`member`]: what a node says of itself; [`peer`]: what nodes
//!   ask of each other; [`hello`]: their first words on a link.
//! * [`registry`]: what belongs to the cluster and to no match. [`wish`]: what operators want of
//!   nodes.
//! * [`bugreport`]: a match in one file.
//! * [`mix`]: random numbers from a seed. [`digest`]: short sums by which two builds are compared.
//!
//! This crate knows no runtime, no socket and no file. It never decides anything: it says what
//! bytes mean and refuses those that mean nothing.

pub mod archive;
pub mod audit;
pub mod batch;
pub mod browsers;
pub mod bugreport;
pub mod checkpoint;
pub mod codec;
pub mod condition;
pub mod delta;
pub mod digest;
pub mod hello;
pub mod ids;
pub mod job;
pub mod keyring;
pub mod lease;
pub mod member;
pub mod mix;
pub mod net;
pub mod peer;
pub mod posting;
pub mod record;
pub mod registry;
pub mod standby;
pub mod wire;
pub mod wish;

pub use ids::{
    ActionId, BatchNo, BuildId, Epoch, Incarnation, JobId, MatchId, PlayerId, Seq, SessionId,
    StateHash, Tick,
};
