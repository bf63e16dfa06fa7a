//! A node for tests: the memory store, a directory with one match per call, and a game whose rules
//! fit on a page.
#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(unreachable_pub, reason = "a module of test programs")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use rekindle_actors::{
    Games, GoOn, Host, HostConfig, HostParts, MatchHandle, RecoveryError, RecoveryReport,
};
use rekindle_door::{MatchDoor as _, RawInput, TickFrame};
use rekindle_schema::codec::{self, FormatTag};
use rekindle_schema::delta::DeltaWriter;
use rekindle_schema::lease::{
    DEFAULT_REGION, Lineage, MatchLease, MatchSpec, MatchState, NodeLease, NodeState,
};
use rekindle_schema::net::{NetSchema, NetView};
use rekindle_schema::peer::Cut;
use rekindle_schema::record::{AppliedInput, Effect, EffectId, Event, Flush, Step};
use rekindle_schema::{
    BuildId, Epoch, Incarnation, MatchId, PlayerId, Seq, SessionId, StateHash, Tick,
};
use rekindle_sim::simulation::Probe;
use rekindle_sim::{GameType, Marks, SessionState, SimError, Simulation, StepOutput};
use rekindle_store::Store;
use rekindle_store::history::{self, History, LoadOptions, Start};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub const BUILD: BuildId = BuildId(0xb111d);
pub const RATE: u16 = 30;

/// Input: adds a number to the player's sum. The first byte says how it ends.
pub fn add(number: u8) -> Bytes {
    Bytes::from(vec![0, number])
}
/// Input: makes system `bomb` panic.
pub fn bomb() -> Bytes {
    Bytes::from_static(&[1, 0])
}
/// Command: asks for an effect.
pub fn ask_effect() -> Bytes {
    Bytes::from_static(&[2, 0])
}
/// Command: ends the match, with an effect.
pub fn finish() -> Bytes {
    Bytes::from_static(&[3, 0])
}

/// Command: an event of so many MiB.
pub fn flood(mib: u8) -> Bytes {
    Bytes::from(vec![4, mib])
}

const STATE_TAG: FormatTag = FormatTag(0x7001);

/// A game of sums.
pub struct Tally {
    schema: NetSchema,
    /// How often looking at a world panics from now on: a defect outside the caught part of a step.
    pub defects: Arc<AtomicU32>,
    /// What a restored world says it lost.
    pub dropped: Vec<String>,
}

impl Tally {
    pub fn new() -> Self {
        Self { schema: NetSchema::default(), defects: Arc::default(), dropped: Vec::new() }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    tick: Tick,
    /// The tick that panics by itself; 0 for none.
    cursed: u64,
    seed: u64,
    players: BTreeMap<PlayerId, Player>,
    left: BTreeMap<PlayerId, u64>,
    open: BTreeMap<EffectId, (String, Bytes)>,
    digest: u64,
    /// Never changes: what deltas leave out.
    ballast: Vec<u8>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Player {
    session: SessionId,
    sum: u64,
    last_input: u64,
    last_command: u64,
}

fn hash_of(bytes: &[u8]) -> StateHash {
    let mut hash = [0; 32];
    for lane in 0..4u64 {
        let fold = |h: u64, b: &u8| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3);
        let value = bytes.iter().fold(0xcbf2_9ce4_8422_2325 ^ lane, fold);
        hash[lane as usize * 8..][..8].copy_from_slice(&value.to_le_bytes());
    }
    StateHash(hash)
}

struct World {
    state: State,
    probe: Arc<Probe>,
    defects: Arc<AtomicU32>,
    /// What a restored one says it lost.
    dropped: Vec<String>,
}

impl State {
    fn mix(&mut self, value: u64) {
        self.digest = (self.digest ^ value).wrapping_mul(0x0100_0000_01b3).rotate_left(17);
    }
}

impl Simulation for World {
    fn tick(&self) -> Tick {
        self.state.tick
    }

