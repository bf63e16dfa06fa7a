//! Who ends a node from outside: signals, and the end of the process that it was started by. Used
//! by [`super::lifecycle`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// How often a stop that waits for recovery looks whether that is held up.
const HELD_UP_POLL: Duration = Duration::from_millis(200);

/// Resolves when the parent is gone; never without one.
pub(super) async fn gone(abandoned: Option<oneshot::Receiver<()>>) {
    match abandoned {
        // An error is as good: whoever watched the parent has stopped watching.
        Some(parent) => drop(parent.await),
        None => std::future::pending().await,
    }
}

/// Ctrl-C and SIGTERM. From [`Signals::listen`] on they no longer end the process by themselves.
pub struct Signals {
    /// Ctrl-C.
    interrupt: Signal,
    /// SIGTERM.
    terminate: Signal,
    /// One has come.
    pub(super) asked: bool,
}

impl Signals {
    /// From now on signals are heard here.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            asked: false,
        })
    }

    /// Resolves at the next signal.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        self.asked = true;
    }

    /// Two of them: whoever asks twice wants it now. One is enough while recovery is `held_up` by a
    /// store that does not answer: that may take for ever.
    pub(super) async fn insist(&mut self, held_up: &AtomicBool) {
        self.next().await;
        tracing::info!(
            code = "RK-NODE-047",
            "the node stops once its matches are recovered; a second signal ends it at once"
        );
        let for_ever = async {
            while !held_up.load(Ordering::Acquire) {
                tokio::time::sleep(HELD_UP_POLL).await;
            }
        };
        tokio::select! {
            () = self.next() => {}
            () = for_ever => {}
        }
    }
}
