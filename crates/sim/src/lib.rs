//! The deterministic world of a match.

pub mod simulation;

pub use simulation::{GameType, SessionState, SimError, Simulation, StepOutput};
