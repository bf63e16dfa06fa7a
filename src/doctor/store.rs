//! The store: whether it answers, whether its tables fit, and what a commit costs through the same
//! port that the journal uses.

use std::path::Path;
use std::time::{Duration, Instant};

use rekindle_cluster::ownership::lease::LEASE_MS;
use rekindle_schema::batch::{BatchBuilder, FrameHeader, MAX_BATCH};
use rekindle_schema::lease::{NodeLease, NodeState};
use rekindle_schema::{BatchNo, BuildId, Epoch, Incarnation, MatchId, Seq, Tick};
use rekindle_store::identity::StoreIdentity;
use rekindle_store::migration::SchemaState;
use rekindle_store::{Store, StoreError, witness};
use rekindle_store_open::address::StoreAddress;

use super::{Finding, Level, Spread, disk};
use crate::clock;
use crate::config::Config;
use crate::inspect::reading::Reading;
use crate::node::card;

/// How many commits are measured, at most, and for how long.
const COMMITS: u64 = 300;
const COMMIT_TIME: Duration = Duration::from_secs(3);
/// What a node with a few dozen matches commits at once, in bytes.
const PAYLOAD: usize = 4_096;
/// How many lookups are measured.
const LOOKUPS: usize = 50;
/// A tick at 30 Hz: slower commits gather ticks, and players see them late.
const SLOW_COMMIT: Duration = Duration::from_millis(33);
/// Matches pause when they are a second behind.
const BAD_COMMIT: Duration = Duration::from_millis(500);
/// Lookups are on the way of a takeover only.
const SLOW_LOOKUP: Duration = Duration::from_millis(50);
const BAD_LOOKUP: Duration = Duration::from_secs(1);

/// All findings about the store.
pub async fn examine(config: &Config) -> Vec<Finding> {
    match &config.store {
        StoreAddress::Memory => {
            let fix = "choose another store, unless nothing is to survive";
            vec![Finding::new("store", Level::Warn, "in memory: gone with the process", fix)]
        }
        StoreAddress::Local(dir) => {
            let mut findings = local(dir, config).await;
            if dir.join("format").exists() {
                findings.push(whole(kept(&config.store).await));
            }
            findings
        }
        remote => servers(remote, config).await,
    }
}

/// A store of its own beside the real one, on the same disk: a node may run on that.
async fn local(dir: &Path, config: &Config) -> Vec<Finding> {
    let Some(place) = disk::existing(dir) else {
        let found = format!("{} cannot be made", dir.display());
        return vec![Finding::new(
            "commit",
            Level::Fail,
            found,
            "choose another directory with --data-dir",
        )];
    };
    let scratch = place.join(format!(".rekindle-doctor-{:08x}", clock::random() >> 32));
    let measured = async {
        let store = StoreAddress::Local(scratch.clone()).open().await?;
        commits(&store, config).await
    };
    let outcome = measured.await;
    let mut findings = vec![commit(outcome)];
    if dir.join("format").exists() {
        let current = match Reading::of(&config.store) {
            Ok(reading) => match reading.store().await {
                Ok(store) => {
                    store.identity.current().await.map_err(|error| reading.real(&error.to_string()))
                }
                Err(error) => Err(reading.real(&error.to_string())),
            },
            Err(failure) => Err(failure.message),
        };
        findings.push(identity(current));
    }
    // If it could not be made, there is nothing to remove.
    let _ = std::fs::remove_dir_all(&scratch);
    findings
}

/// Which store it is.
fn identity(current: Result<Option<StoreIdentity>, String>) -> Finding {
    match current {
        Ok(None) => Finding::new("identity", Level::Ok, "no node has run on it yet", ""),
        Ok(Some(found)) => {
            let words = format!("{}, epochs from {} on: {}", found.id, found.floor, found.because);
            Finding::new("identity", Level::Ok, words, "")
        }
        Err(error) => {
            let fix = "nothing, if only the identity cannot be read: the next node to start makes \
                a new one, and matches continue in higher epochs";
            Finding::new("identity", Level::Warn, error, fix)
        }
    }
}

