//! The ports of the local store.

use std::collections::btree_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use rekindle_schema::batch::{Batch, Envelope, MAX_BATCH};
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::codec::{self, CodecError};
use rekindle_schema::lease::{MatchLease, MatchState, NodeLease, NodeState, Reached};
use rekindle_schema::record::{EFFECT_TAG, Effect};
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId, Seq};

use super::disk::Disk;
use super::facts::{Rows, Table};
use super::guards::Guards;
use super::segment::{CHECKPOINT_MAGIC, Kind, log_dir, logs, segments};
use super::watch::Watch;
use super::writer::{LogWriter, Writer, cut, forget_unacknowledged, gone};
use super::{Appends, LocalStore, Puts, blocking, checkpoints, facts, fence, identity};
use rekindle_store::MAX_CHECKPOINT;
use rekindle_store::backend;
use rekindle_store::identity::{Fresh, Holder, StoreIdentity, announce, first, highest, next};
use rekindle_store::{
    Checkpoints, EffectSink, Identity, Journal, Leases, LogInfo, Renewal, StoreError, StoreResult,
    Tail,
};

fn to_batch(placed: super::reader::Placed) -> Batch {
    let Envelope { log, number, .. } = placed.entry.envelope;
    Batch { incarnation: log, number, bytes: placed.entry.bytes }
}

/// Tells the watch over open files which segment a log is written to.
struct Watched {
    watch: Arc<Watch>,
    kind: Kind,
    log: Incarnation,
    segment: Option<u64>,
}

impl Watched {
    fn new(watch: &Arc<Watch>, kind: Kind, log: Incarnation) -> Self {
        Self { watch: Arc::clone(watch), kind, log, segment: None }
    }

    /// Refuses to acknowledge once files are not in their places any more.
    fn after_write(&mut self, writer: &LogWriter) -> Result<(), StoreError> {
        if let Some((first, path)) =
            writer.segment().filter(|(first, _)| self.segment != Some(*first))
        {
            self.watch.writes_to(self.kind, self.log, path);
            self.segment = Some(first);
        }
        self.watch.check()
    }
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

    fn putter(&self, log: Incarnation) -> Result<Puts, StoreError> {
        let mut puts = self.puts.lock();
        let vacant = match puts.entry(log) {
            Entry::Occupied(found) => return Ok(Arc::clone(found.get())),
            Entry::Vacant(vacant) => vacant,
        };
        let (options, root) = (self.options.clone(), self.root.clone());
        let reader = Arc::new(super::reader::LogReader::new(
            root.clone(),
            Kind::Checkpoints,
            Guards::of(&self.options),
        ));
        let mut watched = Watched::new(&self.watch, Kind::Checkpoints, log);
        let durable = Arc::clone(&self.durable);
        let opened = Arc::clone(&durable);
        let writer =
            Writer::start(
                format!("checkpoints {log}"),
                self.options.checkpoint_queue,
                move || {
                    let acknowledged = opened.lock().get(&log).copied();
                    if let Some(end) = acknowledged {
                        forget_unacknowledged(
                            &*options.disk,
                            &log_dir(&root, Kind::Checkpoints, log),
                            end,
                        )?;
                    }
                    let writer = LogWriter::open(&options, &root, Kind::Checkpoints, log, reader)?;
                    opened.lock().insert(log, writer.durable());
                    Ok(writer)
                },
                move |writer, (meta, state): (CheckpointMeta, Bytes)| {
                    let (number, prev_crc) = writer.next();
                    let entry = checkpoints::encode(&meta, &state, number, prev_crc);
                    let envelope = Envelope::parse(&entry, CHECKPOINT_MAGIC, "checkpoint")
                        .map_err(|error| StoreError::Corrupt {
                            place: "a checkpoint before it was written".to_owned(),
                            problem: error.to_string(),
                        })?;
                    writer.append(&envelope, &entry)?;
                    watched.after_write(writer)?;
                    durable.lock().insert(log, writer.durable());
                    Ok(())
                },
            )?;
        Ok(Arc::clone(vacant.insert(Arc::new(writer))))
    }

    /// A checkpoint that failed is no reason to take no more: nobody has been told that it is
    /// there, and the next writer cuts off what is there of it. (Of a journal's log the first error
    /// is the last word.)
    async fn replace_putter(&self, log: Incarnation, failed: Puts) {
        {
            let mut puts = self.puts.lock();
            if puts.get(&log).is_some_and(|writer| Arc::ptr_eq(writer, &failed)) {
                puts.remove(&log);
            }
        }
        // The last one to let go of it waits for its thread, which holds the lock of the log. An
        // error here would be a panic of that thread.
        let _ = blocking(move || {
            drop(failed);
            Ok(())
        })
        .await;
    }

