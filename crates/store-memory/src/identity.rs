//! The identity port. Memory is copied by nobody, so the first identity stays until it is renewed.

use rekindle_schema::Epoch;
use rekindle_schema::lease::NodeLease;
use rekindle_store::identity::{Fresh, Holder, StoreIdentity, first, next};
use rekindle_store::{Identity, StoreResult};

use super::{MemoryStore, Op, Shared};

/// Memory is copied by nobody: its place is always the same.
const PLACE: &str = "memory";

fn highest(shared: &Shared) -> Option<Epoch> {
    shared.matches.values().map(|row| row.epoch).max()
}

impl Identity for MemoryStore {
    fn current(&self) -> StoreResult<'_, Option<StoreIdentity>> {
        Box::pin(self.run(Op::Identity, |shared| Ok(shared.identity.clone())))
    }

    fn ascertain(&self, fresh: Fresh) -> StoreResult<'_, StoreIdentity> {
        Box::pin(self.run(Op::Identity, move |shared| {
            let highest = highest(shared);
            Ok(shared
                .identity
                .get_or_insert_with(|| first(fresh, PLACE.to_owned(), highest))
                .clone())
        }))
    }

    fn renew(&self, fresh: Fresh, because: &str, above: Epoch) -> StoreResult<'_, StoreIdentity> {
        let because = because.to_owned();
        Box::pin(self.run(Op::Identity, move |shared| {
            let highest = highest(shared).max(Some(above));
            let new = next(shared.identity.as_ref(), fresh, PLACE.to_owned(), &because, highest);
            shared.identity = Some(new.clone());
            Ok(new)
        }))
    }

    fn holder(&self, lease: &NodeLease) -> StoreResult<'_, Holder> {
        // Whoever has this memory is this process.
        let mine = lease.pid == std::process::id()
            && rekindle_store::process::start_time(lease.pid) == Some(lease.pid_start);
        Box::pin(async move { Ok(if mine { Holder::Holds } else { Holder::Unknown }) })
    }
}
