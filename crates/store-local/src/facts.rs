//! `node.db`: leases, the match directory, delivered effects, jobs and audit, in one `SQLite`
//! database that all node processes of a host share.
//!
//! Changes go through one thread, which commits those that wait together in one transaction. Reads
//! have a connection of their own. `SQLite` does not check what it reads, so every row carries a
//! checksum over its key and value, and `totals` has the number of rows and the exclusive or of
//! their checksums for each table: a row that vanished is noticed, too.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_schema::Incarnation;
use rekindle_schema::codec::CodecError;
use rekindle_store::StoreError;
use rusqlite::{
    Connection, ErrorCode, OptionalExtension, TransactionBehavior, params, params_from_iter,
};
use tokio::sync::oneshot;

use super::file;
use super::segment::io_error;

/// The version of the tables that this code writes and reads.
pub(super) const TABLES_VERSION: i64 = 3;
/// How long a request waits for another process's transaction.
const BUSY: Duration = Duration::from_secs(5);
/// Most changes in one transaction.
const GROUP: usize = 256;
/// After this much quiet the write-ahead log is folded into the database, so that a damaged one can
/// take nothing back.
const QUIET: Duration = Duration::from_millis(200);

/// A table: its rows are found by up to three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    /// Leases of node incarnations, by incarnation.
    NodeLease,
    /// The match directory, by match.
    MatchLease,
    /// Delivered effects, by match, tick, ordinal.
    Effect,
    /// Jobs, by id.
    Job,
    /// Open jobs, by queue (its name's hash), time from which they may be claimed, id; no value.
    JobDue,
    /// Finished jobs, by time and id; no value.
    JobFinished,
    /// Who holds a unique key, by two numbers of the key's hash.
    JobKey,
    /// The audit log, by time, action, place in the action.
    Audit,
    /// The registry, by two numbers of the name's hash.
    Registry,
}

/// The key of a row; unused parts are 0.
pub(super) type Key = [u64; 3];

impl Table {
    /// All tables.
    pub(super) const ALL: [Self; 9] = [
        Self::NodeLease,
        Self::MatchLease,
        Self::Effect,
        Self::Job,
        Self::JobDue,
        Self::JobFinished,
        Self::JobKey,
        Self::Audit,
        Self::Registry,
    ];

    /// The version of the database since which it exists.
    fn since(self) -> i64 {
        match self {
            Self::NodeLease | Self::MatchLease | Self::Effect => 1,
            Self::Job | Self::JobDue | Self::JobFinished | Self::JobKey | Self::Audit => 2,
            Self::Registry => 3,
        }
    }

    /// The tables of a database of this version.
    pub(super) fn of(version: i64) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |table| table.since() <= version)
    }

    /// Its name in the database.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NodeLease => "node_lease",
            Self::MatchLease => "match_lease",
            Self::Effect => "effect",
            Self::Job => "job",
            Self::JobDue => "job_due",
            Self::JobFinished => "job_finished",
            Self::JobKey => "job_key",
            Self::Audit => "audit",
            Self::Registry => "registry",
        }
    }
}

fn row_crc(table: Table, key: &Key, value: &[u8]) -> u32 {
    let mut crc = crc32c::crc32c(table.name().as_bytes());
    for part in key {
        crc = crc32c::crc32c_append(crc, &part.to_le_bytes());
    }
    crc32c::crc32c_append(crc, value)
}

/// The value of a row of `table`; `Corrupt` if it cannot be decoded.
pub(super) fn decoded<T>(table: Table, decoded: Result<T, CodecError>) -> Result<T, StoreError> {
    decoded.map_err(|error| StoreError::Corrupt {
        place: format!("node.db, table {}", table.name()),
        problem: error.to_string(),
    })
}

/// Whether whoever looks at rows wants the next one.
pub(super) type Visit = Result<ControlFlow<()>, StoreError>;

/// In which order rows are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// The least key first.
    Ascending,
    /// The greatest key first.
    Descending,
}

/// The tables as a transaction or a reader sees them.
pub(super) struct Rows<'a> {
    connection: &'a Connection,
    path: &'a Path,
}

