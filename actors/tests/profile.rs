//! What the ticks of a match take is measured by system, for whoever asks, and changes nothing.

mod greedy;
mod support;

use std::time::Duration;

use greedy::greedy;
use rekindle_actors::{MatchPhase, Profile};
use rekindle_schema::lease::MatchState;
use rekindle_schema::{MatchId, Tick};
use rekindle_store_memory::MemoryStore;
use support::*;

/// How often a part ran, and how often it took longer than its budget.
fn runs(profile: &Profile, name: &str) -> (usize, usize) {
    let parts = profile.stages.iter().flat_map(|stage| &stage.parts);
    let found: Vec<_> = parts.filter(|part| part.name == name).collect();
    assert!(found.len() <= 1, "{profile:?}");
    found.first().map_or((0, 0), |part| (part.figures.count, part.over))
}

#[tokio::test(start_paused = true)]
async fn a_profile_counts_every_tick_and_system_and_the_match_goes_on_as_without_it() {
    let memory = MemoryStore::new();
    let node = Node::with_games(&memory.store(), 1, config(), greedy()).await;
    let measured = node.create_with(7, "greedy", bytes::Bytes::new()).await;
    let profile = measured.profile(Duration::from_secs(2)).await.expect("it runs");
    let ticks = profile.tick.count;
    assert!((59..=61).contains(&ticks), "{ticks}");
    assert_eq!(runs(&profile, "add"), (ticks, ticks), "it is always over its budget of nothing");
    let (looked, over) = runs(&profile, "look");
    assert!((5..=7).contains(&looked) && over == 0, "{looked} {over}");
    assert_eq!(runs(&profile, "state hash").0, 2, "in ticks with a beat");
    assert_eq!(runs(&profile, "journal outbox").0, ticks);
    let shares: f64 = profile.stages.iter().map(|stage| stage.share).sum();
    assert!((shares - 1.0).abs() < 1e-6, "{shares}");
    // Two at once each get all of it.
    let span = Duration::from_secs(1);
    let (one, two) = tokio::join!(measured.profile(span), measured.profile(span));
    let count = |profile: Option<Profile>| profile.map_or(0, |profile| profile.tick.count);
    assert!(count(one) >= 29 && count(two) >= 29);

    // A match of the same seed that nobody measured computes the same.
    let (tick, hash) = measured.inspect().await.expect("it runs");
    let other = MemoryStore::new();
    let alone = Node::with_games(&other.store(), 2, config(), greedy()).await;
    let unmeasured = alone.create_with(7, "greedy", bytes::Bytes::new()).await;
    unmeasured.wait_durable(Tick(tick.0 - 1)).await.expect("it runs");
    loop {
        let (now, found) = unmeasured.inspect().await.expect("it runs");
        assert!(now <= tick);
        if now == tick {
            assert_eq!(found, hash);
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_match_that_has_stopped_cannot_be_profiled_and_one_whose_game_tells_nothing_can() {
    let memory = MemoryStore::new();
    let node = Node::start(&memory.store(), 1, config()).await;
    let tally = node.create(8).await;
    let profile = tally.profile(Duration::from_secs(1)).await.expect("it runs");
    assert_eq!(runs(&profile, "entering the step").0, profile.tick.count);
    node.host.stop_match(MatchId(8), "enough".to_owned()).await.expect("stops");
    assert!(matches!(node.settled(8).await, MatchState::Ended { .. }));
    assert!(tally.phase() == MatchPhase::Ending && !node.host.list().iter().any(|_| true));
    assert_eq!(tally.profile(Duration::from_secs(1)).await, None);
}
