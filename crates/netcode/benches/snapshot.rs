//! Time and size of snapshots of a fighting arena at 30 Hz; acknowledgements take 100 ms.
//!
//! Snapshots are timed by the CPU time of the thread, not by the wall, so that a busy machine blurs
//! them less.

#![allow(
    missing_docs,
    clippy::allow_attributes,
    reason = "criterion's macro makes a public function without docs"
)]

#[path = "../tests/fight/mod.rs"]
mod fight;
#[path = "../tests/sights/mod.rs"]
mod sights;
#[path = "../tests/veil/mod.rs"]
mod veil;

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use fight::Fight;
use rekindle_netcode::{
    Coding, InputPacket, InputSender, SnapshotHeader, SnapshotReceiver, SnapshotSender, ViewHistory,
};
use rekindle_schema::net::NetView;
use rekindle_schema::{Epoch, PlayerId, Tick};
use rekindle_sim::{Harness, Simulation as _};
use rustix::time::{ClockId, clock_gettime};

/// Ticks until an acknowledgement is back: 100 ms.
const DELAY: usize = 3;
/// Sessions that are served in turn, so that no client's state stays in the nearest cache.
const SESSIONS: usize = 16;

/// Time that this thread has spent on a CPU.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn header(view: &NetView, avatar: Option<u32>) -> SnapshotHeader {
    let tick = view.tick.0;
    SnapshotHeader {
        epoch: Epoch(1),
        tick: view.tick,
        durable: view.tick,
        applied: (tick.saturating_sub(4)..tick).map(|seq| (seq, Tick(seq))).collect(),
        echo_ms: 123_456 + tick as u32 * 33,
        hold_ms: 12,
        next_expected_input: None,
        avatar,
    }
}

/// Both ends of one session, and acknowledgements under way.
type Session = (SnapshotSender, SnapshotReceiver, VecDeque<(Tick, u32)>);

/// One match with its sessions.
struct Match {
    fight: Fight,
    /// How far players see; none: everything.
    radius: Option<f32>,
    /// One for all sessions, or one for each: then nothing is encoded once for several.
    histories: Vec<ViewHistory>,
    sessions: Vec<Session>,
    datagrams: Vec<Vec<u8>>,
    encode: Duration,
    decode: Duration,
    snapshots: u64,
    bytes: usize,
    most: usize,
    worst: f64,
}

impl Match {
    fn new((fighters, drones): (usize, usize), coding: Coding, histories: usize) -> Self {
        let fight = Fight::new(7, fighters, drones);
        let schema = &fight.schema;
        let session = || {
            (
                SnapshotSender::new(Arc::clone(schema)).with_coding(coding),
                SnapshotReceiver::new(Arc::clone(schema)),
                VecDeque::new(),
            )
        };
        let sessions = (0..SESSIONS).map(|_| session()).collect();
        let zero = Duration::ZERO;
        let (histories, datagrams) =
            (vec![ViewHistory::new(); histories], vec![Vec::new(); SESSIONS]);
        let mut game = Self {
            fight,
            radius: None,
            histories,
            sessions,
            datagrams,
            encode: zero,
            decode: zero,
            snapshots: 0,
            bytes: 0,
            most: 0,
            worst: 0.0,
        };
        (0..60).for_each(|_| game.tick());
        (game.encode, game.decode, game.snapshots, game.bytes, game.most) = (zero, zero, 0, 0, 0);
        game
    }

    fn tick(&mut self) {
        self.fight.step();
        let mut view = self.fight.view();
        if let Some(radius) = self.radius {
            view = sights::near(&self.fight.schema, &view, &view.avatars, radius);
        }
        for history in &mut self.histories {
            history.push(Arc::clone(&view));
        }
        let headers: Vec<SnapshotHeader> =
            (0..SESSIONS).map(|index| header(&view, view.avatar(Fight::player(index)))).collect();
        let start = cpu_time();
        let histories = self.histories.iter().cycle();
        for (index, ((((sender, _, _), out), header), history)) in self
            .sessions
            .iter_mut()
            .zip(&mut self.datagrams)
            .zip(&headers)
            .zip(histories)
            .enumerate()
        {
            let viewer = Some(Fight::player(index));
            sender.encode(header, &view, history, viewer, 1200, out);
        }
        let middle = cpu_time();
        for ((_, receiver, _), datagram) in self.sessions.iter_mut().zip(&self.datagrams) {
            black_box(receiver.receive(datagram).expect("own snapshot"));
        }
        self.encode += middle.saturating_sub(start);
        self.decode += cpu_time().saturating_sub(middle);
        for ((sender, receiver, acks), datagram) in self.sessions.iter_mut().zip(&self.datagrams) {
            acks.push_back(receiver.acknowledgement());
            if acks.len() > DELAY {
                let (newest, bits) = acks.pop_front().expect("not empty");
                sender.acknowledge(newest, bits);
            }
            let checked = self.radius.is_none() && self.fight.views > 10;
            if checked && self.snapshots.is_multiple_of(SESSIONS as u64) {
                let error = receiver.newest().map_or(f64::MAX, |view| self.fight.worst_error(view));
                self.worst = self.worst.max(error);
            }
            self.snapshots += 1;
            self.bytes += datagram.len();
            self.most = self.most.max(datagram.len());
        }
    }

