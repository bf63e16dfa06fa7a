//! The pure parts under arbitrary traffic, and the whole host under one seed twice.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use rekindle_actors::core::{Ingress, IngressLimits, OpenOutcome, Outbox, TickRecord};
use rekindle_door::{Admission, MatchDoor as _};
use rekindle_schema::record::{LeaveReason, Step};
use rekindle_schema::{BatchNo, Incarnation, PlayerId, Seq, SessionId, Tick};
use rekindle_store_memory::{Fate, MemoryStore, Op};
use support::*;
use tokio::time::Instant;

const LIMITS: IngressLimits = IngressLimits {
    players: 3,
    window: 10,
    inputs: 8,
    commands: 4,
    commands_per_step: 2,
    away_ticks: 5,
};

#[derive(Debug, Clone)]
enum Act {
    Open(u64),
    Close(u64),
    Away(u64),
    Back(u64),
    Input { player: u64, seq: u64, ahead: u64 },
    Command { player: u64, seq: u64 },
    Draw,
}

fn act() -> impl Strategy<Value = Act> {
    let player = 1..=4u64;
    prop_oneof![
        2 => player.clone().prop_map(Act::Open),
        1 => player.clone().prop_map(Act::Close),
        1 => player.clone().prop_map(Act::Away),
        1 => player.clone().prop_map(Act::Back),
        8 => (player.clone(), 0..40u64, 0..14u64).prop_map(|(player, seq, ahead)| Act::Input { player, seq, ahead }),
        4 => (player, 1..12u64).prop_map(|(player, seq)| Act::Command { player, seq }),
        6 => Just(Act::Draw),
    ]
}

/// What a world would hold against a step.
#[derive(Default)]
struct Rules {
    inside: BTreeMap<PlayerId, SessionId>,
    last_input: BTreeMap<SessionId, u64>,
    last_command: BTreeMap<SessionId, u64>,
    queued: BTreeMap<(SessionId, u64), Tick>,
}