    fn step(&mut self, step: &Step) -> Result<StepOutput, SimError> {
        let state = &mut self.state;
        if step.tick != state.tick.next() {
            return Err(SimError::OutOfOrder { at: state.tick, got: step.tick });
        }
        let panicked = |message: &str| {
            Err(SimError::Panicked {
                system: "bomb".to_owned(),
                tick: step.tick,
                message: message.to_owned(),
            })
        };
        state.tick = step.tick;
        state.mix(step.tick.0);
        if state.cursed == step.tick.0 {
            return panicked("this tick is cursed");
        }
        let mut output = StepOutput::default();
        for join in &step.joins {
            if join.name == "boom" {
                return panicked("what a name");
            }
            state
                .players
                .insert(join.player, Player { session: join.session, ..Player::default() });
        }
        for AppliedInput { player, session, seq, payload, .. } in &step.inputs {
            let Some(who) = state.players.get_mut(player).filter(|who| who.session == *session)
            else {
                continue;
            };
            if *seq <= who.last_input {
                continue;
            }
            if payload.first() == Some(&1) {
                return panicked("a bomb");
            }
            who.last_input = *seq;
            who.sum += u64::from(payload[1]);
            let sum = who.sum;
            state.mix(player.0 ^ seq ^ (sum << 8));
        }
        for (index, command) in step.commands.iter().enumerate() {
            let Some(who) =
                state.players.get_mut(&command.player).filter(|who| who.session == command.session)
            else {
                output.commands.push(false);
                continue;
            };
            if command.payload.first() == Some(&1) {
                return panicked("a bomb, by command");
            }
            who.last_command = command.seq;
            let id = EffectId { tick: step.tick, ordinal: index as u32 };
            if command.payload[0] >= 2 {
                let payload = Bytes::from(format!("{{\"player\":{}}}", command.player));
                state.open.insert(id, ("result".to_owned(), payload.clone()));
                output.effects.push(Effect { id, kind: "result".to_owned(), payload });
            }
            if command.payload[0] == 4 {
                let payload = Bytes::from(vec![0; usize::from(command.payload[1]) << 20]);
                output.events.push(Event {
                    tick: step.tick,
                    ordinal: 0,
                    kind: "flood".to_owned(),
                    player: None,
                    payload,
                });
            }
            if command.payload[0] == 3 {
                output.ended = Some("somebody won".to_owned());
            }
            state.mix(command.seq);
            output.commands.push(command.payload[1].is_multiple_of(2));
        }
        for leave in &step.leaves {
            if let Some(player) = state.players.remove(&leave.player) {
                state.left.insert(leave.player, player.sum);
            }
        }
        for id in &step.effects_done {
            state.open.remove(id);
        }
        Ok(output)
    }

    fn state_hash(&self) -> StateHash {
        hash_of(&self.checkpoint())
    }

    fn checkpoint(&self) -> Bytes {
        codec::encode(STATE_TAG, &self.state).into()
    }

    fn capture(&self) -> (Bytes, Marks) {
        (self.checkpoint(), Marks::default())
    }

    fn changes(&self, base: &[u8], _: &Marks, limit: usize) -> Option<(Vec<u8>, Marks)> {
        let mut writer = DeltaWriter::new(base);
        writer.replace(0..base.len(), &self.checkpoint());
        Some((writer.finish(), Marks::default()))
            .filter(|(operations, _)| operations.len() <= limit)
    }

    fn extract(&self, view: &mut NetView) {
        let defect = self
            .defects
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        assert!(defect.is_err(), "a defect in the shell");
        view.tick = self.state.tick;
        view.entities.clear();
        view.values.clear();
        view.avatars.clear();
    }

    fn sessions(&self) -> Vec<SessionState> {
        let session = |(&player, p): (&PlayerId, &Player)| SessionState {
            player,
            session: p.session,
            last_input: p.last_input,
            last_command: p.last_command,
        };
        self.state.players.iter().map(session).collect()
    }

    fn open_effects(&self) -> Vec<Effect> {
        let effect = |(&id, (kind, payload)): (&EffectId, &(String, Bytes))| Effect {
            id,
            kind: kind.clone(),
            payload: payload.clone(),
        };
        self.state.open.iter().map(effect).collect()
    }

    fn dropped(&self) -> &[String] {
        &self.dropped
    }

    fn probe(&self) -> Arc<Probe> {
        Arc::clone(&self.probe)
    }

