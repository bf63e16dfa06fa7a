//! The journal port: batches are written, then synced; a power cut takes what is in between.

use rekindle_schema::batch::{Batch, BatchView};
use rekindle_schema::lease::NodeState;
use rekindle_schema::{BatchNo, Incarnation};
use rekindle_store::{Journal, LogInfo, StoreError, StoreResult, Tail, backend};

use super::{MemoryLog, MemoryStore, Op, Shared, pause, power_failed};

fn corrupt(log: Incarnation, number: u64, problem: impl ToString) -> StoreError {
    StoreError::Corrupt {
        place: format!("log {log}, batch {number}"),
        problem: problem.to_string(),
    }
}

/// Writes a batch into its log, unsynced.
fn write(shared: &mut Shared, batch: &Batch) -> Result<(), StoreError> {
    let envelope = backend::check_batch(batch)?;
    let log = shared
        .logs
        .entry(batch.incarnation)
        .or_insert_with(|| MemoryLog { first: 1, ..MemoryLog::default() });
    if let Some(error) = &log.failed {
        return Err(error.clone());
    }
    let conflict = StoreError::Conflict { log: batch.incarnation, number: batch.number };
    let last = log.last();
    if batch.number.0 <= last {
        let same = batch.number.0 < log.first
            || log.batches[(batch.number.0 - log.first) as usize].bytes == batch.bytes;
        return if same { Ok(()) } else { Err(conflict) };
    }
    if batch.number.0 != last + 1 {
        return Err(StoreError::Gap {
            log: batch.incarnation,
            last: BatchNo(last),
            got: batch.number,
        });
    }
    if log.batches.back().is_some_and(|before| before.crc() != envelope.prev_crc) {
        return Err(conflict);
    }
    log.batches.push_back(batch.clone());
    Ok(())
}

