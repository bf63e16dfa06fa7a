//! Standard output and standard error of a process that must never wait for whoever reads them, nor
//! end because nobody does.
//!
//! Lines go into a bounded queue; a thread writes them. A reader that is gone, a full disk or a
//! full pipe costs lines and nothing else: what finds no room, and what cannot be written, is
//! dropped and counted (`rekindle_log_lines_dropped_total`). Used by the log of every command and
//! by what a node says on standard output; what commands answer is written directly, because there
//! a failure must be told.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use metrics::counter;
use parking_lot::{Condvar, Mutex};

/// Most bytes that wait to be written.
const MOST_BYTES: usize = 1 << 20;
/// How many bytes are written with one call, unless one line is longer.
const WRITE_BYTES: usize = 64 << 10;
/// How long the thread rests when the descriptor does not block and takes nothing.
const REST: Duration = Duration::from_millis(5);
/// The metric of lines that nobody will see.
pub(super) const DROPPED: &str = "rekindle_log_lines_dropped_total";

/// Where an [`Outlet`] leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Output,
    Error,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Output => "stdout",
            Self::Error => "stderr",
        }
    }

    fn write(self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Output => {
                let mut out = io::stdout().lock();
                let written = out.write(bytes)?;
                out.flush()?;
                Ok(written)
            }
            Self::Error => io::stderr().lock().write(bytes),
        }
    }
}

#[derive(Debug)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The thread has taken lines and is not through with them.
    writing: bool,
    /// Lines that were lost since the last time this was said.
    dropped: u64,
    /// Lines that were lost since the process began.
    dropped_ever: u64,
    /// The thread runs.
    started: bool,
}

/// One of the two streams, written by a thread of its own. Lines of several threads do not mix.
#[derive(Debug)]
pub struct Outlet {
    stream: Stream,
    queue: Mutex<Queue>,
    /// There is something to write.
    wake: Condvar,
    /// There is nothing to write any more.
    quiet: Condvar,
}

/// What a node says on standard output.
pub static STDOUT: Outlet = Outlet::new(Stream::Output);
/// The log of this process, and what its panics say.
pub static STDERR: Outlet = Outlet::new(Stream::Error);

impl Outlet {
    const fn new(stream: Stream) -> Self {
        let queue = Queue {
            lines: VecDeque::new(),
            bytes: 0,
            writing: false,
            dropped: 0,
            dropped_ever: 0,
            started: false,
        };
        Self { stream, queue: Mutex::new(queue), wake: Condvar::new(), quiet: Condvar::new() }
    }

    /// Hands over a line; a newline is added. Never waits and never fails.
    pub fn line(&'static self, text: &str) {
        let mut bytes = Vec::with_capacity(text.len() + 1);
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(b'\n');
        self.push(bytes);
    }

    /// Waits until everything is written, at most for `most`. Whether it is. Called by a process
    /// that is about to end.
    pub fn flush(&self, most: Duration) -> bool {
        let until = Instant::now() + most;
        let mut queue = self.queue.lock();
        while queue.writing || !queue.lines.is_empty() {
            if self.quiet.wait_until(&mut queue, until).timed_out() {
                return !queue.writing && queue.lines.is_empty();
            }
        }
        true
    }

    fn push(&'static self, bytes: Vec<u8>) {
        let mut queue = self.queue.lock();
        if !queue.started {
            let thread = std::thread::Builder::new().name(self.stream.name().to_owned());
            // Without a thread lines are dropped; the next one tries again.
            queue.started = thread.spawn(move || self.write_all()).is_ok();
        }
        if !queue.started || queue.bytes + bytes.len() > MOST_BYTES {
            self.lost(&mut queue, 1);
            return;
        }
        queue.bytes += bytes.len();
        queue.lines.push_back(bytes);
        self.wake.notify_one();
    }

    /// Shows in the metrics how many lines were dropped so far. Called once there are metrics:
    /// lines are lost before, too.
    pub fn publish(&self) {
        let ever = self.queue.lock().dropped_ever;
        counter!(DROPPED, "stream" => self.stream.name()).absolute(ever);
    }

    fn lost(&self, queue: &mut Queue, lines: u64) {
        queue.dropped += lines;
        queue.dropped_ever += lines;
        counter!(DROPPED, "stream" => self.stream.name()).absolute(queue.dropped_ever);
    }

    /// The thread.
    fn write_all(&'static self) {
        loop {
            let (lines, bytes) = self.take();
            let written = self.write(&bytes);
            let mut queue = self.queue.lock();
            queue.writing = false;
            if queue.lines.is_empty() {
                self.quiet.notify_all();
            }
            if written {
                let dropped = std::mem::take(&mut queue.dropped);
                drop(queue);
                self.tell(dropped);
            } else {
                self.lost(&mut queue, lines);
            }
        }
    }

    /// As many lines as are written with one call: their number and their bytes.
    fn take(&self) -> (u64, Vec<u8>) {
        let mut queue = self.queue.lock();
        while queue.lines.is_empty() {
            self.wake.wait(&mut queue);
        }
        let (mut count, mut bytes) = (0, Vec::new());
        while let Some(line) = queue.lines.pop_front() {
            count += 1;
            bytes.extend_from_slice(&line);
            if queue.lines.front().is_none_or(|next| bytes.len() + next.len() > WRITE_BYTES) {
                break;
            }
        }
        queue.bytes -= bytes.len();
        queue.writing = true;
        (count, bytes)
    }

    /// Whether all of it was taken.
    fn write(&self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(0) => return false,
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Whoever gave us the descriptor has made it one that does not block.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(REST),
                Err(_) => return false,
            }
        }
        true
    }

    /// Says that lines are missing, once there is somebody who reads again.
    fn tell(&self, dropped: u64) {
        if dropped > 0 {
            let stream = self.stream.name();
            tracing::warn!(
                code = "RK-NODE-150",
                dropped,
                stream,
                "lines were dropped: their reader was gone, or slower than they came"
            );
        }
    }
}

/// Takes what a formatter writes for one event.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        STDERR.push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static NOWHERE: Outlet = Outlet::new(Stream::Error);

    #[test]
    fn a_queue_that_nobody_empties_takes_so_much_and_no_more() {
        // The thread is said to run and does not: a reader that never comes.
        NOWHERE.queue.lock().started = true;
        let line = "x".repeat(1023);
        let begun = Instant::now();
        for _ in 0..3_000 {
            NOWHERE.line(&line);
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "nobody waits");
        let (kept, bytes, dropped) = {
            let queue = NOWHERE.queue.lock();
            (queue.lines.len() as u64, queue.bytes, queue.dropped)
        };
        assert_eq!((kept + dropped, bytes), (3_000, kept as usize * 1024));
        assert!(bytes <= MOST_BYTES && bytes + 1024 > MOST_BYTES, "{bytes}");
        assert!(
            !NOWHERE.flush(Duration::from_millis(20)),
            "it says that not everything was written"
        );
        let (lines, taken) = NOWHERE.take();
        assert_eq!((lines, taken.len()), (64, WRITE_BYTES));
    }
}
