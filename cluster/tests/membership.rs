//! The core of membership in virtual time: who looks dead, when, and to whom.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rekindle_cluster::membership::core::{
    Effect, Event, HOLD_MS, LISTEN_MS, MISSED_MS, Membership, PAUSE_MS, QUIET_MS, QUIET_UNHEARD_MS,
    TICK_MS, Why,
};
use rekindle_cluster::membership::{Looks, Peer};
use rekindle_cluster::ownership::suspicion;
use rekindle_schema::Incarnation;
use rekindle_schema::lease::{DEFAULT_REGION, NodeLease, NodeState};

const ME: u64 = 100;

fn peer(id: u64) -> Peer {
    Peer {
        incarnation: Incarnation(id),
        name: format!("n{id}"),
        region: DEFAULT_REGION.to_owned(),
        address: format!("127.0.0.1:{id}"),
    }
}

fn ids(ids: &[u64]) -> BTreeSet<Incarnation> {
    ids.iter().copied().map(Incarnation).collect()
}

/// One node's membership, what it hears, and a clock.
struct Node {
    core: Membership,
    now_ms: u64,
    live: BTreeSet<Incarnation>,
    silent: BTreeSet<Incarnation>,
    links: BTreeMap<Incarnation, u64>,
    effects: Vec<Effect>,
}

impl Node {
    /// Knows these nodes, hears them, and is linked with them.
    fn with(others: &[u64]) -> Self {
        let mut node = Self {
            core: Membership::new(Incarnation(ME)),
            now_ms: 0,
            live: ids(others),
            silent: BTreeSet::new(),
            links: others.iter().map(|id| (Incarnation(*id), 0)).collect(),
            effects: Vec::new(),
        };
        node.tell(Event::Told(others.iter().copied().map(peer).collect()));
        node.pass(TICK_MS);
        node.effects.clear();
        node
    }

    fn tell(&mut self, event: Event) {
        self.effects.extend(self.core.handle(self.now_ms, event));
    }

    /// Lets time pass, in ticks.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / TICK_MS {
            self.now_ms += TICK_MS;
            self.hear();
        }
    }

    /// Takes in what there is now.
    fn hear(&mut self) {
        self.tell(Event::Links(self.links.clone()));
        self.tell(Event::Heard { live: self.live.clone(), silent: self.silent.clone() });
        self.tell(Event::Tick);
    }

    fn falls_silent(&mut self, id: u64) {
        self.live.remove(&Incarnation(id));
        self.silent.insert(Incarnation(id));
    }

    fn is_heard(&mut self, id: u64) {
        self.silent.remove(&Incarnation(id));
        self.live.insert(Incarnation(id));
    }

    fn looks(&self, id: u64) -> Looks {
        let found = self.core.members().find(|(peer, ..)| peer.incarnation == Incarnation(id));
        found.unwrap().1
    }
}

#[test]
fn a_run_that_the_store_never_had_as_live_is_told_from_one_that_it_has() {
    let mut node = Node::with(&[1, 2]);
    assert!(!node.core.was_live(Incarnation(1)), "nothing was read yet");
    node.tell(Event::Live(ids(&[2])));
    assert!(!node.core.was_live(Incarnation(1)) && node.core.was_live(Incarnation(2)));
    node.tell(Event::Live(ids(&[])));
    assert!(!node.core.was_live(Incarnation(2)), "it is over, and not known any more");
}

#[test]
fn a_process_that_ended_looks_dead_at_once_and_the_store_is_looked_at() {
    let mut node = Node::with(&[1, 2]);
    node.links.remove(&Incarnation(1));
    node.tell(Event::Links(node.links.clone()));
    let knocks = node.effects.iter().filter(|effect| matches!(effect, Effect::Knock(_))).count();
    assert_eq!(knocks, 1);
    assert!(node.effects.contains(&Effect::Look), "its process may have ended on this host");
    assert_eq!(node.looks(1), Looks::Alive, "a link that ends is no death");
    node.effects.clear();
    node.tell(Event::NotThere(Incarnation(1)));
    assert!(node.effects.contains(&Effect::Suspect(peer(1), Why::Ended)));
    assert!(node.effects.contains(&Effect::Look));
    assert_eq!(node.core.suspected(), ids(&[1]));
    assert_eq!(node.now_ms, TICK_MS, "no time has passed");
}

