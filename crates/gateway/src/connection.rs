//! One connection from its first packet to its last: handshake, hello, then inputs and commands up,
//! messages down.
//!
//! Started by [`crate::gateway`] for each connection that its door accepts. Everything that arrives
//! is bounded, decoded and handed to the match through [`crate::port::MatchLink`]; nothing here
//! waits for the match but the opening of a session.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use quinn::{RecvStream, SendStream, VarInt};
use rekindle_netcode::InputPacket;
use rekindle_schema::wire::{
    ClientMessage, Credential, Enter, Hello, MAX_GAME_NAME, PROTOCOL, PROTOCOL_2, RefuseCode, Role,
    ServerMessage, Stood, StreamDecoder, StreamError, Welcome, encode_server,
};
use rekindle_schema::{MatchId, PlayerId, SessionId, Tick};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::audience::Room;
use crate::gateway::{OpeningGuard, PendingGuard, PlaceGuard, Shared};
use crate::limits::{Bucket, subscriber};
use crate::meters::Meters;
use crate::places::{Place, Purpose};
use crate::port::{Admission, Location, MatchInfo, MatchLink, Opened, RawInput, Wanted};
use crate::seat::{Feedback, Refusal, Seat};
use crate::stood::{self, Lost};
use crate::ticket::{Resume, TicketError};
use crate::unproven::AddressGuard;

/// How long a goodbye may take to reach the client.
const GOODBYE: Duration = Duration::from_millis(500);
/// How often a client that waits for its match asks for it.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// How often a command is offered to a match whose queue is full.
const OFFER_AGAIN: Duration = Duration::from_millis(20);
/// How often at most.
const OFFERS: u32 = 100;
/// How long the allowance of an address that was not proved outlives its connection: until what
/// closes it was sent, or dropped.
const AFTERMATH: Duration = Duration::from_millis(200);

/// How a connection came to its end.
enum End {
    /// Somebody here wants it to.
    Dismissed(Refusal),
    /// The player leaves for good.
    Bye,
    /// It is gone.
    Lost,
}

/// What the hello showed.
struct Shown {
    player: PlayerId,
    name: String,
    wanted: Option<MatchId>,
    /// No match is named, by the credential itself: it is good for one match at a time.
    unbound: bool,
    resume: Option<SessionId>,
    /// It was good once: it still leads back into a session that lives.
    expired: Option<TicketError>,
}

