//! Which connections have something to do. Shared by the loop, the users of connections, and the
//! other loops of the port.

use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use super::conn::Conn;
use super::siblings::Stray;

/// Most packets from other loops that wait. Beyond, they are lost, as a network loses packets.
const MAX_STRAYS: usize = 1_024;

/// Each connection is noted at most once, so it is no longer than there are connections.
#[derive(Default)]
pub(super) struct Agenda(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    due: Vec<Arc<Conn>>,
    /// Packets that came to other loops.
    strays: Vec<Stray>,
    /// Set while the loop rests.
    resting: Option<Waker>,
    /// The loop is over: nothing is noted any more.
    over: bool,
}

impl Agenda {
    /// Notes a connection, which is not noted yet, and wakes the loop if it rests.
    pub(super) fn note(&self, conn: &Arc<Conn>) {
        let mut inner = self.0.lock();
        if !inner.over {
            inner.due.push(Arc::clone(conn));
        }
        wake(inner.resting.take());
    }

    /// Hands over a packet that came to another loop, and wakes this one if it rests.
    pub(super) fn hand_over(&self, stray: Stray) {
        let mut inner = self.0.lock();
        if !inner.over && inner.strays.len() < MAX_STRAYS {
            inner.strays.push(stray);
        }
        wake(inner.resting.take());
    }

    /// Wakes the loop if it rests.
    pub(super) fn wake(&self) {
        wake(self.0.lock().resting.take());
    }

    /// Moves what is noted behind what `due` and `strays` hold already.
    pub(super) fn take(&self, due: &mut Vec<Arc<Conn>>, strays: &mut Vec<Stray>) {
        let mut inner = self.0.lock();
        due.append(&mut inner.due);
        strays.append(&mut inner.strays);
    }

    /// The loop rests until `waker` is called. False if there is something to do: it must not.
    pub(super) fn rest(&self, waker: &Waker) -> bool {
        let mut inner = self.0.lock();
        if !inner.due.is_empty() || !inner.strays.is_empty() {
            return false;
        }
        match &mut inner.resting {
            Some(present) => present.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        true
    }

    /// The loop is over.
    pub(super) fn end(&self) {
        let mut inner = self.0.lock();
        inner.over = true;
        inner.strays.clear();
        // Outside of the lock: a connection that goes with it may note itself.
        let due = std::mem::take(&mut inner.due);
        drop(inner);
        drop(due);
    }
}

fn wake(resting: Option<Waker>) {
    if let Some(waker) = resting {
        waker.wake();
    }
}
