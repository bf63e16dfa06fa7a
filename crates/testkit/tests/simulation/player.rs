//! A client of the simulation: plays by dice and writes down what it learns.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rekindle_client::{Client, ClientConfig, ClientEndpoint, ClientEvent, Trust};
use rekindle_gateway::{Keys, Ticket};
use rekindle_schema::net::NetView;
use rekindle_schema::record::Beat;
use rekindle_schema::wire::{Role, Welcome};
use rekindle_schema::{PlayerId, SessionId};
use rekindle_sim::GameType;
use rekindle_sim::value::to_bytes;
use rekindle_testkit::evidence::{
    Evidence, SeenCommand, SeenEvent, SeenFrame, SeenInput, SeenRewind, SeenWelcome,
};
use rekindle_testkit::quic::{self, VirtualRuntime};
use rekindle_testkit::seed::Dice;
use rekindle_testkit::stage::PORT;
use rekindle_testkit::trace::Trace;

use crate::game::{Cheer, Move};
use crate::node::MATCHES;

/// Between two inputs: one per tick.
const INPUT_EVERY: Duration = Duration::from_millis(33);

/// One in so many inputs makes a system panic.
const POISON_ONE_IN: u64 = 400;
/// After one in so many inputs the player leaves the match, to come back soon.
const LEAVE_ONE_IN: u64 = 300;

/// How a player decides what to do.
pub(crate) enum Will {
    /// By dice, in [`crate::game::Sparks`]. `poisoned`: it has sent an input that makes a system
    /// panic, and will not do so again.
    Dice { poisoned: bool },
    /// As the game's own bots do.
    Bot { game: Arc<dyn GameType>, memory: Vec<u8> },
}

/// One player with all that it learned.
pub(crate) struct Player {
    name: String,
    dice: Dice,
    ticket: String,
    certificate: Vec<u8>,
    trace: Trace,
    evidence: Arc<Mutex<Evidence>>,
    will: Will,
    /// From then on it does not leave any more.
    stays_from: Duration,
    /// Of what the server takes back it takes notice.
    hears_rewinds: bool,
    /// What it saw last, and the match's configuration.
    seen: Option<Arc<NetView>>,
    config: Bytes,
}

impl Player {
    /// Client `number` of a simulation. `keys` are the node's.
    pub(crate) fn new(
        seed: u64,
        number: usize,
        keys: &Keys,
        trace: Trace,
        will: Will,
        stays_from: Duration,
    ) -> Self {
        let name = format!("client-{number}");
        let player = PlayerId(1 + number as u64);
        let match_id = MATCHES[number % MATCHES.len()];
        let ticket = Ticket {
            player,
            name: name.clone(),
            match_id: Some(match_id),
            role: Role::Player,
            expires_ms: u64::MAX,
            nonce: number as u64,
        };
        Self {
            dice: Dice::new(seed, &name),
            ticket: keys.issue_ticket(&ticket).expect("a ticket for a name that is not too long"),
            certificate: keys.certificate_der().to_vec(),
            trace,
            evidence: Arc::new(Mutex::new(Evidence {
                name: name.clone(),
                player,
                match_id,
                ..Evidence::default()
            })),
            name,
            will,
            stays_from,
            hears_rewinds: true,
            seen: None,
            config: Bytes::new(),
        }
    }

    /// The same, for whom nobody says that anything was taken back, if so.
    pub(crate) fn deaf_to_rewinds(mut self, so: bool) -> Self {
        self.hears_rewinds = !so;
        self
    }

    /// Where it writes down what it learns.
    pub(crate) fn evidence(&self) -> Arc<Mutex<Evidence>> {
        self.evidence.clone()
    }

    /// Plays for ever.
    pub(crate) async fn play(mut self, node: IpAddr) -> turmoil::Result {
        // Nobody connects in the same instant.
        tokio::time::sleep(Duration::from_millis(self.dice.between(5, 200))).await;
        let endpoint = ClientEndpoint::on_socket(
            quic::socket(0).await?,
            Arc::new(VirtualRuntime),
            self.dice.bytes(),
        )?;
        let trust = Trust::Certificate(self.certificate.clone());
        let config = ClientConfig::new(vec![(node, PORT).into()], trust, self.ticket.clone());
        loop {
            let client = Client::with_endpoint(config.clone(), endpoint.clone())?;
            self.stay(client).await?.leave().await;
            self.trace.log(&self.name, "has left");
            tokio::time::sleep(Duration::from_millis(self.dice.between(10, 400))).await;
        }
    }

    /// Plays until it wants to leave.
    async fn stay(&mut self, mut client: Client) -> Result<Client, String> {
        let mut session = None;
        let mut due = tokio::time::Instant::now();
        loop {
            tokio::select! {
                biased;
                event = client.event() => match event {
                    Some(event) => self.learn(event, &mut session),
                    None => return Err(format!("{}: the client has stopped", self.name)),
                },
                () = tokio::time::sleep_until(due) => {
                    due += INPUT_EVERY;
                    self.act(&client);
                    let restless = turmoil::sim_elapsed().unwrap_or_default() < self.stays_from;
                    if restless && self.dice.between(1, LEAVE_ONE_IN) == 1 {
                        return Ok(client);
                    }
                }
            }
        }
    }

