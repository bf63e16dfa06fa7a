//! A match without a game: each player has one entity whose fields tell what was applied. Ticks by
//! tokio's clock, is durable at once.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    missing_docs,
    reason = "each test file uses its own part of this"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use quinn::{Connection, RecvStream, SendStream};
use rekindle_client::{Client, ClientConfig, ClientEvent, Snapshot, Trust};
use rekindle_door::{
    Admission, DeskAnswer, DocumentDesk, Location, MatchDoor, MatchFinder, MatchInfo, NodeSide,
    Opened, RawInput, Refusal, Wanted,
};
use rekindle_door::{Applied, CommandDone, Recalled, SessionEnded, TickFrame};
use rekindle_gateway::{Gateway, GatewayConfig, Keys, Limits, Ticket};
use rekindle_schema::net::{
    FieldKind, NetComponent, NetEntity, NetField, NetSchema, NetView, Restricted, Sight,
};
use rekindle_schema::record::{Beat, Event, LeaveReason};
use rekindle_schema::wire::{
    ClientMessage, RefuseCode, Role, ServerMessage, StreamDecoder, encode_client,
};
use rekindle_schema::{Epoch, MatchId, PlayerId, SessionId, StateHash, Tick};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

pub const MATCH: MatchId = MatchId(0x7f3a_0000_0000_0001);
/// A match that the directory knows to be over.
pub const OVER: MatchId = MatchId(0x7f3a_0000_0000_0002);
pub const NOW_MS: u64 = 1_000_000;

pub struct Player {
    pub session: SessionId,
    pub present: bool,
    pub last_input: u64,
    pub last_command: u64,
    pub waiting: BTreeMap<u64, RawInput>,
}

impl Player {
    /// As another node knows it.
    pub fn copy(&self) -> Self {
        let Self { session, present, last_input, last_command, .. } = *self;
        Self { session, present, last_input, last_command, waiting: BTreeMap::new() }
    }
}

/// Who sees the entities of players.
#[derive(Default)]
pub enum Shown {
    #[default]
    ToAll,
    /// Each player the own one alone, spectators none.
    ToOwners,
}

#[derive(Default)]
pub struct Inner {
    pub epoch: Epoch,
    pub tick: Tick,
    pub players: BTreeMap<PlayerId, Player>,
    pub commands: Vec<(SessionId, u64)>,
    pub ended: Option<String>,
    pub events_per_tick: usize,
    pub event_bytes: usize,
    /// Entities beside the players', all of whose values change with each tick.
    pub crowd: u32,
    pub paused: bool,
    pub shown: Shown,
    /// Whoever subscribes gets a receiver that is closed already.
    pub parked: bool,
    pub subscriptions: usize,
    pub removed: Vec<PlayerId>,
    /// All that was ever applied: (player, seq, tick).
    pub applied: Vec<(PlayerId, u64, Tick)>,
    pub applied_commands: Vec<(PlayerId, u64, Bytes)>,
    /// What it computed instead of [`hash_of`] the tick, behind this tick.
    pub other_hashes: Option<(Tick, u8)>,
    /// Another node owns it, and this one does not know.
    pub stale: bool,
    /// What it remembers of its events, and from where on.
    pub events: Vec<Event>,
    pub events_from: Tick,
    /// What a recovery found.
    pub holds_until: Option<Tick>,
    /// The last tick that its owner took over.
    pub took_over: Option<Tick>,
    /// Views by tick, to compare with what clients saw.
    pub views: BTreeMap<Tick, Arc<NetView>>,
    pub calls: Vec<String>,
    waiting_commands: Vec<(PlayerId, u64, Bytes)>,
    next_session: u64,
    subscribers: Vec<mpsc::Sender<Arc<TickFrame>>>,
}

pub struct FakeMatch {
    pub inner: Mutex<Inner>,
    schema: Arc<NetSchema>,
    tick_rate: u16,
}

/// The hash of the match at a tick, on every tenth.
pub fn hash_of(tick: Tick) -> StateHash {
    StateHash([tick.0 as u8; 32])
}

impl Inner {
    fn view(&self, tick: Tick) -> NetView {
        let mut view = NetView { tick, ..NetView::default() };
        for (index, (&player, state)) in self.players.iter().enumerate() {
            view.entities.push(NetEntity {
                slot: index as u32,
                generation: state.session.0 as u32,
                components: 1,
            });
            view.values.extend([
                state.last_input as u32,
                state.last_input.wrapping_mul(7919) as u32,
                tick.0 as u32,
            ]);
            view.avatars.push((player, index as u32));
        }
        for slot in 1000..1000 + self.crowd {
            view.entities.push(NetEntity { slot, generation: 1, components: 1 });
            let noise =
                |salt: u32| (tick.0 as u32 ^ slot.rotate_left(salt)).wrapping_mul(2_654_435_761);
            view.values.extend([noise(3), noise(11), noise(19)]);
        }
        view
    }