    /// The time of so many snapshots, picked by `what`.
    fn run(&mut self, snapshots: u64, what: fn(&Self) -> Duration) -> Duration {
        let (before, count) = (what(self), self.snapshots);
        while self.snapshots - count < snapshots {
            self.tick();
        }
        what(self)
            .saturating_sub(before)
            .mul_f64(snapshots as f64 / (self.snapshots - count) as f64)
    }
}

fn snapshots(c: &mut Criterion) {
    let codings = [("rice", Coding::Rice), ("range", Coding::Range)];
    for (name, fighters, drones) in
        [("32_visible", 16, 16), ("100_moving", 16, 114), ("64_fighters", 64, 36)]
    {
        let size = (fighters, drones);
        for (of, coding) in codings {
            let mut alone = Match::new(size, coding, SESSIONS);
            c.bench_function(&format!("encode_{name}_{of}_alone"), |b| {
                b.iter_custom(|count| alone.run(count, |game| game.encode));
            });
        }
        for (of, coding) in codings {
            one_history(c, &format!("{name}_{of}"), &mut Match::new(size, coding, 1));
        }
    }
    let mut near = Match::new((16, 114), Coding::Range, 1);
    near.radius = Some(20.0);
    one_history(c, "100_within_20_range", &mut near);
}

/// What it takes to decide who sees what of a tick, with the extraction itself: 16 players, 130
/// entities, and rules about owners, teams, distances and cloaks, against fields alone.
fn extraction(c: &mut Criterion) {
    fn one<const RULES: u8>(c: &mut Criterion, name: &str) {
        let config = veil::Config { things: 114, unrest: 0, ..veil::Config::default() };
        let json = serde_json::to_string(&config).expect("a configuration");
        let mut game = Harness::<veil::Veil<RULES>>::with_config(7, &json);
        (1..=16).for_each(|player| game.join(PlayerId(player)));
        game.tick();
        let mut view = NetView::default();
        c.bench_function(name, |b| b.iter(|| game.simulation().extract(black_box(&mut view))));
        let restricted = view.restricted.as_ref().expect("rules are declared");
        println!("{name}: {} entries, {} sights\n", view.entries(), restricted.sights.len());
    }
    one::<0>(c, "extract_130_by_owner_and_team");
    one::<{ veil::INTEREST | veil::FILTER }>(c, "extract_130_by_all_rules");
}

/// As a node does it: sessions that know the same are told the same.
fn one_history(c: &mut Criterion, name: &str, game: &mut Match) {
    c.bench_function(&format!("encode_{name}"), |b| {
        b.iter_custom(|count| game.run(count, |game| game.encode));
    });
    c.bench_function(&format!("decode_{name}"), |b| {
        b.iter_custom(|count| game.run(count, |game| game.decode));
    });
    let per_view = |sum: u64| sum as f64 / game.fight.views as f64;
    println!(
        "{name}: {:.1} entities, {:.1} of them moved in a tick; {:.1} B a snapshot, at most {} B, \
         error at most {:.3} quanta, {} snapshots\n",
        per_view(game.fight.entities),
        per_view(game.fight.moved),
        game.bytes as f64 / game.snapshots as f64,
        game.most,
        game.worst,
        game.snapshots
    );
    assert!(game.worst <= 0.501, "an error of {} quanta", game.worst);
}

fn inputs(c: &mut Criterion) {
    let mut sender = InputSender::new(1);
    for tick in 0..4 {
        sender.push(vec![1, 2, 3, 4, 5, 6].into(), Tick(1000 + tick), Tick(994 + tick));
    }
    let bytes = sender.packet((Tick(997), u32::MAX), 123_456, 1200);
    println!("a packet of 4 inputs of 6 bytes: {} B", bytes.len());
    c.bench_function("input_packet_decode", |b| {
        b.iter(|| black_box(InputPacket::decode(black_box(&bytes), 256).is_ok()));
    });
}

criterion_group!(benches, snapshots, extraction, inputs);
criterion_main!(benches);
