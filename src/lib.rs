//! node

pub mod config;
pub mod screen;
pub mod telemetry;
#[path = "demo/verdict.rs"]
pub mod verdict;
#[path = "cli/args.rs"]
pub mod args;
#[path = "cli/exit.rs"]
pub mod exit;
#[path = "node/card.rs"]
pub mod card;
