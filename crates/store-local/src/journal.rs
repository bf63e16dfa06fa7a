//! The journal port: one thread for each log appends batches to segments, readers read them.
//!
//! [`Writer`] is the thread, [`LogWriter`] the files that it writes, [`LogReader`] finds batches
//! again. Whether the owner is still live is read from `node.db` after each write.

use std::collections::btree_map::Entry;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rekindle_schema::batch::{Batch, Envelope, MAX_BATCH};
use rekindle_schema::lease::NodeState;
use rekindle_schema::{BatchNo, Incarnation};
use rekindle_store::backend;
use rekindle_store::{Journal, LogInfo, StoreError, StoreResult, Tail};

use super::disk::Disk;
use super::guards::Guards;
use super::leases::node;
use super::reader::{LogReader, Placed};
use super::segment::{Kind, io_error, log_dir, logs, segments};
use super::watch::Watched;
use super::writer::{LogWriter, Writer, cut, gone};
use super::{Appends, LocalStore, blocking, facts};

fn to_batch(placed: Placed) -> Batch {
    let Envelope { log, number, .. } = placed.entry.envelope;
    Batch { incarnation: log, number, bytes: placed.entry.bytes }
}

impl LocalStore {
    fn appender(&self, log: Incarnation) -> Result<Appends, StoreError> {
        let mut appends = self.appends.lock();
        let vacant = match appends.entry(log) {
            Entry::Occupied(found) => return Ok(Arc::clone(found.get())),
            Entry::Vacant(vacant) => vacant,
        };
        let (options, root, reader) =
            (self.options.clone(), self.root.clone(), Arc::clone(&self.batches));
        let database = self.facts.path().to_owned();
        let of = database.clone();
        let begins = Arc::clone(&self.begins);
        let mut watched = Watched::new(&self.watch, Kind::Batches, log);
        let mut verifier = None;
        let writer = Writer::start(
            format!("log {log}"),
            self.options.append_queue,
            move || {
                // A log without a lease could not be told from one whose lease was lost.
                let connection = facts::connect(&of)?;
                node(&facts::rows(&connection, &of), log)?.ok_or(StoreError::Fenced(log))?;
                LogWriter::open(&options, &root, Kind::Batches, log, reader)
            },
            move |writer, batch: Batch| {
                let envelope = backend::check_batch(&batch)?;
                if begins.lock().get(&log) == Some(&batch.number) {
                    writer.begin(batch.number.0);
                }
                writer.append(&envelope, &batch.bytes)?;
                let in_place = watched.after_write(writer);
                let connection = match &mut verifier {
                    Some(connection) => connection,
                    none => none.insert(facts::connect(&database)?),
                };
                match node(&facts::rows(connection, &database), log)? {
                    Some(lease) if lease.state == NodeState::Live => in_place,
                    _ => Err(StoreError::Fenced(log)),
                }
            },
        )?;
        Ok(Arc::clone(vacant.insert(Arc::new(writer))))
    }
}

