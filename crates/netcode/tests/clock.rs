//! Clock sync over simulated links: inputs arrive just in time, drawing is smooth, and neither
//! jumps.

mod motion;

use std::collections::BTreeMap;

use motion::Rng;
use rekindle_netcode::{ClockSync, SnapshotHeader};
use rekindle_schema::{Epoch, Tick};

const RATE: u16 = 30;
const PERIOD: f64 = 1000.0 / 30.0;
/// Ticks within which a client goes at a match's new rate, on a line that loses and delays some.
const NOTICED: f64 = 15.0;

#[derive(Debug, Clone, Copy)]
struct Link {
    /// One way, in milliseconds; evenly spread over `delay..delay + jitter`.
    delay: f64,
    jitter: f64,
    loss: f32,
    /// The server stands still from this time on, in milliseconds, for so long.
    outage: (f64, f64),
    /// From this time on, so many periods lie between two ticks.
    slowed: (f64, f64),
}

#[derive(Debug, Default)]
struct Outcome {
    inputs: u32,
    late: u32,
    /// Ticks that inputs waited at the server, in all.
    waited: f64,
    frames: u32,
    /// Frames for which the snapshot behind them had not arrived.
    starved: u32,
    rtt: f64,
}

/// Plays a minute and looks at what happens from `settled` on, in milliseconds.
fn play(seed: u64, link: Link, settled: f64) -> Outcome {
    let mut rng = Rng(seed);
    let mut clock = ClockSync::new(RATE);
    let mut outcome = Outcome::default();
    // Snapshots and inputs under way: by arrival in microseconds, and a number.
    let mut down: BTreeMap<(u64, u64), SnapshotHeader> = BTreeMap::new();
    let mut up: BTreeMap<(u64, u64), (Tick, u32)> = BTreeMap::new();
    let mut count = 0;
    let (mut tick, mut due) = (0u64, 5.0);
    let mut echo = None;
    let mut waiting: Vec<Tick> = Vec::new();
    let (mut input_due, mut frame_due) = (0.0, 0.0);
    let (mut newest, mut drawn, mut drawn_at) = (0u64, 0.0f64, 0.0);
    // The client's clock has nothing to do with the server's.
    let client = |now: f64| (now + 7_000_000.0) as u64;
    for millisecond in 0..60_000u64 {
        let now = millisecond as f64;
        while let Some(entry) = up.first_entry().filter(|entry| entry.key().0 <= millisecond * 1000)
        {
            let (target, clock_ms) = entry.remove();
            echo = Some((clock_ms, now));
            if now > settled {
                outcome.inputs += 1;
                outcome.late += u32::from(target.0 <= tick);
                outcome.waited += target.0.saturating_sub(tick + 1) as f64;
            }
            waiting.push(target);
        }
        if now >= due {
            tick += 1;
            due += if now < link.slowed.0 { PERIOD } else { PERIOD * link.slowed.1 };
            if due >= link.outage.0 && due < link.outage.0 + link.outage.1 {
                due += link.outage.1;
            }
            let (echo_ms, hold_ms) =
                echo.map_or((0, 0), |(clock_ms, at)| (clock_ms, (now - at) as u16));
            let header = SnapshotHeader {
                epoch: Epoch(1),
                tick: Tick(tick),
                durable: Tick(tick),
                echo_ms,
                hold_ms,
                ..SnapshotHeader::default()
            };
            if !rng.chance(link.loss) {
                let arrival = ((now + 3.0 + link.delay + f64::from(rng.unit()) * link.jitter)
                    * 1000.0) as u64;
                count += 1;
                down.insert((arrival, count), header);
            }
            let applied: Vec<Tick> = waiting.extract_if(.., |target| target.0 <= tick).collect();
            for target in applied {
                clock.on_applied(target, Tick(tick));
            }
        }
        while let Some(entry) =
            down.first_entry().filter(|entry| entry.key().0 <= millisecond * 1000)
        {
            let header = entry.remove();
            newest = newest.max(header.tick.0);
            clock.on_snapshot(client(now), &header);
        }
        if newest > 0 && now >= input_due {
            input_due = now + clock.period_ms();
            let target = clock.target_tick(client(now));
            if !rng.chance(link.loss) {
                let arrival =
                    ((now + link.delay + f64::from(rng.unit()) * link.jitter) * 1000.0) as u64;
                count += 1;
                up.insert((arrival, count), (target, client(now) as u32));
            }
        }
        if newest > 0 && now >= frame_due {
            frame_due = now + 7.0;
            let render = clock.render_tick(client(now));
            let period = if now < link.slowed.0 { PERIOD } else { PERIOD * link.slowed.1 };
            let noticing = now > link.slowed.0 && now < link.slowed.0 + NOTICED * period;
            let outage = noticing
                || now > link.outage.0 - 200.0 && now < link.outage.0 + link.outage.1 + 2000.0;
            if now > settled && !outage {
                outcome.frames += 1;
                outcome.starved += u32::from(render.ceil() as u64 > newest);
                let speed = (render - drawn) * period / (now - drawn_at);
                assert!(
                    (0.94..=1.06).contains(&speed),
                    "{link:?} at {now}: drew {speed} times as fast"
                );
            }
            assert!(outage || render >= drawn, "time ran backwards");
            (drawn, drawn_at) = (render, now);
        }
    }
    outcome.rtt = clock.rtt();
    outcome
}