    fn beat(&self, tick: Tick) -> Option<Beat> {
        let hash = match self.other_hashes {
            Some((behind, other)) if tick > behind => StateHash([other; 32]),
            _ => hash_of(tick),
        };
        tick.0.is_multiple_of(10).then_some(Beat { tick, hash })
    }

    pub fn drop_subscribers(&mut self) {
        self.subscribers.clear();
    }
}

impl Shown {
    fn of(&self, view: NetView) -> NetView {
        let Self::ToOwners = self else { return view };
        let mut restricted = Restricted::default();
        for (&(player, _), entry) in view.avatars.iter().zip(0..) {
            restricted.sights.push(Sight { entries: vec![entry], margin: Vec::new() });
            restricted.viewers.push((player, entry));
        }
        restricted.entries.clone_from(&view.entities);
        NetView { entities: Vec::new(), restricted: Some(Box::new(restricted)), ..view }
    }
}

impl FakeMatch {
    pub fn start(tick_rate: u16) -> Arc<Self> {
        let field = |name: &str, bits| NetField {
            name: name.to_owned(),
            kind: FieldKind::Unsigned { bits },
            rate: None,
        };
        let schema = NetSchema {
            components: vec![NetComponent {
                name: "echo".to_owned(),
                fields: vec![field("seq", 32), field("sum", 32), field("tick", 32)],
            }],
            position: None,
        };
        let this = Arc::new(Self {
            inner: Mutex::new(Inner { epoch: Epoch(1), ..Inner::default() }),
            schema: Arc::new(schema),
            tick_rate,
        });
        let weak = Arc::downgrade(&this);
        let period = Duration::from_secs(1) / u32::from(tick_rate);
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(period);
            loop {
                interval.tick().await;
                let Some(this) = weak.upgrade() else { return };
                if !this.inner.lock().paused {
                    this.step();
                }
            }
        });
        this
    }

    pub fn step(&self) {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        inner.tick = inner.tick.next();
        let tick = inner.tick;
        let mut frame = TickFrame {
            beat: inner.beat(tick),
            ended: inner.ended.clone(),
            ..TickFrame::empty(MATCH, inner.epoch, tick)
        };
        for player in std::mem::take(&mut inner.removed) {
            if let Some(gone) = inner.players.remove(&player) {
                frame
                    .left
                    .push(SessionEnded { session: gone.session, reason: LeaveReason::Removed });
            }
        }
        for (&id, player) in &mut inner.players {
            // One input a tick, the oldest first: nothing is dropped, so that tests can count.
            let due = player
                .waiting
                .first_key_value()
                .filter(|(_, input)| input.target <= tick)
                .map(|(&seq, _)| seq);
            if let Some(input) = due.and_then(|seq| player.waiting.remove(&seq)) {
                player.last_input = input.seq;
                frame.applied.push(Applied { session: player.session, seq: input.seq });
                inner.applied.push((id, input.seq, tick));
            }
        }
        for (player, seq, payload) in std::mem::take(&mut inner.waiting_commands) {
            if let Some(known) = inner.players.get(&player) {
                frame.commands.push(CommandDone { session: known.session, seq, accepted: true });
                inner.applied_commands.push((player, seq, payload));
            }
        }
        for ordinal in 0..inner.events_per_tick {
            let payload = Bytes::from(vec![7; inner.event_bytes]);
            frame.events.push(Event {
                tick,
                ordinal: ordinal as u32,
                kind: "noise".to_owned(),
                player: None,
                payload,
            });
        }
        inner.events.extend(frame.events.iter().cloned());
        frame.view = Arc::new(inner.shown.of(inner.view(tick)));
        inner.views.insert(tick, Arc::clone(&frame.view));
        let frame = Arc::new(frame);
        inner.subscribers.retain(|subscriber| subscriber.try_send(Arc::clone(&frame)).is_ok());
        if inner.ended.is_some() {
            inner.subscribers.clear();
            inner.paused = true;
        }
    }

    pub fn applied_of(&self, player: PlayerId) -> Vec<(u64, Tick)> {
        self.inner
            .lock()
            .applied
            .iter()
            .filter(|(who, ..)| *who == player)
            .map(|&(_, seq, tick)| (seq, tick))
            .collect()
    }
}

