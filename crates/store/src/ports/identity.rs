//! The identity port: which store this is. The rules are in [`crate::identity`].
//!
//! Called by nodes when they start and before they take matches over, by copies, and by an
//! operator.

use rekindle_schema::Epoch;
use rekindle_schema::lease::NodeLease;

use super::StoreResult;
use crate::identity::{Fresh, Holder, StoreIdentity};

/// Which store this is, so that a copy of it is told from its original. See [`crate::identity`].
pub trait Identity: Send + Sync + 'static {
    /// The identity as it stands; `None` if no node has run on this store yet. Changes nothing.
    fn current(&self) -> StoreResult<'_, Option<StoreIdentity>>;
    /// The identity of the store in the place where it is now: made if there is none, replaced if
    /// the store is no longer where it was (it was copied or restored). Nodes call it when they
    /// start, before they register, and before they take matches over.
    ///
    /// A local store also forgets the processes of live leases then, unless they have this store
    /// open: they are those of its original.
    fn ascertain(&self, fresh: Fresh) -> StoreResult<'_, StoreIdentity>;
    /// A new identity in any case, with a floor above `above` and above every epoch in the store.
    /// `because` says why. Nodes that run learn of it before they next take matches over.
    fn renew(&self, fresh: Fresh, because: &str, above: Epoch) -> StoreResult<'_, StoreIdentity>;
    /// What is known of the process that registered `lease`, if it is one of this host.
    fn holder(&self, lease: &NodeLease) -> StoreResult<'_, Holder>;
}