    /// Runs `work` on the index of checkpoints, after it has seen what was put since.
    async fn indexed<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut checkpoints::Index) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (index, durable) = (Arc::clone(&self.index), Arc::clone(&self.durable));
        blocking(move || {
            let mut index = index.lock();
            let own = durable.lock().clone();
            index.refresh(&own)?;
            work(&mut index)
        })
        .await
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
                let mut file = disk
                    .open(path, false)
                    .map_err(|error| super::io_error("open", path, &error))?;
                file.write(&placed.entry.bytes, placed.entry.offset)
                    .map_err(|error| super::io_error("write", path, &error))?;
                file.sync().map_err(|error| super::io_error("sync", path, &error))?;
            }
            if dir.exists() {
                let end = reader.end(log)?;
                // What proves that more was there stays where it is.
                if end.last == last.0 && !end.traces {
                    cut(&*disk, &dir, &end)?;
                }
                for path in [dir.as_path(), root.join(Kind::Batches.folder()).as_path()] {
                    disk.sync_dir(path).map_err(|error| super::io_error("sync", path, &error))?;
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
    root: &std::path::Path,
    log: Incarnation,
    guards: Guards,
) -> Result<(), StoreError> {
    let dir = log_dir(root, Kind::Checkpoints, log);
    if !dir.exists() {
        return Ok(());
    }
    let lock = std::fs::File::open(&dir).map_err(|error| super::io_error("open", &dir, &error))?;
    if lock.try_lock().is_err() {
        return Ok(());
    }
    let end =
        super::reader::LogReader::new(root.to_path_buf(), Kind::Checkpoints, guards).end(log)?;
    cut(disk, &dir, &end)
}

/// Removes segments that hold nothing from `before` on. The last one goes only with the whole log,
/// and only if its incarnation is dead.
fn trim(
    reader: &super::reader::LogReader,
    root: &std::path::Path,
    log: Incarnation,
    before: BatchNo,
    live: bool,
    seal: Option<BatchNo>,
) -> Result<(), StoreError> {
    let dir = log_dir(root, Kind::Batches, log);
    let segments = segments(&dir)?;
    let remove = |path: &std::path::Path| match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(super::io_error("remove", path, &error))
        }
        _ => Ok(()),
    };
    let counted = match (live, seal) {
        (true, _) => u64::MAX,
        (false, Some(seal)) => seal.0,
        (false, None) => reader.end(log)?.last,
    };
    if !live && before.0 > counted {
        return match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(super::io_error("remove", &dir, &error))
            }
            _ => Ok(()),
        };
    }
    let over = segments.windows(2).take_while(|pair| pair[1].first <= before.0);
    over.map(|pair| &pair[0].path).try_for_each(|path| remove(path))
}

impl Checkpoints for LocalStore {
    fn put(&self, meta: CheckpointMeta, state: Bytes) -> StoreResult<'_, ()> {
        Box::pin(async move {
            if state.len() > MAX_CHECKPOINT {
                return Err(StoreError::TooLarge {
                    what: "a checkpoint",
                    size: state.len(),
                    limit: MAX_CHECKPOINT,
                });
            }
            backend::check_state(&meta, &state)?;
            let log = meta.log;
            let writer = self.putter(log)?;
            let outcome = writer.send((meta, state))?;
            let result = outcome.await.map_err(|_| gone(writer.name()))?;
            if let Err(StoreError::Io { .. } | StoreError::Refused { .. }) = &result {
                self.replace_putter(log, writer).await;
            }
            result
        })
    }

    fn list(&self, match_id: MatchId) -> StoreResult<'_, (Vec<CheckpointMeta>, Vec<StoreError>)> {
        Box::pin(self.indexed(move |index| index.list(match_id)))
    }

    fn get(&self, meta: &CheckpointMeta) -> StoreResult<'_, Bytes> {
        let meta = meta.clone();
        Box::pin(self.indexed(move |index| index.get(&meta)))
    }

    fn trim(&self, match_id: MatchId, before: Seq) -> StoreResult<'_, ()> {
        let durable = Arc::clone(&self.durable);
        Box::pin(self.indexed(move |index| {
            let writing = durable.lock().clone();
            index.trim(match_id, before, &writing)
        }))
    }
}

