//! The local store runs the conformance suite.

use rekindle_store::Store;
use rekindle_store::conformance::Backend;
use rekindle_store::local::{LocalOptions, LocalStore};
use tempfile::TempDir;

struct Local(TempDir);

impl Backend for Local {
    fn open(&self) -> Store {
        LocalStore::open(self.0.path(), LocalOptions::default()).unwrap()
    }
}

rekindle_store::conformance_suite!(Local(tempfile::tempdir().unwrap()));