/// Serves one connection. `pending` counts it until it has shown a good credential, `address`
/// bounds what is sent to it until its address is proved.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    incoming: quinn::Incoming,
    number: u64,
    (pending, mut address): (PendingGuard, AddressGuard),
) {
    let limits = &shared.config.limits;
    let Ok(connecting) = incoming.accept() else { return };
    let Ok(Ok(connection)) = timeout(limits.handshake_timeout, connecting).await else {
        Meters::malformed("handshake");
        drop(pending);
        if !address.is_proven() {
            sleep(AFTERMATH).await;
        }
        return;
    };
    address.prove();
    let hello = timeout(limits.hello_timeout, async {
        let (send, recv) = connection.accept_bi().await.ok()?;
        let mut reader = Reader { recv, decoder: StreamDecoder::of_client(limits.max_hello) };
        let message = reader.next().await;
        Some((Writer { send, rest: Bytes::new() }, reader, message))
    });
    let (mut writer, mut reader, message) = match hello.await {
        Ok(Some(parts)) => parts,
        Ok(None) => return,
        Err(_) => {
            Meters::malformed("hello_timeout");
            close(&connection, &Refusal::new(RefuseCode::Malformed, "RK-GATE-040: no hello came"));
            return;
        }
    };
    let admitted = match message {
        Read::Message(ClientMessage::Hello(hello)) => {
            let first = Enter { hello, game: None, stood: None };
            admit(&shared, (&connection, number), PROTOCOL, first, pending).await
        }
        Read::Message(ClientMessage::Enter(enter)) => {
            admit(&shared, (&connection, number), PROTOCOL_2, enter, pending).await
        }
        Read::Message(_) => Err(Refusal::new(
            RefuseCode::Malformed,
            "RK-GATE-041: the first message must be a hello",
        )),
        Read::Malformed(error) => Err(Refusal::new(RefuseCode::Malformed, error.to_string())),
        Read::End => return,
    };
    let visit = match admitted {
        Ok(visit) => visit,
        Err(refusal) => {
            if refusal.code == RefuseCode::Malformed {
                Meters::malformed("hello");
            }
            say_goodbye(&connection, &mut writer, &refusal).await;
            return;
        }
    };
    let (queue, mut messages) = mpsc::channel(limits.stream_queue.max(1));
    let Visit { welcome, place, .. } = visit;
    let (player, session, role) = (welcome.player, welcome.session, visit.role);
    let seat = Arc::new(Seat::new(number, player, session, role, connection.clone(), queue));
    let rewound = visit
        .lost
        .map(|lost| encode_server(&ServerMessage::Rewound { epoch: welcome.epoch, to: lost.to }));
    let welcome = encode_server(&ServerMessage::Welcome(Box::new(welcome)));
    // Version 1 knows no message before the welcome.
    let (first, second) =
        if visit.version == PROTOCOL { (Some(welcome), rewound) } else { (rewound, Some(welcome)) };
    first.into_iter().chain(second).for_each(|message| seat.tell(message));
    shared.seat(&seat);
    let mut link = visit.link;
    // Also for a new session: whoever opened it may have gone away before it was durable, which
    // left it waiting.
    if role == Role::Player {
        link.back(session);
    }
    let room = loop {
        let room = shared.room(visit.match_id, &link);
        if room.enter(Arc::clone(&seat)).await {
            break room;
        }
    };

    reader.decoder.set_limit(limits.max_command);
    // A task of its own: a datagram comes every tick, and whoever waits for it beside other things
    // looks at all of them each time.
    let mut datagrams = JoinSet::new();
    datagrams.spawn(read_datagrams(Arc::clone(&shared), Arc::clone(&seat), Arc::clone(&room)));
    let end = tokio::select! {
        biased;
        refusal = seat.dismissed() => End::Dismissed(refusal),
        end = ended_by(&mut datagrams) => end,
        end = read_commands(&shared, &seat, &room, &mut reader) => end,
        end = write_messages(&mut writer, &mut messages) => end,
    };
    // Whatever comes from now on is not listened to.
    drop(datagrams);
    link = room.link();
    drop(place);
    room.leave(number).await;
    // Whoever took the session over is here now: only the last connection of a session says that it
    // is away.
    if shared.unseat(&seat) && role == Role::Player {
        if matches!(end, End::Bye) { link.close(session) } else { link.away(session) }
    }
    match end {
        End::Dismissed(refusal) => {
            let flush = async {
                while let Ok(message) = messages.try_recv() {
                    writer.write(message).await?;
                }
                Ok::<_, quinn::WriteError>(())
            };
            // A client that does not read would keep us here for ever.
            let _ = timeout(GOODBYE, flush).await;
            say_goodbye(&connection, &mut writer, &refusal).await;
        }
        End::Bye => connection.close(VarInt::from_u32(0), b"bye"),
        End::Lost => {}
    }
}

fn close(connection: &quinn::Connection, refusal: &Refusal) {
    let words = refusal.message.as_bytes();
    connection.close(VarInt::from_u32(refusal.code.close_code()), &words[..words.len().min(256)]);
}

/// Says why on the stream, waits a moment for it to arrive, closes.
async fn say_goodbye(connection: &quinn::Connection, writer: &mut Writer, refusal: &Refusal) {
    Meters::refused(refusal.code);
    tracing::debug!(
        code = "RK-GATE-042", peer = %connection.remote_address(), why = ?refusal.code,
        words = %refusal.message,
        "client let go"
    );
    let message = encode_server(&ServerMessage::Refused {
        code: refusal.code,
        message: refusal.message.clone(),
    });
    let said = async {
        if let Some(addr) = refusal.elsewhere.clone() {
            writer.write(encode_server(&ServerMessage::Redirect { addr })).await?;
        }
        writer.write(message).await?;
        let _ = writer.send.finish();
        let _ = writer.send.stopped().await;
        Ok::<_, quinn::WriteError>(())
    };
    let _ = timeout(GOODBYE, said).await;
    close(connection, refusal);
}

/// A client that is let in, and where.
struct Visit {
    match_id: MatchId,
    link: Arc<dyn MatchLink>,
    role: Role,
    /// Of the protocol.
    version: u16,
    welcome: Welcome,
    /// What the client saw and the match does not have.
    lost: Option<Lost>,
    place: PlaceGuard,
}