async fn servers(address: &StoreAddress, config: &Config) -> Vec<Finding> {
    let state = match address.schema_state().await {
        Ok(state) => state,
        Err(error) => return vec![broken("store", address, &error)],
    };
    let mut findings = vec![tables(address, state)];
    if findings[0].level == Level::Fail {
        return findings;
    }
    match address.open().await {
        Ok(store) => {
            findings.push(lookup(lookups(&store).await));
            findings.push(commit(commits(&store, config).await));
            findings.push(whole(witness::look(&store).await.map_err(|error| error.to_string())));
            findings
                .push(identity(store.identity.current().await.map_err(|error| error.to_string())));
        }
        Err(error) => findings.push(broken("store", address, &error)),
    }
    findings
}

/// What a data directory says of itself, read without changing it.
async fn kept(address: &StoreAddress) -> Result<Vec<String>, String> {
    let reading = Reading::of(address).map_err(|failure| failure.message)?;
    let looked = async { witness::look(&reading.store().await?).await };
    looked.await.map_err(|error| reading.real(&error.to_string()))
}

/// Whether logs, checkpoints and leases fit together.
fn whole(looked: Result<Vec<String>, String>) -> Finding {
    let fix = "run `rekindle verify`, which says which matches and ticks are concerned; restore \
        from a backup, or do what the message names";
    match looked {
        Ok(problems) if problems.is_empty() => {
            Finding::new("whole", Level::Ok, "logs and checkpoints come as far as leases say", "")
        }
        Ok(problems) => Finding::new("whole", Level::Fail, problems.join("; "), fix),
        Err(error) => Finding::new("whole", Level::Fail, error, fix),
    }
}

fn broken(check: &'static str, address: &StoreAddress, error: &StoreError) -> Finding {
    let fix = "start the server, or correct `store`, `store_password_file` and the network between \
        here and there";
    Finding::new(check, Level::Fail, format!("{address}: {error}"), fix)
}

fn tables(address: &StoreAddress, state: Option<SchemaState>) -> Finding {
    let Some(state) = state else {
        return Finding::new("tables", Level::Ok, format!("{address} needs none"), "");
    };
    match state {
        SchemaState::Current { version } => Finding::new(
            "tables",
            Level::Ok,
            format!("version {version}, as this release needs"),
            "",
        ),
        SchemaState::Missing => Finding::new(
            "tables",
            Level::Fail,
            "there are none",
            "make them: `rekindle store migrate`",
        ),
        SchemaState::Older { found, known } => {
            let found = format!("version {found}, this release needs {known}");
            Finding::new(
                "tables",
                Level::Fail,
                found,
                "stop all nodes, then bring them up to date: `rekindle store migrate`",
            )
        }
        SchemaState::Newer { found, known } => {
            let found = format!("version {found}, this release knows {known}");
            Finding::new(
                "tables",
                Level::Fail,
                found,
                "use the release that made them, or a newer one",
            )
        }
    }
}

async fn lookups(store: &Store) -> Result<Option<Spread>, StoreError> {
    let mut sample = Vec::with_capacity(LOOKUPS);
    for _ in 0..LOOKUPS {
        let begun = Instant::now();
        store.leases.node(Incarnation(0)).await?;
        sample.push(begun.elapsed());
    }
    Ok(Spread::of(sample))
}

fn lookup(measured: Result<Option<Spread>, StoreError>) -> Finding {
    let fix = "bring the node and the store closer together: one region, one network";
    match measured {
        Ok(Some(spread)) => Finding::new(
            "round_trip",
            spread.level(SLOW_LOOKUP, BAD_LOOKUP),
            format!("reading a lease: {}", spread.words()),
            fix,
        ),
        Ok(None) => Finding::new("round_trip", Level::Ok, "not measured", ""),
        Err(error) => Finding::new("round_trip", Level::Fail, error.to_string(), fix),
    }
}

/// Commits as a node does: an incarnation of its own, one batch after the other, each verified
/// against its lease. Nothing of it stays.
async fn commits(store: &Store, config: &Config) -> Result<Option<Spread>, StoreError> {
    let me = clock::incarnation();
    let pid = std::process::id();
    let lease = NodeLease {
        incarnation: me,
        name: "doctor".to_owned(),
        state: NodeState::Live,
        pid,
        pid_start: card::process_start(pid).unwrap_or_default(),
        deadline_ms: clock::now_ms() + LEASE_MS,
        seal: None,
        host: card::this_host(),
        region: config.node_region.clone(),
        reached: None,
        loss_accepted_ms: None,
    };
    store.leases.register(lease).await?;
    let measured = time_commits(store, me).await;
    let (last, measured) = match measured {
        Ok((last, sample)) => (last, Ok(Spread::of(sample))),
        Err(error) => (BatchNo(0), Err(error)),
    };
    // Nodes that run there would do the same for a dead one, so what fails here is tidied up by
    // them.
    let tidy = async {
        store.leases.fence(me).await?;
        let tail = store.journal.tail(me).await?.last.max(last);
        store.leases.seal(me, tail).await?;
        store.journal.trim(me, tail.next()).await?;
        store.leases.forget(me).await
    };
    let tidied = tidy.await;
    measured.and_then(|spread| tidied.map(|()| spread))
}

