//! Load and evidence: bots on the client SDK, open loop, and a flood of garbage.
//!
//! `rekindle bots`, the demo and the tests call [`Swarm::start`]. Each bot plays over real QUIC
//! with the brain it is given, at the tick rate, whether or not it was answered; latency counts
//! from when an input should have been sent. What the bots saw on the wire is the [`Evidence`]: it
//! knows nothing of the server but what the server told its clients. [`flood`] is the opposite of a
//! bot.

mod bot;
mod evidence;
pub mod flood;
pub mod floor;
mod swarm;

pub use evidence::{
    AnsweredCommand, BotLog, DurableInput, Evidence, Fact, Micros, Percentiles, Summary, Tally,
};
pub use rekindle_client::{Timing, Trust};
pub use swarm::{BotProgress, BotSpec, Brain, Move, NextMatch, Progress, Swarm, SwarmConfig};
