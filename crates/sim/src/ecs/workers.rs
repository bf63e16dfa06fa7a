//! Threads that help with one query, and with systems side by side. The simulation has none of its
//! own: whoever runs a match lends it some, or none, and that changes nothing in what a step
//! computes.
//!
//! Installed by [`Simulation::set_workers`](crate::Simulation), used by
//! [`Query::par_for_each`](crate::Query::par_for_each) and its like, and for systems
//! [side by side](crate::IntoSystems::side_by_side).

/// Threads that work on the same thing at once.
pub trait Workers: Send + Sync {
    /// Calls `work` on this thread, and on others as they become free, and returns when all these
    /// calls have returned. A call returns at once when there is nothing left to do; it never
    /// panics.
    fn everywhere(&self, work: &(dyn Fn() + Sync));

    /// How many pages of 64 slots a thread takes at a time. A query with no more pages than that
    /// stays on the thread that makes the step: to wake others would take longer than the work.
    fn grain(&self) -> usize;

    /// Whether systems run side by side also if they do not say so, as far as they can: for tests,
    /// which show that this changes nothing in any game.
    #[doc(hidden)]
    fn all_side_by_side(&self) -> bool {
        false
    }
}