impl Rows<'_> {
    fn sql<T>(&self, result: rusqlite::Result<T>) -> Result<T, StoreError> {
        result.map_err(|error| sql_error(self.path, &error))
    }

    fn checked(
        &self,
        table: Table,
        key: &Key,
        value: Vec<u8>,
        crc: u32,
    ) -> Result<Vec<u8>, StoreError> {
        let computed = row_crc(table, key, &value);
        if computed == crc {
            return Ok(value);
        }
        Err(StoreError::Corrupt {
            place: format!(
                "{}, table {}, row {:016x} {} {}",
                self.path.display(),
                table.name(),
                key[0],
                key[1],
                key[2]
            ),
            problem: format!("its checksum is {crc:08x}, its content gives {computed:08x}"),
        })
    }

    /// One value.
    pub(super) fn get(&self, table: Table, key: Key) -> Result<Option<Vec<u8>>, StoreError> {
        let sql =
            format!("SELECT value, crc FROM {} WHERE a = ?1 AND b = ?2 AND c = ?3", table.name());
        let mut statement = self.sql(self.connection.prepare_cached(&sql))?;
        let [a, b, c] = key.map(u64::cast_signed);
        let found = self.sql(
            statement.query_row(params![a, b, c], |row| Ok((row.get(0)?, row.get(1)?))).optional(),
        )?;
        found.map(|(value, crc)| self.checked(table, &key, value, crc)).transpose()
    }

    /// All rows, ascending by key.
    pub(super) fn all(&self, table: Table) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        let mut found = Vec::new();
        self.visit(table, "", &[], |key, value| {
            found.push((key, value));
            Ok(ControlFlow::Continue(()))
        })?;
        found.sort_by_key(|(key, _)| *key);
        Ok(found)
    }

    /// The rows with this `a` whose `b` is at most `b`, ascending, as long as `see` goes on. Both
    /// are below 2^63.
    pub(super) fn up_to(
        &self,
        table: Table,
        a: u64,
        b: u64,
        see: impl FnMut(Key, Vec<u8>) -> Visit,
    ) -> Result<(), StoreError> {
        self.visit(
            table,
            "WHERE a = ?1 AND b <= ?2 ORDER BY b, c",
            &[a.cast_signed(), b.cast_signed()],
            see,
        )
    }

    /// The rows with `from <= a < to`, as `SQLite` compares them (signed), ascending or descending,
    /// as long as `see` goes on.
    pub(super) fn between(
        &self,
        table: Table,
        (from, to): (u64, u64),
        order: Order,
        see: impl FnMut(Key, Vec<u8>) -> Visit,
    ) -> Result<(), StoreError> {
        let tail = match order {
            Order::Ascending => "WHERE a >= ?1 AND a < ?2 ORDER BY a, b, c",
            Order::Descending => "WHERE a >= ?1 AND a < ?2 ORDER BY a DESC, b DESC, c DESC",
        };
        self.visit(table, tail, &[from.cast_signed(), to.cast_signed()], see)
    }

    fn visit(
        &self,
        table: Table,
        tail: &str,
        numbers: &[i64],
        mut see: impl FnMut(Key, Vec<u8>) -> Visit,
    ) -> Result<(), StoreError> {
        let sql = format!("SELECT a, b, c, value, crc FROM {} {tail}", table.name());
        let mut statement = self.sql(self.connection.prepare_cached(&sql))?;
        let mut rows = self.sql(statement.query(params_from_iter(numbers)))?;
        while let Some(row) = self.sql(rows.next())? {
            let read = || Ok(([row.get(0)?, row.get(1)?, row.get(2)?], row.get(3)?, row.get(4)?));
            let (key, value, crc): ([i64; 3], Vec<u8>, u32) = self.sql(read())?;
            let key = key.map(i64::cast_unsigned);
            let value = self.checked(table, &key, value, crc)?;
            if see(key, value)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Writes a row, or removes it.
    pub(super) fn put(
        &self,
        table: Table,
        key: Key,
        value: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let before = self.get(table, key)?.map(|value| row_crc(table, &key, &value));
        let after = value.map(|value| row_crc(table, &key, value));
        let [a, b, c] = key.map(u64::cast_signed);
        let name = table.name();
        if let Some(value) = value {
            let sql = format!(
                "INSERT OR REPLACE INTO {name} (a, b, c, value, crc) VALUES (?1, ?2, ?3, ?4, \
                 ?5)"
            );
            self.sql(
                self.sql(self.connection.prepare_cached(&sql))?
                    .execute(params![a, b, c, value, after]),
            )?;
        } else {
            let sql = format!("DELETE FROM {name} WHERE a = ?1 AND b = ?2 AND c = ?3");
            self.sql(self.sql(self.connection.prepare_cached(&sql))?.execute(params![a, b, c]))?;
        }
        let count = i64::from(after.is_some()) - i64::from(before.is_some());
        let change = i64::from(before.unwrap_or(0) ^ after.unwrap_or(0));
        let sql =
            "UPDATE totals SET rows = rows + ?2, crcs = (crcs | ?3) - (crcs & ?3) WHERE name = ?1";
        let updated = self.sql(
            self.sql(self.connection.prepare_cached(sql))?.execute(params![name, count, change]),
        )?;
        if updated == 1 { Ok(()) } else { Err(self.no_total(table)) }
    }

    fn no_total(&self, table: Table) -> StoreError {
        StoreError::Corrupt {
            place: format!("{}, table totals", self.path.display()),
            problem: format!("no row for {}", table.name()),
        }
    }

    /// Checks every row of the tables of `version`, the totals, and what `SQLite` itself can check.
    pub(super) fn audit(&self, version: i64) -> Vec<StoreError> {
        let mut problems = Vec::new();
        for table in Table::of(version) {
            if let Err(error) = self.audit_table(table) {
                problems.push(error);
            }
        }
        let integrity: Result<String, _> =
            self.sql(self.connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)));
        match integrity {
            Ok(text) if text == "ok" => {}
            Ok(problem) => problems
                .push(StoreError::Corrupt { place: self.path.display().to_string(), problem }),
            Err(error) => problems.push(error),
        }
        problems
    }

    /// Checks every row of the tables of `version`, and that no row is missing. An error is what is
    /// wrong with the tables that say which matches there are and whose they are; what is wrong
    /// with others is logged: those that need the row are told, and matches can run.
    pub(super) fn check(&self, version: i64) -> Result<(), StoreError> {
        for table in Table::of(version) {
            match self.audit_table(table) {
                Err(error @ StoreError::Corrupt { .. })
                    if !matches!(table, Table::NodeLease | Table::MatchLease) =>
                {
                    tracing::error!(code = "RK-STORE-114", %error, "a table of node.db is damaged; \
                        run `rekindle verify`");
                }
                checked => checked?,
            }
        }
        Ok(())
    }

    fn audit_table(&self, table: Table) -> Result<(), StoreError> {
        let (mut crcs, mut there) = (0, 0);
        self.visit(table, "", &[], |key, value| {
            crcs ^= row_crc(table, &key, &value);
            there += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        let sql = "SELECT rows, crcs FROM totals WHERE name = ?1";
        let total = self
            .connection
            .query_row(sql, [table.name()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional();
        let (count, sum): (i64, i64) = self.sql(total)?.ok_or_else(|| self.no_total(table))?;
        if (count, sum) == (there, i64::from(crcs)) {
            return Ok(());
        }
        Err(StoreError::Corrupt {
            place: format!("{}, table {}", self.path.display(), table.name()),
            problem: format!(
                "it has {there} rows with checksum {crcs:08x}, the totals say {count} with \
                 {sum:08x}"
            ),
        })
    }
}

/// An error of `SQLite`, as the port has it.
fn sql_error(path: &Path, error: &rusqlite::Error) -> StoreError {
    let place = path.display().to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            StoreError::Unavailable(format!("{place} is locked by another process: {error}"))
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Corrupt { place, problem: error.to_string() }
        }
        Some(_) => StoreError::Io { what: "use", path: place, cause: error.to_string() },
        // Not SQLite but the shape of what it returned: a column of another type.
        None => StoreError::Corrupt { place, problem: error.to_string() },
    }
}

/// Makes what a database of version `found` lacks; 0 for a new one.
fn upgrade(connection: &Connection, found: i64) -> rusqlite::Result<()> {
    if found == 0 {
        connection.execute_batch(
            "CREATE TABLE totals (name TEXT PRIMARY KEY, rows INTEGER NOT NULL, \
                crcs INTEGER NOT NULL) WITHOUT ROWID;",
        )?;
    }
    for table in Table::of(TABLES_VERSION).filter(|table| table.since() > found) {
        let name = table.name();
        connection.execute_batch(&format!(
            "CREATE TABLE {name} (a INTEGER NOT NULL, b INTEGER NOT NULL, c INTEGER NOT NULL, value BLOB NOT NULL, crc INTEGER NOT NULL,
                PRIMARY KEY (a, b, c)) WITHOUT ROWID;
            INSERT INTO totals VALUES ('{name}', 0, 0);"
        ))?;
    }
    connection.pragma_update(None, "user_version", TABLES_VERSION)
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn check_version(path: &Path, found: i64) -> Result<(), StoreError> {
    if (0..=TABLES_VERSION).contains(&found) {
        return Ok(());
    }
    Err(StoreError::Refused {
        place: path.display().to_string(),
        problem: format!(
            "its tables have version {found}, this release knows version {TABLES_VERSION}: use the \
             release that wrote it"
        ),
    })
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    let sql = |error: rusqlite::Error| sql_error(path, &error);
    // SQLite opens them by itself.
    for path in [path.to_owned(), super::wal::path(path), path.with_extension("db-shm")] {
        file::check(&path).map_err(|error| io_error("open", &path, &error))?;
    }
    let connection = Connection::open(path).map_err(sql)?;
    connection.busy_timeout(BUSY).map_err(sql)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(sql)?;
    connection.pragma_update(None, "cell_size_check", true).map_err(sql)?;
    Ok(connection)
}

/// Opens a connection to the database; creates the tables if there are none, and those that an
/// earlier release did not have.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let sql = |error: rusqlite::Error| sql_error(path, &error);
    let mut connection = open(path)?;
    let found = version(&connection).map_err(sql)?;
    check_version(path, found)?;
    if found == TABLES_VERSION {
        return Ok(connection);
    }
    if found == 0 {
        let mode: String =
            connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(sql)?;
        if mode != "wal" {
            let cause = format!(
                "the file system offers no shared memory: journal mode is {mode}, WAL is needed"
            );
            return Err(StoreError::Io { what: "set up", path: path.display().to_string(), cause });
        }
    }
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
    // Another process may have been quicker.
    let found = version(&transaction).map_err(sql)?;
    check_version(path, found)?;
    if found == 0 {
        let tables = "SELECT count(*) FROM sqlite_master";
        if transaction.query_row(tables, [], |row| row.get::<_, i64>(0)).map_err(sql)? != 0 {
            let problem = "it has tables but no version".to_owned();
            return Err(StoreError::Corrupt { place: path.display().to_string(), problem });
        }
    }
    if found < TABLES_VERSION {
        upgrade(&transaction, found).map_err(sql)?;
    }
    transaction.commit().map_err(sql)?;
    Ok(connection)
}

