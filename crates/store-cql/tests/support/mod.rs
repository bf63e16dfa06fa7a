//! A real CQL server for tests: a keyspace for each test program, and in it a space for each test.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use rekindle_store::Store;
use rekindle_store_conformance::Backend;
use rekindle_store_cql::{self as cql, CqlOptions, CqlStore};
use rekindle_testservers::Control;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use tokio::sync::Mutex;

/// Nodes of the home datacentre, `host:port[,host:port]`; says so if there are none.
pub(crate) fn server() -> Option<String> {
    let Some(cql) = rekindle_testservers::cql() else {
        rekindle_testservers::skipped("the CQL store", "no CQL server");
        return None;
    };
    let home = cql.nodes.first()?.datacenter.clone();
    let nodes = cql.nodes.into_iter().filter(|node| node.datacenter == home);
    Some(nodes.map(|node| node.address).collect::<Vec<_>>().join(","))
}

/// The home datacentre, as a parameter of an address; empty if the server is not ours.
fn home() -> String {
    let home = rekindle_testservers::cql().and_then(|cql| cql.nodes.first()?.datacenter.clone());
    home.map_or(String::new(), |home| format!("&dc={home}"))
}

/// A bare session with the server.
pub(crate) async fn bare(address: &str) -> Session {
    SessionBuilder::new()
        .known_nodes(address.split(','))
        .build()
        .await
        .expect("the CQL server answers")
}

/// A name that no other test uses.
pub(crate) fn unique(what: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
    format!("{what}_{:x}_{:x}_{}", std::process::id(), now, COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A keyspace with tables, dropped with its last user.
pub(crate) struct Keyspace {
    pub(crate) address: String,
    pub(crate) name: String,
}

impl Keyspace {
    /// Makes one, with one copy in the server's datacentre.
    pub(crate) async fn make(address: &str) -> Self {
        let keyspace = Self { address: address.to_owned(), name: unique("rekindle") };
        cql::migrate(&keyspace.options()).await.expect("tables can be made");
        keyspace
    }

    pub(crate) fn options(&self) -> CqlOptions {
        CqlOptions::parse(&format!(
            "scylla://{}/{}?replication=1&timeout=10s{}",
            self.address,
            self.name,
            home()
        ))
        .unwrap()
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        let (address, name) = (self.address.clone(), self.name.clone());
        // The runtime of the test is no place to wait in.
        let dropped = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let session = bare(&address).await;
                session.query_unpaged(format!("DROP KEYSPACE IF EXISTS {name}"), ()).await.is_ok()
            })
        });
        if !dropped.join().unwrap_or(false) {
            eprintln!("keyspace {} is left over", self.name);
        }
    }
}

/// The place of one test in the keyspace of its program.
#[derive(Clone)]
pub(crate) struct Space {
    pub(crate) options: CqlOptions,
    pub(crate) keyspace: Arc<Keyspace>,
}

impl Space {
    /// A new one, if there is a server.
    pub(crate) async fn fresh() -> Option<Self> {
        static SHARED: Mutex<Weak<Keyspace>> = Mutex::const_new(Weak::new());
        let address = server()?;
        let mut shared = SHARED.lock().await;
        let keyspace = if let Some(keyspace) = shared.upgrade() {
            keyspace
        } else {
            let keyspace = Arc::new(Keyspace::make(&address).await);
            *shared = Arc::downgrade(&keyspace);
            keyspace
        };
        let mut options = keyspace.options();
        options.space = unique("test");
        Some(Self { options, keyspace })
    }

    pub(crate) async fn with(&self, change: impl FnOnce(&mut CqlOptions)) -> Store {
        let mut options = self.options.clone();
        change(&mut options);
        CqlStore::connect(options).await.expect("the store opens")
    }
}

impl Backend for Space {
    async fn open(&self) -> Store {
        self.with(|_| ()).await
    }
}

/// What kills and starts the server; says so if nothing does.
pub(crate) fn control() -> Option<Control> {
    let found = rekindle_testservers::cql().and_then(|cql| cql.control);
    if found.is_none() {
        rekindle_testservers::skipped("a CQL server that is killed", "it is not ours");
    }
    found
}

/// Repeats a batch until it is acknowledged, as the journal does. Returns how often it was refused
/// meanwhile.
pub(crate) async fn insist(store: &Store, batch: &rekindle_schema::batch::Batch) -> u32 {
    for refused in 0.. {
        match store.journal.append(batch.clone()).await {
            Ok(()) => return refused,
            Err(error) if error.is_transient() => {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    0
}
