//! Threads that a node lends to its matches: one [`Pool`] for all of them.
//!
//! The simulation has no threads of its own; it asks for some through [`Workers`], for queries that
//! a game declares parallel (`Query::par_for_each`, `Query::par_map`) and for systems that run side
//! by side. They are kept: no thread is started in a tick. What a world computes does not depend on
//! how many there are.
//!
//! Called by the node (`match_threads`), and by tests and benchmarks of games.

use std::io;
use std::sync::Arc;

use rayon_core::{ThreadPool, ThreadPoolBuilder};
use rekindle_sim::Workers;

/// Pages of 64 slots that a thread takes at a time: some microseconds of a cheap function, so that
/// taking them costs little, and a world of 10,000 entities still has work for twenty threads.
const GRAIN: usize = 8;

/// Kept threads. The thread that makes a step works with them, so a pool of `n` has `n - 1`.
pub struct Pool {
    threads: ThreadPool,
    /// Pages of 64 slots that a thread takes at a time.
    grain: usize,
}

/// What a node lends to its matches if `threads` work on one match at a time: `None` for 1, which
/// is no help. An error is the system's: it starts no more threads.
pub fn lend(threads: usize) -> io::Result<Option<Arc<dyn Workers>>> {
    if threads <= 1 {
        return Ok(None);
    }
    let pool: Arc<dyn Workers> = Arc::new(Pool::new(threads)?);
    Ok(Some(pool))
}

impl Pool {
    /// A pool with which `threads` threads work, at least 2: the one that makes a step, and those
    /// that this starts.
    pub fn new(threads: usize) -> io::Result<Self> {
        let started = ThreadPoolBuilder::new()
            .num_threads(threads.saturating_sub(1).max(1))
            .thread_name(|index| format!("match-worker-{index}"))
            .build()
            .map_err(io::Error::other)?;
        Ok(Self { threads: started, grain: GRAIN })
    }

    /// The same, with another number of pages that a thread takes at a time. For tests, whose
    /// worlds are small.
    #[must_use]
    pub fn with_grain(self, pages: usize) -> Self {
        Self { grain: pages, ..self }
    }
}

impl Workers for Pool {
    fn everywhere(&self, work: &(dyn Fn() + Sync)) {
        self.threads.in_place_scope(|scope| {
            for _ in 0..self.threads.current_num_threads() {
                scope.spawn(|_| work());
            }
            work();
        });
    }

    fn grain(&self) -> usize {
        self.grain
    }
}
