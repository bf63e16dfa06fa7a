//! The local store runs the conformance suite: with segments of the usual size, and with ones so
//! small that every few batches begin a new one.

mod usual {
    use rekindle_store::Store;
    use rekindle_store_conformance::Backend;
    use rekindle_store_local::{LocalOptions, LocalStore};
    use tempfile::TempDir;

    struct Local(TempDir);

    impl Backend for Local {
        async fn open(&self) -> Store {
            LocalStore::open(self.0.path(), LocalOptions::default()).unwrap()
        }
    }

    rekindle_store_conformance::conformance_suite!(Local(tempfile::tempdir().unwrap()));
}

mod tiny_segments {
    use rekindle_store::Store;
    use rekindle_store_conformance::Backend;
    use rekindle_store_local::{LocalOptions, LocalStore};
    use tempfile::TempDir;

    struct Local(TempDir);

    impl Backend for Local {
        async fn open(&self) -> Store {
            LocalStore::open(
                self.0.path(),
                LocalOptions { segment_bytes: 700, ..LocalOptions::default() },
            )
            .unwrap()
        }
    }

    rekindle_store_conformance::conformance_suite!(Local(tempfile::tempdir().unwrap()));
}