/// Checks the first message of a connection and opens or resumes the session it asks for.
async fn admit(
    shared: &Arc<Shared>,
    (connection, number): (&quinn::Connection, u64),
    version: u16,
    first: Enter,
    pending: PendingGuard,
) -> Result<Visit, Refusal> {
    let Enter { hello, game, stood } = first;
    if hello.protocol != version {
        let words = format!(
            "RK-GATE-043: this node speaks protocols {PROTOCOL} and {PROTOCOL_2}, you speak {}",
            hello.protocol
        );
        return Err(Refusal::new(RefuseCode::Protocol, words));
    }
    if game.as_ref().is_some_and(|game| game.len() > MAX_GAME_NAME) {
        let words = format!("RK-GATE-124: the name of a game has at most {MAX_GAME_NAME} bytes");
        return Err(Refusal::new(RefuseCode::Malformed, words));
    }
    let mut shown = check(shared, &hello)?;
    // No stranger any more: while all wait for a recovery, others can still knock.
    drop(pending);
    let _turn = if shown.unbound && hello.role == Role::Player {
        let turn = turn(shared, shown.player).await?;
        shown.wanted = at_home(shared, &shown)?;
        Some(turn)
    } else {
        None
    };
    let link = locate(shared, connection, Wanted { match_id: shown.wanted, game: game.as_deref() })
        .await?;
    let info = link.info();
    if let Some(game) = game.filter(|game| *game != info.game) {
        let words = format!(
            "RK-GATE-125: match {} is one of `{}`, not of `{game}`",
            info.match_id, info.game
        );
        return Err(Refusal::new(RefuseCode::NoMatch, words));
    }
    // An owner that does not know yet that it was replaced must not tell anybody that what the new
    // one showed has not happened.
    if stood.as_ref().is_some_and(|stood| stood.epoch > info.epoch)
        && !shared.owns(info.match_id, info.epoch).await
    {
        let words = "RK-GATE-129: you have seen a later owner of the match, and this node cannot \
            prove that it is the owner: try again";
        return Err(Refusal::new(RefuseCode::Unavailable, words));
    }
    let lives = if hello.role == Role::Player { link.session_of(shown.player) } else { None };
    // One that has expired opens no session, and leads back into the one that lives.
    let back = match (shown.expired, lives) {
        (Some(expired), None) => {
            return Err(Refusal::new(RefuseCode::Credential, expired.to_string()));
        }
        (Some(_), lives) => lives,
        (None, _) => None,
    };
    let purpose = match hello.role {
        Role::Spectator => Purpose::Watch,
        Role::Player if lives.is_some() || shown.resume.is_some() => Purpose::Resume,
        Role::Player => Purpose::Play,
    };
    let source = subscriber(connection.remote_address().ip());
    let place = shared.place(number, Place { player: shown.player, source, purpose })?;
    let opened = match hello.role {
        Role::Player => {
            let opened = link.open(shown.player, shown.name, shown.resume.or(back)).await;
            opened.map_err(|(code, message)| Refusal::new(code, message))?
        }
        Role::Spectator => {
            Opened { session: SessionId(0), resumed: false, next_input: 0, next_command: 0 }
        }
    };
    let info = link.info();
    let lost = lost(&*link, &info, stood.as_ref(), opened.resumed);
    if let Some(lost) = lost {
        tell_lost(shared, &info, shown.player, stood.as_ref(), lost);
    }
    let resume_token = match hello.role {
        Role::Player => shared
            .keys
            .issue_resume(&Resume {
                match_id: info.match_id,
                player: shown.player,
                session: opened.session,
            })
            .map_err(|error| Refusal::new(RefuseCode::Unavailable, error.to_string()))?,
        Role::Spectator => String::new(),
    };
    let welcome = Welcome {
        match_id: info.match_id,
        game: info.game,
        epoch: info.epoch,
        tick: info.tick,
        tick_rate: info.tick_rate,
        player: shown.player,
        session: opened.session,
        resumed: opened.resumed,
        resume_token,
        next_input: opened.next_input,
        next_command: opened.next_command,
        schema: (*info.schema).clone(),
        config: info.config,
    };
    Ok(Visit { match_id: info.match_id, link, role: hello.role, version, welcome, lost, place })
}

