//! Who is shown the frames of a match.
//!
//! Writers: handles add subscribers, the match's actor publishes, the host closes all when the
//! match stops here.

use std::sync::Arc;

use parking_lot::Mutex;
use rekindle_door::TickFrame;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// The subscribers of a match.
pub(crate) struct Subscribers {
    senders: Mutex<Vec<mpsc::Sender<Arc<TickFrame>>>>,
    /// Frames that one may lag behind before it is dropped.
    frames: usize,
}

impl Subscribers {
    /// For subscribers that may lag `frames` behind.
    pub(crate) fn new(frames: usize) -> Self {
        Self { senders: Mutex::default(), frames: frames.max(1) }
    }

    /// Adds one if the match `is_alive`; else its channel is closed at once, for nobody would close
    /// it later. `is_alive` is asked under the lock, so that no subscriber is added behind
    /// [`Subscribers::close`].
    pub(crate) fn add(&self, is_alive: impl FnOnce() -> bool) -> mpsc::Receiver<Arc<TickFrame>> {
        let (sender, receiver) = mpsc::channel(self.frames);
        let mut senders = self.senders.lock();
        if is_alive() {
            senders.push(sender);
        }
        receiver
    }

    /// Somebody listens.
    pub(crate) fn any(&self) -> bool {
        !self.senders.lock().is_empty()
    }

    /// Closes the channels of all.
    pub(crate) fn close(&self) {
        self.senders.lock().clear();
    }

    /// Hands a frame to all; one that lags by more than its channel holds is dropped. The frame of
    /// an ended match is the last: the channels are closed behind it. Returns how many subscribers
    /// were dropped.
    pub(crate) fn send(&self, frame: TickFrame) -> usize {
        let last = frame.ended.is_some();
        let frame = Arc::new(frame);
        let mut senders = self.senders.lock();
        let mut dropped = 0;
        senders.retain(|subscriber| {
            let sent = subscriber.try_send(Arc::clone(&frame));
            dropped += usize::from(matches!(sent, Err(TrySendError::Full(_))));
            sent.is_ok()
        });
        if last {
            senders.clear();
        }
        dropped
    }
}