impl MatchDoor for FakeMatch {
    fn info(&self) -> MatchInfo {
        let inner = self.inner.lock();
        MatchInfo {
            match_id: MATCH,
            game: "fake".to_owned(),
            epoch: inner.epoch,
            tick: inner.tick,
            tick_rate: self.tick_rate,
            schema: Arc::clone(&self.schema),
            config: Bytes::from_static(b"config"),
        }
    }

    fn session_of(&self, player: PlayerId) -> Option<SessionId> {
        self.inner.lock().players.get(&player).map(|known| known.session)
    }

    fn hash_at(&self, tick: Tick) -> Option<StateHash> {
        let inner = self.inner.lock();
        inner.beat(tick).filter(|beat| beat.tick <= inner.tick).map(|beat| beat.hash)
    }

    fn events_from(&self, from: Tick) -> Recalled {
        let inner = self.inner.lock();
        let events = inner.events.iter().filter(|event| event.tick >= from).cloned().collect();
        Recalled { from: inner.events_from.max(from), events }
    }

    fn holds_until(&self) -> Option<Tick> {
        self.inner.lock().holds_until
    }

    fn holds_of(&self, epoch: Epoch) -> Option<Tick> {
        let inner = self.inner.lock();
        inner.took_over.filter(|_| epoch < inner.epoch)
    }

    fn open(
        &self,
        player: PlayerId,
        name: String,
        resume: Option<SessionId>,
    ) -> BoxFuture<'_, Result<Opened, Refusal>> {
        Box::pin(async move {
            let mut inner = self.inner.lock();
            inner.calls.push(format!("open {player} {name:?} {resume:?}"));
            if let Some(known) = inner.players.get_mut(&player) {
                if resume.is_some_and(|resume| resume != known.session) {
                    return Err(Refusal::new(RefuseCode::Removed, "no such session"));
                }
                known.present = true;
                // What waits is lost with the connection that brought it, as it is when a node
                // dies.
                known.waiting.clear();
                return Ok(Opened {
                    session: known.session,
                    resumed: true,
                    next_input: known.last_input + 1,
                    next_command: known.last_command + 1,
                });
            }
            if resume.is_some() {
                return Err(Refusal::new(RefuseCode::Removed, "no such session"));
            }
            inner.next_session += 1;
            let session = SessionId(inner.next_session);
            inner.players.insert(
                player,
                Player {
                    session,
                    present: true,
                    last_input: 0,
                    last_command: 0,
                    waiting: BTreeMap::new(),
                },
            );
            Ok(Opened { session, resumed: false, next_input: 1, next_command: 1 })
        })
    }

    fn input(&self, input: RawInput) -> Admission {
        if input.payload.first() == Some(&0xff) {
            return Admission::Malformed;
        }
        let mut inner = self.inner.lock();
        let tick = inner.tick;
        let Some(player) =
            inner.players.values_mut().find(|player| player.session == input.session)
        else {
            return Admission::NoSession;
        };
        if input.seq <= player.last_input || player.waiting.contains_key(&input.seq) {
            return Admission::Stale;
        }
        if input.target.0 > tick.0 + 300 {
            return Admission::OutOfWindow;
        }
        if player.waiting.len() > 256 {
            return Admission::Full;
        }
        player.waiting.insert(input.seq, input);
        Admission::Queued
    }

    fn command(&self, session: SessionId, seq: u64, payload: Bytes) -> Admission {
        let mut inner = self.inner.lock();
        let Some((&id, player)) =
            inner.players.iter_mut().find(|(_, player)| player.session == session)
        else {
            return Admission::NoSession;
        };
        if payload.first() == Some(&0xff) {
            return Admission::Malformed;
        }
        if seq <= player.last_command {
            return Admission::Stale;
        }
        if seq != player.last_command + 1 {
            return Admission::OutOfWindow;
        }
        player.last_command = seq;
        inner.waiting_commands.push((id, seq, payload));
        Admission::Queued
    }

    fn close(&self, session: SessionId) {
        let mut inner = self.inner.lock();
        inner.calls.push(format!("close {session}"));
        inner.players.retain(|_, player| player.session != session);
    }

    fn away(&self, session: SessionId) {
        let mut inner = self.inner.lock();
        inner.calls.push(format!("away {session}"));
        inner
            .players
            .values_mut()
            .filter(|player| player.session == session)
            .for_each(|player| player.present = false);
    }

    fn back(&self, session: SessionId) {
        self.inner.lock().calls.push(format!("back {session}"));
    }

    fn subscribe(&self) -> mpsc::Receiver<Arc<TickFrame>> {
        let (sender, receiver) = mpsc::channel(64);
        let mut inner = self.inner.lock();
        inner.subscriptions += 1;
        if !inner.parked {
            inner.subscribers.push(sender);
        }
        receiver
    }
}

