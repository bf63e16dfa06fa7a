//! The client's idea of the server's time.
//!
//! A match's time is its tick number. From when snapshots arrive and from the echo of its own clock
//! a client learns which tick an input made now should name so that it arrives just in time, and at
//! which (fractional) tick to draw others. Both run on evenly: corrections stretch or squeeze time
//! by a few per cent instead of jumping.

use rekindle_schema::Tick;

use crate::header::SnapshotHeader;
use crate::slowdown::SlowdownMeter;

/// Time is stretched or squeezed by at most this part.
const DILATION: f64 = 0.05;
/// A difference above this many ticks is not walked off but jumped over: an outage, a rewind.
const JUMP: f64 = 12.0;
/// Without snapshots, time runs on for at most so many milliseconds.
const COAST_MS: f64 = 500.0;
/// Weight of a new sample once the estimate has settled.
const GAIN: f64 = 1.0 / 24.0;
/// Spare time that inputs are sent early besides jitter, in ticks: they arrive between two steps of
/// the server.
const LEAD_TICKS: f64 = 1.0;
/// What an input on time leaves of the additional lead: half of it is gone after 140 of them.
const LEAD_DECAY: f64 = 0.995;
/// Most additional lead, in milliseconds.
const LEAD_MOST_MS: f64 = 200.0;

/// A running time that follows an estimate without jumps.
#[derive(Debug, Default, Clone, Copy)]
struct Follower {
    at: Option<(u64, f64)>,
}

impl Follower {
    /// The time in ticks at `now_ms`, drawn towards `wanted`. Never runs backwards but in a jump.
    fn follow(&mut self, now_ms: u64, wanted: f64, period: f64) -> f64 {
        let Some((then, value)) = self.at else {
            self.at = Some((now_ms, wanted));
            return wanted;
        };
        let step = now_ms.saturating_sub(then) as f64 / period;
        let error = wanted - (value + step);
        let next = if error.abs() > JUMP {
            wanted
        } else {
            value + step + error.clamp(-step * DILATION, step * DILATION)
        };
        self.at = Some((now_ms.max(then), next));
        next
    }
}

/// Estimates the server's tick. All times are milliseconds of one clock of the client, whose zero
/// does not matter.
#[derive(Debug, Clone)]
pub struct ClockSync {
    /// Milliseconds a tick, as the match goes now.
    period: f64,
    slowdown: SlowdownMeter,
    samples: u32,
    /// `tick * period - arrival time`, averaged: the tick that arrives at time t is
    /// `(t + offset) / period`.
    offset: f64,
    /// Mean deviation of arrivals, in milliseconds.
    jitter: f64,
    rtt: f64,
    rtt_samples: u32,
    newest: Tick,
    arrived: u64,
    /// Lead that late inputs have asked for, in milliseconds.
    extra: f64,
    target: Follower,
    render: Follower,
}

impl ClockSync {
    /// For a match with so many ticks per second.
    pub fn new(tick_rate: u16) -> Self {
        let period = 1000.0 / f64::from(tick_rate.max(1));
        Self {
            period,
            slowdown: SlowdownMeter::new(period),
            samples: 0,
            offset: 0.0,
            jitter: 0.0,
            rtt: 0.0,
            rtt_samples: 0,
            newest: Tick(0),
            arrived: 0,
            extra: 0.0,
            target: Follower::default(),
            render: Follower::default(),
        }
    }