#[test]
fn after_the_end_of_a_link_looks_follow_closely_and_then_stop() {
    let mut node = Node::with(&[1]);
    node.links.clear();
    node.hear();
    let ended = node.now_ms;
    let mut looks = vec![0];
    while let Some(due) = node.core.next_look_ms() {
        assert!(due > node.now_ms && looks.len() < 20);
        node.now_ms = due;
        node.tell(Event::Tick);
        looks.push(due - ended);
    }
    assert!(looks.len() >= 4 && looks[1] <= 10, "{looks:?}");
    assert!(*looks.last().unwrap() < 1_000, "{looks:?}");
    node.pass(2_000);
    assert_eq!(node.looks(1), Looks::Alive, "it is heard: only the link is gone");
}

#[test]
fn a_node_that_hangs_looks_dead_when_neither_gossip_nor_link_says_anything() {
    let mut node = Node::with(&[1, 2]);
    node.falls_silent(1);
    node.pass(5_000);
    assert_eq!(node.core.suspected(), ids(&[]), "its link speaks for it");
    node.links.insert(Incarnation(1), QUIET_MS - 1);
    node.hear();
    assert_eq!(node.core.suspected(), ids(&[]));
    node.links.insert(Incarnation(1), QUIET_MS);
    node.hear();
    assert_eq!(node.core.suspected(), ids(&[1]));
    assert!(node.effects.contains(&Effect::Suspect(peer(1), Why::Silent)));
    assert!(node.effects.contains(&Effect::Close(Incarnation(1))), "nothing is sent to it");
    node.links.remove(&Incarnation(1));
    node.hear();
    assert_eq!(node.core.suspected(), ids(&[1]), "not cleared by the end of its link");
    // Without the gossip's word a quiet link says nothing.
    node.links.insert(Incarnation(2), 60_000);
    node.hear();
    assert_eq!(node.core.suspected(), ids(&[1]));
}

#[test]
fn a_node_that_is_cut_off_takes_nobody_for_dead_also_not_the_first_that_it_misses() {
    let mut node = Node::with(&[1, 2]);
    // It hears 1 a little longer than 2, and the gossip gives up one after the other.
    for (first, second) in [(QUIET_MS, MISSED_MS), (QUIET_MS, QUIET_MS), (60_000, 60_000)] {
        node.falls_silent(2);
        node.links = [(Incarnation(1), second), (Incarnation(2), first)].into();
        node.hear();
        assert_eq!(node.core.suspected(), ids(&[]), "1 is quiet for {second} ms");
        node.falls_silent(1);
    }
    // It hears 1 again: then 2 is dead.
    node.is_heard(1);
    node.links.insert(Incarnation(1), MISSED_MS - 1);
    node.hear();
    assert_eq!(node.core.suspected(), ids(&[2]));
    // Who is held for dead is not cleared because more are missed.
    node.links = [(Incarnation(1), QUIET_MS)].into();
    node.falls_silent(1);
    node.hear();
    assert_eq!(node.core.suspected(), ids(&[2]));
    // Of two nodes either may take the other for dead: the store decides.
    let mut node = Node::with(&[1]);
    node.falls_silent(1);
    node.links.insert(Incarnation(1), QUIET_MS);
    node.hear();
    assert_eq!(node.core.suspected(), ids(&[1]));
}

#[test]
fn a_node_without_a_link_looks_dead_by_gossip_alone_a_moment_later() {
    let mut node = Node::with(&[1]);
    node.links.clear();
    node.pass(3_000);
    node.falls_silent(1);
    node.pass(HOLD_MS);
    assert_eq!(node.core.suspected(), ids(&[]));
    node.pass(TICK_MS);
    assert_eq!(node.core.suspected(), ids(&[1]));
}

#[test]
fn a_node_that_flaps_is_cleared_each_time_it_is_heard() {
    let mut node = Node::with(&[1]);
    node.links.clear();
    node.pass(TICK_MS);
    node.effects.clear();
    for round in 1..=10 {
        node.falls_silent(1);
        node.pass(HOLD_MS + TICK_MS);
        assert_eq!(node.looks(1), Looks::Dead);
        node.is_heard(1);
        node.pass(TICK_MS);
        assert_eq!(node.looks(1), Looks::Alive);
        let count = |wanted: fn(&Effect) -> bool| node.effects.iter().filter(|e| wanted(e)).count();
        assert_eq!(count(|effect| matches!(effect, Effect::Suspect(..))), round);
        assert_eq!(count(|effect| matches!(effect, Effect::Clear(_))), round);
    }
}