pub(super) fn decoded<T>(table: Table, decoded: Result<T, CodecError>) -> Result<T, StoreError> {
    decoded.map_err(|error| StoreError::Corrupt {
        place: format!("node.db, table {}", table.name()),
        problem: error.to_string(),
    })
}

/// The lease of one node.
fn node(rows: &Rows<'_>, node: Incarnation) -> Result<Option<NodeLease>, StoreError> {
    let found = rows.get(Table::NodeLease, [node.0, 0, 0])?;
    found.map(|value| decoded(Table::NodeLease, NodeLease::decode(&value))).transpose()
}

fn node_row(rows: &Rows<'_>, incarnation: Incarnation) -> Result<NodeLease, StoreError> {
    node(rows, incarnation)?
        .ok_or_else(|| StoreError::NotFound(format!("the lease of node incarnation {incarnation}")))
}

fn put_node(rows: &Rows<'_>, lease: &NodeLease) -> Result<(), StoreError> {
    rows.put(Table::NodeLease, [lease.incarnation.0, 0, 0], Some(&lease.encode()))
}

fn match_row(rows: &Rows<'_>, match_id: MatchId) -> Result<Option<MatchLease>, StoreError> {
    let found = rows.get(Table::MatchLease, [match_id.0, 0, 0])?;
    found.map(|value| decoded(Table::MatchLease, MatchLease::decode(&value))).transpose()
}

fn put_match(rows: &Rows<'_>, lease: &MatchLease) -> Result<(), StoreError> {
    rows.put(Table::MatchLease, [lease.match_id.0, 0, 0], Some(&lease.encode()))
}

