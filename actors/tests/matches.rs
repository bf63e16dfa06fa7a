//! What a match promises while its node lives: order, exactly-once, durable before published,
//! honest overload.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rekindle_actors::{HostConfig, MatchPhase, OnStall, Output};
use rekindle_door::{Admission, MatchDoor as _};
use rekindle_schema::record::LeaveReason;
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{Incarnation, PlayerId, SessionId, Tick};
use rekindle_store::StoreError;
use rekindle_store_memory::{Fate, MemoryStore, Op};
use support::*;
use tokio::time::{Instant, sleep, timeout};

/// A store whose appends take as long as `delay` says, in milliseconds.
fn slow(delay: &Arc<AtomicU64>) -> MemoryStore {
    let delay = Arc::clone(delay);
    MemoryStore::new().with_faults(Arc::new(move |op| match op {
        Op::Append(..) => {
            Fate { before: Duration::from_millis(delay.load(Ordering::Relaxed)), ..Fate::default() }
        }
        _ => Fate::default(),
    }))
}

#[tokio::test(start_paused = true)]
async fn inputs_are_applied_once_in_order_and_the_newest_counts() {
    let memory = MemoryStore::new();
    let node = Node::start(&memory.store(), 1, config()).await;
    let link = node.create(7).await;
    let mut frames = link.subscribe();
    let session = enter(&link, 1).await;
    let now = frame_where(&mut frames, |frame| !frame.joined.is_empty()).await.tick;
    // Three inputs for one tick: only the newest counts. Sent again: stale.
    let soon = Tick(now.0 + 3);
    for seq in [1, 3, 2] {
        assert_eq!(link.input(input(session, seq, soon, add(1))), Admission::Queued);
        assert_eq!(link.input(input(session, seq, soon, add(1))), Admission::Stale);
    }
    assert_eq!(link.input(input(session, 4, Tick(soon.0 + 2), add(1))), Admission::Queued);
    assert_eq!(link.input(input(session, 9, Tick(soon.0 + 1_000), add(1))), Admission::OutOfWindow);
    for seq in [1 << 62, u64::MAX] {
        assert_eq!(
            link.input(input(session, seq, soon, add(1))),
            Admission::OutOfWindow,
            "a number without a next one"
        );
    }
    assert_eq!(link.input(input(SessionId(99), 1, soon, add(1))), Admission::NoSession);
    assert_eq!(
        link.input(input(session, 5, soon, bytes::Bytes::from_static(b"nonsense"))),
        Admission::Malformed
    );
    let first = frame_where(&mut frames, |frame| !frame.applied.is_empty()).await;
    assert_eq!((first.tick, first.applied[0].seq), (soon, 3));
    assert_eq!(link.input(input(session, 2, soon, add(1))), Admission::Stale, "overtaken by 3");
    let second = frame_where(&mut frames, |frame| !frame.applied.is_empty()).await;
    assert_eq!((second.tick, second.applied[0].seq), (Tick(soon.0 + 2), 4));
    let (_, flushes) = journal(&node.store, 7).await;
    assert_eq!(
        inputs_of(&flushes).into_iter().collect::<Vec<_>>(),
        [((session, 3), soon), ((session, 4), Tick(soon.0 + 2))]
    );
}

#[tokio::test(start_paused = true)]
async fn commands_are_applied_once_without_gaps_and_answered() {
    let memory = MemoryStore::new();
    let node = Node::start(&memory.store(), 1, config()).await;
    let link = node.create(7).await;
    let mut frames = link.subscribe();
    let session = enter(&link, 1).await;
    assert_eq!(link.command(session, 2, add(0)), Admission::OutOfWindow);
    assert_eq!(link.command(session, 1, add(0)), Admission::Queued);
    assert_eq!(link.command(session, 1, add(0)), Admission::Stale);
    assert_eq!(link.command(session, 2, add(1)), Admission::Queued);
    let done = frame_where(&mut frames, |frame| !frame.commands.is_empty()).await;
    let answers: Vec<_> = done.commands.iter().map(|done| (done.seq, done.accepted)).collect();
    assert_eq!(answers, [(1, true), (2, false)]);
    assert_eq!(link.command(session, 2, add(0)), Admission::Stale);
}

