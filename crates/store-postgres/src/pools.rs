//! Connections: three bounded pools, so that a commit never waits behind a checkpoint, nor a
//! renewal of a lease behind either.
//!
//! A request is one statement on a borrowed connection, bounded by a time on the server and a
//! slightly longer one here. A connection goes back only after its answer has come in full; one
//! that timed out, failed, or whose caller went away is closed. Connecting after a failure waits,
//! longer each time and by chance, so that a server that comes back is not met by all nodes at
//! once.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Connect, Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod,
    Runtime, Timeouts,
};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use parking_lot::Mutex;
use rekindle_store::StoreError;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Error, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::errors;
use super::options::PostgresOptions;
use super::tls;

/// How much longer than the server this side waits for the answer to a statement.
const GRACE: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// A statement about leases that takes longer may be held up by a session whose node is gone.
const SUSPICIOUS: Duration = Duration::from_secs(1);
/// A connection forgets its prepared statements when there are more: each partition of a log has
/// its own.
const MAX_STATEMENTS: usize = 64;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Batches.
    Commit,
    /// Leases, the directory, effects.
    Facts,
    /// Checkpoints, reading logs, everything large or slow.
    Bulk,
}

impl Lane {
    const ALL: [Self; 3] = [Self::Commit, Self::Facts, Self::Bulk];

    fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Facts => "facts",
            Self::Bulk => "bulk",
        }
    }
}

/// The connections of one store.
pub(super) struct Pools {
    /// In the order of [`Lane::ALL`].
    lanes: [Lender; 3],
    patience: Duration,
}

/// The pool of a lane, and what is counted of it.
struct Lender {
    pool: Pool,
    meters: Arc<Meters>,
}

struct Meters {
    requests: Counter,
    errors: Counter,
    seconds: Histogram,
    connections: Gauge,
    waiting: Gauge,
}

impl Meters {
    fn new(lane: Lane) -> Self {
        let lane = lane.name();
        Self {
            requests: counter!("rekindle_postgres_requests_total", "lane" => lane),
            errors: counter!("rekindle_postgres_errors_total", "lane" => lane),
            seconds: histogram!("rekindle_postgres_request_seconds", "lane" => lane),
            connections: gauge!("rekindle_postgres_connections", "lane" => lane),
            waiting: gauge!("rekindle_postgres_waiting", "lane" => lane),
        }
    }
}

impl Lender {
    fn count(&self) {
        let status = self.pool.status();
        self.meters.connections.set(status.size as f64);
        self.meters.waiting.set(status.waiting as f64);
    }
}

/// When the next attempt to connect may be made.
struct Backoff {
    pause: Duration,
    not_before: Option<Instant>,
}

/// Connects, and waits before it does after a failure.
struct Dialer {
    tls: MakeRustlsConnect,
    config: Config,
    limit: Duration,
    backoff: Arc<Mutex<Backoff>>,
}

/// A number below 1 that is different each time.
fn chance() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

/// Opens one connection and lets it run.
pub(super) async fn dial(
    config: &Config,
    tls: MakeRustlsConnect,
) -> Result<(Client, JoinHandle<()>), Error> {
    let (client, connection) = config.connect(tls).await?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(code = "RK-STORE-031", %error, "a connection to Postgres ended");
        }
    });
    Ok((client, task))
}

impl Connect for Dialer {
    fn connect(
        &self,
        _: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + '_>> {
        Box::pin(async move {
            let wait = self.backoff.lock().not_before;
            if let Some(wait) = wait {
                sleep_until(wait).await;
            }
            let dialled = timeout(self.limit, dial(&self.config, self.tls.clone())).await;
            let outcome = dialled.unwrap_or_else(|_| Err(Error::__private_api_timeout()));
            let mut backoff = self.backoff.lock();
            if outcome.is_ok() {
                *backoff = Backoff { pause: FIRST_PAUSE, not_before: None };
            } else {
                backoff.not_before = Some(Instant::now() + backoff.pause.mul_f64(0.5 + chance()));
                backoff.pause = (backoff.pause * 2).min(LAST_PAUSE);
            }
            outcome
        })
    }
}

