//! A real process that is stopped (SIGSTOP) while it writes, has its log taken away, and wakes up:
//! it is told nothing that the taker does not see.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rekindle_schema::{Incarnation, MatchId};
use rekindle_store::{Store, StoreError};
use rekindle_store_conformance::{Scribe, register};
use rekindle_store_postgres::{PostgresOptions, PostgresStore};
use rustix::process::{Pid, Signal, kill_process};
use support::Fresh;

const A: MatchId = MatchId(0x0a);
const ADDRESS: &str = "REKINDLE_CHILD_ADDRESS";
const NODE: &str = "REKINDLE_CHILD_INCARNATION";

/// Killed when it is let go of.
struct Owner(Child);

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Owner {
    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id().cast_signed()).expect("a process");
        kill_process(pid, signal).expect("our own child can be signalled");
    }
}

/// What the child is: appends until it is fenced and says each batch that was acknowledged.
#[tokio::test]
#[ignore = "run by the test below, as another process"]
async fn child_writes_until_it_is_fenced() {
    let (Ok(address), Ok(node)) = (std::env::var(ADDRESS), std::env::var(NODE)) else { return };
    let node: Incarnation = node.parse().unwrap();
    let store = PostgresStore::connect(PostgresOptions::parse(&address).unwrap()).await.unwrap();
    let mut scribe = Scribe::new(node);
    loop {
        let batch = scribe.small(&[A]);
        match store.journal.append(batch.clone()).await {
            Ok(()) => println!("acknowledged {}", batch.number),
            Err(StoreError::Fenced(_)) => return println!("fenced"),
            Err(error) => return println!("failed: {error}"),
        }
    }
}

/// One owner, stopped after `pause_at` batches. Returns how many batches it was told of.
async fn paused(fresh: &Fresh, taker: &Store, node: Incarnation, pause_at: u64) -> u64 {
    register(taker, node).await;
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_writes_until_it_is_fenced", "--ignored", "--nocapture"])
        .env(ADDRESS, format!("{}?schema={}&pool=3", fresh.address, fresh.schema()))
        .env(NODE, node.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut owner = Owner(child);
    let said = owner.0.stdout.take().unwrap();
    let (sender, mut lines) = tokio::sync::mpsc::channel::<String>(1 << 20);
    std::thread::spawn(move || {
        BufReader::new(said)
            .lines()
            .map_while(Result::ok)
            .try_for_each(|line| sender.blocking_send(line))
    });
    let told = |line: &str| {
        line.strip_prefix("acknowledged ").map(|number| number.parse::<u64>().expect("a number"))
    };
    while let Some(line) = lines.recv().await {
        assert!(
            line != "fenced" && !line.starts_with("failed"),
            "nobody has fenced it yet: {line}"
        );
        if told(&line).is_some_and(|number| number >= pause_at) {
            break;
        }
    }
    owner.signal(Signal::STOP);
    taker.leases.fence(node).await.unwrap();
    let last = taker.journal.tail(node).await.unwrap().last;
    taker.journal.settle(node, last).await.unwrap();
    assert_eq!(taker.leases.seal(node, last).await.unwrap(), last);
    owner.signal(Signal::CONT);
    let (mut newest, mut end) = (pause_at, "silence".to_owned());
    while let Some(line) = lines.recv().await {
        match told(&line) {
            Some(number) => newest = number,
            None if line == "fenced" || line.starts_with("failed") => end = line,
            None => {}
        }
    }
    assert_eq!(end, "fenced", "after it woke up");
    assert!(
        newest <= last.0,
        "it was told that batch {newest} is safe, the log is sealed at {last}"
    );
    assert_eq!(taker.journal.tail(node).await.unwrap().last, last, "it wrote after it was fenced");
    newest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_wakes_after_a_takeover_is_told_nothing_new() {
    let Some(fresh) = Fresh::new().await else { return };
    let taker = fresh.store().await;
    for round in 1..=12 {
        let told = paused(&fresh, &taker, Incarnation(0x500 + round), round * 3).await;
        println!("round {round}: stopped at batch {told}");
    }
}
