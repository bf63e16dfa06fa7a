//! Threads that tick matches, and the thread that watches them.

pub(crate) mod watchdog;
pub(crate) mod wheel;
