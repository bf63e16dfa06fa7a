//! Writing logs: one thread for each log, one write and one sync for each entry, no second chance.
//!
//! [`LogWriter`] is the file side and knows nothing of threads; [`Writer`] gives it a thread and a
//! bounded queue.

use std::fs::{self, File, TryLockError};
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use rekindle_schema::batch::Envelope;
use rekindle_schema::{BatchNo, Incarnation};
use rekindle_store::StoreError;
use tokio::sync::oneshot;

use super::LocalOptions;
use super::disk::{Disk, DiskFile};
use super::file;
use super::reader::{LogEnd, LogReader};
use super::segment::{Kind, header, io_error, log_dir, segment_path, segments};

/// How often, and at which intervals, a lock is tried that somebody seems to hold.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

/// Checkpoints are written and synced in pieces of this size, so that the sync of a journal never
/// waits for all of one.
const PIECE: usize = 1 << 20;

struct Open {
    file: Box<dyn DiskFile>,
    first: u64,
    path: PathBuf,
    len: u64,
}

/// The file side of a log that this process writes.
pub(super) struct LogWriter {
    disk: Arc<dyn Disk>,
    kind: Kind,
    log: Incarnation,
    dir: PathBuf,
    segment_bytes: u64,
    reader: Arc<LogReader>,
    current: Option<Open>,
    last: u64,
    last_crc: u32,
    failed: Option<StoreError>,
    _lock: File,
}

/// Locks a file, or says that somebody else holds the lock. A child process that this one is
/// starting holds a copy of every open file until it runs its own program: for that moment a lock
/// seems taken that has been given back.
fn take(lock: &File) -> Result<(), TryLockError> {
    for _ in 0..LOCK_ATTEMPTS {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            outcome => return outcome,
        }
    }
    lock.try_lock()
}