    fn describe(&self) -> serde_json::Value {
        serde_json::Value::String(format!("{:?}", self.state))
    }
}

impl GameType for Tally {
    fn name(&self) -> &'static str {
        "tally"
    }
    fn net_schema(&self) -> &NetSchema {
        &self.schema
    }
    fn tick_rate(&self) -> u16 {
        RATE
    }
    fn max_players(&self, _: &[u8]) -> usize {
        64
    }
    fn config_from_json(&self, _: &str) -> Result<Bytes, SimError> {
        Ok(Bytes::new())
    }
    fn create_at(&self, config: &[u8], seed: u64, _: u16) -> Result<Box<dyn Simulation>, SimError> {
        let cursed = config.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Ok(Box::new(World {
            state: State { cursed, seed, ballast: vec![7; 400], ..State::default() },
            probe: Arc::default(),
            defects: Arc::clone(&self.defects),
            dropped: Vec::new(),
        }))
    }
    fn restore(&self, checkpoint: &[u8]) -> Result<Box<dyn Simulation>, SimError> {
        let state = codec::decode(STATE_TAG, checkpoint).map_err(|error| SimError::Checkpoint {
            game: "tally".to_owned(),
            problem: error.to_string(),
        })?;
        Ok(Box::new(World {
            state,
            probe: Arc::default(),
            defects: Arc::clone(&self.defects),
            dropped: self.dropped.clone(),
        }))
    }
    fn checkpoint_hash(&self, checkpoint: &[u8]) -> Option<StateHash> {
        codec::decode::<State>(STATE_TAG, checkpoint).ok().map(|_| hash_of(checkpoint))
    }
    fn accepts_input(&self, payload: &[u8]) -> bool {
        payload.len() == 2
    }
    fn accepts_command(&self, payload: &[u8]) -> bool {
        payload.len() == 2
    }
    fn bot(&self, _: PlayerId, _: &NetView, _: &[u8], _: &mut Vec<u8>) -> Option<Bytes> {
        None
    }
}

/// A configuration for tests: virtual time, one runtime.
pub fn config() -> HostConfig {
    HostConfig::simulated()
}

pub fn games() -> Games {
    Games::new().with(Arc::new(Tally::new()))
}

/// One run of a node process on `store`.
pub struct Node {
    pub host: Host,
    pub store: Store,
    pub me: Incarnation,
}

impl Node {
    pub async fn start(store: &Store, me: u64, config: HostConfig) -> Self {
        Self::with_games(store, me, config, games()).await
    }

    pub async fn with_games(store: &Store, me: u64, config: HostConfig, games: Games) -> Self {
        Self::with_build(store, me, config, games, BUILD).await
    }

    pub async fn with_build(
        store: &Store,
        me: u64,
        config: HostConfig,
        games: Games,
        build: BuildId,
    ) -> Self {
        let me = Incarnation(me);
        let lease = NodeLease {
            incarnation: me,
            name: format!("node-{me}"),
            state: NodeState::Live,
            pid: 0,
            pid_start: 0,
            deadline_ms: 0,
            seal: None,
            host: String::new(),
            region: DEFAULT_REGION.to_owned(),
            reached: None,
            loss_accepted_ms: None,
        };
        store.leases.register(lease).await.expect("register");
        let parts = HostParts {
            store: store.clone(),
            incarnation: me,
            build,
            games,
            clock: Arc::new(|| 1_700_000_000_000),
            seed: me.0,
            config,
        };
        Self { host: Host::start(parts).await.expect("start"), store: store.clone(), me }
    }

    pub async fn create(&self, match_id: u64) -> MatchHandle {
        self.create_with(match_id, "tally", Bytes::new()).await
    }

    /// As the node does it: the row first, then the match.
    pub async fn create_with(&self, match_id: u64, game: &str, config: Bytes) -> MatchHandle {
        let lease = self.row(match_id, game, config);
        self.store.leases.create(lease.clone()).await.expect("row");
        self.host.create(lease).await.expect("create")
    }

    pub fn row(&self, match_id: u64, game: &str, config: Bytes) -> MatchLease {
        MatchLease {
            match_id: MatchId(match_id),
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
            spec: MatchSpec {
                game: game.to_owned(),
                config,
                seed: match_id,
                tick_rate: RATE,
                house_bots: 0,
                created_ms: 0,
            },
            region: DEFAULT_REGION.to_owned(),
        }
    }