impl Leases for LocalStore {
    fn register(&self, lease: NodeLease) -> StoreResult<'_, ()> {
        Box::pin(self.facts.change(move |rows| match node(rows, lease.incarnation)? {
            Some(found) if found != lease => Err(backend::registered_twice(lease.incarnation)),
            Some(_) => Ok(()),
            None => put_node(rows, &lease),
        }))
    }

    fn renew(
        &self,
        node: Incarnation,
        deadline_ms: u64,
        reached: Option<Reached>,
    ) -> StoreResult<'_, Renewal> {
        Box::pin(async move {
            self.watched(Watch::look_at_facts).await?;
            let renewal = self
                .facts
                .change(move |rows| {
                    let lease = node_row(rows, node)?;
                    if lease.state != NodeState::Live {
                        return Ok(Renewal::Fenced);
                    }
                    put_node(
                        rows,
                        &NodeLease { deadline_ms, reached: reached.or(lease.reached), ..lease },
                    )?;
                    Ok(Renewal::Live)
                })
                .await?;
            if renewal == Renewal::Live {
                // The log of a fenced node may go; that of a live one may not.
                self.watched(Watch::look).await?;
            }
            Ok(renewal)
        })
    }

    fn stop(&self, node: Incarnation) -> StoreResult<'_, Renewal> {
        Box::pin(async move {
            self.watched(Watch::look).await?;
            let stop = move |rows: &Rows<'_>| {
                let lease = node_row(rows, node)?;
                match lease.state {
                    NodeState::Fenced => Ok(Renewal::Fenced),
                    NodeState::Stopped => Ok(Renewal::Live),
                    NodeState::Live => {
                        put_node(rows, &NodeLease { state: NodeState::Stopped, ..lease })?;
                        Ok(Renewal::Live)
                    }
                }
            };
            self.facts.change(stop).await
        })
    }

    fn fence(&self, node: Incarnation) -> StoreResult<'_, ()> {
        Box::pin(async move {
            let lease = self.facts.look(move |rows| node_row(rows, node)).await?;
            // Killed first: a process that was stopped in the middle of a transaction holds the
            // lock that the change below needs.
            if lease.state == NodeState::Live {
                let root = self.root.clone();
                blocking(move || {
                    fence::kill(&root, &lease);
                    Ok(())
                })
                .await?;
            }
            self.facts
                .change(move |rows| {
                    let lease = node_row(rows, node)?;
                    if lease.state == NodeState::Fenced {
                        Ok(())
                    } else {
                        put_node(rows, &NodeLease { state: NodeState::Fenced, ..lease })
                    }
                })
                .await
        })
    }

    fn seal(&self, node: Incarnation, last: BatchNo) -> StoreResult<'_, BatchNo> {
        Box::pin(self.facts.change(move |rows| {
            let lease = node_row(rows, node)?;
            match lease.seal {
                _ if lease.state != NodeState::Fenced => Err(backend::sealed_unfenced(node)),
                Some(seal) => Ok(seal),
                None => {
                    put_node(rows, &NodeLease { seal: Some(last), ..lease })?;
                    Ok(last)
                }
            }
        }))
    }

    fn accept_loss(&self, node: Incarnation, last: BatchNo, at_ms: u64) -> StoreResult<'_, ()> {
        Box::pin(self.facts.change(move |rows| {
            let lease = backend::loss_accepted(node_row(rows, node)?, last, at_ms)?;
            put_node(rows, &lease)
        }))
    }

    fn nodes(&self) -> StoreResult<'_, Vec<NodeLease>> {
        Box::pin(self.facts.look(|rows| {
            let found = rows.all(Table::NodeLease)?;
            found
                .iter()
                .map(|(_, value)| decoded(Table::NodeLease, NodeLease::decode(value)))
                .collect()
        }))
    }

    fn node(&self, incarnation: Incarnation) -> StoreResult<'_, Option<NodeLease>> {
        Box::pin(self.facts.look(move |rows| node(rows, incarnation)))
    }

    fn forget(&self, incarnation: Incarnation) -> StoreResult<'_, ()> {
        Box::pin(self.facts.change(move |rows| match node(rows, incarnation)? {
            Some(lease) if lease.state == NodeState::Live => Err(backend::forgot_live(incarnation)),
            Some(_) => rows.put(Table::NodeLease, [incarnation.0, 0, 0], None),
            None => Ok(()),
        }))
    }

    fn create(&self, lease: MatchLease) -> StoreResult<'_, ()> {
        Box::pin(self.facts.change(move |rows| match match_row(rows, lease.match_id)? {
            Some(found) if found != lease => Err(backend::created_twice(lease.match_id)),
            Some(_) => Ok(()),
            None => put_match(rows, &lease),
        }))
    }

    fn compare_and_set(
        &self,
        lease: MatchLease,
    ) -> StoreResult<'_, Result<(), Option<MatchLease>>> {
        Box::pin(self.facts.change(move |rows| {
            let found = match_row(rows, lease.match_id)?;
            if found
                .as_ref()
                .is_none_or(|found| found.version.checked_add(1) != Some(lease.version))
            {
                return Ok(Err(found));
            }
            put_match(rows, &lease).map(Ok)
        }))
    }

    fn get(&self, match_id: MatchId) -> StoreResult<'_, Option<MatchLease>> {
        Box::pin(self.facts.look(move |rows| match_row(rows, match_id)))
    }

    fn matches(&self) -> StoreResult<'_, Vec<MatchLease>> {
        Box::pin(self.facts.look(|rows| {
            let found = rows.all(Table::MatchLease)?;
            found
                .iter()
                .map(|(_, value)| decoded(Table::MatchLease, MatchLease::decode(value)))
                .collect()
        }))
    }

    fn remove(&self, match_id: MatchId, version: u64) -> StoreResult<'_, bool> {
        Box::pin(self.facts.change(move |rows| match match_row(rows, match_id)? {
            None => Ok(true),
            Some(row) if !matches!(row.state, MatchState::Ended { .. }) => {
                Err(backend::removed_unended(match_id))
            }
            Some(row) if row.version != version => Ok(false),
            Some(_) => rows.put(Table::MatchLease, [match_id.0, 0, 0], None).map(|()| true),
        }))
    }
}

/// Makes the first identity or the next one, inside the transaction that keeps other processes from
/// doing the same.
fn make_identity(
    rows: &Rows<'_>,
    root: &std::path::Path,
    old: Option<StoreIdentity>,
    make: impl FnOnce(Option<&StoreIdentity>, String) -> StoreIdentity,
) -> Result<StoreIdentity, StoreError> {
    forget_strangers(rows, root)?;
    let new = identity::write(root, |place| make(old.as_ref(), place))?;
    announce(&root.display().to_string(), old.as_ref(), &new);
    Ok(new)
}

