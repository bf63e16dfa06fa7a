//! Two and three nodes on one store in virtual time: owners die, standbys go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rekindle_actors::{Games, HostConfig, HostParts, MatchPhase};
use rekindle_arena::Arena;
use rekindle_cluster::ownership::takeover::{self, ClaimOptions, Promoted, promote};
use rekindle_door::{MatchDoor as _, RawInput};
use rekindle_schema::lease::{DEFAULT_REGION, Lineage, MatchSpec, NodeLease, NodeState};
use rekindle_schema::member::Member;
use rekindle_schema::net::{NetSchema, NetView};
use rekindle_schema::record::{Effect as GameEffect, Flush, Step};
use rekindle_schema::{BuildId, Epoch, PlayerId, Seq, SessionId, StateHash, Tick};
use rekindle_sim::simulation::Probe;
use rekindle_sim::{
    Game as _, GameType, Marks, SessionState, SimError, Simulation, StepOutput, Typed,
};
use rekindle_store::history::{self, LoadOptions, Start};
use rekindle_store_memory::MemoryStore;

use super::*;
use crate::node::recover::{Asked, Outcome, Recoverer, RecovererParts};
use crate::node::standing::Standings;

const MATCH: MatchId = MatchId(7);
const PLAYERS: u64 = 4;

/// The arena, computed wrongly on demand: so many of the next steps leave players' inputs out.
struct Flawed {
    inner: Typed<Arena>,
    wrong: Arc<AtomicU64>,
}

struct FlawedWorld {
    inner: Box<dyn Simulation>,
    wrong: Arc<AtomicU64>,
}

impl Simulation for FlawedWorld {
    fn tick(&self) -> Tick {
        self.inner.tick()
    }
    fn step(&mut self, step: &Step) -> Result<StepOutput, SimError> {
        let take = |left: u64| left.checked_sub(1);
        let is_wrong = !step.inputs.is_empty()
            && self.wrong.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok();
        if is_wrong {
            return self.inner.step(&Step { inputs: Vec::new(), ..step.clone() });
        }
        self.inner.step(step)
    }
    fn state_hash(&self) -> StateHash {
        self.inner.state_hash()
    }
    fn checkpoint(&self) -> Bytes {
        self.inner.checkpoint()
    }
    fn capture(&self) -> (Bytes, Marks) {
        self.inner.capture()
    }
    fn changes(&self, base: &[u8], marks: &Marks, limit: usize) -> Option<(Vec<u8>, Marks)> {
        self.inner.changes(base, marks, limit)
    }
    fn extract(&self, view: &mut NetView) {
        self.inner.extract(view);
    }
    fn sessions(&self) -> Vec<SessionState> {
        self.inner.sessions()
    }
    fn open_effects(&self) -> Vec<GameEffect> {
        self.inner.open_effects()
    }
    fn probe(&self) -> Arc<Probe> {
        self.inner.probe()
    }
    fn describe(&self) -> serde_json::Value {
        self.inner.describe()
    }
}

impl GameType for Flawed {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn net_schema(&self) -> &NetSchema {
        self.inner.net_schema()
    }
    fn tick_rate(&self) -> u16 {
        self.inner.tick_rate()
    }
    fn max_players(&self, config: &[u8]) -> usize {
        self.inner.max_players(config)
    }
    fn config_from_json(&self, json: &str) -> Result<Bytes, SimError> {
        self.inner.config_from_json(json)
    }
    fn create_at(
        &self,
        config: &[u8],
        seed: u64,
        rate: u16,
    ) -> Result<Box<dyn Simulation>, SimError> {
        let inner = GameType::create_at(&self.inner, config, seed, rate)?;
        Ok(Box::new(FlawedWorld { inner, wrong: Arc::clone(&self.wrong) }))
    }
    fn restore(&self, checkpoint: &[u8]) -> Result<Box<dyn Simulation>, SimError> {
        let inner = GameType::restore(&self.inner, checkpoint)?;
        Ok(Box::new(FlawedWorld { inner, wrong: Arc::clone(&self.wrong) }))
    }
    fn checkpoint_hash(&self, checkpoint: &[u8]) -> Option<StateHash> {
        self.inner.checkpoint_hash(checkpoint)
    }
    fn differing_parts(&self, a: &[u8], b: &[u8]) -> Vec<String> {
        self.inner.differing_parts(a, b)
    }
    fn accepts_input(&self, payload: &[u8]) -> bool {
        self.inner.accepts_input(payload)
    }
    fn accepts_command(&self, payload: &[u8]) -> bool {
        self.inner.accepts_command(payload)
    }
    fn bot(
        &self,
        player: PlayerId,
        view: &NetView,
        config: &[u8],
        state: &mut Vec<u8>,
    ) -> Option<Bytes> {
        self.inner.bot(player, view, config, state)
    }
}