#[tokio::test(start_paused = true)]
async fn queues_of_a_session_are_bounded() {
    let memory = MemoryStore::new();
    let node = Node::start(&memory.store(), 1, config()).await;
    let link = node.create(7).await;
    let session = enter(&link, 1).await;
    let far = Tick(link.info().tick.0 + 20);
    let verdicts: Vec<_> =
        (1..=200).map(|seq| link.input(input(session, seq, far, add(1)))).collect();
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == Admission::Queued).count(), 64);
    assert!(verdicts[64..].iter().all(|verdict| *verdict == Admission::Full));
    let verdicts: Vec<_> = (1..=200).map(|seq| link.command(session, seq, add(0))).collect();
    assert!(verdicts.contains(&Admission::Full));
}

#[tokio::test(start_paused = true)]
async fn a_frame_is_published_only_when_its_tick_is_durable() {
    let delay = Arc::new(AtomicU64::new(200));
    let memory = slow(&delay);
    let node = Node::start(&memory.store(), 1, config()).await;
    let link = node.create(7).await;
    let mut frames = link.subscribe();
    for _ in 0..40 {
        let frame = frame(&mut frames).await;
        assert!(
            frame.durable >= frame.tick,
            "tick {} was published while {} was durable",
            frame.tick,
            frame.durable
        );
        let (_, flushes) = journal(&node.store, 7).await;
        assert!(
            flushes.last().is_some_and(|flush| flush.last >= frame.tick),
            "tick {} is not in the store",
            frame.tick
        );
    }
}