    /// Takes over what `dead` left, by the rules: fence, tail, settle, seal, claim, recover.
    pub async fn take_over(&self, dead: Incarnation) -> Vec<Result<RecoveryReport, RecoveryError>> {
        let store = &self.store;
        store.leases.fence(dead).await.expect("fence");
        let tail = store.journal.tail(dead).await.expect("tail");
        store.journal.settle(dead, tail.last).await.expect("settle");
        store.leases.seal(dead, tail.last).await.expect("seal");
        let mut reports = Vec::new();
        let mut rows = store.leases.matches().await.expect("rows");
        rows.retain(|row| row.incarnation == dead && row.state == MatchState::Running);
        let histories = history::load_many(store, &rows, &LoadOptions::default()).await;
        for (mut row, history) in rows.into_iter().zip(histories) {
            let history = history.expect("history");
            row.version += 1;
            row.epoch = row.epoch.next();
            row.incarnation = self.me;
            row.lineage.push(Lineage {
                epoch: row.epoch,
                incarnation: self.me,
                first_batch: self.host.next_batch(),
                first_seq: history.last_seq().next(),
            });
            store.leases.compare_and_set(row.clone()).await.expect("cas").expect("version");
            reports.push(self.host.recover(row, history, GoOn::default()).await);
        }
        reports
    }

    /// The row under which this node goes on with a match that was stopped at `cut`.
    pub fn next_row(&self, row: &MatchLease, cut: &Cut) -> MatchLease {
        let mut next = row.clone();
        next.version += 1;
        next.epoch = row.epoch.next();
        next.incarnation = self.me;
        next.lineage.push(Lineage {
            epoch: next.epoch,
            incarnation: self.me,
            first_batch: self.host.next_batch(),
            first_seq: cut.seq.next(),
        });
        next
    }

    pub async fn lease(&self, match_id: u64) -> MatchLease {
        self.store.leases.get(MatchId(match_id)).await.expect("get").expect("row")
    }

    /// Waits for the row of a match to leave `Running`.
    pub async fn settled(&self, match_id: u64) -> MatchState {
        for _ in 0..2_000 {
            let state = self.lease(match_id).await.state;
            if state != MatchState::Running {
                return state;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("match {match_id} still runs");
    }
}

/// The whole journal of a match, from its first record.
pub async fn journal(store: &Store, match_id: u64) -> (MatchLease, Vec<Flush>) {
    let lease = store.leases.get(MatchId(match_id)).await.expect("get").expect("row");
    let options = LoadOptions { start: Start::Beginning, ..LoadOptions::default() };
    let history: History = history::load(store, &lease, &options).await.expect("history");
    let flushes =
        history.frames.iter().map(|frame| Flush::decode(&frame.payload).expect("flush")).collect();
    (lease, flushes)
}

/// Every input in a journal: (session, seq) with its tick. Panics if one stands there twice.
pub fn inputs_of(flushes: &[Flush]) -> BTreeMap<(SessionId, u64), Tick> {
    let mut seen = BTreeMap::new();
    let mut last = BTreeMap::new();
    for step in flushes.iter().flat_map(|flush| &flush.steps) {
        let mut players = BTreeSet::new();
        for input in &step.inputs {
            assert!(
                players.insert(input.player),
                "two inputs of player {} in tick {}",
                input.player,
                step.tick
            );
            assert!(
                seen.insert((input.session, input.seq), step.tick).is_none(),
                "input {} applied twice",
                input.seq
            );
            let before = last.insert(input.session, input.seq).unwrap_or(0);
            assert!(input.seq > before, "input {} after {before}", input.seq);
        }
    }
    seen
}

/// Enters a match as `player`.
pub async fn enter(link: &MatchHandle, player: u64) -> SessionId {
    link.open(PlayerId(player), format!("p{player}"), None).await.expect("open").session
}

pub fn input(session: SessionId, seq: u64, target: Tick, payload: Bytes) -> RawInput {
    RawInput { session, seq, target, view: target, payload }
}

/// The next frame.
pub async fn frame(frames: &mut mpsc::Receiver<Arc<TickFrame>>) -> Arc<TickFrame> {
    frames.recv().await.expect("the match goes on")
}

/// Reads frames until one satisfies `wanted`.
pub async fn frame_where(
    frames: &mut mpsc::Receiver<Arc<TickFrame>>,
    wanted: impl Fn(&TickFrame) -> bool,
) -> Arc<TickFrame> {
    loop {
        let next = frame(frames).await;
        if wanted(&next) {
            return next;
        }
    }
}
