//! The virtual world of one seed: a node, its clients, the links between them, and the faults that
//! befall them.
//!
//! It runs whatever it is given as node and client, one step of virtual time after the other, and
//! does the harm of a [`Schedule`].

use std::collections::VecDeque;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use crate::disk::Disk;
use crate::faults::{Link, Process, Schedule, Shape};
use crate::trace::Trace;

/// The UDP port of the node.
pub const PORT: u16 = 4433;
/// How long it takes until a process that ended by itself is started again.
const RESTART: Duration = Duration::from_millis(100);
/// How far all hosts run before packets are carried between them.
const STEP: Duration = Duration::from_millis(2);
/// Virtual time starts here: 2026-01-01, in seconds since 1970.
const EPOCH: u64 = 1_767_225_600;

/// What passes between a node's process and the world around it.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    exit: Arc<AtomicBool>,
    stop: Arc<Notify>,
}

impl Signals {
    /// The process ends by itself: nothing that it started goes on, and the caller never does.
    pub async fn exit(&self) {
        self.exit.store(true, Ordering::Release);
        std::future::pending::<()>().await;
    }

    /// Resolves when the process is asked to stop.
    pub async fn stopped(&self) {
        self.stop.notified().await;
    }

    fn has_exited(&self) -> bool {
        self.exit.swap(false, Ordering::AcqRel)
    }
}

/// Milliseconds since 1970 in virtual time.
pub fn clock_ms() -> u64 {
    EPOCH * 1_000 + turmoil::sim_elapsed().unwrap_or_default().as_millis() as u64
}

/// One seed with all that follows from it.
pub struct Stage {
    /// It decides everything.
    pub seed: u64,
    /// How long, and how many clients.
    pub shape: Shape,
    /// What goes wrong.
    pub schedule: Schedule,
    /// What happened.
    pub trace: Trace,
}

impl Stage {
    /// The stage of a seed, with the faults that the seed decides.
    pub fn new(seed: u64, shape: Shape) -> Self {
        Self { seed, shape, schedule: Schedule::new(seed, &shape), trace: Trace::default() }
    }

    /// Runs `node` (again after each of its deaths) and the clients, whose software gets its number
    /// and the node's address. Neither may return.
    ///
    /// The error says in words which of them did, and why.
    pub fn play<N, C>(
        &self,
        disk: &Disk,
        node: impl Fn(Signals) -> N,
        client: impl Fn(usize, IpAddr) -> C,
    ) -> Result<(), String>
    where
        N: Future<Output = turmoil::Result> + 'static,
        C: Future<Output = turmoil::Result> + 'static,
    {
        let signals = Signals::default();
        let mut sim = turmoil::Builder::new()
            .rng_seed(self.seed)
            .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH))
            .simulation_duration(self.shape.total * 2)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Link::GOOD.delay)
            .tick_duration(STEP)
            .udp_capacity(4096)
            .build();
        sim.host("node", || node(signals.clone()));
        let address = sim.lookup("node");
        let names: Vec<String> =
            (0..self.shape.clients).map(|number| format!("client-{number}")).collect();
        for (number, name) in names.iter().enumerate() {
            sim.client(name.as_str(), client(number, address));
        }
        let mut links = vec![Link::GOOD; names.len()];
        let mut due: VecDeque<(Duration, Process)> = self.schedule.process().into();
        let mut runs = true;
        while sim.elapsed() < self.shape.total {
            let now = sim.elapsed();
            for (number, name) in names.iter().enumerate() {
                let link = self.schedule.link(number, now);
                if link != links[number] {
                    self.trace.log_at(now, name, format_args!("link {link:?}"));
                    set_link(&mut sim, name, links[number], link);
                    links[number] = link;
                }
            }
            if signals.has_exited() && runs {
                self.trace.log_at(now, "node", "ended by itself");
                sim.crash("node");
                runs = false;
                let place = due.partition_point(|&(at, _)| at <= now + RESTART);
                due.insert(place, (now + RESTART, Process::Start));
            }
            while let Some(&(at, action)) = due.front()
                && at <= now
            {
                due.pop_front();
                self.trace.log_at(now, "node", format_args!("{action:?}"));
                match action {
                    Process::Kill | Process::PowerCut { .. } => {
                        sim.crash("node");
                        runs = false;
                        if let Process::PowerCut { survive } = action {
                            disk.power_cut(survive);
                        }
                    }
                    Process::Start if !runs => {
                        signals.has_exited();
                        sim.bounce("node");
                        runs = true;
                    }
                    Process::Stop if runs => signals.stop.notify_waiters(),
                    Process::Stop | Process::Start => {}
                }
            }
            if sim.step().map_err(|error| error.to_string())? {
                return Err("all clients returned before the end".to_owned());
            }
        }
        Ok(())
    }
}

fn set_link(sim: &mut turmoil::Sim<'_>, client: &str, from: Link, to: Link) {
    match (from.down, to.down) {
        (false, true) => sim.partition("node", client),
        (true, false) => sim.repair("node", client),
        _ => {}
    }
    sim.set_link_fail_rate("node", client, to.loss as f64 / 100.0);
    sim.set_link_max_message_latency("node", client, to.delay);
}