#[tokio::test(start_paused = true)]
async fn immediate_output_publishes_at_once_and_says_what_is_durable() {
    let delay = Arc::new(AtomicU64::new(300));
    let memory = slow(&delay);
    let node =
        Node::start(&memory.store(), 1, HostConfig { output: Output::Immediate, ..config() }).await;
    let link = node.create(7).await;
    let mut frames = link.subscribe();
    let first = frame(&mut frames).await;
    assert!(first.durable < first.tick);
    let mut before = first.tick;
    for _ in 0..30 {
        let next = frame(&mut frames).await;
        assert_eq!(next.tick, before.next());
        before = next.tick;
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_long_pause_even_immediate_output_waits_for_the_store() {
    let delay = Arc::new(AtomicU64::new(300));
    let memory = slow(&delay);
    let node =
        Node::start(&memory.store(), 1, HostConfig { output: Output::Immediate, ..config() }).await;
    let link = node.create(7).await;
    let mut frames = link.subscribe();
    let before =
        frame_where(&mut frames, |frame| frame.durable.0 > 0 && frame.durable < frame.tick)
            .await
            .tick;
    // As if the process had been stopped for five seconds.
    tokio::time::advance(Duration::from_secs(5)).await;
    let first = frame_where(&mut frames, |frame| frame.tick.0 > before.0 + 1).await;
    assert!(
        first.durable >= first.tick,
        "tick {} was shown while {} was durable",
        first.tick,
        first.durable
    );
    frame_where(&mut frames, |frame| frame.durable < frame.tick).await;
    let stood = link.inspect().await.expect("it lives").0;
    assert!(
        stood.0 < before.0 + 60,
        "time was given up, not run through: {} ticks",
        stood.0 - before.0
    );
}

#[tokio::test(start_paused = true)]
async fn a_match_pauses_when_the_store_falls_behind_and_goes_on_when_it_is_back() {
    let delay = Arc::new(AtomicU64::new(0));
    let memory = slow(&delay);
    let node = Node::start(&memory.store(), 1, config()).await;
    let link = node.create(7).await;
    let mut frames = link.subscribe();
    frame(&mut frames).await;
    delay.store(10_000, Ordering::Relaxed);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(link.phase(), MatchPhase::Stalled);
    let (stood, _) = link.inspect().await.expect("it lives");
    let behind = stood.0 - link.durable().tick.0;
    assert!(behind <= 31, "stands {behind} ticks behind what is durable");
    delay.store(0, Ordering::Relaxed);
    let caught_up = timeout(Duration::from_secs(20), link.wait_durable(Tick(stood.0 + 30))).await;
    assert!(caught_up.expect("goes on").is_some());
    assert_eq!(link.phase(), MatchPhase::Running);
    // No tick is missing, whatever the wall clock did.
    let mut last = frame(&mut frames).await.tick;
    while last < stood {
        let next = frame(&mut frames).await.tick;
        assert_eq!(next, last.next());
        last = next;
    }
}

#[tokio::test(start_paused = true)]
async fn a_degraded_match_runs_on_and_says_so() {
    let delay = Arc::new(AtomicU64::new(0));
    let memory = slow(&delay);
    let node =
        Node::start(&memory.store(), 1, HostConfig { on_stall: OnStall::Degrade, ..config() })
            .await;
    let link = node.create(7).await;
    let mut frames = link.subscribe();
    frame(&mut frames).await;
    delay.store(60_000, Ordering::Relaxed);
    let degraded = frame_where(&mut frames, |frame| frame.durable < frame.tick).await;
    assert!(degraded.tick.0 - degraded.durable.0 < 40);
    assert_eq!(frame(&mut frames).await.tick.0 - 1, frame_before(&degraded));
}

fn frame_before(frame: &rekindle_door::TickFrame) -> u64 {
    frame.tick.0
}

#[tokio::test(start_paused = true)]
async fn a_full_backlog_pauses_instead_of_growing() {
    let delay = Arc::new(AtomicU64::new(0));
    let memory = slow(&delay);
    let config = HostConfig { backlog_bytes: 1_000, on_stall: OnStall::Degrade, ..config() };
    let node = Node::start(&memory.store(), 1, config).await;
    let link = node.create(7).await;
    link.wait_durable(Tick(5)).await.expect("runs");
    delay.store(3_600_000, Ordering::Relaxed);
    sleep(Duration::from_mins(1)).await;
    let (stood, _) = link.inspect().await.expect("it lives");
    sleep(Duration::from_mins(1)).await;
    assert_eq!(
        link.inspect().await.expect("it lives").0,
        stood,
        "it ran on although the backlog is full"
    );
    assert!(stood.0 < 120, "{stood} ticks fit in 1,000 bytes");
    assert_eq!(link.phase(), MatchPhase::Stalled);
}

#[tokio::test(start_paused = true)]
async fn transient_append_errors_lose_and_repeat_nothing() {
    let count = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&count);
    let memory = MemoryStore::new().with_faults(Arc::new(move |op| match op {
        Op::Append(..) => match seen.fetch_add(1, Ordering::Relaxed) % 4 {
            1 => Fate { fail: Some(StoreError::Unavailable("test".to_owned())), ..Fate::default() },
            2 => Fate { lose_answer: true, ..Fate::default() },
            _ => Fate::default(),
        },
        _ => Fate::default(),
    }));
    let node = Node::start(&memory.store(), 1, config()).await;
    let link = node.create(7).await;
    let session = enter(&link, 1).await;
    for seq in 1..=50 {
        assert_eq!(link.input(input(session, seq, Tick(0), add(1))), Admission::Queued);
        let at = link.inspect().await.expect("it lives").0;
        link.wait_durable(at.next()).await.expect("runs");
    }
    assert!(count.load(Ordering::Relaxed) > 50);
    let (_, flushes) = journal(&node.store, 7).await;
    assert!(
        flushes.windows(2).all(|pair| pair[1].first == pair[0].last.next()),
        "ticks without gap"
    );
    assert!(inputs_of(&flushes).len() >= 49);
}

#[tokio::test(start_paused = true)]
async fn a_fenced_node_acknowledges_nothing_more() {
    let memory = MemoryStore::new();
    let node = Node::start(&memory.store(), 1, config()).await;
    let link = node.create(7).await;
    let mut frames = link.subscribe();
    let session = enter(&link, 1).await;
    node.store.leases.fence(Incarnation(1)).await.expect("fence");
    let sealed = node.store.journal.tail(Incarnation(1)).await.expect("tail").last;
    let halt = timeout(Duration::from_secs(5), node.host.fenced()).await.expect("the host notices");
    assert!(halt.to_string().contains("RK-STORE-001"), "{halt}");
    let durable = link.durable().tick;
    link.input(input(session, 1, Tick(0), add(1)));
    let late = timeout(Duration::from_secs(2), link.open(PlayerId(2), String::new(), None)).await;
    assert!(
        late.is_err() || late.is_ok_and(|opened| opened.is_err()),
        "a session was acknowledged"
    );
    let after = link.durable();
    assert_eq!(after.tick, durable);
    assert!(
        after.batch <= sealed,
        "batch {} was acknowledged, the fence was complete at {sealed}",
        after.batch
    );
    while let Ok(frame) = frames.try_recv() {
        assert!(frame.tick <= durable);
    }
}

#[tokio::test(start_paused = true)]
async fn a_player_has_one_session_and_comes_back_to_it() {
    let memory = MemoryStore::new();
    let node = Node::start(&memory.store(), 1, config()).await;
    let link = node.create(7).await;
    let first = link.open(PlayerId(1), "a".to_owned(), None).await.expect("open");
    assert!(!first.resumed);
    link.input(input(first.session, 5, Tick(0), add(1)));
    link.command(first.session, 1, add(0));
    let again = link.open(PlayerId(1), "a".to_owned(), Some(first.session)).await.expect("resume");
    assert!(again.resumed);
    assert_eq!((again.session, again.next_input, again.next_command), (first.session, 6, 2));
    let stolen = link.open(PlayerId(2), "b".to_owned(), Some(first.session)).await;
    assert_eq!(stolen.expect_err("not theirs").code, RefuseCode::Credential);
    // Leaves and comes again: another session.
    link.close(first.session);
    let fresh = link.open(PlayerId(1), "a".to_owned(), None).await.expect("open");
    assert!(!fresh.resumed);
    assert_ne!(fresh.session, first.session);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_over_is_not_resumed_and_makes_no_new_one() {
    let memory = MemoryStore::new();
    let node = Node::start(&memory.store(), 1, config()).await;
    let link = node.create(7).await;
    let mut frames = link.subscribe();
    let over = enter(&link, 1).await;
    link.close(over);
    frame_where(&mut frames, |frame| !frame.left.is_empty()).await;
    let refused = link.open(PlayerId(1), "a".to_owned(), Some(over)).await.expect_err("over");
    assert_eq!(refused.code, RefuseCode::Removed);
    assert_eq!(link.occupancy().0, 0, "nobody came in");
    // A ticket lets the player in again; the old token is of no use even then.
    let fresh = enter(&link, 1).await;
    assert_ne!(fresh, over);
    assert_eq!(
        link.open(PlayerId(1), "a".to_owned(), Some(over)).await.expect_err("still over").code,
        RefuseCode::Removed
    );
    assert!(link.open(PlayerId(1), "a".to_owned(), Some(fresh)).await.expect("resume").resumed);
}

#[tokio::test(start_paused = true)]
async fn a_full_match_says_so() {
    let memory = MemoryStore::new();
    let node = Node::start(&memory.store(), 1, config()).await;
    let link = node.create(7).await;
    for player in 1..=64 {
        enter(&link, player).await;
    }
    let refused = link.open(PlayerId(65), String::new(), None).await.expect_err("full");
    assert_eq!(refused.code, RefuseCode::Full);
    assert_eq!(link.occupancy(), (64, 64));
}

#[tokio::test(start_paused = true)]
async fn an_away_session_times_out_by_the_ticks_of_its_match() {
    let memory = MemoryStore::new();
    let node = Node::start(
        &memory.store(),
        1,
        HostConfig { session_timeout: Duration::from_secs(2), ..config() },
    )
    .await;
    let link = node.create(7).await;
    let mut frames = link.subscribe();
    let (gone, back) = (enter(&link, 1).await, enter(&link, 2).await);
    let started = frame(&mut frames).await.tick;
    link.away(gone);
    link.away(back);
    sleep(Duration::from_secs(1)).await;
    link.back(back);
    let ended = frame_where(&mut frames, |frame| !frame.left.is_empty()).await;
    assert_eq!(
        ended.left.iter().map(|left| (left.session, left.reason)).collect::<Vec<_>>(),
        [(gone, LeaveReason::TimedOut)]
    );
    assert!((60..70).contains(&(ended.tick.0 - started.0)), "{} ticks", ended.tick.0 - started.0);
    assert_eq!(link.occupancy().0, 1);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_lags_is_dropped_and_others_are_not() {
    let memory = MemoryStore::new();
    let node =
        Node::start(&memory.store(), 1, HostConfig { subscriber_frames: 8, ..config() }).await;
    let link = node.create(7).await;
    let (mut lazy, mut keen) = (link.subscribe(), link.subscribe());
    for _ in 0..20 {
        frame(&mut keen).await;
    }
    let mut got = 0;
    while lazy.recv().await.is_some() {
        got += 1;
    }
    assert_eq!(got, 8);
    frame(&mut keen).await;
}

#[tokio::test(start_paused = true)]
async fn ticks_keep_their_rate_and_their_phases_apart() {
    let memory = MemoryStore::new();
    let node = Node::start(&memory.store(), 1, config()).await;
    let links = futures::future::join_all((1..=20).map(|id| node.create(id))).await;
    let started = Instant::now();
    let before: Vec<u64> = links.iter().map(|link| link.info().tick.0).collect();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(started.elapsed(), Duration::from_secs(10));
    for (link, before) in links.iter().zip(before) {
        let made = link.info().tick.0 - before;
        assert!((298..=301).contains(&made), "{made} ticks in ten seconds");
        let late = node.host.list().iter().map(|status| status.late_ticks).sum::<u64>();
        assert_eq!(late, 0);
    }
}
