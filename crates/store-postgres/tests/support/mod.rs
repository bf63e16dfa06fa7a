//! What tests on a real Postgres need: a schema of their own, a way to it through a proxy, a server
//! that may be killed.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rekindle_store::Store;
use rekindle_store_conformance::Backend;
use rekindle_store_postgres::{self as postgres, PostgresOptions, PostgresStore};
use rekindle_testservers::Proxy;
use tokio::time::sleep;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls};

/// The server to test on, or a loud word that there is none.
pub(crate) fn address() -> Option<String> {
    let server = rekindle_testservers::postgres();
    if server.is_none() {
        rekindle_testservers::skipped(
            "a test of the Postgres store",
            "there is no Postgres server",
        );
    }
    server.map(|server| server.url)
}

/// A name that no other test has, in this process or another.
pub(crate) fn unique_schema() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("rk_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn with_parameters(address: &str, schema: &str) -> String {
    let mark = if address.contains('?') { '&' } else { '?' };
    format!("{address}{mark}schema={schema}&application_name={schema}&pool=4")
}

/// A connection of the test itself, in this schema.
pub(crate) async fn client(address: &str, schema: &str) -> Client {
    let mut config: Config = address.parse().expect("the test server's address");
    config.options(format!("-c search_path={schema}"));
    let (client, connection) = config.connect(NoTls).await.expect("the test server answers");
    tokio::spawn(connection);
    client
}

/// A fresh schema with the tables of this release, dropped at the end.
pub(crate) struct Fresh {
    pub(crate) address: String,
    pub(crate) options: PostgresOptions,
}

impl Fresh {
    /// On the shared server; `None`, with a word about it, if there is none.
    pub(crate) async fn new() -> Option<Self> {
        Some(Self::on(&address()?).await)
    }

    pub(crate) async fn on(address: &str) -> Self {
        let fresh = Self::unmigrated(address);
        postgres::migrate(&fresh.options).await.expect("a fresh schema can be migrated");
        fresh
    }

    pub(crate) fn unmigrated(address: &str) -> Self {
        let schema = unique_schema();
        let options = PostgresOptions::parse(&with_parameters(address, &schema))
            .expect("the test server's address");
        Self { address: address.to_owned(), options }
    }

    pub(crate) fn schema(&self) -> &str {
        self.options.schema()
    }

    pub(crate) async fn store(&self) -> Store {
        self.store_with(|_| {}).await
    }

    pub(crate) async fn store_with(&self, change: impl FnOnce(&mut PostgresOptions)) -> Store {
        let mut options = self.options.clone();
        change(&mut options);
        PostgresStore::connect(options).await.expect("the test server is fit for use")
    }

    /// A proxy to its server, and options for the same schema through it.
    pub(crate) fn proxied(&self) -> (Proxy, PostgresOptions) {
        let config: Config = self.address.parse().expect("the test server's address");
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            other => panic!("a proxy needs a server that listens on TCP, not {other:?}"),
        };
        let proxy =
            Proxy::to(&format!("{host}:{}", config.get_ports().first().copied().unwrap_or(5432)));
        let password = config
            .get_password()
            .map_or_else(String::new, |password| format!(":{}", String::from_utf8_lossy(password)));
        let (user, database) =
            (config.get_user().unwrap_or_default(), config.get_dbname().unwrap_or_default());
        let address =
            format!("postgres://{user}{password}@{}/{database}?sslmode=disable", proxy.address());
        let options = PostgresOptions::parse(&with_parameters(&address, self.schema()))
            .expect("the proxy's address");
        (proxy, options)
    }

    pub(crate) async fn client(&self) -> Client {
        client(&self.address, self.schema()).await
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let (address, schema) = (self.address.clone(), self.schema().to_owned());
        let drop_it = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let config: Config = address.parse().expect("the test server's address");
                let Ok((client, connection)) = config.connect(NoTls).await else { return };
                tokio::spawn(connection);
                // In pieces: one transaction that drops hundreds of partitions may need more locks
                // than there are.
                let tables = "SELECT format('DROP TABLE IF EXISTS %I.%I', schemaname, tablename) \
                              FROM pg_tables \
                              WHERE schemaname = $1 AND tablename LIKE 'batch\\_%'";
                for row in client.query(tables, &[&schema]).await.unwrap_or_default() {
                    let _ = client.batch_execute(row.get(0)).await;
                }
                let _ =
                    client.batch_execute(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE")).await;
            });
        };
        let _ = std::thread::spawn(drop_it).join();
    }
}