    fn act(&mut self, client: &Client) {
        match &mut self.will {
            Will::Dice { poisoned } => {
                let mut axis = || self.dice.between(0, 255) as u8 as i8;
                let (dx, dy) = (axis(), axis());
                let poison = !*poisoned && self.dice.between(1, POISON_ONE_IN) == 1;
                let payload = to_bytes(&Move { dx, dy, throw: self.dice.chance(8), poison });
                if client.input(payload.into()).is_some() && poison {
                    self.trace.log(&self.name, "sends poison");
                    *poisoned = true;
                }
                if self.dice.chance(3) {
                    let cheer = Cheer { number: self.dice.between(0, 9) as u32 };
                    if let Ok(number) = client.command(to_bytes(&cheer).into()) {
                        self.trace.log(&self.name, format_args!("command {number} sent"));
                    }
                }
            }
            Will::Bot { game, memory } => {
                let player = self.evidence.lock().player;
                if let Some(payload) =
                    self.seen.as_ref().and_then(|view| game.bot(player, view, &self.config, memory))
                {
                    client.input(payload);
                }
            }
        }
    }

    fn welcomed(&mut self, welcome: &Welcome, session: &mut Option<SessionId>) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        let anew = session.replace(welcome.session).is_none();
        self.config = welcome.config.clone();
        let seen = SeenWelcome { at, session: welcome.session, resumed: welcome.resumed, anew };
        self.evidence.lock().welcomes.push(seen);
        let Welcome { session, resumed, epoch, tick, next_input, next_command, .. } = welcome;
        self.trace.log(
            &self.name,
            format_args!(
                "welcome {session} resumed {resumed} epoch {epoch} tick {tick} next \
                {next_input} {next_command}"
            ),
        );
    }

    fn learn(&mut self, event: ClientEvent, session: &mut Option<SessionId>) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        let (trace, name) = (self.trace.clone(), self.name.clone());
        let say = |what: std::fmt::Arguments<'_>| trace.log(&name, what);
        let shared = self.evidence.clone();
        let mut evidence = shared.lock();
        match event {
            ClientEvent::Welcome(welcome) | ClientEvent::Resumed { welcome, .. } => {
                drop(evidence);
                self.welcomed(&welcome, session);
            }
            ClientEvent::Snapshot(snapshot) => {
                let header = snapshot.header;
                say(format_args!(
                    "tick {} epoch {} durable {} applied {:?}, {} entities",
                    header.tick,
                    header.epoch,
                    header.durable,
                    header.applied,
                    snapshot.view.entities.len()
                ));
                if let Some(session) = *session {
                    for &(seq, tick) in
                        header.applied.iter().filter(|&&(_, tick)| tick <= header.durable)
                    {
                        if evidence
                            .inputs
                            .iter()
                            .rev()
                            .take(16)
                            .all(|seen| (seen.session, seen.seq) != (session, seq))
                        {
                            evidence.inputs.push(SeenInput { at, session, seq, tick });
                        }
                    }
                }
                self.seen = Some(snapshot.view.clone());
                let view = snapshot.complete.then(|| (*snapshot.view).clone());
                evidence.frames.push(SeenFrame {
                    at,
                    epoch: header.epoch,
                    tick: header.tick,
                    durable: header.durable,
                    view,
                });
            }
            ClientEvent::Beat { tick, hash } => {
                say(format_args!("hash of tick {tick}: {hash}"));
                evidence.beats.push(Beat { tick, hash });
            }
            ClientEvent::Event { tick, ordinal, kind, payload } => {
                say(format_args!("event {kind} {tick}.{ordinal}"));
                evidence.events.push(SeenEvent { tick, ordinal, kind, payload });
            }
            ClientEvent::CommandDone { seq, tick, accepted } => {
                say(format_args!("command {seq} done: {tick:?} {accepted:?}"));
                if let Some(session) = *session {
                    evidence.commands.push(SeenCommand {
                        session,
                        seq,
                        answer: tick.zip(accepted),
                    });
                }
            }
            ClientEvent::Rewound { epoch, to } => {
                say(format_args!("rewound to {to} in epoch {epoch}"));
                if self.hears_rewinds {
                    evidence.rewinds.push(SeenRewind { at, to });
                }
            }
            ClientEvent::DocumentsDone { id, .. } => panic!("nobody asked {id} of documents"),
            ClientEvent::EventsMissed { from, to } => {
                say(format_args!("events of {from} to {to} may be missing"));
            }
            ClientEvent::Moved { from, to, .. } => say(format_args!("moved from {from} to {to}")),
            ClientEvent::Disconnected { reason } => say(format_args!("disconnected: {reason}")),
            ClientEvent::Ended { reason } => say(format_args!("ended: {reason}")),
            ClientEvent::Closed { code, message } => {
                say(format_args!("closed: {code:?} {message}"));
            }
        }
    }
}