impl Rules {
    fn check(&mut self, step: &Step) {
        let ascending = |players: Vec<PlayerId>| {
            assert!(players.windows(2).all(|pair| pair[0] < pair[1]), "{step:?}");
        };
        ascending(step.joins.iter().map(|join| join.player).collect());
        ascending(step.leaves.iter().map(|leave| leave.player).collect());
        ascending(step.inputs.iter().map(|input| input.player).collect());
        for join in &step.joins {
            assert!(self.inside.insert(join.player, join.session).is_none(), "joined twice");
        }
        assert!(self.inside.len() <= LIMITS.players);
        for input in &step.inputs {
            assert_eq!(self.inside.get(&input.player), Some(&input.session));
            let before = self.last_input.insert(input.session, input.seq).unwrap_or(0);
            assert!(input.seq > before, "input {} after {before}", input.seq);
            let target = self.queued[&(input.session, input.seq)];
            assert!(target <= step.tick, "too early");
            // The newest whose time has come: no later one that was queued was ready.
            let newer =
                self.queued.range((input.session, input.seq + 1)..(input.session, u64::MAX));
            assert!(
                newer.into_iter().all(|(_, &target)| target > step.tick),
                "a newer one was passed over"
            );
            self.queued.retain(|&(session, seq), _| session != input.session || seq > input.seq);
        }
        for command in &step.commands {
            assert_eq!(self.inside.get(&command.player), Some(&command.session));
            let before = self.last_command.insert(command.session, command.seq).unwrap_or(0);
            assert_eq!(command.seq, before + 1);
        }
        for leave in &step.leaves {
            assert_eq!(self.inside.remove(&leave.player), Some(leave.session));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_step_is_canonical_and_nothing_is_applied_twice(acts in proptest::collection::vec(act(), 0..400)) {
        let now = runtime_instant();
        let mut ingress = Ingress::new(LIMITS, Tick(0), &[]);
        let mut rules = Rules::default();
        let (mut tick, mut ids) = (Tick(0), 0);
        let mut sessions: BTreeMap<u64, SessionId> = BTreeMap::new();
        for act in acts {
            let of = |sessions: &BTreeMap<u64, SessionId>, player: u64| sessions.get(&player).copied().unwrap_or(SessionId(999));
            match act {
                Act::Open(player) => {
                    let fresh = || { ids += 1; SessionId(ids) };
                    match ingress.open(PlayerId(player), String::new(), None, fresh) {
                        OpenOutcome::Wait(session) => { sessions.insert(player, session); }
                        OpenOutcome::Ready(opened) => prop_assert_eq!(Some(&opened.session), sessions.get(&player)),
                        OpenOutcome::Later | OpenOutcome::Refused(..) => {}
                    }
                }
                Act::Close(player) => ingress.close(of(&sessions, player), LeaveReason::Left),
                Act::Away(player) => ingress.away(of(&sessions, player)),
                Act::Back(player) => ingress.back(of(&sessions, player)),
                Act::Input { player, seq, ahead } => {
                    let session = of(&sessions, player);
                    let target = Tick(tick.0 + ahead);
                    if ingress.input(input(session, seq, target, add(1)), now) == Admission::Queued {
                        prop_assert!(ahead <= LIMITS.window);
                        prop_assert!(rules.queued.insert((session, seq), target).is_none(), "queued twice");
                        let waiting = rules.queued.keys().filter(|(of, _)| *of == session).count();
                        prop_assert!(waiting <= LIMITS.inputs);
                    }
                }
                Act::Command { player, seq } => { ingress.command(of(&sessions, player), seq, add(0)); }
                Act::Draw => {
                    let drawn = ingress.draw();
                    tick = tick.next();
                    prop_assert_eq!(drawn.step.tick, tick);
                    prop_assert_eq!(drawn.arrived.len(), drawn.step.inputs.len());
                    rules.check(&drawn.step);
                    let leavers: Vec<_> = drawn.step.leaves.iter().map(|leave| leave.session).collect();
                    rules.queued.retain(|(session, _), _| !leavers.contains(session));
                    ingress.durable(tick);
                }
            }
            prop_assert!(ingress.len() <= LIMITS.players);
        }
    }

    #[test]
    fn records_have_no_gap_however_they_are_taken(acts in proptest::collection::vec(0..4u8, 1..200)) {
        let mut outbox = Outbox::new(Seq(5));
        let (mut tick, mut taken, mut put_back) = (Tick(0), Vec::new(), 0);
        let mut next = |outbox: &mut Outbox| {
            tick = tick.next();
            outbox.push(TickRecord { step: Step { tick, ..Step::default() }, ..TickRecord::default() });
        };
        for act in acts {
            match act {
                0 | 1 => next(&mut outbox),
                2 => { outbox.cut(); }
                _ => if let Some(record) = outbox.take() {
                    if put_back % 3 == 2 { outbox.put_back(record); } else { taken.push(record); }
                    put_back += 1;
                }
            }
        }
        let covered = outbox.cut();
        while let Some(record) = outbox.take() { taken.push(record); }
        prop_assert_eq!(Seq(4 + taken.len() as u64), covered);
        let mut expected = Tick(1);
        for (index, record) in taken.iter().enumerate() {
            prop_assert_eq!(record.seq, Seq(5 + index as u64));
            prop_assert_eq!(record.flush.first, expected);
            prop_assert!(record.flush.last >= record.flush.first);
            expected = record.flush.last.next();
        }
        prop_assert_eq!(expected, tick.next());
    }
}

fn runtime_instant() -> Instant {
    Instant::now()
}

/// One run of three matches with players and a slow store; returns the bytes of the node's log.
async fn scenario() -> Vec<bytes::Bytes> {
    let memory = MemoryStore::new().with_faults(std::sync::Arc::new(|op| match op {
        Op::Append(_, number) => {
            Fate { before: Duration::from_millis(number.0 * 7 % 40), ..Fate::default() }
        }
        _ => Fate::default(),
    }));
    let node = Node::start(&memory.store(), 1, config()).await;
    for id in [3, 1, 2] {
        let link = node.create(id).await;
        let session = enter(&link, id).await;
        for seq in 1..=40 {
            link.input(input(session, seq, Tick(seq * 2), add(seq as u8)));
        }
        link.command(session, 1, ask_effect());
    }
    tokio::time::sleep(Duration::from_secs(8)).await;
    node.host.drain().await;
    let batches =
        node.store.journal.read(Incarnation(1), BatchNo(1), usize::MAX).await.expect("read");
    batches.into_iter().map(|batch| batch.bytes).collect()
}

#[test]
fn one_seed_makes_one_log() {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("runtime");
        runtime.block_on(scenario())
    };
    let (first, second) = (run(), run());
    assert!(first.len() > 100, "{} batches", first.len());
    assert_eq!(first.len(), second.len());
    for (number, (one, other)) in first.iter().zip(&second).enumerate() {
        assert_eq!(one, other, "batch {}", number + 1);
    }
}
