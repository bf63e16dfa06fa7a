//! The systems, in the order in which they run.
//!
//! | stage | systems | do |
//! |---|---|---|
//! | First | [`course::advance`], [`course::begin_fight`], [`course::conclude`] | phases, the result |
//! | PreUpdate | [`control::steer`] | inputs become intents |
//! | Update | [`motion::run`], [`motion::drift`], [`shooting::fire`], [`rockets::fly`] | bodies move, weapons hit |
//! | PostUpdate | [`health::wound`], [`health::revive`], [`pickups::take`] | what follows from it |
//! | Last | `record_past`, [`course::show_clock`] | what later ticks and displays need |

#![expect(
    clippy::too_many_arguments,
    clippy::type_complexity,
    reason = "a system declares by its parameters what it touches"
)]

pub mod control;
pub mod course;
pub mod health;
pub mod motion;
pub mod pickups;
pub mod rockets;
pub mod shooting;