impl Journal for LocalStore {
    fn begin(&self, log: Incarnation, first: BatchNo) -> StoreResult<'_, ()> {
        let (reader, root, begins) =
            (Arc::clone(&self.batches), self.root.clone(), Arc::clone(&self.begins));
        Box::pin(blocking(move || {
            let first = first.max(BatchNo(1));
            if reader.end(log)?.at.is_some() {
                let oldest = segments(&log_dir(&root, Kind::Batches, log))?
                    .first()
                    .map(|segment| BatchNo(segment.first));
                return match oldest {
                    Some(found) if found != first => {
                        Err(backend::begun_elsewhere(log, found, first))
                    }
                    _ => Ok(()),
                };
            }
            begins.lock().insert(log, first);
            Ok(())
        }))
    }

    fn append(&self, batch: Batch) -> StoreResult<'_, ()> {
        Box::pin(async move {
            if batch.bytes.len() > MAX_BATCH {
                return Err(StoreError::TooLarge {
                    what: "a batch",
                    size: batch.bytes.len(),
                    limit: MAX_BATCH,
                });
            }
            let writer = self.appender(batch.incarnation)?;
            let outcome = writer.send(batch)?;
            outcome.await.map_err(|_| gone(writer.name()))?
        })
    }

    fn read(
        &self,
        log: Incarnation,
        from: BatchNo,
        max_bytes: usize,
    ) -> StoreResult<'_, Vec<Batch>> {
        let reader = Arc::clone(&self.batches);
        Box::pin(blocking(move || {
            Ok(reader.read(log, from.0, max_bytes)?.into_iter().map(to_batch).collect())
        }))
    }

    fn tail(&self, log: Incarnation) -> StoreResult<'_, Tail> {
        let reader = Arc::clone(&self.batches);
        Box::pin(blocking(move || {
            let end = reader.end(log)?;
            Ok(Tail {
                last: BatchNo(end.last),
                proven: BatchNo(end.proven()),
                torn: end.report,
                damage: end.damage,
            })
        }))
    }

    fn settle(&self, log: Incarnation, last: BatchNo) -> StoreResult<'_, ()> {
        let (reader, disk, root) =
            (Arc::clone(&self.batches), Arc::clone(&self.options.disk), self.root.clone());
        let guards = Guards::of(&self.options);
        Box::pin(blocking(move || {
            let dir = log_dir(&root, Kind::Batches, log);
            // Of a log whose beginning was trimmed the rest may be lost.
            let begins = segments(&dir)?.first().map_or(0, |oldest| oldest.first);
            if last.0 > 0 && last.0 >= begins {
                let found = reader.read(log, last.0, 0)?.into_iter().next();
                let placed = found
                    .ok_or_else(|| StoreError::NotFound(format!("batch {last} of log {log}")))?;
                let path = &placed.path;
                let mut file =
                    disk.open(path, false).map_err(|error| io_error("open", path, &error))?;
                file.write(&placed.entry.bytes, placed.entry.offset)
                    .map_err(|error| io_error("write", path, &error))?;
                file.sync().map_err(|error| io_error("sync", path, &error))?;
            }
            if dir.exists() {
                let end = reader.end(log)?;
                // What proves that more was there stays where it is.
                if end.last == last.0 && !end.traces {
                    cut(&*disk, &dir, &end)?;
                }
                for path in [dir.as_path(), root.join(Kind::Batches.folder()).as_path()] {
                    disk.sync_dir(path).map_err(|error| io_error("sync", path, &error))?;
                }
            }
            if let Err(error) = tidy_checkpoints(&*disk, &root, log, guards) {
                tracing::warn!(code = "RK-STORE-015", %log, %error, "a checkpoint that was cut off \
                    stays where it is; it does not count");
            }
            Ok(())
        }))
    }

    fn trim(&self, log: Incarnation, before: BatchNo) -> StoreResult<'_, ()> {
        Box::pin(async move {
            let lease = self.facts.look(move |rows| node(rows, log)).await?;
            let live = lease.as_ref().is_some_and(|lease| lease.state == NodeState::Live);
            let seal = lease.and_then(|lease| lease.seal);
            let (reader, root) = (Arc::clone(&self.batches), self.root.clone());
            blocking(move || trim(&reader, &root, log, before, live, seal)).await
        })
    }

    fn logs(&self) -> StoreResult<'_, Vec<LogInfo>> {
        let root = self.root.clone();
        Box::pin(blocking(move || {
            let mut found = Vec::new();
            for log in logs(&root, Kind::Batches)? {
                let segments = segments(&log_dir(&root, Kind::Batches, log))?;
                if let Some(oldest) = segments.first() {
                    let bytes = segments.iter().map(|segment| segment.len).sum();
                    found.push(LogInfo { log, first: BatchNo(oldest.first), bytes });
                }
            }
            Ok(found)
        }))
    }
}

/// Cuts off the checkpoint that a dead writer had begun: nobody else opens its log for writing ever
/// again.
fn tidy_checkpoints(
    disk: &dyn Disk,
    root: &Path,
    log: Incarnation,
    guards: Guards,
) -> Result<(), StoreError> {
    let dir = log_dir(root, Kind::Checkpoints, log);
    if !dir.exists() {
        return Ok(());
    }
    let lock = fs::File::open(&dir).map_err(|error| io_error("open", &dir, &error))?;
    if lock.try_lock().is_err() {
        return Ok(());
    }
    let end = LogReader::new(root.to_path_buf(), Kind::Checkpoints, guards).end(log)?;
    cut(disk, &dir, &end)
}

/// Removes segments that hold nothing from `before` on. The last one goes only with the whole log,
/// and only if its incarnation is dead.
fn trim(
    reader: &LogReader,
    root: &Path,
    log: Incarnation,
    before: BatchNo,
    live: bool,
    seal: Option<BatchNo>,
) -> Result<(), StoreError> {
    let dir = log_dir(root, Kind::Batches, log);
    let segments = segments(&dir)?;
    let remove = |path: &Path| match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", path, &error))
        }
        _ => Ok(()),
    };
    let counted = match (live, seal) {
        (true, _) => u64::MAX,
        (false, Some(seal)) => seal.0,
        (false, None) => reader.end(log)?.last,
    };
    if !live && before.0 > counted {
        return match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove", &dir, &error))
            }
            _ => Ok(()),
        };
    }
    let over = segments.windows(2).take_while(|pair| pair[1].first <= before.0);
    over.map(|pair| &pair[0].path).try_for_each(|path| remove(path))
}
