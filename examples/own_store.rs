//! A store of one's own. This one counts what is appended and leaves the rest to the store in
//! memory; a real one speaks to another database. It passes the suite that all backends run:
//!
//! ```console
//! $ cargo test --example own_store
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rekindle_schema::batch::Batch;
use rekindle_schema::{BatchNo, Incarnation, MatchId};
use rekindle_store::Store;
use rekindle_store::{Journal, LogInfo, StoreResult, Tail};
use rekindle_store_conformance::{Backend, Scribe, register};
use rekindle_store_memory::MemoryStore;

/// What was appended and acknowledged.
#[derive(Default)]
struct Counts {
    batches: AtomicU64,
    bytes: AtomicU64,
}

/// A journal that counts. No method of the port has a default: a wrapper decides about each.
struct Counted {
    inner: Arc<dyn Journal>,
    counts: Arc<Counts>,
}

impl Journal for Counted {
    fn begin(&self, log: Incarnation, first: BatchNo) -> StoreResult<'_, ()> {
        self.inner.begin(log, first)
    }

    fn append(&self, batch: Batch) -> StoreResult<'_, ()> {
        Box::pin(async move {
            let bytes = batch.bytes.len() as u64;
            // Only what the store says is durable may be counted, or acknowledged.
            self.inner.append(batch).await?;
            self.counts.batches.fetch_add(1, Ordering::Relaxed);
            self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
            Ok(())
        })
    }

    fn read(
        &self,
        log: Incarnation,
        from: BatchNo,
        max_bytes: usize,
    ) -> StoreResult<'_, Vec<Batch>> {
        self.inner.read(log, from, max_bytes)
    }

    fn tail(&self, log: Incarnation) -> StoreResult<'_, Tail> {
        self.inner.tail(log)
    }

    fn settle(&self, log: Incarnation, last: BatchNo) -> StoreResult<'_, ()> {
        self.inner.settle(log, last)
    }

    fn trim(&self, log: Incarnation, before: BatchNo) -> StoreResult<'_, ()> {
        self.inner.trim(log, before)
    }

    fn logs(&self) -> StoreResult<'_, Vec<LogInfo>> {
        self.inner.logs()
    }
}

/// The data; [`Backend::open`] gives a handle on it, as each node process would have.
struct Counting {
    memory: MemoryStore,
    counts: Arc<Counts>,
}

impl Counting {
    fn new() -> Self {
        Self { memory: MemoryStore::new(), counts: Arc::default() }
    }
}

impl Backend for Counting {
    async fn open(&self) -> Store {
        let store = self.memory.store();
        let journal =
            Counted { inner: Arc::clone(&store.journal), counts: Arc::clone(&self.counts) };
        // The other seven ports are those of the store in memory.
        Store { journal: Arc::new(journal), ..store }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mine = Counting::new();
    let store = mine.open().await;
    register(&store, Incarnation(1)).await;
    Scribe::new(Incarnation(1)).append(&store, 5, &[MatchId(1), MatchId(2)]).await;
    println!(
        "{} batches with {} bytes are durable",
        mine.counts.batches.load(Ordering::Relaxed),
        mine.counts.bytes.load(Ordering::Relaxed)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    rekindle_store_conformance::conformance_suite!(Counting::new());
}
