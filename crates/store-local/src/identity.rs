//! The identity port. The identity is a [file](super::identity_file); it changes inside a
//! transaction of `node.db`, so that two processes never make one at the same time.

use std::path::Path;

use rekindle_schema::Epoch;
use rekindle_schema::lease::{MatchLease, NodeLease, NodeState};
use rekindle_store::identity::{Fresh, Holder, StoreIdentity, announce, first, highest, next};
use rekindle_store::process::this_host;
use rekindle_store::{Identity, StoreError, StoreResult};

use super::facts::{Rows, Table, decoded};
use super::leases::put_node;
use super::{LocalStore, blocking, fence, identity_file};

/// Makes the first identity or the next one, inside the transaction that keeps other processes from
/// doing the same.
fn make_identity(
    rows: &Rows<'_>,
    root: &Path,
    old: Option<StoreIdentity>,
    make: impl FnOnce(Option<&StoreIdentity>, String) -> StoreIdentity,
) -> Result<StoreIdentity, StoreError> {
    forget_strangers(rows, root)?;
    let new = identity_file::write(root, |place| make(old.as_ref(), place))?;
    announce(&root.display().to_string(), old.as_ref(), &new);
    Ok(new)
}

/// Live leases that name a process which has this store not open name no process from now on. It is
/// a node of the store of which this one is a copy, or dead: nobody needs to wait for it, and
/// nobody touches it.
fn forget_strangers(rows: &Rows<'_>, root: &Path) -> Result<(), StoreError> {
    let here = this_host();
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

impl Identity for LocalStore {
    fn current(&self) -> StoreResult<'_, Option<StoreIdentity>> {
        let root = self.root.clone();
        Box::pin(blocking(move || identity_file::read(&root)))
    }

    fn ascertain(&self, fresh: Fresh) -> StoreResult<'_, StoreIdentity> {
        let root = self.root.clone();
        Box::pin(async move {
            let look = root.clone();
            // In nearly all cases nothing is to be changed.
            if let identity_file::Found::Here(found) =
                blocking(move || identity_file::find(&look)).await?
            {
                return Ok(found);
            }
            let change = move |rows: &Rows<'_>| {
                let highest = highest_epoch(rows)?;
                match identity_file::find(&root)? {
                    identity_file::Found::Here(found) => Ok(found),
                    identity_file::Found::Nothing => {
                        make_identity(rows, &root, None, |_, place| first(fresh, place, highest))
                    }
                    identity_file::Found::Elsewhere(old, why) => {
                        make_identity(rows, &root, Some(old), |old, place| {
                            next(old, fresh, place, why, highest)
                        })
                    }
                    identity_file::Found::Damaged(problem) => {
                        let why =
                            format!("the file `{}` was damaged: {problem}", identity_file::FILE);
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
            let old = match identity_file::find(&root)? {
                identity_file::Found::Here(old) | identity_file::Found::Elsewhere(old, _) => {
                    Some(old)
                }
                identity_file::Found::Nothing | identity_file::Found::Damaged(_) => None,
            };
            make_identity(rows, &root, old, |old, place| next(old, fresh, place, &because, highest))
        }))
    }

    fn holder(&self, lease: &NodeLease) -> StoreResult<'_, Holder> {
        let (root, lease) = (self.root.clone(), lease.clone());
        Box::pin(blocking(move || Ok(fence::holder_of(&root, &lease))))
    }
}
