//! Where the demo's node keeps its directory and its store, and what of it stays.

use std::path::PathBuf;

use rekindle_store_open::address::StoreAddress;

use crate::cli::context::Context;
use crate::clock;
use crate::exit::{Exit, Failure};

/// Where the demo's node keeps everything.
pub(super) struct Home {
    /// The data directory of the demo's node.
    pub(super) dir: PathBuf,
    /// In `dir`, or tables of this demo's own on the servers that the command line names.
    pub(super) store: StoreAddress,
    /// The directory was made for this demo and goes with it.
    temporary: bool,
}

impl Home {
    /// A new directory, or what the command line names.
    /// Several nodes have a directory of their own in it each, and the store beside those.
    pub(super) fn choose(context: &Context, nodes: u16) -> Result<Self, Failure> {
        let temporary = context.common.data_dir.is_none();
        let dir = if temporary {
            std::env::temp_dir().join(format!("rekindle-demo-{:08x}", clock::random() >> 32))
        } else {
            context.config.data_dir.clone()
        };
        let own = if nodes > 1 { dir.join("store") } else { dir.clone() };
        let store = match &context.config.store {
            // A file or the environment may name a store at work: the demo goes there only if it is
            // told to.
            _ if context.common.store.is_none() => StoreAddress::Local(own),
            StoreAddress::Memory => {
                let message = "RK-DEMO-009: a store in memory is gone with the node that the demo \
                    kills; name another one";
                return Err(Failure::new(Exit::Usage, message));
            }
            // `local` alone: in the data directory.
            StoreAddress::Local(named) if *named == context.config.data_dir => {
                StoreAddress::Local(own)
            }
            StoreAddress::Local(named) => StoreAddress::Local(named.clone()),
            remote => remote.apart(&format!("demo_{:08x}", clock::random() >> 32)),
        };
        let local = if let StoreAddress::Local(named) = &store { Some(named) } else { None };
        for dir in [Some(&dir), local].into_iter().flatten() {
            if dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
                let message = format!(
                    "RK-DEMO-004: {} is not empty; the demo needs a directory of its own",
                    dir.display()
                );
                return Err(Failure::new(Exit::Usage, message));
            }
        }
        Ok(Self { dir, store, temporary })
    }

    /// Makes the tables on servers.
    pub(super) async fn prepare(&self) -> Result<(), Failure> {
        self.store.migrate().await?;
        Ok(())
    }

    /// Removes what is temporary unless there is something to look into. Returns where the journal
    /// is if it stays.
    pub(super) async fn finish(&self, holds: bool) -> Option<StoreAddress> {
        if self.temporary
            && holds
            && let Err(error) = std::fs::remove_dir_all(&self.dir)
        {
            tracing::warn!(code = "RK-DEMO-006", path = %self.dir.display(), %error, "the demo's \
                directory is left behind");
        }
        let own_tables = self.store.is_remote();
        let kept = !holds
            || !(self.temporary || own_tables)
            || matches!(&self.store, StoreAddress::Local(dir) if !dir.starts_with(&self.dir));
        if own_tables
            && !kept
            && let Err(error) = self.store.discard().await
        {
            tracing::warn!(code = "RK-DEMO-010", store = %self.store, %error, "the demo's tables \
                are left behind");
        }
        kept.then(|| self.store.clone())
    }
}
