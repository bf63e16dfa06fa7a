//! A system over its budget is named in the log. A program of its own: a log that belongs to one
//! thread misses what other threads have said first.

mod greedy;
mod support;

use std::sync::{Arc, Mutex};

use greedy::greedy;
use rekindle_schema::Tick;
use rekindle_store_memory::MemoryStore;
use support::*;

#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_system_over_its_budget_is_named_once_in_a_while() {
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let memory = MemoryStore::new();
    let node = Node::with_games(&memory.store(), 1, config(), greedy()).await;
    for id in 1..=3 {
        // Each match has several ticks that are measured.
        let made = node.create_with(id, "greedy", bytes::Bytes::new()).await;
        made.wait_durable(Tick(200)).await.expect("it runs");
    }
    drop(guard);
    let text = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.contains("RK-HOST-060")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    for word in ["WARN", "greedy", "system=\"add\"", "budget_us=0"] {
        assert!(lines[0].contains(word), "{word}: {}", lines[0]);
    }
}