/// What the client saw and the match does not have. One that does not say where it stood
/// (version 1) is told what the recovery found.
fn lost(
    link: &dyn MatchLink,
    info: &MatchInfo,
    stood: Option<&Stood>,
    resumed: bool,
) -> Option<Lost> {
    let recovered = link.holds_until().map(|to| Lost { to, why: "recovery" });
    let Some(stood) = stood else { return recovered.filter(|_| resumed) };
    let found = stood::lost(stood, info.epoch, info.tick, |tick| link.hash_at(tick));
    let recovered = recovered.filter(|lost| stood.epoch < info.epoch && stood.tick > lost.to);
    // The recovery compared every hash; the client knows a few.
    match found {
        Some(lost) if lost.to > Tick(0) => Some(lost),
        other => recovered.or(other),
    }
}

/// Counts it, and logs it as often as lines may come.
fn tell_lost(
    shared: &Shared,
    info: &MatchInfo,
    player: PlayerId,
    stood: Option<&Stood>,
    lost: Lost,
) {
    Meters::rewound(lost.why);
    if shared.rewound_lines.lock().take(1.0, Instant::now()) {
        let (epoch_seen, last) =
            stood.map_or((0, None), |stood| (stood.epoch.0, Some(stood.tick.0)));
        tracing::warn!(
            code = "RK-GATE-127",
            match_id = %info.match_id,
            %player,
            why = lost.why,
            from = lost.to.0 + 1,
            until = last,
            epoch_seen,
            epoch = info.epoch.0,
            "a client was shown ticks that the match does not have: it is rewound; was the store \
             put back to an earlier state?"
        );
    }
}

fn check(shared: &Shared, hello: &Hello) -> Result<Shown, Refusal> {
    let credential = |error: TicketError| Refusal::new(RefuseCode::Credential, error.to_string());
    let now_ms = (shared.config.clock)();
    let (player, name, bound, resume, expired) = match &hello.credential {
        Credential::Ticket(token) => {
            let (ticket, expired) = shared.keys.read_ticket(token, now_ms).map_err(credential)?;
            if ticket.role == Role::Spectator && hello.role == Role::Player {
                return Err(credential(TicketError::NotForThis {
                    found: "watching".to_owned(),
                    wanted: "playing".to_owned(),
                }));
            }
            (ticket.player, ticket.name, ticket.match_id, None, expired)
        }
        Credential::Resume(token) => {
            let resume = shared.keys.verify_resume(token, now_ms).map_err(credential)?;
            (resume.player, String::new(), Some(resume.match_id), Some(resume.session), None)
        }
    };
    if player.0 >= shared.config.limits.first_own_player {
        let words =
            format!("players from {} on are the node's own", shared.config.limits.first_own_player);
        return Err(credential(TicketError::Claims(words)));
    }
    if let (Some(bound), Some(wanted)) = (bound, hello.match_id)
        && bound != wanted
    {
        let error = TicketError::NotForThis {
            found: format!("match {bound}"),
            wanted: format!("match {wanted}"),
        };
        return Err(credential(error));
    }
    Ok(Shown {
        player,
        name,
        wanted: hello.match_id.or(bound),
        unbound: bound.is_none(),
        resume,
        expired,
    })
}