/// Opens a connection to a database as it stands, and says which version it has.
pub(super) fn connect_as_it_is(path: &Path) -> Result<(Connection, i64), StoreError> {
    let connection = open(path)?;
    let found = version(&connection).map_err(|error| sql_error(path, &error))?;
    check_version(path, found)?;
    if found == 0 {
        let problem = "it has no tables".to_owned();
        return Err(StoreError::Corrupt { place: path.display().to_string(), problem });
    }
    Ok((connection, found))
}

/// Looks at tables through a connection.
pub(super) fn rows<'a>(connection: &'a Connection, path: &'a Path) -> Rows<'a> {
    Rows { connection, path }
}

/// Runs inside the transaction, or learns that there is none; returns whether its changes are to
/// stay, and what tells the caller once it is known whether the transaction was committed.
type Change = Box<dyn FnOnce(Result<&Rows<'_>, StoreError>) -> (bool, Tell) + Send>;
type Tell = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// The database of one data directory.
pub(super) struct Facts {
    path: Arc<PathBuf>,
    reader: Arc<Mutex<Connection>>,
    changes: Option<Sender<Change>>,
    thread: Option<JoinHandle<()>>,
}

impl Facts {
    /// Opens the database and starts the thread that changes it.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let writer = connect(path)?;
        let reader = Arc::new(Mutex::new(connect(path)?));
        let path = Arc::new(path.to_owned());
        // Unbounded in type only: callers wait for their answers, so there are at most as many
        // entries as callers.
        let (changes, receiver) = channel();
        let of = Arc::clone(&path);
        let spawned = std::thread::Builder::new()
            .name("node.db".to_owned())
            .spawn(move || serve(writer, &of, &receiver));
        let thread = spawned.map_err(|error| {
            StoreError::Unavailable(format!("no thread for {}: {error}", path.display()))
        })?;
        Ok(Self { path, reader, changes: Some(changes), thread: Some(thread) })
    }

    /// Checks that every row is there and whole, in one view of all tables: other processes may be
    /// changing them.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let reader = self.reader.lock();
        let view = reader.unchecked_transaction().map_err(|error| sql_error(&self.path, &error))?;
        Rows { connection: &view, path: &self.path }.check(TABLES_VERSION)
    }

    /// The incarnations that have leases.
    pub(super) fn known_nodes(&self) -> Result<BTreeSet<Incarnation>, StoreError> {
        let mut found = BTreeSet::new();
        let rows = Rows { connection: &self.reader.lock(), path: &self.path };
        rows.visit(Table::NodeLease, "", &[], |key, _| {
            found.insert(Incarnation(key[0]));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Changes rows in a transaction that may contain other changes as well; `change` must check
    /// before it writes.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Rows<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (done, outcome) = oneshot::channel();
        let run: Change = Box::new(move |rows| {
            let result = rows.and_then(change);
            let tell = |result: Result<T, StoreError>| -> Tell {
                Box::new(move |committed| {
                    // Whoever asked may have gone; the change stands.
                    let _ = done.send(committed.and(result));
                })
            };
            (result.is_ok(), tell(result))
        });
        let ended = || StoreError::Io {
            what: "change",
            path: self.path.display().to_string(),
            cause: "its thread has ended".to_owned(),
        };
        self.changes.as_ref().ok_or_else(ended)?.send(run).map_err(|_| ended())?;
        outcome.await.map_err(|_| ended())?
    }

    /// Reads rows on a thread of the runtime's pool.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Rows<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reader, path) = (Arc::clone(&self.reader), Arc::clone(&self.path));
        super::blocking(move || look(&Rows { connection: &reader.lock(), path: &path })).await
    }
}

