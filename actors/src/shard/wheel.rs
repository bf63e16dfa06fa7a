//! Threads that tick matches, and the wheel that wakes them.
//!
//! A shard is one thread with a `current_thread` runtime, on which its matches' actors live, and
//! one [`Wheel`]. A match asks the wheel for its next tick when it has handled the one before, so
//! it never has more than one pending, however far behind it is. Without threads (simulation) the
//! wheel is a task on the runtime that started the host.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use ractor::ActorRef;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use crate::error::HostError;
use crate::messages::{MatchMsg, Wake};

struct Due {
    actor: ActorRef<MatchMsg>,
    generation: u64,
}

#[derive(Default)]
struct Slots {
    due: BTreeMap<(Instant, u64), Due>,
    sleeping_until: Option<Instant>,
}

/// Wakes matches at absolute deadlines.
#[derive(Default)]
pub(crate) struct Wheel {
    slots: Mutex<Slots>,
    order: AtomicU64,
    earlier: Notify,
}

impl Wheel {
    /// Wakes `actor` at `wake.deadline`, or at once if that has passed.
    pub(crate) fn schedule(&self, wake: Wake, actor: ActorRef<MatchMsg>) {
        let order = self.order.fetch_add(1, Ordering::Relaxed);
        let mut slots = self.slots.lock();
        slots.due.insert((wake.deadline, order), Due { actor, generation: wake.generation });
        let oversleeps = slots.sleeping_until.is_none_or(|until| wake.deadline < until);
        drop(slots);
        if oversleeps {
            self.earlier.notify_one();
        }
    }

    async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        loop {
            let next = self.turn(Instant::now());
            let sleep = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.earlier.notified() => {}
                () = sleep => {}
            }
        }
    }

    /// Wakes all that is due and returns when the next is.
    fn turn(&self, now: Instant) -> Option<Instant> {
        let due = {
            let mut slots = self.slots.lock();
            let later = slots.due.split_off(&(now, u64::MAX));
            let due = std::mem::replace(&mut slots.due, later);
            slots.sleeping_until = slots.due.keys().next().map(|&(at, _)| at);
            due
        };
        for ((deadline, _), Due { actor, generation }) in due {
            // A match that has stopped meanwhile needs no tick.
            let _ = actor.cast(MatchMsg::Tick(Wake { deadline, generation }));
        }
        self.slots.lock().due.keys().next().map(|&(at, _)| at)
    }
}

/// One thread of matches, or its stand-in on the host's own runtime.
pub(crate) struct Shard {
    pub(crate) runtime: Handle,
    pub(crate) wheel: Arc<Wheel>,
    thread: Option<JoinHandle<()>>,
}

impl Shard {
    /// A stand-in on `runtime`.
    pub(crate) fn inline(runtime: Handle, stop: watch::Receiver<bool>) -> Self {
        let wheel = Arc::new(Wheel::default());
        runtime.spawn(Arc::clone(&wheel).run(stop));
        Self { runtime, wheel, thread: None }
    }

    /// A thread of its own.
    pub(crate) fn thread(index: usize, stop: watch::Receiver<bool>) -> Result<Self, HostError> {
        let fail = |cause: std::io::Error| HostError::Spawn {
            what: "shard thread",
            cause: cause.to_string(),
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(fail)?;
        let handle = runtime.handle().clone();
        let wheel = Arc::new(Wheel::default());
        let turning = Arc::clone(&wheel);
        let body = move || runtime.block_on(turning.run(stop));
        let thread =
            std::thread::Builder::new().name(format!("shard-{index}")).spawn(body).map_err(fail)?;
        Ok(Self { runtime: handle, wheel, thread: Some(thread) })
    }

    /// Whether the shard is a thread of its own.
    pub(crate) fn is_thread(&self) -> bool {
        self.thread.is_some()
    }
}