async fn time_commits(
    store: &Store,
    me: Incarnation,
) -> Result<(BatchNo, Vec<Duration>), StoreError> {
    let begun = Instant::now();
    let (mut sample, mut prev_crc, mut frame_crc, mut last) = (Vec::new(), 0, 0, BatchNo(0));
    let mut renewed = begun;
    for number in 1..=COMMITS {
        if begun.elapsed() > COMMIT_TIME {
            break;
        }
        if renewed.elapsed() > Duration::from_millis(500) {
            store.leases.renew(me, clock::now_ms() + LEASE_MS, None).await?;
            renewed = Instant::now();
        }
        let mut builder = BatchBuilder::new(me, BatchNo(number), prev_crc, MAX_BATCH);
        let header = FrameHeader {
            match_id: MatchId(me.0),
            epoch: Epoch(1),
            seq: Seq(number),
            first_tick: Tick(number),
            last_tick: Tick(number),
            build: BuildId(0),
            time_ms: clock::now_ms(),
            prev_crc: frame_crc,
        };
        // One payload far below every limit always fits into an empty batch.
        frame_crc = builder.push(&header, &[0x5a; PAYLOAD]).unwrap_or_default();
        let batch = builder.finish();
        prev_crc = batch.crc();
        let commit = Instant::now();
        store.journal.append(batch).await?;
        sample.push(commit.elapsed());
        last = BatchNo(number);
    }
    Ok((last, sample))
}

fn commit(measured: Result<Option<Spread>, StoreError>) -> Finding {
    let fix = "use a faster disk or server, or one that is nearer; with output = \"immediate\" \
        players do not wait for it, and may lose ticks to a crash";
    match measured {
        Ok(Some(spread)) => {
            let found = format!("journal batches of {PAYLOAD} bytes, verified: {}", spread.words());
            Finding::new("commit", spread.level(SLOW_COMMIT, BAD_COMMIT), found, fix)
        }
        Ok(None) => Finding::new("commit", Level::Ok, "not measured", ""),
        Err(error) => Finding::new(
            "commit",
            Level::Fail,
            error.to_string(),
            "see what the error says; no node can run on this store",
        ),
    }
}

#[cfg(test)]
mod tests {
    use rekindle_store_memory::MemoryStore;

    use super::*;
    use crate::config::Settings;

    #[tokio::test]
    async fn measuring_commits_leaves_nothing_in_the_store() {
        let store = MemoryStore::new().store();
        let config = Config::from_settings(&Settings::defaults()).unwrap();
        let spread = commits(&store, &config).await.unwrap().unwrap();
        assert_eq!(spread.count as u64, COMMITS);
        assert!(
            store.leases.nodes().await.unwrap().is_empty()
                && store.journal.logs().await.unwrap().is_empty()
        );
        assert_eq!(lookup(lookups(&store).await).level, Level::Ok);
    }

    #[test]
    fn tables_of_another_release_say_what_to_do() {
        let address = StoreAddress::Memory;
        let fix = |state| tables(&address, Some(state)).fix.unwrap_or_default();
        assert!(fix(SchemaState::Missing).contains("store migrate"));
        assert!(fix(SchemaState::Older { found: 1, known: 2 }).contains("store migrate"));
        assert!(fix(SchemaState::Newer { found: 3, known: 2 }).contains("newer"));
        assert_eq!(tables(&address, Some(SchemaState::Current { version: 2 })).level, Level::Ok);
        let slow = Spread::of(vec![Duration::from_millis(60); 5]);
        assert_eq!(commit(Ok(slow)).level, Level::Warn);
        assert_eq!(commit(Err(StoreError::Unavailable("gone".to_owned()))).level, Level::Fail);
    }
}