const CALM: Link =
    Link { delay: 0.0, jitter: 0.0, loss: 0.0, outage: (f64::MAX, 0.0), slowed: (f64::MAX, 1.0) };

#[test]
fn inputs_arrive_in_time_and_not_much_too_early() {
    for (delay, jitter, loss) in [
        (0.0, 0.0, 0.0),
        (5.0, 2.0, 0.0),
        (40.0, 20.0, 0.05),
        (60.0, 40.0, 0.05),
        (120.0, 10.0, 0.2),
    ] {
        for seed in 0..4 {
            let link = Link { delay, jitter, loss, ..CALM };
            let outcome = play(seed, link, 10_000.0);
            let late = f64::from(outcome.late) / f64::from(outcome.inputs);
            let waited = outcome.waited / f64::from(outcome.inputs);
            let starved = f64::from(outcome.starved) / f64::from(outcome.frames);
            println!(
                "{link:?}: {late:.3} late, waited {waited:.2} ticks, {starved:.3} starved, rtt \
                 {:.0}",
                outcome.rtt
            );
            assert!(late < 0.05, "{link:?}: {late} of the inputs were late");
            assert!(waited < 2.0 + jitter / PERIOD, "{link:?}: inputs waited {waited} ticks");
            assert!(
                starved < 0.05 + 2.0 * f64::from(loss),
                "{link:?}: {starved} of the frames were starved"
            );
            // The server takes 3 ms to make a tick durable, the client's milliseconds are whole.
            let rtt = 2.0 * delay + jitter + 4.0;
            assert!(
                (outcome.rtt - rtt).abs() < 3.0 + jitter / 4.0,
                "{link:?}: measured {} where {rtt} is right",
                outcome.rtt
            );
        }
    }
}

#[test]
fn after_an_outage_the_clock_finds_the_new_time() {
    // Time stands still while no node runs the match: ticks go on where they stopped, three seconds
    // later.
    let link = Link { delay: 20.0, jitter: 5.0, outage: (20_000.0, 3_000.0), ..CALM };
    let outcome = play(3, link, 26_000.0);
    assert!(outcome.late * 50 < outcome.inputs, "{outcome:?}");
    assert!(outcome.waited / f64::from(outcome.inputs) < 2.0, "{outcome:?}");
}

#[test]
fn a_match_that_is_slowed_is_followed_within_fifteen_ticks() {
    for (periods, delay, jitter, loss) in [
        (2.0, 0.0, 0.0, 0.0),
        (2.0, 40.0, 20.0, 0.02),
        (3.0, 20.0, 5.0, 0.0),
        (4.0, 60.0, 40.0, 0.02),
    ] {
        // Settled: behind the ticks that it takes to notice.
        let slowed = (20_000.0, periods);
        let settled = slowed.0 + NOTICED * periods * PERIOD;
        let link = Link { delay, jitter, loss, slowed, ..CALM };
        let outcome = play(5, link, settled);
        let late = f64::from(outcome.late) / f64::from(outcome.inputs);
        let waited = outcome.waited / f64::from(outcome.inputs);
        let made = (60_000.0 - settled) / (PERIOD * periods);
        assert!((f64::from(outcome.inputs) / made - 1.0).abs() < 0.05, "{link:?}: {outcome:?}");
        assert!(late < 0.05, "{link:?}: {late} of the inputs were late");
        assert!(waited < 2.0, "{link:?}: inputs waited {waited} ticks");
        let starved = f64::from(outcome.starved) / f64::from(outcome.frames);
        assert!(starved < 0.05 + 2.0 * f64::from(loss), "{link:?}: {starved} starved");
    }
}

#[test]
#[expect(clippy::float_cmp, reason = "these numbers are exact")]
fn nothing_is_known_before_the_first_snapshot() {
    let mut clock = ClockSync::new(RATE);
    assert_eq!(clock.target_tick(123), Tick(0));
    assert_eq!(clock.render_tick(123), 0.0);
    assert_eq!((clock.rtt(), clock.jitter()), (0.0, 0.0));
}