impl Pools {
    pub(super) fn new(options: &PostgresOptions) -> Result<Self, StoreError> {
        let quarter = (options.pool / 4).max(1);
        let backoff = Arc::new(Mutex::new(Backoff { pause: FIRST_PAUSE, not_before: None }));
        let patience = options.timeout + GRACE;
        let connector = tls::connector(options)?;
        let build = |lane: Lane| {
            let size = match lane {
                Lane::Commit | Lane::Facts => quarter,
                Lane::Bulk => options.pool.saturating_sub(2 * quarter).max(1),
            };
            let config = options.session(options.timeout);
            let dialer = Dialer {
                tls: connector.clone(),
                config: config.clone(),
                limit: options.connect_timeout,
                backoff: Arc::clone(&backoff),
            };
            let manager = Manager::from_connect(
                config,
                dialer,
                ManagerConfig { recycling_method: RecyclingMethod::Fast },
            );
            let pool = Pool::builder(manager)
                .max_size(size)
                .runtime(Runtime::Tokio1)
                .timeouts(Timeouts {
                    wait: Some(patience),
                    create: Some(options.connect_timeout + 2 * LAST_PAUSE),
                    recycle: Some(GRACE),
                })
                .pre_recycle(Hook::sync_fn(|client, _| {
                    if client.statement_cache.size() > MAX_STATEMENTS {
                        return Err(HookError::message("it holds enough prepared statements"));
                    }
                    Ok(())
                }))
                .build();
            let pool = pool.map_err(|error| StoreError::Refused {
                place: "connections to Postgres".to_owned(),
                problem: error.to_string(),
            })?;
            Ok(Lender { pool, meters: Arc::new(Meters::new(lane)) })
        };
        let [commit, facts, bulk] = Lane::ALL.map(build);
        Ok(Self { lanes: [commit?, facts?, bulk?], patience })
    }

    /// Borrows a connection. `Unavailable` if there is none in time, whatever the reason: a
    /// password that stops working is no reason to end matches.
    pub(super) async fn lend(&self, lane: Lane, doing: &str) -> Result<Lent, StoreError> {
        let lender = &self.lanes[lane as usize];
        let pool = &lender.pool;
        let lent = pool.get().await;
        lender.count();
        if lent.is_err() {
            lender.meters.errors.increment(1);
        }
        match lent {
            Ok(object) => Ok(Lent {
                object: Some(object),
                patience: self.patience,
                whole: true,
                meters: Arc::clone(&lender.meters),
            }),
            Err(PoolError::Backend(error)) => Err(match errors::classify(&error, doing) {
                StoreError::Refused { problem, .. } => StoreError::Unavailable(format!(
                    "no connection to Postgres while {doing}: {problem}"
                )),
                other => other,
            }),
            Err(PoolError::Timeout(_)) => {
                let status = pool.status();
                let (size, waiting) = (status.size, status.waiting);
                Err(StoreError::Unavailable(format!(
                    "no connection to Postgres became free while {doing} ({size} of {} in use, \
                     {waiting} more requests wait); raise `pool` if this stays",
                    status.max_size
                )))
            }
            Err(error) => Err(StoreError::Unavailable(format!(
                "no connection to Postgres while {doing}: {error}"
            ))),
        }
    }

    /// Runs one statement and gives its rows.
    pub(super) async fn rows(
        &self,
        lane: Lane,
        doing: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        let mut lent = self.lend(lane, doing).await?;
        let ask = lent.ask(sql, parameters);
        if lane != Lane::Facts {
            return ask.await.map_err(|failure| failure.told(doing));
        }
        tokio::pin!(ask);
        loop {
            tokio::select! {
                biased;
                answer = &mut ask => return answer.map_err(|failure| failure.told(doing)),
                () = sleep(SUSPICIOUS) => self.unblock().await,
            }
        }
    }

