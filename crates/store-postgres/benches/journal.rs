//! The journal on Postgres against bare inserts of the same batches into a table of the same shape,
//! without a fence, and against a row for each record with the same fence. All sides append in
//! turns of 20, so that the moods of disk and machine are shared. Then trimming: partitions that
//! are dropped against rows that are deleted, under the same appends.
//!
//! `REKINDLE_TEST_POSTGRES=postgres://... cargo bench -p rekindle-store --bench postgres` prints
//! the tables of `docs/BENCHMARKS.md`.

use std::time::{Duration, Instant};

use rekindle_schema::batch::Batch;
use rekindle_schema::{BatchNo, Incarnation, MatchId};
use rekindle_store::Store;
use rekindle_store_conformance::{Scribe, register};
use rekindle_store_postgres::{self as postgres, PostgresOptions, PostgresStore};
use tokio_postgres::{Client, NoTls, Statement};

const NODE: Incarnation = Incarnation(0xbe);
const RECORD: [u8; 60] = [7; 60];
const WARM_UP: usize = 100;
/// Batches that a side appends in a row: a thousand rows leave the caches of a machine in another
/// state than one row does, and whoever comes next pays for it.
const TURN: usize = 20;
/// In which order the three sides take their turns: each comes after each other one equally often.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// A batch as a node with one match for each record writes it.
fn next(scribe: &mut Scribe, records: u64) -> Batch {
    let records: Vec<(MatchId, &[u8])> =
        (1..=records).map(|match_id| (MatchId(match_id), &RECORD[..])).collect();
    scribe.batch(&records)
}

struct Bench {
    store: Store,
    /// Looks at the server. What is measured has connections of its own: a session that has just
    /// answered something answers the next request sooner.
    sql: Client,
    config: tokio_postgres::Config,
    schema: String,
}

async fn connect(config: &tokio_postgres::Config) -> Client {
    let (sql, connection) = config.connect(NoTls).await.expect("the server answers");
    tokio::spawn(connection);
    sql
}

impl Bench {
    async fn open(address: &str, segment_batches: u64) -> Self {
        let schema = format!("rk_bench_{}_{segment_batches}", std::process::id());
        let mark = if address.contains('?') { '&' } else { '?' };
        let mut options =
            PostgresOptions::parse(&format!("{address}{mark}schema={schema}")).expect("an address");
        options.segment_batches = segment_batches;
        postgres::migrate(&options).await.expect("a fresh schema");
        let store = PostgresStore::connect(options).await.expect("a server that is fit for use");
        register(&store, NODE).await;
        let mut config: tokio_postgres::Config = address.parse().expect("an address");
        config.options(format!("-c search_path={schema} -c synchronous_commit=on"));
        Self { store, sql: connect(&config).await, config, schema }
    }

    async fn drop(self) {
        self.sql
            .batch_execute(&format!("DROP SCHEMA {} CASCADE", self.schema))
            .await
            .expect("the schema goes");
    }

    /// Where the WAL stands, in bytes.
    async fn wal(&self) -> f64 {
        let row = self
            .sql
            .query_one("SELECT (pg_current_wal_insert_lsn() - '0/0')::float8", &[])
            .await
            .expect("a position");
        row.get(0)
    }
}

#[derive(Default)]
struct Side {
    times: Vec<Duration>,
    wal: f64,
}

impl Side {
    fn quantile(&self, quantile: f64) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        let index = ((times.len() as f64 * quantile) as usize).min(times.len().saturating_sub(1));
        times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }

    fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.times.iter().sum::<Duration>().as_secs_f64()
    }
}

async fn bare_insert(sql: &Client, statement: &Statement, batch: &Batch) {
    let (number, zero, size, bytes) =
        (batch.number.0 as i64, 0_i64, batch.bytes.len() as i32, &batch.bytes[..]);
    sql.execute(statement, &[&number, &zero, &zero, &size, &bytes]).await.expect("an insert");
}