#[test]
fn who_was_never_heard_is_not_judged() {
    let mut node = Node::with(&[]);
    node.tell(Event::Told(vec![peer(1)]));
    node.silent = ids(&[1]);
    node.tell(Event::NotThere(Incarnation(1)));
    node.pass(60_000);
    assert_eq!(node.core.suspected(), ids(&[]), "it may be starting: its lease says more");
    assert_eq!(node.looks(1), Looks::Told);
}

#[test]
fn who_is_linked_and_never_heard_gets_more_time() {
    let mut node = Node::with(&[]);
    node.tell(Event::Told(vec![peer(1)]));
    node.silent = ids(&[1]);
    node.links.insert(Incarnation(1), QUIET_UNHEARD_MS - 1);
    node.pass(5_000);
    assert_eq!(node.core.suspected(), ids(&[]), "UDP may not get through");
    node.links.insert(Incarnation(1), QUIET_UNHEARD_MS);
    node.hear();
    node.links.clear();
    node.hear();
    assert_eq!(node.core.suspected(), ids(&[1]));
    node.is_heard(1);
    node.hear();
    assert_eq!(node.core.suspected(), ids(&[]));
}

#[test]
fn after_a_pause_of_this_node_everybody_is_heard_first() {
    let mut node = Node::with(&[1]);
    // It was stopped: everything that it sees is old.
    node.now_ms += PAUSE_MS + 5_000;
    node.falls_silent(1);
    node.links.insert(Incarnation(1), 5_000);
    node.hear();
    assert_eq!(node.core.suspected(), ids(&[]));
    node.pass(LISTEN_MS - TICK_MS);
    assert_eq!(node.core.suspected(), ids(&[]));
    node.links.insert(Incarnation(1), 0);
    node.is_heard(1);
    node.pass(10_000);
    assert_eq!(node.core.suspected(), ids(&[]));
    // One that really died meanwhile is found a moment later.
    node.now_ms += PAUSE_MS + 5_000;
    node.falls_silent(1);
    node.links.clear();
    node.hear();
    node.pass(LISTEN_MS.max(HOLD_MS));
    assert_eq!(node.core.suspected(), ids(&[1]));
}

#[test]
fn the_younger_dials_with_growing_pauses_and_once_at_a_time() {
    let mut node = Node::with(&[]);
    node.tell(Event::Told(vec![peer(1), peer(ME + 1)]));
    node.pass(1_000);
    let dials = |node: &Node| {
        let dials = node.effects.iter().filter(|effect| matches!(effect, Effect::Dial(_)));
        dials.cloned().collect::<Vec<_>>()
    };
    assert_eq!(dials(&node), [Effect::Dial(peer(1))], "the other one dials itself");
    let mut pauses = Vec::new();
    for _ in 0..12 {
        node.tell(Event::Dialled(Incarnation(1)));
        node.effects.clear();
        let failed = node.now_ms;
        while dials(&node).is_empty() {
            node.pass(TICK_MS);
            assert!(node.now_ms - failed <= 5_000 + TICK_MS);
        }
        pauses.push(node.now_ms - failed);
    }
    assert!(pauses[0] <= 300 && *pauses.last().unwrap() >= 2_500, "{pauses:?}");
}

#[test]
fn who_is_not_live_in_the_store_any_more_is_forgotten_and_its_link_closed() {
    let mut node = Node::with(&[1, 2]);
    node.tell(Event::Live(ids(&[1, 2])));
    node.tell(Event::Live(ids(&[2])));
    assert!(node.effects.contains(&Effect::Close(Incarnation(1))));
    assert_eq!(node.core.members().count(), 1);
    node.tell(Event::Told(vec![peer(1)]));
    assert_eq!(node.core.members().count(), 1, "gossip tells of the dead for a while");
    // One whose lease is younger than the last look at the store.
    node.tell(Event::Told(vec![peer(3)]));
    node.tell(Event::Live(ids(&[2])));
    assert_eq!(node.core.members().count(), 2);
    node.pass(5_000);
    node.tell(Event::Live(ids(&[2])));
    assert_eq!(node.core.members().count(), 1, "the store does not know it");
}