impl Journal for MemoryStore {
    fn begin(&self, log: Incarnation, first: BatchNo) -> StoreResult<'_, ()> {
        Box::pin(self.run(Op::Maintain, move |shared| {
            let first = first.max(BatchNo(1));
            let entry = shared.logs.entry(log).or_default();
            if !entry.batches.is_empty() {
                let found = BatchNo(entry.first);
                return if found == first {
                    Ok(())
                } else {
                    Err(backend::begun_elsewhere(log, found, first))
                };
            }
            (entry.first, entry.synced) = (first.0, first.0 - 1);
            Ok(())
        }))
    }

    fn append(&self, batch: Batch) -> StoreResult<'_, ()> {
        Box::pin(async move {
            let fate = (self.plan)(Op::Append(batch.incarnation, batch.number));
            pause(fate.before).await;
            let cuts = {
                let mut shared = self.shared.lock();
                if let Some(error) = fate.fail {
                    if matches!(error, StoreError::Io { .. }) {
                        let log = shared
                            .logs
                            .entry(batch.incarnation)
                            .or_insert_with(|| MemoryLog { first: 1, ..MemoryLog::default() });
                        log.failed = Some(error.clone());
                    }
                    return Err(error);
                }
                write(&mut shared, &batch)?;
                shared.cuts
            };
            pause(fate.sync).await;
            {
                let mut shared = self.shared.lock();
                if shared.cuts != cuts {
                    return Err(power_failed());
                }
                if let Some(log) = shared.logs.get_mut(&batch.incarnation) {
                    log.synced = log.synced.max(batch.number.0);
                }
                if shared
                    .nodes
                    .get(&batch.incarnation)
                    .is_none_or(|lease| lease.state != NodeState::Live)
                {
                    return Err(StoreError::Fenced(batch.incarnation));
                }
            }
            pause(fate.after).await;
            if fate.lose_answer {
                return Err(StoreError::Unavailable(format!(
                    "the answer to batch {} was lost",
                    batch.number
                )));
            }
            Ok(())
        })
    }

    fn read(
        &self,
        log: Incarnation,
        from: BatchNo,
        max_bytes: usize,
    ) -> StoreResult<'_, Vec<Batch>> {
        Box::pin(self.run(Op::Read(log), move |shared| {
            let Some(entry) = shared.logs.get(&log) else { return Ok(Vec::new()) };
            let from = from.0.max(1);
            if from < entry.first {
                return Err(StoreError::NotFound(format!(
                    "batch {from} of log {log}: it was trimmed up to batch {},",
                    entry.first
                )));
            }
            let mut found: Vec<Batch> = Vec::new();
            let mut bytes = 0;
            for batch in entry.batches.iter().skip((from - entry.first) as usize) {
                bytes += batch.bytes.len();
                if bytes > max_bytes && !found.is_empty() {
                    break;
                }
                match BatchView::parse(&batch.bytes) {
                    Ok(_) => found.push(batch.clone()),
                    Err(_) if batch.number.0 == entry.last() => break,
                    Err(_) if !found.is_empty() => break,
                    Err(error) => return Err(corrupt(log, batch.number.0, error)),
                }
            }
            Ok(found)
        }))
    }

    fn tail(&self, log: Incarnation) -> StoreResult<'_, Tail> {
        Box::pin(self.run(Op::Tail(log), move |shared| {
            let Some(entry) = shared.logs.get(&log) else {
                return Ok(Tail { last: BatchNo(0), proven: BatchNo(0), torn: None, damage: None });
            };
            let mut tail =
                Tail { last: BatchNo(entry.last()), proven: BatchNo(0), torn: None, damage: None };
            let mut whole = false;
            for batch in entry.batches.iter().rev() {
                let Err(error) = BatchView::parse(&batch.bytes) else {
                    whole = true;
                    continue;
                };
                let report = Some(format!("log {log}, batch {}: {error}", batch.number));
                if whole {
                    tail.damage = report;
                } else {
                    (tail.last, tail.torn) = (BatchNo(batch.number.0 - 1), report);
                }
            }
            tail.proven = tail.last;
            Ok(tail)
        }))
    }

    fn settle(&self, log: Incarnation, last: BatchNo) -> StoreResult<'_, ()> {
        Box::pin(self.run(Op::Settle(log), move |shared| {
            let Some(entry) = shared.logs.get_mut(&log) else {
                return if last.0 == 0 {
                    Ok(())
                } else {
                    Err(StoreError::NotFound(format!("log {log}")))
                };
            };
            if last.0 > entry.last() {
                return Err(StoreError::NotFound(format!("batch {last} of log {log}")));
            }
            while entry.last() > last.0
                && entry.batches.back().is_some_and(|batch| BatchView::parse(&batch.bytes).is_err())
            {
                entry.batches.pop_back();
            }
            // The power may have failed since the caller has seen it.
            let found = last.0.checked_sub(entry.first).map(|index| index as usize);
            if let Some(batch) = found.and_then(|index| entry.batches.get(index))
                && let Err(error) = BatchView::parse(&batch.bytes)
            {
                return Err(corrupt(log, last.0, error));
            }
            entry.synced = entry.synced.max(last.0);
            Ok(())
        }))
    }

    fn trim(&self, log: Incarnation, before: BatchNo) -> StoreResult<'_, ()> {
        Box::pin(self.run(Op::Maintain, move |shared| {
            let lease = shared.nodes.get(&log);
            let live = lease.is_some_and(|lease| lease.state == NodeState::Live);
            let seal = lease.and_then(|lease| lease.seal);
            let Some(entry) = shared.logs.get_mut(&log) else { return Ok(()) };
            let counted = seal.map_or(entry.last(), |seal| seal.0.min(entry.last()));
            if !live && before.0 > counted {
                shared.logs.remove(&log);
                return Ok(());
            }
            while entry.first < before.0 && entry.batches.len() > 1 {
                entry.batches.pop_front();
                entry.first += 1;
            }
            Ok(())
        }))
    }

    fn logs(&self) -> StoreResult<'_, Vec<LogInfo>> {
        Box::pin(self.run(Op::Maintain, |shared| {
            let info = |(&log, entry): (&Incarnation, &MemoryLog)| LogInfo {
                log,
                first: BatchNo(entry.first),
                bytes: entry.batches.iter().map(|batch| batch.bytes.len() as u64).sum(),
            };
            Ok(shared.logs.iter().map(info).collect())
        }))
    }
}
