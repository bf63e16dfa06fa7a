//! Validations of a game that do not hold: one that warns is told in the log, now and then, and the
//! match goes on; one that stops its match parks it behind all that was made.

mod support;

#[path = "../../crates/testkit/src/hazard.rs"]
#[expect(unreachable_pub, reason = "a module of a library, used here as a part of a test program")]
#[expect(dead_code, reason = "other tests use the rest")]
mod hazard;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hazard::Hazard;
use rekindle_actors::Games;
use rekindle_door::MatchDoor as _;
use rekindle_schema::lease::MatchState;
use rekindle_schema::{Incarnation, MatchId, Tick};
use rekindle_sim::{GameType, Typed};
use rekindle_store_memory::MemoryStore;
use support::*;

/// What is logged while it is installed.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no test panics while it logs").write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn node_with(memory: &MemoryStore, incarnation: u64) -> Node {
    let hazard = Arc::new(Typed::<Hazard>::new().expect("the game fits together"));
    let games: Games = games().with(hazard);
    Node::with_games(&memory.store(), incarnation, config(), games).await
}

fn settings(json: &str) -> bytes::Bytes {
    Typed::<Hazard>::new().expect("the game").config_from_json(json).expect("settings")
}

#[tokio::test(start_paused = true)]
async fn a_validation_that_warns_is_told_once_a_minute_and_the_match_goes_on() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let memory = MemoryStore::new();
    let node = node_with(&memory, 1).await;
    let link = node.create_with(7, "hazard", settings(r#"{"warn_from": 20}"#)).await;
    let minutes = Tick(20 + 150 * u64::from(RATE));
    tokio::time::timeout(Duration::from_secs(200), link.wait_durable(minutes))
        .await
        .expect("it goes on")
        .expect("it is not parked");
    drop(guard);
    let text = String::from_utf8(lines.0.lock().expect("whole").clone()).expect("text");
    let told: Vec<_> = text.lines().filter(|line| line.contains("RK-HOST-080")).collect();
    assert_eq!(told.len(), 3, "at once, after a minute, and after two: {told:?}");
    for words in ["tick=20", "validation=\"steady\"", "does not hold: shaky since 20"] {
        assert!(told[0].contains(words), "{}", told[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_validation_that_stops_its_match_parks_it_behind_all_that_was_made() {
    let memory = MemoryStore::new();
    let node = node_with(&memory, 1).await;
    let bystander = node.create(8).await;
    let link = node.create_with(7, "hazard", settings(r#"{"break_at": 40}"#)).await;
    let mut frames = link.subscribe();
    let session = enter(&link, 3).await;
    // Inputs are not to blame: none is left out.
    for seq in 1..=60 {
        let walk = hazard::input(&hazard::Move::Walk { by: 1 });
        link.input(input(session, seq, Tick(seq), walk.into()));
    }
    let MatchState::Parked { report } = node.settled(7).await else { panic!("not parked") };
    assert_eq!(report, "RK-SIM-036: validation `whole` does not hold at tick 40: it is in two");
    let mut last = Tick(0);
    while let Some(frame) = frames.recv().await {
        last = frame.tick;
    }
    assert_eq!(last, Tick(39), "all that was made was published, nothing else");
    let stood = bystander.info().tick;
    bystander.wait_durable(Tick(stood.0 + 30)).await.expect("the other match goes on");
    // A recovery leaves it alone.
    node.host.abort();
    let second = node_with(&memory, 2).await;
    let reports = second.take_over(Incarnation(1)).await;
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].as_ref().expect("recovered").match_id, MatchId(8));
}