impl Backend for Fresh {
    async fn open(&self) -> Store {
        self.store().await
    }
}

/// A server that belongs to one test and may be killed. Stopped and removed at the end.
pub(crate) struct PrivateServer {
    root: tempfile::TempDir,
    bin: PathBuf,
    port: u16,
}

fn postgres_bin() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    let on_path = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path)
            .find(|dir| dir.join("initdb").exists() && dir.join("pg_ctl").exists())
    });
    found.pop().or(on_path)
}

impl PrivateServer {
    /// Starts one with these settings added. `None`, with a word about it, if Postgres is not
    /// installed here or no server is to be tested on.
    pub(crate) fn start(settings: &str) -> Option<Self> {
        address()?;
        let Some(bin) = postgres_bin() else {
            rekindle_testservers::skipped(
                "a test that kills a Postgres server",
                "initdb and pg_ctl are not installed",
            );
            return None;
        };
        let root = tempfile::Builder::new()
            .prefix("rekindle-postgres-")
            .tempdir_in("/tmp")
            .expect("a directory");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let this = Self { root, bin, port };
        if this.as_root() {
            let chown = Command::new("chown")
                .arg("-R")
                .arg("postgres")
                .arg(this.root.path())
                .status()
                .expect("chown runs");
            assert!(
                chown.success(),
                "the server's directory must belong to another user than root"
            );
        }
        this.run(
            "initdb",
            &["-U", "rekindle", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"],
        );
        let own = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = \
             ''\nshared_buffers = 32MB\nmax_connections = 60\n{settings}\n"
        );
        let path = this.data().join("postgresql.conf");
        let text = std::fs::read_to_string(&path).expect("initdb wrote a configuration");
        std::fs::write(&path, text + &own).expect("the configuration can be written");
        this.up();
        Some(this)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn address(&self) -> String {
        format!("postgres://rekindle@127.0.0.1:{}/postgres", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn as_root(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(self.root.path()).is_ok_and(|meta| meta.uid() == 0)
            || rustix::process::geteuid().is_root()
    }

    fn run(&self, tool: &str, arguments: &[&str]) -> Output {
        let tool = self.bin.join(tool);
        let mut command = if self.as_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(tool);
            command
        } else {
            Command::new(tool)
        };
        // Into files: a server that inherits a pipe keeps it open.
        let said = std::fs::File::create(self.root.path().join("said")).expect("a file");
        command
            .arg("-D")
            .arg(self.data())
            .args(arguments)
            .stdin(Stdio::null())
            .current_dir(self.root.path());
        command.stdout(said.try_clone().expect("a file")).stderr(said);
        let output = command.output().expect("Postgres's tools run");
        let said = std::fs::read_to_string(self.root.path().join("said")).unwrap_or_default();
        assert!(output.status.success(), "{arguments:?}: {said}");
        output
    }

    /// Starts it and waits until it answers.
    pub(crate) fn up(&self) {
        let log = self.root.path().join("server.log");
        self.run("pg_ctl", &["-w", "-t", "60", "-l", &log.display().to_string(), "start"]);
    }

    /// Kills it as a crash would: no checkpoint, no good-bye.
    pub(crate) fn down(&self) {
        self.run("pg_ctl", &["-w", "-m", "immediate", "stop"]);
    }

    pub(crate) fn restart(&self) {
        let log = self.root.path().join("server.log");
        self.run(
            "pg_ctl",
            &["-w", "-t", "60", "-m", "immediate", "-l", &log.display().to_string(), "restart"],
        );
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            self.down();
        }
    }
}

/// Runs blocking work of the test beside the runtime.
pub(crate) async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it does not panic")
}

/// Waits until `holds` says yes.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..3_000 {
        if holds().await {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain until {what}");
}