/// A node that has one match, or is about to have it, or knows who has it.
#[derive(Default)]
pub struct FakeNode {
    pub game: Mutex<Option<Arc<FakeMatch>>>,
    /// What the directory says: players reach the match's owner there.
    pub elsewhere: Mutex<Option<String>>,
    /// So often the directory was asked.
    pub sought: AtomicU64,
    /// What clients are told of the cluster.
    pub nodes: watch::Sender<Vec<String>>,
    /// What clients are told of standbys.
    pub standbys: watch::Sender<Arc<BTreeMap<MatchId, String>>>,
    /// Documents do not answer while this is true.
    pub silent: watch::Sender<bool>,
    /// Changes when a match has come here.
    pub arrivals: watch::Sender<u64>,
}

impl FakeNode {
    pub fn with(game: &Arc<FakeMatch>) -> Arc<Self> {
        Arc::new(Self { game: Mutex::new(Some(Arc::clone(game))), ..Self::default() })
    }
}

impl MatchFinder for FakeNode {
    fn locate(&self, wanted: Wanted<'_>) -> Location {
        match &*self.game.lock() {
            None if self.elsewhere.lock().is_some() => {
                Location::Refused(Refusal::new(RefuseCode::NoMatch, "it does not run here"))
            }
            None => Location::Refused(Refusal::new(
                RefuseCode::Unavailable,
                "the match is being recovered",
            )),
            Some(_) if wanted.match_id.is_some_and(|wanted| wanted != MATCH) => {
                Location::Refused(Refusal::new(RefuseCode::NoMatch, "no such match"))
            }
            Some(_)
                if wanted.match_id.is_none() && wanted.game.is_some_and(|game| game != "fake") =>
            {
                Location::Refused(Refusal::new(RefuseCode::Full, "no match of that game"))
            }
            Some(game) => Location::Here(Arc::clone(game) as Arc<dyn MatchDoor>),
        }
    }

    fn plays_in(&self, player: PlayerId) -> Option<MatchId> {
        self.game.lock().as_ref().and_then(|game| game.session_of(player)).map(|_| MATCH)
    }

    fn owns(&self, _: MatchId, _: Epoch) -> BoxFuture<'_, bool> {
        let owns = self.game.lock().as_ref().is_some_and(|game| !game.inner.lock().stale);
        Box::pin(async move { owns })
    }

    fn seek<'a>(
        &'a self,
        wanted: Wanted<'a>,
        _hops: Option<u8>,
    ) -> BoxFuture<'a, Option<Location>> {
        self.sought.fetch_add(1, Ordering::Relaxed);
        let elsewhere = self.elsewhere.lock().clone();
        Box::pin(async move {
            if wanted.match_id == Some(OVER) {
                return Some(Location::Refused(Refusal::new(RefuseCode::Ended, "blue won")));
            }
            match elsewhere {
                Some(addr) => Some(Location::Elsewhere(addr)),
                None => Some(Location::Refused(Refusal::new(RefuseCode::NoMatch, "no such match"))),
            }
        })
    }

    fn nodes(&self) -> watch::Receiver<Vec<String>> {
        self.nodes.subscribe()
    }

    fn standbys(&self) -> watch::Receiver<Arc<BTreeMap<MatchId, String>>> {
        self.standbys.subscribe()
    }

    fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }
}

/// Documents of kind `echo`: what is asked comes back with the player who asked, unless `silent`.
impl DocumentDesk for FakeNode {
    fn ask<'a>(
        &'a self,
        player: PlayerId,
        kind: &'a str,
        json: &'a str,
    ) -> BoxFuture<'a, DeskAnswer> {
        let mut silent = self.silent.subscribe();
        Box::pin(async move {
            let _ = silent.wait_for(|silent| !silent).await;
            match kind {
                "echo" => DeskAnswer { done: true, json: format!("{player} {json}") },
                "long" => DeskAnswer { done: true, json: "x".repeat(1 << 16) },
                _ => DeskAnswer { done: false, json: r#"{"code":"RK-DOC-120"}"#.to_owned() },
            }
        })
    }
}

