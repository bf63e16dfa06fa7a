//! Threads that tick matches, the thread that watches them, and what is done when they have too
//! much to do.

pub(crate) mod overload;
pub(crate) mod watchdog;
pub(crate) mod wheel;