impl Drop for Facts {
    fn drop(&mut self) {
        self.changes = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported where it happened.
            let _ = thread.join();
        }
    }
}

fn serve(mut connection: Connection, path: &Path, changes: &Receiver<Change>) {
    let mut folded = true;
    loop {
        let first = if folded { changes.recv().ok() } else { changes.recv_timeout(QUIET).ok() };
        let Some(first) = first else {
            // Quiet, or the end. Another process that reads at this moment, or was stopped while it
            // read, keeps this from folding everything. That harms nothing as long as nobody waits
            // for it.
            let _ = connection.busy_timeout(Duration::ZERO);
            let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            let _ = connection.busy_timeout(BUSY);
            if folded {
                return;
            }
            folded = true;
            continue;
        };
        folded = false;
        let group: Vec<Change> = std::iter::once(first)
            .chain(std::iter::from_fn(|| changes.try_recv().ok()).take(GROUP - 1))
            .collect();
        commit(&mut connection, path, group);
    }
}

fn commit(connection: &mut Connection, path: &Path, group: Vec<Change>) {
    let sql = |error: rusqlite::Error| sql_error(path, &error);
    let transaction = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(transaction) => transaction,
        Err(error) => {
            let error = sql_error(path, &error);
            for change in group {
                change(Err(error.clone())).1(Err(error.clone()));
            }
            return;
        }
    };
    let mut outcome = Ok(());
    let mut tell: Vec<Tell> = Vec::with_capacity(group.len());
    for change in group {
        // Each change has a savepoint, so that one that fails takes only its own writes back.
        let begun = outcome
            .clone()
            .and_then(|()| transaction.execute_batch("SAVEPOINT change").map_err(sql));
        let rows = Rows { connection: &transaction, path };
        let (keep, told) = change(begun.clone().map(|()| &rows));
        tell.push(told);
        let end = if keep { "RELEASE change" } else { "ROLLBACK TO change; RELEASE change" };
        outcome = begun.and_then(|()| transaction.execute_batch(end).map_err(sql));
    }
    let outcome = outcome.and_then(|()| transaction.commit().map_err(sql));
    for tell in tell {
        tell(outcome.clone());
    }
}