impl LogWriter {
    /// Opens a log for writing. A torn tail is cut off; a log that another process has open is
    /// refused.
    pub(super) fn open(
        options: &LocalOptions,
        root: &Path,
        kind: Kind,
        log: Incarnation,
        reader: Arc<LogReader>,
    ) -> Result<Self, StoreError> {
        let (disk, segment_bytes) = (Arc::clone(&options.disk), options.segment_bytes);
        let dir = log_dir(root, kind, log);
        fs::create_dir_all(&dir).map_err(|error| io_error("create", &dir, &error))?;
        for parent in dir.ancestors().skip(1).take(2) {
            disk.sync_dir(parent).map_err(|error| io_error("sync", parent, &error))?;
        }
        let lock = File::open(&dir).map_err(|error| io_error("open", &dir, &error))?;
        take(&lock).map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::Refused {
                place: dir.display().to_string(),
                problem: "another writer has this log open: two processes run with one incarnation"
                    .to_owned(),
            },
            TryLockError::Error(error) => io_error("lock", &dir, &error),
        })?;
        let end = reader.end(log)?;
        if let Some(problem) = end.damage {
            return Err(StoreError::Corrupt { place: dir.display().to_string(), problem });
        }
        if let Some(report) = &end.report {
            tracing::warn!(code = "RK-STORE-011", %report, "a torn tail was cut off");
        }
        cut(&*disk, &dir, &end)?;
        let current = match &end.at {
            None => None,
            Some((segment, len)) => {
                let file = disk
                    .open(&segment.path, false)
                    .map_err(|error| io_error("open", &segment.path, &error))?;
                Some(Open { file, first: segment.first, path: segment.path.clone(), len: *len })
            }
        };
        Ok(Self {
            disk,
            kind,
            log,
            dir,
            reader,
            segment_bytes,
            current,
            last: end.last,
            last_crc: end.crc,
            failed: None,
            _lock: lock,
        })
    }

    /// The number that the next entry gets, and the checksum of the one before it.
    pub(super) fn next(&self) -> (u64, u32) {
        (self.last + 1, self.last_crc)
    }

    /// The first entry of the current segment, and up to where the segment is durable.
    pub(super) fn durable(&self) -> (u64, u64) {
        self.current.as_ref().map_or((self.last + 1, 0), |open| (open.first, open.len))
    }

    /// The segment that is being written: its first entry, and its path.
    pub(super) fn segment(&self) -> Option<(u64, &Path)> {
        self.current.as_ref().map(|open| (open.first, open.path.as_path()))
    }

    /// An empty log begins with entry `first`.
    pub(super) fn begin(&mut self, first: u64) {
        if self.current.is_none() && self.last_crc == 0 {
            self.last = first - 1;
        }
    }

    /// Appends one entry. Returns once it is durable. After an `Io` error this writer writes
    /// nothing more.
    pub(super) fn append(&mut self, envelope: &Envelope, bytes: &[u8]) -> Result<(), StoreError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let number = envelope.number;
        let conflict = StoreError::Conflict { log: self.log, number };
        if number.0 <= self.last {
            return if self.has(envelope, bytes)? { Ok(()) } else { Err(conflict) };
        }
        if number.0 != self.last + 1 {
            return Err(StoreError::Gap { log: self.log, last: BatchNo(self.last), got: number });
        }
        if self.last_crc != 0 && envelope.prev_crc != self.last_crc {
            return Err(conflict);
        }
        if let Err(error) = self.write(number.0, envelope.prev_crc, bytes) {
            tracing::error!(code = "RK-STORE-004", %error, "this log takes nothing more");
            self.failed = Some(error.clone());
            return Err(error);
        }
        (self.last, self.last_crc) = (number.0, envelope.crc);
        Ok(())
    }

    /// Whether this very entry was appended before; one that was trimmed is taken for the same.
    fn has(&self, envelope: &Envelope, bytes: &[u8]) -> Result<bool, StoreError> {
        if envelope.number.0 == self.last {
            return Ok(envelope.crc == self.last_crc);
        }
        match self.reader.read(self.log, envelope.number.0, 0) {
            Ok(found) => Ok(found.first().is_some_and(|placed| placed.entry.bytes == bytes)),
            Err(StoreError::NotFound(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn write(&mut self, number: u64, prev_crc: u32, bytes: &[u8]) -> Result<(), StoreError> {
        let fits = self
            .current
            .as_ref()
            .is_some_and(|open| open.len + bytes.len() as u64 <= self.segment_bytes);
        if fits && let Some(open) = &mut self.current {
            return append_to(open, bytes, self.kind);
        }
        let path = segment_path(&self.dir, number);
        let file =
            self.disk.open(&path, true).map_err(|error| io_error("create", &path, &error))?;
        let mut open = Open { file, first: number, path, len: 0 };
        let mut head = header(self.kind, self.log, number, prev_crc).to_vec();
        head.extend_from_slice(bytes);
        append_to(&mut open, &head, self.kind)?;
        self.disk.sync_dir(&self.dir).map_err(|error| io_error("sync", &self.dir, &error))?;
        self.current = Some(open);
        Ok(())
    }
}

fn append_to(open: &mut Open, bytes: &[u8], kind: Kind) -> Result<(), StoreError> {
    let piece = match kind {
        Kind::Batches => bytes.len(),
        Kind::Checkpoints => PIECE,
    };
    for piece in bytes.chunks(piece) {
        open.file.write(piece, open.len).map_err(|error| io_error("write", &open.path, &error))?;
        open.file.sync().map_err(|error| io_error("sync", &open.path, &error))?;
        open.len += piece.len() as u64;
    }
    Ok(())
}

/// Keeps what is about to be cut off next to its segment, in case that it was not a write that was
/// cut off but one that was damaged later.
fn keep(path: &Path, offset: u64) {
    let copy = || -> std::io::Result<()> {
        let mut file = file::open_regular(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let kept = path.with_extension(format!("{offset}.torn"));
        std::io::copy(&mut file, &mut File::create(kept)?).map(|_| ())
    };
    if let Err(error) = copy() {
        // A full disk must not keep a match from being recovered.
        tracing::warn!(code = "RK-STORE-014", path = %path.display(), offset, %error, "a torn tail \
            could not be kept for inspection");
    }
}

/// Removes what lies behind the last whole entry, durably. The bytes stay next to the segment, in a
/// file with the ending `.torn`.
pub(super) fn cut(disk: &dyn Disk, dir: &Path, end: &LogEnd) -> Result<(), StoreError> {
    let mut removed = false;
    for (segment, offset) in &end.torn {
        let path = &segment.path;
        keep(path, *offset);
        if end.at.as_ref().is_some_and(|(last, _)| last.first == segment.first) {
            let mut file =
                disk.open(path, false).map_err(|error| io_error("open", path, &error))?;
            file.truncate(*offset)
                .and_then(|()| file.sync())
                .map_err(|error| io_error("cut", path, &error))?;
        } else {
            fs::remove_file(path).map_err(|error| io_error("remove", path, &error))?;
            removed = true;
        }
    }
    if removed {
        disk.sync_dir(dir).map_err(|error| io_error("sync", dir, &error))?;
    }
    Ok(())
}

/// Cuts a log back to what was acknowledged: `first` is the segment in which that ends, `len` its
/// length there (0: the segment does not count). For a writer that takes the place of one that
/// failed: what the failed one wrote last may be in memory only, however whole it looks.
pub(super) fn forget_unacknowledged(
    disk: &dyn Disk,
    dir: &Path,
    (first, len): (u64, u64),
) -> Result<(), StoreError> {
    for segment in segments(dir)?
        .iter()
        .filter(|segment| segment.first > first || segment.first == first && segment.len > len)
    {
        let path = &segment.path;
        if segment.first == first && len > 0 {
            let mut file =
                disk.open(path, false).map_err(|error| io_error("open", path, &error))?;
            file.truncate(len)
                .and_then(|()| file.sync())
                .map_err(|error| io_error("cut", path, &error))?;
        } else {
            fs::remove_file(path).map_err(|error| io_error("remove", path, &error))?;
            disk.sync_dir(dir).map_err(|error| io_error("sync", dir, &error))?;
        }
    }
    Ok(())
}

/// What a writer's thread is asked to do: to make an entry of `T` and append it.
pub(super) struct Request<T> {
    /// What to append.
    pub item: T,
    /// Whom to tell.
    pub done: oneshot::Sender<Result<(), StoreError>>,
}

/// A log's thread and its queue.
pub(super) struct Writer<T> {
    queue: Option<SyncSender<Request<T>>>,
    thread: Option<JoinHandle<()>>,
    name: String,
}

impl<T: Send + 'static> Writer<T> {
    /// Starts a thread that opens the log and appends what comes, one after the other, by `append`.
    pub(super) fn start(
        name: String,
        queue: usize,
        open: impl FnOnce() -> Result<LogWriter, StoreError> + Send + 'static,
        append: impl FnMut(&mut LogWriter, T) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (sender, receiver) = sync_channel(queue);
        let spawned = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || serve(&receiver, open, append));
        let thread = spawned
            .map_err(|error| StoreError::Unavailable(format!("no thread for {name}: {error}")))?;
        Ok(Self { queue: Some(sender), thread: Some(thread), name })
    }

    /// Puts an item in the queue; the receiver gets the outcome.
    pub(super) fn send(
        &self,
        item: T,
    ) -> Result<oneshot::Receiver<Result<(), StoreError>>, StoreError> {
        let (done, outcome) = oneshot::channel();
        match self.queue.as_ref().map(|queue| queue.try_send(Request { item, done })) {
            Some(Ok(())) => Ok(outcome),
            Some(Err(TrySendError::Full(_))) => {
                Err(StoreError::Overloaded(format!("the queue of {} is full", self.name)))
            }
            Some(Err(TrySendError::Disconnected(_))) | None => Err(gone(&self.name)),
        }
    }

    /// The thread's name, for errors.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// The writer's thread has ended without an answer.
pub(super) fn gone(name: &str) -> StoreError {
    StoreError::Io {
        what: "write",
        path: name.to_owned(),
        cause: "its writer has ended".to_owned(),
    }
}

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported where it happened.
            let _ = thread.join();
        }
    }
}

fn serve<T>(
    queue: &Receiver<Request<T>>,
    open: impl FnOnce() -> Result<LogWriter, StoreError>,
    mut append: impl FnMut(&mut LogWriter, T) -> Result<(), StoreError>,
) {
    let mut writer = open();
    while let Ok(request) = queue.recv() {
        let outcome = match &mut writer {
            Ok(writer) => append(writer, request.item),
            Err(error) => Err(error.clone()),
        };
        // Whoever asked may have gone; the entry stays written.
        let _ = request.done.send(outcome);
    }
}