fn lease(id: u64) -> NodeLease {
    NodeLease {
        incarnation: Incarnation(id),
        name: format!("n{id}"),
        state: NodeState::Live,
        pid: 1,
        pid_start: 1,
        deadline_ms: 1,
        seal: None,
        host: String::new(),
        region: DEFAULT_REGION.to_owned(),
        reached: None,
        loss_accepted_ms: None,
    }
}

#[test]
fn in_a_split_the_smaller_side_claims_nothing_by_hints() {
    for size in 2..=9_u64 {
        for cut in 1..size {
            // Nodes 1..=cut are on the one side, the others on the other one.
            let side = |id: u64| id <= cut;
            let mut claimants = BTreeSet::new();
            for me in 1..=size {
                let others: Vec<NodeLease> = (1..=size).filter(|id| *id != me).map(lease).collect();
                let unseen = others.iter().map(|node| node.incarnation.0);
                let unseen: Vec<u64> = unseen.filter(|id| side(*id) != side(me)).collect();
                let mut dead = BTreeSet::new();
                suspicion::believe(&mut dead, &others, &ids(&unseen));
                if !dead.is_empty() {
                    claimants.insert(side(me));
                }
            }
            // Two equal halves race, and the store decides.
            let sides = if 2 * cut == size { 2 } else { 1 };
            assert_eq!(claimants.len(), sides, "{cut} of {size}");
        }
    }
}

fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let some = || prop::collection::btree_set((1..6_u64).prop_map(Incarnation), 0..5);
    let node = || (1..6_u64).prop_map(Incarnation);
    let event = prop_oneof![
        4 => Just(Event::Tick),
        1 => some().prop_map(|nodes| Event::Told(nodes.iter().map(|id| peer(id.0)).collect())),
        3 => (some(), some()).prop_map(|(live, silent)| Event::Heard { live, silent }),
        3 => prop::collection::btree_map(node(), 0..3_000_u64, 0..5).prop_map(Event::Links),
        1 => node().prop_map(Event::Dialled),
        1 => node().prop_map(Event::NotThere),
        1 => some().prop_map(Event::Live),
    ];
    prop::collection::vec((0..400_u64, event), 0..120)
}

proptest! {
    /// Whatever comes: one attempt to link at a time, only with known older nodes; every change of
    /// looks is told once; nobody is suspected who is not known.
    #[test]
    fn effects_are_consistent_whatever_happens(events in events()) {
        let mut core = Membership::new(Incarnation(ME));
        let (mut now_ms, mut dialling) = (0, BTreeSet::new());
        let mut suspected = BTreeSet::new();
        for (passed, event) in events {
            now_ms += passed;
            if let Event::Dialled(node) = event {
                dialling.remove(&node);
            }
            let is_live = matches!(event, Event::Live(_));
            for effect in core.handle(now_ms, event) {
                match effect {
                    Effect::Dial(peer) => {
                        prop_assert!(peer.incarnation < Incarnation(ME));
                        prop_assert!(dialling.insert(peer.incarnation), "one at a time");
                    }
                    Effect::Suspect(peer, _) => {
                        prop_assert!(suspected.insert(peer.incarnation));
                    }
                    Effect::Clear(peer) => prop_assert!(suspected.remove(&peer.incarnation)),
                    _ => {}
                }
            }
            let known: BTreeSet<_> = core.members().map(|(peer, ..)| peer.incarnation).collect();
            if is_live {
                // The forgotten are not told of again, and may come back as news.
                suspected.retain(|node| known.contains(node));
                dialling.retain(|node| known.contains(node));
            }
            prop_assert_eq!(&core.suspected(), &suspected);
            prop_assert!(suspected.is_subset(&known));
        }
    }

    /// A node that is heard and whose link is up never looks dead, whatever becomes of others.
    #[test]
    fn who_speaks_is_never_suspected(
        steps in prop::collection::vec((0..300_u64, 0..4_u64), 1..80),
    ) {
        let mut node = Node::with(&[1, 2, 3]);
        for (passed, what) in steps {
            node.now_ms += passed;
            match what {
                0 => node.falls_silent(2),
                1 => { node.links.remove(&Incarnation(3)); }
                2 => node.is_heard(2),
                _ => { node.links.insert(Incarnation(3), 0); }
            }
            node.hear();
            prop_assert!(!node.core.suspected().contains(&Incarnation(1)));
        }
    }
}
