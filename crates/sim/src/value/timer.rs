//! Timers of game code.

use rekindle_schema::Tick;

use crate::Value;

/// When something is due: once, or again and again. Make it a field of a component or resource: it
/// is part of the state, so it goes on where it stood when the match goes on elsewhere.
///
/// It holds the tick in which it is due, so it is written when it is set and when it fires, and not
/// in the ticks between.
///
/// ```
/// use rekindle_sim::{Component, IntoSystems as _, Query, Time, Timer};
///
/// #[derive(Clone, Component)]
/// #[component(id = "spring")]
/// struct Spring {
///     refill: Timer,
///     water: u32,
/// }
///
/// fn refill(time: Time, mut springs: Query<&mut Spring>) {
///     for mut spring in &mut springs {
///         if spring.refill.is_due(time.tick) { // looks; the spring stays unchanged
///             spring.water += spring.refill.fire(time.tick);
///         }
///     }
/// }
/// let system = refill.priority(1);
///
/// # use rekindle_sim::Tick;
/// let mut timer = Timer::every(Tick(10), 30); // due in tick 40, 70, 100, …
/// assert_eq!(timer.remaining(Tick(25)), Some(15));
/// assert_eq!((timer.fire(Tick(39)), timer.fire(Tick(40)), timer.fire(Tick(40))), (0, 1, 0));
/// assert_eq!(timer.fire(Tick(100)), 2); // nobody looked in tick 70
/// let mut fuse = Timer::after(Tick(10), 5);
/// assert_eq!((fuse.fire(Tick(15)), fuse.fire(Tick(20))), (1, 0));
/// assert!(!fuse.is_running() && Timer::default().remaining(Tick(0)).is_none());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Value)]
pub struct Timer {
    /// The tick in which it is due; the greatest number if it does not run.
    #[value(default = IDLE)]
    due: u64,
    /// Ticks from one time to the next; 0 if it is due once.
    every: u64,
}

const IDLE: u64 = u64::MAX;

/// A timer that does not run.
impl Default for Timer {
    fn default() -> Self {
        Self { due: IDLE, every: 0 }
    }
}

impl Timer {
    /// Due once, `ticks` after `now`.
    pub fn after(now: Tick, ticks: u64) -> Self {
        Self { due: now.0.saturating_add(ticks), every: 0 }
    }

    /// Due every `ticks` ticks, for the first time `ticks` after `now`; 0 counts as 1.
    pub fn every(now: Tick, ticks: u64) -> Self {
        let every = ticks.max(1);
        Self { due: now.0.saturating_add(every), every }
    }

    /// Stops it.
    pub fn stop(&mut self) {
        *self = Self::default();
    }

    /// Whether it will be due.
    pub fn is_running(&self) -> bool {
        self.due != IDLE
    }

    /// Whether it is due.
    pub fn is_due(&self, now: Tick) -> bool {
        self.is_running() && now.0 >= self.due
    }

    /// Ticks until it is due, 0 if it is; `None` if it does not run.
    pub fn remaining(&self, now: Tick) -> Option<u64> {
        self.is_running().then(|| self.due.saturating_sub(now.0))
    }

    /// How often it has been due since it fired last, and sets it for the next time. One that is
    /// due once stops.
    pub fn fire(&mut self, now: Tick) -> u32 {
        if !self.is_due(now) {
            return 0;
        }
        if self.every == 0 {
            self.stop();
            return 1;
        }
        let times = (now.0 - self.due) / self.every + 1;
        self.due = self.due.saturating_add(times.saturating_mul(self.every));
        u32::try_from(times).unwrap_or(u32::MAX)
    }
}