/// Live leases that name a process which has this store not open name no process from now on. It is
/// a node of the store of which this one is a copy, or dead: nobody needs to wait for it, and
/// nobody touches it.
fn forget_strangers(rows: &Rows<'_>, root: &std::path::Path) -> Result<(), StoreError> {
    let here = rekindle_store::process::this_host();
    for (_, value) in rows.all(Table::NodeLease)? {
        let lease = decoded(Table::NodeLease, NodeLease::decode(&value))?;
        let of_here = lease.host.is_empty() || lease.host == here;
        if lease.state != NodeState::Live || lease.pid == 0 || !of_here {
            continue;
        }
        if matches!(fence::holder_of(root, &lease), Holder::Gone | Holder::Stranger) {
            put_node(rows, &NodeLease { pid: 0, pid_start: 0, host: String::new(), ..lease })?;
        }
    }
    Ok(())
}

fn highest_epoch(rows: &Rows<'_>) -> Result<Option<Epoch>, StoreError> {
    let found = rows.all(Table::MatchLease)?;
    let leases: Result<Vec<_>, _> = found
        .iter()
        .map(|(_, value)| decoded(Table::MatchLease, MatchLease::decode(value)))
        .collect();
    leases.map(|leases| highest(&leases))
}

impl LocalStore {
    /// Looks at files on the blocking pool.
    async fn watched(
        &self,
        look: impl FnOnce(&Watch) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let watch = Arc::clone(&self.watch);
        blocking(move || look(&watch)).await
    }
}

impl Identity for LocalStore {
    fn current(&self) -> StoreResult<'_, Option<StoreIdentity>> {
        let root = self.root.clone();
        Box::pin(blocking(move || identity::read(&root)))
    }

    fn ascertain(&self, fresh: Fresh) -> StoreResult<'_, StoreIdentity> {
        let root = self.root.clone();
        Box::pin(async move {
            let look = root.clone();
            // In nearly all cases nothing is to be changed.
            if let identity::Found::Here(found) = blocking(move || identity::find(&look)).await? {
                return Ok(found);
            }
            let change = move |rows: &Rows<'_>| {
                let highest = highest_epoch(rows)?;
                match identity::find(&root)? {
                    identity::Found::Here(found) => Ok(found),
                    identity::Found::Nothing => {
                        make_identity(rows, &root, None, |_, place| first(fresh, place, highest))
                    }
                    identity::Found::Elsewhere(old, why) => {
                        make_identity(rows, &root, Some(old), |old, place| {
                            next(old, fresh, place, why, highest)
                        })
                    }
                    identity::Found::Damaged(problem) => {
                        let why = format!("the file `{}` was damaged: {problem}", identity::FILE);
                        make_identity(rows, &root, None, |_, place| {
                            next(None, fresh, place, &why, highest)
                        })
                    }
                }
            };
            self.facts.change(change).await
        })
    }

    fn renew(&self, fresh: Fresh, because: &str, above: Epoch) -> StoreResult<'_, StoreIdentity> {
        let (root, because) = (self.root.clone(), because.to_owned());
        Box::pin(self.facts.change(move |rows| {
            let highest = highest_epoch(rows)?.max(Some(above));
            let old = match identity::find(&root)? {
                identity::Found::Here(old) | identity::Found::Elsewhere(old, _) => Some(old),
                identity::Found::Nothing | identity::Found::Damaged(_) => None,
            };
            make_identity(rows, &root, old, |old, place| next(old, fresh, place, &because, highest))
        }))
    }

    fn holder(&self, lease: &NodeLease) -> StoreResult<'_, Holder> {
        let (root, lease) = (self.root.clone(), lease.clone());
        Box::pin(blocking(move || Ok(fence::holder_of(&root, &lease))))
    }
}

impl EffectSink for LocalStore {
    fn deliver(&self, match_id: MatchId, effect: Effect) -> StoreResult<'_, bool> {
        Box::pin(self.facts.change(move |rows| {
            let key = [match_id.0, effect.id.tick.0, u64::from(effect.id.ordinal)];
            if rows.get(Table::Effect, key)?.is_some() {
                return Ok(false);
            }
            rows.put(Table::Effect, key, Some(&codec::encode(EFFECT_TAG, &effect)))?;
            Ok(true)
        }))
    }

    fn delivered(&self) -> StoreResult<'_, Vec<(MatchId, Effect)>> {
        Box::pin(self.facts.look(|rows| {
            let found = rows.all(Table::Effect)?;
            found
                .iter()
                .map(|(key, value)| {
                    Ok((MatchId(key[0]), decoded(Table::Effect, codec::decode(EFFECT_TAG, value))?))
                })
                .collect()
        }))
    }
}