/// One run of a node: its host, and what it follows.
struct Node {
    me: Incarnation,
    host: Host,
    store: Store,
    standby: Arc<Standby>,
    keeping: tokio::task::JoinHandle<Infallible>,
    recoverer: Recoverer,
    wrong: Arc<AtomicU64>,
}

impl Node {
    async fn start(store: &Store, me: u64, wishes: Wishes) -> Self {
        let (me, wrong) = (Incarnation(me), Arc::<AtomicU64>::default());
        let region = DEFAULT_REGION.to_owned();
        let lease = NodeLease {
            incarnation: me,
            name: format!("n{me}"),
            state: NodeState::Live,
            pid: 0,
            pid_start: 0,
            deadline_ms: 0,
            seal: None,
            // Of another host: nobody looks for its process.
            host: "elsewhere".to_owned(),
            region: region.clone(),
            reached: None,
            loss_accepted_ms: None,
        };
        store.leases.register(lease).await.unwrap();
        let member = Member {
            incarnation: me,
            name: format!("n{me}"),
            region: region.clone(),
            build: BuildId(1),
            host: String::new(),
            players: format!("192.0.2.{}:7777", me.0),
            admin: String::new(),
            peers: String::new(),
            speaks: (1, 1),
            draining: false,
            since_ms: 0,
            weight: 1,
        };
        members::announce(store, &member).await.unwrap();
        let game = Flawed { inner: Typed::new().unwrap(), wrong: Arc::clone(&wrong) };
        let host = Host::start(HostParts {
            store: store.clone(),
            incarnation: me,
            build: BuildId(1),
            games: Games::new().with(Arc::new(game)),
            clock: Arc::new(|| 1_700_000_000_000),
            seed: me.0,
            config: HostConfig { beat_every: 10, ..HostConfig::simulated() },
        })
        .await
        .unwrap();
        let standby = Standby::new(StandbyParts {
            host: host.clone(),
            store: store.clone(),
            me,
            region: region.clone(),
            wishes,
            most: 8,
        });
        let keeping = tokio::spawn({
            let standby = Arc::clone(&standby);
            async move { standby.keep().await }
        });
        let recoverer = Recoverer::new(RecovererParts {
            host: host.clone(),
            store: store.clone(),
            me,
            region,
            trials: None,
            standings: Arc::<Standings>::default(),
            fresh: clock::fresh,
        });
        let recoverer = recoverer.following(Arc::clone(&standby));
        Self { me, host, store: store.clone(), standby, keeping, recoverer, wrong }
    }

    async fn create(&self) {
        let spec = MatchSpec {
            game: Arena::NAME.to_owned(),
            config: Typed::<Arena>::new().unwrap().config_from_json("{}").unwrap(),
            seed: 5,
            tick_rate: 30,
            house_bots: 0,
            created_ms: 0,
        };
        let row = MatchLease {
            match_id: MATCH,
            version: 1,
            epoch: Epoch(1),
            incarnation: self.me,
            state: MatchState::Running,
            attempts: 0,
            lineage: vec![Lineage {
                epoch: Epoch(1),
                incarnation: self.me,
                first_batch: self.host.next_batch(),
                first_seq: Seq(1),
            }],
            spec,
            region: DEFAULT_REGION.to_owned(),
        };
        self.store.leases.create(row.clone()).await.unwrap();
        self.host.create(row).await.unwrap();
    }

