//! `GET /v1/matches/ID/profile`: what the ticks of a match take, and what of them. Times are in
//! microseconds, shares are parts of the time of all measured ticks.

use serde::{Deserialize, Serialize};

/// For how many seconds a match is profiled at most: an answer that takes longer counts as none.
pub const MOST_SECONDS: u64 = 20;
/// For how many seconds it is, if nobody says.
pub const SECONDS: u64 = 5;

/// What is asked for, behind the `?`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileMatch {
    /// For how many seconds, 1 to [`MOST_SECONDS`].
    pub seconds: Option<u64>,
}

/// What many runs of the same took, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TimesView {
    /// How many runs there were.
    pub runs: usize,
    /// Half of them took at most so long.
    pub p50_us: f64,
    /// Of a hundred, 99 took at most so long.
    pub p99_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProfileView {
    /// The match: 16 hexadecimal digits.
    pub id: String,
    /// Its game type.
    pub game: String,
    /// Ticks per second.
    pub tick_rate: u16,
    /// For how many seconds it was measured.
    pub seconds: u64,
    /// Whole ticks. Their time is that of the thread which makes them, waiting for a processor
    /// included.
    pub tick: TimesView,
    /// How much of one core the ticks took, 0 to 1.
    pub load: f64,
    /// In the order in which a tick makes them.
    pub stages: Vec<StageView>,
}

/// What a stage takes, in the ticks in which anything of it ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageView {
    /// `Update`, or what is around the stages.
    pub name: String,
    /// Its part of the time of all ticks, 0 to 1.
    pub share: f64,
    /// By tick.
    pub times: TimesView,
    /// What it is made of, in order.
    pub parts: Vec<PartView>,
}

/// What a system takes, or something that is done around systems, in the ticks in which it ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartView {
    /// Its name.
    pub name: String,
    /// It is a system of the game.
    pub system: bool,
    /// Its part of the time of all ticks, 0 to 1.
    pub share: f64,
    /// By tick.
    pub times: TimesView,
    /// The longest that a run should take, if the game says so.
    pub budget_us: Option<f64>,
    /// How many runs took longer.
    pub over_budget: usize,
}