/// A client made by hand.
pub struct Raw {
    pub connection: Connection,
    send: SendStream,
    recv: RecvStream,
    decoder: StreamDecoder,
}

impl Raw {
    pub async fn open(addr: SocketAddr) -> Self {
        let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
        let quic = rekindle_transport::quic::client::config(&Trust::Certificate(
            keys().certificate_der().to_vec(),
        ))
        .unwrap();
        let connection = endpoint
            .connect_with(quic, addr, rekindle_transport::SERVER_NAME)
            .unwrap()
            .await
            .unwrap();
        let (send, recv) = connection.open_bi().await.unwrap();
        Self { connection, send, recv, decoder: StreamDecoder::of_server() }
    }

    pub async fn say(&mut self, message: &ClientMessage) {
        self.send.write_all(&encode_client(message)).await.unwrap();
    }

    pub async fn hear(&mut self) -> ServerMessage {
        timeout(Duration::from_secs(5), async {
            loop {
                if let Some(message) = self.decoder.next_message().unwrap() {
                    return message;
                }
                let chunk = self
                    .recv
                    .read_chunk(4096, true)
                    .await
                    .unwrap()
                    .expect("a message before the end");
                self.decoder.push(&chunk.bytes);
            }
        })
        .await
        .expect("a message within 5 s")
    }
}

pub fn keys() -> Keys {
    Keys::ephemeral([7; 32]).unwrap()
}

pub fn gateway_config(limits: Limits) -> GatewayConfig {
    let mut config = GatewayConfig::new(([127, 0, 0, 1], 0).into(), Arc::new(|| NOW_MS));
    config.limits = limits;
    config
}

pub fn start(limits: Limits, node: &Arc<FakeNode>) -> Gateway {
    Gateway::bind(gateway_config(limits), Arc::clone(node) as Arc<dyn NodeSide>, keys()).unwrap()
}

/// A node process: it has its own threads, and can die without a word.
pub struct Process {
    runtime: Option<tokio::runtime::Runtime>,
    pub gateway: Option<Gateway>,
    pub addr: SocketAddr,
}

impl Process {
    /// Starts one at `addr`, whose port may be 0.
    pub fn start(addr: SocketAddr, limits: Limits, node: &Arc<FakeNode>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut config = gateway_config(limits);
        config.bind = addr;
        let node = Arc::clone(node) as Arc<dyn NodeSide>;
        let gateway = {
            let _inside = runtime.enter();
            Gateway::bind(config, node, keys()).unwrap()
        };
        let addr = gateway.local_addr();
        Self { runtime: Some(runtime), gateway: Some(gateway), addr }
    }

    /// As SIGKILL does it: no packet says goodbye.
    pub fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub fn ticket(player: u64, role: Role) -> String {
    let ticket = Ticket {
        player: PlayerId(player),
        name: format!("p{player}"),
        match_id: None,
        role,
        expires_ms: NOW_MS + 60_000,
        nonce: 1,
    };
    keys().issue_ticket(&ticket).unwrap()
}

pub fn client_config(addr: SocketAddr, player: u64) -> ClientConfig {
    ClientConfig::new(
        vec![addr],
        Trust::Certificate(keys().certificate_der().to_vec()),
        ticket(player, Role::Player),
    )
}

pub async fn next(client: &mut Client) -> ClientEvent {
    timeout(Duration::from_secs(10), client.event())
        .await
        .expect("an event within 10 s")
        .expect("the client goes on")
}

/// The first event that `pick` takes.
pub async fn until<T>(client: &mut Client, mut pick: impl FnMut(ClientEvent) -> Option<T>) -> T {
    timeout(Duration::from_secs(10), async {
        loop {
            if let Some(found) = pick(client.event().await.expect("the client goes on")) {
                return found;
            }
        }
    })
    .await
    .expect("the awaited event within 10 s")
}

pub async fn snapshot(client: &mut Client, mut wanted: impl FnMut(&Snapshot) -> bool) -> Snapshot {
    until(client, |event| match event {
        ClientEvent::Snapshot(snapshot) if wanted(&snapshot) => Some(snapshot),
        _ => None,
    })
    .await
}

pub async fn closed(client: &mut Client) -> (Option<RefuseCode>, String) {
    until(client, |event| match event {
        ClientEvent::Closed { code, message } => Some((code, message)),
        _ => None,
    })
    .await
}

/// Waits until `holds`, which must come true within 10 s.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never came true: {what}");
}