    /// Ends sessions of Rekindle that hold up others while they wait for the rest of a request.
    ///
    /// A request goes out as several messages in a row, and its locks are kept until the last of
    /// them is there. A node that is stopped, or cut off, in between would hold the lock on its own
    /// lease for as long as its connection lasts, and neither `statement_timeout` nor
    /// `idle_in_transaction_session_timeout` counts that time: it could not be fenced. What it had
    /// asked for is undone; it was told nothing of it.
    async fn unblock(&self) {
        const DOING: &str = "looking for sessions that hold up others";
        let sql = "SELECT holder.pid, pg_terminate_backend(holder.pid) \
                   FROM pg_stat_activity holder \
                   WHERE holder.state = 'active' AND holder.wait_event = 'ClientRead' \
                   AND holder.usename = current_user \
                     AND holder.datname = current_database() \
                     AND holder.query_start < clock_timestamp() - interval '1 second' \
                     AND holder.pid IN (SELECT unnest(pg_blocking_pids(waiting.pid)) \
                     FROM pg_stat_activity waiting \
                                        WHERE waiting.wait_event_type = 'Lock' \
                                        AND waiting.usename = current_user)";
        let ended = async {
            let mut lent = self.lend(Lane::Bulk, DOING).await?;
            lent.ask(sql, &[]).await.map_err(|failure| failure.told(DOING))
        };
        match ended.await {
            Ok(ended) if ended.is_empty() => {}
            Ok(ended) => {
                let count = ended.len();
                tracing::warn!(
                    code = "RK-STORE-036",
                    count,
                    "ended sessions that held locks in the middle of a request: their node is \
                     stopped or cut off"
                );
            }
            Err(error) => {
                tracing::debug!(code = "RK-STORE-037", %error, "could not look for sessions that \
                    hold up others");
            }
        }
    }

    /// Connections now open, for tests and metrics.
    pub(super) fn open(&self) -> usize {
        self.lanes.iter().map(|lane| lane.pool.status().size).sum()
    }
}

/// Why a statement gave no answer.
pub(super) enum Failure {
    /// It took too long.
    TimedOut(Duration),
    /// Postgres or the connection to it failed.
    Failed(Error),
}

impl Failure {
    pub(super) fn told(&self, doing: &str) -> StoreError {
        match self {
            Self::TimedOut(after) => StoreError::Unavailable(format!(
                "no answer from Postgres within {:.1} s while {doing}",
                after.as_secs_f64()
            )),
            Self::Failed(error) => errors::classify(error, doing),
        }
    }
}

/// A borrowed connection. It goes back only if its last request was answered and no transaction is
/// open.
pub(super) struct Lent {
    object: Option<Object>,
    patience: Duration,
    whole: bool,
    meters: Arc<Meters>,
}

impl Lent {
    fn client(&self) -> Result<&Object, Failure> {
        self.object.as_ref().ok_or(Failure::TimedOut(Duration::ZERO))
    }

    /// Runs one statement and gives its rows.
    pub(super) async fn ask(
        &mut self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        self.statement(sql, async |client, statement| client.query(statement, parameters).await)
            .await
    }

    /// Runs one statement that gives no rows; how many it has changed.
    pub(super) async fn change(
        &mut self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Failure> {
        self.statement(sql, async |client, statement| client.execute(statement, parameters).await)
            .await
    }

    async fn statement<T>(
        &mut self,
        sql: &str,
        run: impl AsyncFnOnce(&Object, &Statement) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let whole = std::mem::replace(&mut self.whole, false);
        let client = self.client()?;
        let work = async {
            let statement = client.prepare_cached(sql).await?;
            run(client, &statement).await
        };
        let begun = Instant::now();
        let outcome = timeout(self.patience, work).await;
        self.meters.requests.increment(1);
        self.meters.seconds.record(begun.elapsed());
        if !matches!(outcome, Ok(Ok(_))) {
            self.meters.errors.increment(1);
        }
        let outcome = outcome.map_err(|_| Failure::TimedOut(self.patience))?;
        if let Err(error) = &outcome {
            // A plain refusal leaves the connection as it was.
            let usable = error.as_db_error().is_some()
                && !matches!(errors::classify(error, ""), StoreError::Unavailable(_));
            self.whole = whole && usable;
        } else {
            self.whole = whole;
        }
        outcome.map_err(Failure::Failed)
    }

    /// Begins a transaction: from here on the connection goes back only after [`Self::commit`].
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        self.whole = false;
        self.plain("BEGIN").await
    }

    /// Ends the transaction. On an error it is unknown whether it took effect.
    pub(super) async fn commit(&mut self) -> Result<(), Failure> {
        self.plain("COMMIT").await?;
        self.whole = true;
        Ok(())
    }

    async fn plain(&self, sql: &str) -> Result<(), Failure> {
        let client = self.client()?;
        let outcome = timeout(self.patience, client.batch_execute(sql))
            .await
            .map_err(|_| Failure::TimedOut(self.patience))?;
        outcome.map_err(Failure::Failed)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(object) = self.object.take().filter(|_| !self.whole) {
            drop(Object::take(object));
        }
    }
}