async fn record_rows(sql: &Client, statement: &Statement, batch: u64, records: u64) {
    let ids: Vec<i64> = (1..=records as i64).collect();
    let seqs = vec![batch as i64; ids.len()];
    let payloads: Vec<&[u8]> = vec![&RECORD; ids.len()];
    let row = sql
        .query_one(statement, &[&(NODE.0 as i64), &ids, &seqs, &payloads])
        .await
        .expect("an insert");
    assert!(row.get::<_, bool>(0), "the lease is live");
}

async fn compare(address: &str, records: u64, rounds: usize) {
    let bench = Bench::open(address, 16_384).await;
    let tables = "CREATE TABLE bare (LIKE batch INCLUDING STORAGE, PRIMARY KEY (number)); \
                  CREATE TABLE record (match_id bigint, seq bigint, payload bytea, \
                  PRIMARY KEY (match_id, seq))";
    bench.sql.batch_execute(tables).await.expect("tables to compare with");
    let (bare_sql, rows_sql) = (connect(&bench.config).await, connect(&bench.config).await);
    let bare = bare_sql
        .prepare("INSERT INTO bare VALUES ($1, $2, $3, $4, $5)")
        .await
        .expect("a statement");
    let by_record = "WITH lease AS MATERIALIZED (SELECT state = 'live' AS live FROM node_lease \
                     WHERE incarnation = $1 FOR SHARE), \
                     written AS (INSERT INTO record SELECT u.* \
                     FROM lease, unnest($2::bigint[], $3::bigint[], $4::bytea[]) AS u WHERE live \
                                 ON CONFLICT DO NOTHING) SELECT live FROM lease";
    let by_record = rows_sql.prepare(by_record).await.expect("a statement");
    let (mut scribe, mut sides) =
        (Scribe::new(NODE), [Side::default(), Side::default(), Side::default()]);
    let mut payload = 0;
    for round in 0..(WARM_UP + rounds) / TURN {
        let warm = round >= WARM_UP / TURN;
        let batches: Vec<Batch> = (0..TURN).map(|_| next(&mut scribe, records)).collect();
        payload += if warm { TURN as u64 * records * RECORD.len() as u64 } else { 0 };
        for side in ORDERS[round % ORDERS.len()] {
            let wal = bench.wal().await;
            for batch in &batches {
                let own = batch.clone();
                let start = Instant::now();
                match side {
                    0 => bench.store.journal.append(own).await.expect("a live node appends"),
                    1 => bare_insert(&bare_sql, &bare, &own).await,
                    _ => record_rows(&rows_sql, &by_record, own.number.0, records).await,
                }
                if warm {
                    sides[side].times.push(start.elapsed());
                }
            }
            if warm {
                sides[side].wal += bench.wal().await - wal;
            }
        }
    }
    let [store, bare, rows] = &sides;
    println!(
        "\n{records} records of {} bytes a batch, {} batches a side",
        RECORD.len(),
        store.times.len()
    );
    println!(
        "| side | batches/s | records/s | ack p50 ms | ack p99 ms | WAL bytes per payload byte |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, side) in [
        ("journal", store),
        ("bare insert of the batch", bare),
        ("a row for each record, fenced", rows),
    ] {
        let (rate, wal) = (side.per_second(), side.wal / payload as f64);
        let (p50, p99) = (side.quantile(0.5), side.quantile(0.99));
        println!(
            "| {name} | {rate:.0} | {:.0} | {p50:.2} | {p99:.2} | {wal:.2} |",
            rate * records as f64
        );
    }
    println!(
        "throughput against bare inserts: {:.0} %, p50 × {:.2}, p99 × {:.2}; against a row for \
         each record: × {:.1}",
        100.0 * store.per_second() / bare.per_second(),
        store.quantile(0.5) / bare.quantile(0.5),
        store.quantile(0.99) / bare.quantile(0.99),
        store.per_second() / rows.per_second(),
    );
    bench.drop().await;
}

