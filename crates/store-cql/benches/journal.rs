//! The journal on a CQL server against bare prepared inserts of the same batches (no fence, no
//! verifying read), and against a row for each record, in the same run and in turns: batches of 100
//! and 1,000 records of 60 bytes.
//!
//! `cargo bench -p rekindle-store --bench cql` with a server from `cargo xtask services up`, or one
//! that `REKINDLE_TEST_CQL` names. `REKINDLE_BENCH_ROUNDS` is the number of turns of 20 batches
//! (default 25).

use std::time::{Duration, Instant};

use futures::StreamExt;
use rekindle_schema::batch::Batch;
use rekindle_schema::{Incarnation, MatchId};
use rekindle_store::Store;
use rekindle_store_conformance::{Scribe, register};
use rekindle_store_cql::{self as cql, CqlOptions, CqlStore};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::frame::Compression;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;

const RECORD: [u8; 60] = [7; 60];
const TURN: usize = 20;
/// Rows on the way at once where each record is one.
const ROWS_AT_ONCE: usize = 256;

fn next(scribe: &mut Scribe, records: u64) -> Batch {
    let records: Vec<(MatchId, &[u8])> =
        (1..=records).map(|match_id| (MatchId(match_id), &RECORD[..])).collect();
    scribe.batch(&records)
}

struct Bare {
    session: Session,
    batch: PreparedStatement,
    record: PreparedStatement,
}

impl Bare {
    async fn open(address: &str, keyspace: &str) -> Self {
        let builder = SessionBuilder::new()
            .known_nodes(address.split(','))
            .compression(Some(Compression::Lz4));
        let session = builder.build().await.expect("the server answers");
        for table in [
            "bare_batch (log bigint, bucket bigint, number bigint, bytes blob, PRIMARY KEY ((log, \
             bucket), number))",
            "bare_record (log bigint, bucket bigint, number bigint, record int, bytes blob, \
             PRIMARY KEY ((log, bucket), number, record))",
        ] {
            session
                .query_unpaged(format!("CREATE TABLE IF NOT EXISTS {keyspace}.{table}"), ())
                .await
                .expect("a table can be made");
        }
        let prepare = async |cql: String| {
            let mut statement = session.prepare(cql).await.expect("a statement");
            statement.set_consistency(Consistency::LocalQuorum);
            statement.set_is_idempotent(true);
            statement
        };
        let batch = prepare(format!(
            "INSERT INTO {keyspace}.bare_batch (log, bucket, number, bytes) VALUES (?, ?, ?, ?)"
        ))
        .await;
        let record = prepare(format!(
            "INSERT INTO {keyspace}.bare_record (log, bucket, number, record, \
                bytes) VALUES (?, ?, ?, ?, ?)"
        ))
        .await;
        Self { session, batch, record }
    }

    async fn append(&self, batch: &Batch) {
        let number = batch.number.0 as i64;
        let values = (batch.incarnation.0 as i64, number / 256, number, batch.bytes.as_ref());
        self.session.execute_unpaged(&self.batch, values).await.expect("an insert");
    }

    /// One row for each record; all of them are waited for, as a group commit would.
    async fn append_records(&self, batch: &Batch, records: u64) {
        let number = batch.number.0 as i64;
        let inserts = (0..records as i32).map(|record| {
            let values = (batch.incarnation.0 as i64, number / 256, number, record, &RECORD[..]);
            async move {
                self.session
                    .execute_unpaged(&self.record, values)
                    .await
                    .map(drop)
                    .expect("an insert");
            }
        });
        futures::stream::iter(inserts).buffer_unordered(ROWS_AT_ONCE).collect::<()>().await;
    }
}

fn percentile(times: &[Duration], percent: usize) -> f64 {
    times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3
}

async fn compare(store: &Store, bare: &Bare, node: Incarnation, records: u64, rounds: usize) {
    register(store, node).await;
    let (mut scribe, mut others) = (Scribe::new(node), Scribe::new(node));
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..=rounds {
        for _ in 0..TURN {
            let batch = next(&mut scribe, records);
            let begun = Instant::now();
            store.journal.append(batch).await.expect("a live node appends");
            times[0].push(begun.elapsed());
        }
        for _ in 0..TURN {
            let batch = next(&mut others, records);
            let begun = Instant::now();
            bare.append(&batch).await;
            times[1].push(begun.elapsed());
        }
        for _ in 0..TURN / 10 {
            let batch = next(&mut others, records);
            let begun = Instant::now();
            bare.append_records(&batch, records).await;
            times[2].push(begun.elapsed());
        }
        if round == 0 {
            // Warm-up.
            times.iter_mut().for_each(Vec::clear);
        }
    }
    let [store, bare, rows] = times.map(|mut times| {
        times.sort_unstable();
        let rate =
            (times.len() as u64 * records) as f64 / times.iter().sum::<Duration>().as_secs_f64();
        (rate, percentile(&times, 50), percentile(&times, 99))
    });
    for (name, (rate, p50, p99)) in
        [("store", store), ("bare inserts", bare), ("row per record", rows)]
    {
        println!(
            "{records:>5} records, {name:<14} {rate:>9.0} rec/s, {:>6.0} appends/s, p50 {p50:.2} \
             ms, p99 {p99:.2} ms",
            rate / records as f64
        );
    }
    println!(
        "{records:>5} records: {:.0} % of bare inserts, {:.1} times a row per record",
        100.0 * store.0 / bare.0,
        store.0 / rows.0
    );
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let Some(server) = rekindle_testservers::cql() else {
        return rekindle_testservers::skipped("the benchmark of the CQL store", "no CQL server");
    };
    let address = server.nodes.into_iter().map(|node| node.address).collect::<Vec<_>>().join(",");
    let keyspace = format!("rekindle_bench_{}", std::process::id());
    let url = format!("scylla://{address}/{keyspace}?replication=1&timeout=10s");
    let options = CqlOptions::parse(&url).expect("an address");
    cql::migrate(&options).await.expect("tables can be made");
    let store = CqlStore::connect(options).await.expect("the store opens");
    let bare = Bare::open(&address, &keyspace).await;
    let rounds = std::env::var("REKINDLE_BENCH_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(25);
    for (node, records) in [(1, 100), (2, 1_000)] {
        compare(&store, &bare, Incarnation(node), records, rounds).await;
    }
    bare.session
        .query_unpaged(format!("DROP KEYSPACE {keyspace}"), ())
        .await
        .expect("the keyspace can be dropped");
}