    /// A snapshot arrived at `now_ms`. `echo_ms` and `hold_ms` of its header give the round trip;
    /// an echo of 0 gives none.
    pub fn on_snapshot(&mut self, now_ms: u64, header: &SnapshotHeader) {
        if header.echo_ms != 0 {
            let held = (now_ms as u32)
                .wrapping_sub(header.echo_ms)
                .wrapping_sub(u32::from(header.hold_ms)) as i32;
            // Clocks of whole milliseconds can make it -1; hours are a client that was asleep.
            if held < 60_000 {
                self.rtt_samples = self.rtt_samples.saturating_add(1);
                let gain = GAIN.max(1.0 / f64::from(self.rtt_samples));
                self.rtt += (f64::from(held.max(0)) - self.rtt) * gain;
            }
        }
        if self.samples > 0 && header.tick <= self.newest {
            return;
        }
        if self.slowdown.arrived(header.tick, now_ms) {
            self.begin_anew();
        }
        let sample = header.tick.0 as f64 * self.period - now_ms as f64;
        let error = sample - self.offset;
        if self.samples == 0 || error.abs() > JUMP * self.period {
            self.samples = 1;
            self.offset = sample;
            self.jitter = 0.0;
        } else {
            self.samples = self.samples.saturating_add(1);
            let gain = GAIN.max(1.0 / f64::from(self.samples));
            self.offset += error * gain;
            self.jitter += (error.abs() - self.jitter) * gain;
        }
        self.newest = header.tick;
        self.arrived = now_ms;
    }

    /// The match goes at another rate: what was learnt of its time is of no use any more. Times in
    /// ticks jump to where they belong, by a few ticks; walked off, they would be wrong for long.
    fn begin_anew(&mut self) {
        self.period = self.slowdown.period();
        self.samples = 0;
        self.extra = 0.0;
        (self.target, self.render) = (Follower::default(), Follower::default());
    }

    /// Milliseconds from one tick to the next, as the match goes now: a client makes an input about
    /// as often. Longer than its tick rate says while its node has too much to do, see
    /// [`ClockSync::slowdown`].
    pub fn period_ms(&self) -> f64 {
        self.period
    }

    /// How many times longer than its tick rate says it takes the match to make a tick: 1 as a
    /// rule, 2 to 4 while its node has slowed it. Each tick is what it always is: only the time
    /// from one to the next is longer.
    pub fn slowdown(&self) -> u8 {
        self.slowdown.periods()
    }

    /// What became of an input: it was meant for tick `target` and was applied at `applied`. Late
    /// ones make the next ones earlier.
    pub fn on_applied(&mut self, target: Tick, applied: Tick) {
        let late = applied.0.saturating_sub(target.0) as f64 * self.period;
        self.extra = if late > 0.0 { self.extra + late / 4.0 } else { self.extra * LEAD_DECAY };
        self.extra = self.extra.clamp(0.0, LEAD_MOST_MS);
    }

    /// The tick whose snapshot is expected to arrive at `now_ms`.
    pub fn arriving(&self, now_ms: u64) -> f64 {
        let coasting = (now_ms as f64).min(self.arrived as f64 + COAST_MS);
        (coasting + self.offset) / self.period
    }

    /// The tick that an input made at `now_ms` should name: the server is about to make it when the
    /// input arrives. 0 before the first snapshot.
    pub fn target_tick(&mut self, now_ms: u64) -> Tick {
        if self.samples == 0 {
            return Tick(0);
        }
        let lead = (self.rtt + 2.0 * self.jitter + self.extra) / self.period + LEAD_TICKS;
        let wanted = self.arriving(now_ms) + lead;
        Tick(self.target.follow(now_ms, wanted, self.period).max(0.0).ceil() as u64)
    }

    /// The tick to draw other entities at: far enough back that the snapshots on both sides of it
    /// have arrived.
    pub fn render_tick(&mut self, now_ms: u64) -> f64 {
        if self.samples == 0 {
            return 0.0;
        }
        let wanted = self.arriving(now_ms) - 1.0 - 2.0 * self.jitter / self.period;
        self.render.follow(now_ms, wanted, self.period).max(0.0)
    }

    /// The round trip in milliseconds, smoothed, without the time that the server held the echo. 0
    /// before the first echo.
    pub fn rtt(&self) -> f64 {
        self.rtt
    }

    /// Mean deviation of the arrival of snapshots from even spacing, in milliseconds.
    pub fn jitter(&self) -> f64 {
        self.jitter
    }
}