/// Waits until no other hello of this player is being answered: two at once could open two
/// sessions.
async fn turn(shared: &Arc<Shared>, player: PlayerId) -> Result<OpeningGuard, Refusal> {
    let until = Instant::now() + shared.config.limits.unavailable_wait;
    loop {
        if let Some(turn) = shared.opening(player) {
            return Ok(turn);
        }
        if Instant::now() >= until {
            return Err(Refusal::new(
                RefuseCode::Unavailable,
                "RK-GATE-128: another hello with your ticket is being answered: try again",
            ));
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// A ticket that names no match is good for one match at a time: its player comes back to the
/// session that lives.
fn at_home(shared: &Shared, shown: &Shown) -> Result<Option<MatchId>, Refusal> {
    match (shared.matches.plays_in(shown.player), shown.wanted) {
        (Some(home), Some(wanted)) if home != wanted => {
            let error = TicketError::NotForThis {
                found: format!(
                    "one match at a time, and you play in {home}: leave it, or get a ticket that \
                     names the other match"
                ),
                wanted: format!("match {wanted}"),
            };
            Err(Refusal::new(RefuseCode::Credential, error.to_string()))
        }
        (home, wanted) => Ok(wanted.or(home)),
    }
}

/// Finds the match. One that is not ready (the node recovers it) is waited for a while, which
/// spares client and node the next handshake.
async fn locate(
    shared: &Shared,
    connection: &quinn::Connection,
    wanted: Wanted<'_>,
) -> Result<Arc<dyn MatchLink>, Refusal> {
    let until = Instant::now() + shared.config.limits.unavailable_wait;
    loop {
        match shared.locate(wanted).await {
            Location::Here(link) => return Ok(link),
            Location::Elsewhere(addr) => return Err(Refusal::moved(addr)),
            Location::Refused(code, message) => {
                let wait = code == RefuseCode::Unavailable
                    && Instant::now() < until
                    && !shared.is_draining();
                if !wait || connection.close_reason().is_some() {
                    return Err(Refusal::new(code, message));
                }
                sleep(LOOK_AGAIN).await;
            }
        }
    }
}

/// What the task that reads datagrams came to.
async fn ended_by(datagrams: &mut JoinSet<End>) -> End {
    // One that panicked takes its connection with it.
    datagrams.join_next().await.and_then(Result::ok).unwrap_or(End::Lost)
}

/// Hands inputs over until the connection ends or breaks the protocol too often.
async fn read_datagrams(shared: Arc<Shared>, seat: Arc<Seat>, room: Arc<Room>) -> End {
    let (limits, meters) = (&shared.config.limits, &shared.meters);
    let now = Instant::now();
    let mut count = Bucket::new(limits.datagrams, now);
    let mut volume = Bucket::new(limits.datagram_bytes, now);
    let mut malformed = 0;
    let mut handed_over = 0;
    loop {
        let Ok(datagram) = seat.connection.read_datagram().await else { return End::Lost };
        tokio::task::coop::consume_budget().await;
        let now = Instant::now();
        meters.datagrams_in.increment(1);
        meters.bytes_in.increment(datagram.len() as u64);
        if !count.take(1.0, now) || !volume.take(datagram.len() as f64, now) {
            meters.rate_limited.increment(1);
            continue;
        }
        let wrong = match InputPacket::decode_news(&datagram, limits.max_input, handed_over) {
            Ok((packet, repeated)) => {
                if repeated > 0 {
                    meters.inputs_repeated.increment(repeated);
                }
                seat.set_feedback(Feedback {
                    ack: (packet.ack_tick, packet.ack_bits),
                    clock_ms: packet.clock_ms,
                    at: now,
                });
                if packet.inputs.is_empty() && repeated == 0 {
                    None
                } else if seat.role == Role::Player {
                    let (last, outcome) = hand_over(&shared, &seat, &room, packet, handed_over);
                    handed_over = last;
                    outcome
                } else {
                    Some("spectator_input")
                }
            }
            Err(_) => Some("input_packet"),
        };
        if let Some(reason) = wrong {
            Meters::malformed(reason);
            malformed += 1;
            if malformed > limits.max_malformed {
                let words =
                    format!("RK-GATE-044: {malformed} malformed packets, the last one: {reason}");
                return End::Dismissed(Refusal::new(RefuseCode::Malformed, words));
            }
        }
    }
}

/// Offers the inputs of a packet, all newer than `last`. Returns the newest that was settled, and
/// what was wrong with one of them.
fn hand_over(
    shared: &Shared,
    seat: &Seat,
    room: &Room,
    packet: InputPacket,
    mut last: u64,
) -> (u64, Option<&'static str>) {
    let meters = &shared.meters;
    let link = room.link();
    let mut wrong = None;
    for item in packet.inputs {
        let seq = item.seq;
        let input = RawInput {
            session: seat.session,
            seq,
            target: item.target,
            view: item.view,
            payload: item.payload,
        };
        match link.input(input) {
            Admission::Queued => meters.inputs_queued.increment(1),
            Admission::Stale => meters.inputs_stale.increment(1),
            Admission::NoSession => meters.inputs_no_session.increment(1),
            Admission::Malformed => wrong = Some("input"),
            // Its tick comes nearer, or the queue shorter: the next packet repeats it.
            Admission::OutOfWindow => {
                meters.inputs_window.increment(1);
                break;
            }
            Admission::Full => {
                meters.inputs_full.increment(1);
                break;
            }
        }
        last = seq;
    }
    (last, wrong)
}

/// Hands commands over, in order, as fast as the client may send them.
async fn read_commands(shared: &Shared, seat: &Seat, room: &Room, reader: &mut Reader) -> End {
    let mut pace = Bucket::new(shared.config.limits.commands, Instant::now());
    let malformed = |reason, words: String| {
        Meters::malformed(reason);
        End::Dismissed(Refusal::new(RefuseCode::Malformed, words))
    };
    loop {
        match reader.next().await {
            Read::Message(ClientMessage::Bye) => return End::Bye,
            Read::Message(ClientMessage::Hello(_) | ClientMessage::Enter(_)) => {
                return malformed("second_hello", "RK-GATE-045: a second hello".to_owned());
            }
            Read::Malformed(error) => return malformed("stream", error.to_string()),
            Read::Message(ClientMessage::Command { .. }) if seat.role == Role::Spectator => {
                return malformed(
                    "spectator_command",
                    "RK-GATE-046: spectators give no commands".to_owned(),
                );
            }
            Read::Message(ClientMessage::Command { seq, payload }) => {
                // Not reading on is the answer to haste: the stream's window does the rest.
                sleep(pace.reserve(Instant::now())).await;
                shared.meters.commands.increment(1);
                let mut offers = 0;
                loop {
                    match room.link().command(seat.session, seq, payload.clone()) {
                        Admission::Queued | Admission::Stale => break,
                        Admission::Full if offers < OFFERS => {
                            offers += 1;
                            sleep(OFFER_AGAIN).await;
                        }
                        Admission::Full => {
                            let words = "RK-GATE-047: the match takes no commands now: connect \
                                again and repeat them";
                            return End::Dismissed(Refusal::new(RefuseCode::Overloaded, words));
                        }
                        Admission::Malformed => {
                            return malformed(
                                "command",
                                format!("RK-GATE-048: the game does not understand command {seq}"),
                            );
                        }
                        // A match that was thrown back expects earlier numbers: the next welcome
                        // says which.
                        Admission::OutOfWindow => {
                            Meters::malformed("command_order");
                            let words = format!(
                                "RK-GATE-049: command {seq} is out of sequence: connect again and \
                                 go on with the number you are told"
                            );
                            return End::Dismissed(Refusal::new(RefuseCode::Overloaded, words));
                        }
                        Admission::NoSession => {
                            return End::Dismissed(Refusal::new(
                                RefuseCode::Removed,
                                "RK-GATE-034: the session is over",
                            ));
                        }
                    }
                }
            }
            // The client says no more on the stream; its datagrams go on.
            Read::End => return ended(seat).await,
        }
    }
}

async fn ended(seat: &Seat) -> End {
    seat.connection.closed().await;
    End::Lost
}

async fn write_messages(writer: &mut Writer, messages: &mut mpsc::Receiver<Bytes>) -> End {
    while let Some(message) = messages.recv().await {
        if writer.write(message).await.is_err() {
            return End::Lost;
        }
    }
    End::Lost
}

/// Writes whole messages. A write that was given up goes on where it stopped.
struct Writer {
    send: SendStream,
    rest: Bytes,
}

impl Writer {
    async fn write(&mut self, message: Bytes) -> Result<(), quinn::WriteError> {
        self.flush().await?;
        self.rest = message;
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), quinn::WriteError> {
        while !self.rest.is_empty() {
            let written = self.send.write(&self.rest).await?;
            self.rest.advance(written);
        }
        Ok(())
    }
}

/// What came on the stream.
enum Read {
    Message(ClientMessage),
    Malformed(StreamError),
    End,
}

/// Reads whole messages. A read that was given up loses nothing.
struct Reader {
    recv: RecvStream,
    decoder: StreamDecoder,
}

impl Reader {
    async fn next(&mut self) -> Read {
        loop {
            match self.decoder.next_message() {
                Ok(Some(message)) => return Read::Message(message),
                Ok(None) => {}
                Err(error) => return Read::Malformed(error),
            }
            match self.recv.read_chunk(4 << 10, true).await {
                Ok(Some(chunk)) => self.decoder.push(&chunk.bytes),
                Ok(None) | Err(_) => return Read::End,
            }
        }
    }
}