    /// As a process that is killed.
    fn die(&self) {
        self.keeping.abort();
        self.host.abort();
    }

    /// A look that knows that these nodes are dead; the match's outcome, if this node claimed it.
    async fn look(&mut self, dead: &[Incarnation]) -> Option<Outcome> {
        for node in dead {
            self.store.leases.fence(*node).await.unwrap();
        }
        let mut came = None;
        let now_ms = self.standby.now_ms();
        self.recoverer.look(now_ms, &Asked::new(), |outcome| came = Some(outcome)).await.unwrap();
        came
    }

    fn phase(&self) -> Option<Phase> {
        self.standby.core.lock().entries().get(&MATCH).map(|entry| entry.phase.clone())
    }

    /// Resolves when the match is followed here up to `tick`.
    async fn follows(&self, tick: Tick) {
        let there = |phase| matches!(phase, Some(Phase::Follows(stand)) if stand.tick >= tick);
        while !there(self.phase()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn row(&self) -> MatchLease {
        self.store.leases.get(MATCH).await.unwrap().unwrap()
    }
}

fn one_standby() -> Wishes {
    Wishes { any: 1, ..Wishes::default() }
}

/// Players who send an input a tick, and remember which they were shown as applied.
#[derive(Default)]
struct Players {
    sessions: BTreeMap<u64, (SessionId, Vec<u8>)>,
    /// Player, number of the input: the tick that was shown.
    shown: BTreeMap<(SessionId, u64), Tick>,
    newest: Tick,
}

impl Players {
    async fn play(&mut self, node: &Node, ticks: u64) {
        let link = node.host.find(MATCH).expect("it runs here");
        let (game, config) = (node.host.games().get(Arena::NAME).unwrap(), link.info().config);
        let mut next = BTreeMap::new();
        for player in 1..=PLAYERS {
            let before = self.sessions.get(&player).map(|(session, _)| *session);
            let opened = link.open(PlayerId(player), "p".to_owned(), before).await.unwrap();
            assert!(before.is_none() || opened.resumed, "the session goes on");
            link.back(opened.session);
            next.insert(player, opened.next_input);
            self.sessions.entry(player).or_default().0 = opened.session;
        }
        let mut frames = link.subscribe();
        for _ in 0..ticks {
            let frame = frames.recv().await.expect("it goes on");
            self.newest = frame.tick;
            for applied in &frame.applied {
                let before = self.shown.insert((applied.session, applied.seq), frame.tick);
                assert_eq!(before, None, "each input is applied once");
            }
            for (player, (session, memory)) in &mut self.sessions {
                let input = game.bot(PlayerId(*player), &frame.view, &config, memory);
                let Some((payload, seq)) = input.zip(next.get_mut(player)) else { continue };
                let (session, target) = (*session, frame.tick.next());
                let view = frame.tick;
                link.input(RawInput { session, seq: *seq, target, view, payload });
                *seq += 1;
            }
        }
    }
}

/// The whole journal, made again in a world that never moved: each hash must be its, no tick is
/// missing or doubled, and all that was shown is in it, at its tick.
async fn check(store: &Store, players: &Players) {
    let row = store.leases.get(MATCH).await.unwrap().unwrap();
    let options = LoadOptions { start: Start::Beginning, ..LoadOptions::default() };
    let history = history::load(store, &row, &options).await.unwrap();
    let game = Typed::<Arena>::new().unwrap();
    let mut world = GameType::create(&game, &row.spec.config, row.spec.seed).unwrap();
    let (mut applied, mut beats) = (BTreeMap::new(), 0);
    for frame in &history.frames {
        let flush = Flush::decode(&frame.payload).unwrap();
        assert_eq!(flush.first, world.tick().next(), "no tick is missing or doubled");
        for number in flush.first.0..=flush.last.0 {
            let tick = Tick(number);
            let step = flush.steps.iter().find(|step| step.tick == tick).cloned();
            let step = step.unwrap_or(Step { tick, ..Step::default() });
            applied.extend(step.inputs.iter().map(|i| ((i.session, i.seq), tick)));
            world.step(&step).unwrap();
            for beat in flush.beats.iter().filter(|beat| beat.tick == tick) {
                assert_eq!(beat.hash, world.state_hash(), "the world of tick {tick}");
                beats += 1;
            }
        }
    }
    assert!(beats > 0, "hashes were compared");
    assert!(!players.shown.is_empty() && world.tick() >= players.newest);
    for (input, tick) in &players.shown {
        assert_eq!(applied.get(input), Some(tick), "what was shown is in the journal");
    }
}

/// Numbers from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// Owners die one after the other, each at a random tick, some while the match is being handed to
/// another node; a standby goes on each time.
async fn owners_die(seed: u64) {
    let store = MemoryStore::new().store();
    let mut chance = Chance(seed);
    let mut players = Players::default();
    let mut owner = Node::start(&store, 1, one_standby()).await;
    owner.create().await;
    for round in 1..=3 {
        let mut next = Node::start(&store, 10 * round, one_standby()).await;
        players.play(&owner, 5 + chance.below(40)).await;
        next.follows(Tick(1)).await;
        players.play(&owner, 1 + chance.below(40)).await;
        if chance.below(3) == 0 {
            owner.host.hand_off(MATCH).await.unwrap();
        }
        // Not at a moment that its polls share.
        tokio::time::sleep(Duration::from_millis(chance.below(50))).await;
        owner.die();
        let before = owner.row().await;
        let came = next.look(&[owner.me]).await;
        assert!(matches!(came, Some(Outcome::Resumed(MATCH, _))), "seed {seed}: {came:?}");
        let row = next.row().await;
        assert!(row.incarnation == next.me && row.epoch > before.epoch, "{row:?}");
        assert!(next.phase().is_none(), "its world runs: it is followed no more");
        // It has run healthily.
        takeover_is_forgotten(&next).await;
        owner = next;
    }
    players.play(&owner, 20).await;
    check(&store, &players).await;
}

/// What the node does a while after a takeover.
async fn takeover_is_forgotten(node: &Node) {
    takeover::mark_healthy(&node.store, node.me, MATCH, None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_standby_goes_on_with_all_that_was_shown_whenever_its_owner_dies() {
    for seed in 1..=4 {
        owners_die(seed * 0x9e37_79b9).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_promoted_match_waits_for_nobody_longer_than_a_tick() {
    let store = MemoryStore::new().store();
    let (a, mut b) =
        (Node::start(&store, 1, one_standby()).await, Node::start(&store, 2, one_standby()).await);
    a.create().await;
    let mut players = Players::default();
    players.play(&a, 200).await;
    b.follows(Tick(100)).await;
    a.die();
    let Some(Outcome::Resumed(_, report)) = b.look(&[a.me]).await else { panic!("it goes on") };
    assert!(report.tick >= players.newest && report.holds_until.is_none());
    // Nobody comes for a while.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let link = b.host.find(MATCH).expect("it is here");
    assert!(link.phase() == MatchPhase::Running && link.durable().tick > report.tick);
    players.play(&b, 20).await;
    check(&store, &players).await;
}

/// Two nodes of which one computes a step wrongly: the owner, or the one that follows it.
async fn diverging(owner_is_wrong: bool) -> (Store, Node, Node, Players, String) {
    let store = MemoryStore::new().store();
    let (a, b) =
        (Node::start(&store, 1, one_standby()).await, Node::start(&store, 2, one_standby()).await);
    a.create().await;
    let mut players = Players::default();
    players.play(&a, 60).await;
    b.follows(Tick(30)).await;
    let wrong = if owner_is_wrong { &a.wrong } else { &b.wrong };
    wrong.store(1, Ordering::Release);
    players.play(&a, 40).await;
    let words = loop {
        match b.phase() {
            Some(Phase::Differs(words)) => break words,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    (store, a, b, players, words)
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_computes_something_else_is_told_with_what_differs_and_never_takes_over() {
    let (store, a, mut b, mut players, words) = diverging(false).await;
    assert!(words.contains("the follower's memory or processor is wrong"), "{words}");
    assert!(words.contains("at tick ") && words.contains("component `"), "{words}");
    let reported = || async {
        let report = standbys::reports(&store).await.unwrap().remove(&b.me)?;
        report.matches.iter().any(|m| matches!(m.state, FollowState::Differs(_))).then_some(())
    };
    while reported().await.is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(b.standby.first_claimants().is_empty(), "nobody counts on it");
    a.die();
    // It is recovered from the store as any other.
    let Some(Outcome::Resumed(_, report)) = b.look(&[a.me]).await else { panic!("it goes on") };
    assert!(report.hash_ok && report.replayed > 0, "{report:?}");
    players.play(&b, 20).await;
    check(&store, &players).await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_computes_something_else_than_two_replays_is_named() {
    let (_, a, b, _, words) = diverging(true).await;
    assert!(words.contains("what its owner has in memory is not what its journal says"), "{words}");
    drop((a, b));
}

#[tokio::test(start_paused = true)]
async fn what_a_zombie_writes_behind_the_seal_is_not_gone_on_with() {
    let store = MemoryStore::new().store();
    let (a, b) =
        (Node::start(&store, 1, one_standby()).await, Node::start(&store, 2, one_standby()).await);
    a.create().await;
    Players::default().play(&a, 30).await;
    b.follows(Tick(10)).await;
    let row = a.row().await;
    let following = b.host.follow(&row).await.unwrap();
    let followed = rekindle_cluster::ownership::takeover::Followed {
        epoch: following.epoch(),
        owner: following.owner(),
        read_to: following.read_to(),
        seq: following.seq(),
    };
    let first_batch = b.host.next_batch();
    let options = ClaimOptions { me: b.me, first_batch, floor: Epoch(0) };
    let refused = async |why: &str| {
        let came = promote(&store, row.clone(), followed, options).await.unwrap();
        assert!(matches!(&came, Promoted::Unfit(words) if words.contains(why)), "{came:?}");
    };
    refused("is not sealed").await;
    a.die();
    store.leases.fence(a.me).await.unwrap();
    let seal = rekindle_schema::BatchNo(followed.read_to.0 - 1);
    store.leases.seal(a.me, seal).await.unwrap();
    refused("wrote after it was fenced").await;
    assert_eq!(a.row().await, row, "nothing was changed");
}

#[tokio::test(start_paused = true)]
async fn clients_are_told_where_the_standby_is_and_operators_who_follows() {
    let store = MemoryStore::new().store();
    let a = Node::start(&store, 1, Wishes::default()).await;
    let b = Node::start(&store, 2, Wishes::default()).await;
    a.create().await;
    let mut addresses = a.standby.known().addresses();
    standbys::wish(&store, MATCH, Some(rekindle_schema::standby::StandbyWish { standbys: 1 }))
        .await
        .unwrap();
    addresses.wait_for(|known| !known.is_empty()).await.unwrap();
    assert_eq!(addresses.borrow().get(&MATCH).map(String::as_str), Some("192.0.2.2:7777"));
    let followers = a.standby.known().of(MATCH);
    assert!(followers.len() == 1 && followers[0].is_ready(Epoch(1)), "{followers:?}");
    assert_eq!(a.standby.first_claimants(), BTreeMap::from([(MATCH, b.me)]));
    // The operator takes it back.
    standbys::wish(&store, MATCH, None).await.unwrap();
    addresses.wait_for(|known| known.is_empty()).await.unwrap();
    assert_eq!(b.phase(), None);
}