/// Appends while everything but the newest `keep` batches is removed every `every` batches.
async fn trimming(address: &str, records: u64, rounds: u64) {
    const KEEP: u64 = 2_048;
    const EVERY: u64 = 512;
    let bench = Bench::open(address, EVERY).await;
    // The same shape in one table, vacuumed as eagerly as it can be.
    let table = "CREATE TABLE bare (LIKE batch INCLUDING STORAGE, PRIMARY KEY (number)) \
                 WITH (autovacuum_vacuum_threshold = 500, \
                 autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0, \
                 toast.autovacuum_vacuum_threshold = 500, \
                 toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_cost_delay = 0)";
    bench.sql.batch_execute(table).await.expect("a table to compare with");
    let bare_sql = connect(&bench.config).await;
    let bare = bare_sql
        .prepare("INSERT INTO bare VALUES ($1, $2, $3, $4, $5)")
        .await
        .expect("a statement");
    let mut scribe = Scribe::new(NODE);
    let (mut dropped, mut deleted) =
        ((Side::default(), Duration::ZERO), (Side::default(), Duration::ZERO));
    for _ in 0..rounds {
        let batch = next(&mut scribe, records);
        let number = batch.number.0;
        let (wal, start) = (bench.wal().await, Instant::now());
        bench.store.journal.append(batch.clone()).await.expect("a live node appends");
        dropped.0.times.push(start.elapsed());
        if number.is_multiple_of(EVERY) && number > KEEP {
            let start = Instant::now();
            bench.store.journal.trim(NODE, BatchNo(number - KEEP)).await.expect("partitions go");
            dropped.1 += start.elapsed();
        }
        let (between, start) = (bench.wal().await, Instant::now());
        dropped.0.wal += between - wal;
        bare_insert(&bare_sql, &bare, &batch).await;
        deleted.0.times.push(start.elapsed());
        if number.is_multiple_of(EVERY) && number > KEEP {
            let start = Instant::now();
            let before = (number - KEEP) as i64;
            bare_sql
                .execute("DELETE FROM bare WHERE number < $1", &[&before])
                .await
                .expect("rows go");
            deleted.1 += start.elapsed();
        }
        deleted.0.wal += bench.wal().await - between;
    }
    let payload = (rounds * records) as f64 * RECORD.len() as f64;
    let left: i64 = bench
        .sql
        .query_one("SELECT pg_total_relation_size('bare')", &[])
        .await
        .expect("a size")
        .get(0);
    let kept = bench.store.journal.logs().await.expect("a size")[0].bytes;
    println!(
        "\nTrimming every {EVERY} batches of {records} records, keeping {KEEP}, {rounds} batches"
    );
    println!(
        "| way | ack p50 ms | ack p99 ms | time in trimming ms | WAL bytes per payload byte | MiB \
         left |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, (side, time), left) in [
        ("partitions dropped", &dropped, kept),
        ("rows deleted, autovacuum", &deleted, left as u64),
    ] {
        let (p50, p99, wal) = (side.quantile(0.5), side.quantile(0.99), side.wal / payload);
        println!(
            "| {name} | {p50:.2} | {p99:.2} | {} | {wal:.2} | {} |",
            time.as_millis(),
            left >> 20
        );
    }
    bench.drop().await;
}

fn main() {
    let Some(address) =
        std::env::var("REKINDLE_TEST_POSTGRES").ok().filter(|address| !address.is_empty())
    else {
        eprintln!(
            "SKIPPED: REKINDLE_TEST_POSTGRES names no Postgres server, so nothing was measured"
        );
        return;
    };
    let rounds = std::env::var("REKINDLE_BENCH_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(3_000);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        for records in [100, 1_000] {
            compare(&address, records, rounds).await;
        }
        trimming(&address, 300, 5 * rounds as u64).await;
    });
}
