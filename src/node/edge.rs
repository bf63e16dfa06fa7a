//! Threads for the edge alone. Made by [`super::lifecycle`], which binds the gateway inside them.
//!
//! A packet passes from task to task within the edge. On one thread that costs nothing; between
//! threads that also do other work, each passing wakes a thread up, which costs more than the
//! packet.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A runtime on threads of its own. They end when it is dropped.
pub(crate) struct EdgeThreads {
    handle: Handle,
    _stop: oneshot::Sender<()>,
}

impl EdgeThreads {
    /// So many (`edge.threads`).
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        let runtime = match threads {
            1 => Builder::new_current_thread().enable_all().build()?,
            many => Builder::new_multi_thread()
                .worker_threads(many)
                .thread_name("edge")
                .enable_all()
                .build()?,
        };
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let body = move || {
            // It ends with an error: nothing is ever sent.
            let _ = runtime.block_on(stopped);
        };
        std::thread::Builder::new().name("edge".to_owned()).spawn(body)?;
        Ok(Self { handle, _stop: stop })
    }

    /// The runtime, to be entered while the edge is made.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}
