//! Live pictures in the terminal, for `watch` and `demo`.
//!
//! [`picture`] turns a networked view into points (pure); [`draw`] lays pictures and a timeline out
//! on a ratatui frame; [`terminal`] owns the terminal and gives it back whatever happens.

pub mod draw;
pub mod picture;
pub mod terminal;
