//! The first message of a connection: who comes, to which match, and the welcome that answers.
//!
//! Called by [`super::serve`] once for each connection. Nothing here but the opening of a session
//! waits for the match.

use std::sync::Arc;
use std::time::Duration;

use rekindle_door::{Location, MatchDoor, MatchInfo, Opened, Refusal, Wanted};
use rekindle_schema::wire::{
    Arrive, ClientMessage, Enter, Heard, Hello, MAX_GAME_NAME, MAX_PROPERTIES, MAX_PROPERTY,
    MAX_REDIRECTS, PROTOCOL, PROTOCOL_2, PROTOCOL_3, PROTOCOL_6, RefuseCode, Role, Seek, Stood,
    Welcome,
};
use rekindle_schema::{MatchId, PlayerId, SessionId, Tick};
use rekindle_transport::{Connection, MessageReader, MessageWriter};
use tokio::time::{Instant, sleep, timeout_at};

use super::credential::{Shown, check};
use super::farewell::close;
use super::lost::{lost, tell_lost};
use super::waiting;
use crate::crowd::{OpeningGuard, PlaceGuard};
use crate::edge::Edge;
use crate::limits::subscriber;
use crate::meters::Meters;
use crate::places::{Place, Purpose};
use crate::seat::Dismissal;
use crate::stage::{Stage, Standing};
use crate::stood::Lost;
use crate::ticket::{Resume, TicketError};

/// How often a client that waits for its match asks for it.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// Matches that fill up before the very eyes of a client that looks for one, before it is told that
/// all are full.
const LOBBY_TRIES: u32 = 4;

/// A client that is let in, and where.
pub(super) struct Visit {
    pub(super) door: Arc<dyn MatchDoor>,
    pub(super) role: Role,
    /// The version of the protocol that the client speaks.
    pub(super) version: u16,
    pub(super) welcome: Welcome,
    /// What the client saw and the match does not have.
    pub(super) lost: Option<Lost>,
    /// How far the client was told the match's events.
    pub(super) heard: Heard,
    /// The client has a place as long as this.
    pub(super) place: PlaceGuard,
}

/// The stream of a connection and what its first message came to.
pub(super) struct Answered {
    pub(super) reader: MessageReader<ClientMessage>,
    pub(super) writer: MessageWriter,
    pub(super) admitted: Result<Visit, Dismissal>,
}

/// Waits for the first message and answers it. `None` if there is nobody to answer (any more).
pub(super) async fn receive(
    edge: &Arc<Edge>,
    (connection, number): (&Connection, u64),
    standing: &mut Standing,
) -> Option<Answered> {
    let limits = &edge.config.limits;
    let until = Instant::now() + limits.hello_timeout;
    let silent = || {
        Meters::malformed("hello_timeout");
        Refusal::new(RefuseCode::Malformed, "RK-GATE-040: no hello came")
    };
    let Ok(stream) = timeout_at(until, connection.accept_stream(limits.max_hello)).await else {
        // There is no stream to say it on.
        close(connection, &silent());
        return None;
    };
    let (mut reader, mut writer) = stream.ok()?;
    let Ok(mut message) = timeout_at(until, reader.next()).await else {
        return Some(Answered { reader, writer, admitted: Err(silent().into()) });
    };
    if let Ok(Some(ClientMessage::Wait(hello))) = &message {
        let stream = (&mut reader, &mut writer);
        message = match waiting::wait(edge, stream, hello, standing).await {
            Ok(message) => message,
            Err(why) => return Some(Answered { reader, writer, admitted: Err(why.into()) }),
        };
    }
    let admitted = match message {
        Ok(Some(ClientMessage::Hello(hello))) => {
            let enter = Enter { hello, game: None, stood: None };
            admit(edge, (connection, number), First::of(PROTOCOL, enter), standing).await
        }
        Ok(Some(ClientMessage::Enter(enter))) => {
            admit(edge, (connection, number), First::of(PROTOCOL_2, enter), standing).await
        }
        Ok(Some(ClientMessage::Arrive(arrive))) => {
            // They are entered alike.
            let version = arrive.enter.hello.protocol.clamp(PROTOCOL_3, PROTOCOL_6);
            admit(edge, (connection, number), First::arriving(version, arrive), standing).await
        }
        Ok(Some(ClientMessage::Seek(seek))) => match First::seeking(seek) {
            Ok(first) => admit(edge, (connection, number), first, standing).await,
            Err(why) => Err(why.into()),
        },
        Ok(Some(
            ClientMessage::Command { .. }
            | ClientMessage::Bye
            | ClientMessage::Wait(_)
            | ClientMessage::Documents(_),
        )) => {
            let words = "RK-GATE-041: the first message must be a hello";
            Err(Refusal::new(RefuseCode::Malformed, words).into())
        }
        Ok(None) => return None,
        Err(error) => Err(Refusal::new(RefuseCode::Malformed, error.to_string()).into()),
    };
    if admitted.as_ref().is_err_and(|why| why.refusal.code == RefuseCode::Malformed) {
        Meters::malformed("hello");
    }
    Some(Answered { reader, writer, admitted })
}

/// The first message of a connection, whichever version it is of.
struct First {
    /// Of the protocol that the message belongs to.
    version: u16,
    enter: Enter,
    /// How far the client says it was told events.
    heard: Option<Heard>,
    /// How often the client says it was redirected; from version 3 on.
    redirects: Option<u8>,
    /// What the match has that it looks for; from version 6 on.
    properties: Vec<(String, String)>,
    /// A match may be made for it; from version 6 on.
    create: bool,
}

impl First {
    fn of(version: u16, enter: Enter) -> Self {
        let properties = Vec::new();
        Self { version, enter, heard: None, redirects: None, properties, create: false }
    }

    fn arriving(version: u16, Arrive { enter, heard, redirects }: Arrive) -> Self {
        Self { heard, redirects: Some(redirects), ..Self::of(version, enter) }
    }

    /// Of a client that looks for a match; refused if it does not say for what.
    fn seeking(Seek { arrive, properties, create }: Seek) -> Result<Self, Refusal> {
        let malformed = |words: String| Refusal::new(RefuseCode::Malformed, words);
        if arrive.enter.game.is_none() || arrive.enter.hello.match_id.is_some() {
            let words = "RK-GATE-166: whoever looks for a match names a game and no match";
            return Err(malformed(words.to_owned()));
        }
        let long = |(name, value): &(String, String)| name.len().max(value.len()) > MAX_PROPERTY;
        if properties.len() > MAX_PROPERTIES || properties.iter().any(long) {
            return Err(malformed(format!(
                "RK-GATE-167: at most {MAX_PROPERTIES} properties, of at most {MAX_PROPERTY} bytes \
                 each"
            )));
        }
        Ok(Self { properties, create, ..Self::arriving(PROTOCOL_6, arrive) })
    }
}

/// Checks the first message of a connection and opens or resumes the session it asks for. `number`
/// is the connection's.
async fn admit(
    edge: &Arc<Edge>,
    (connection, number): (&Connection, u64),
    first: First,
    standing: &mut Standing,
) -> Result<Visit, Dismissal> {
    let First { version, enter, heard, redirects, properties, create } = first;
    let Enter { hello, game, stood } = enter;
    check_form(version, hello.protocol, game.as_deref())?;
    let mut shown = check(edge, &hello)?;
    // No stranger any more: while all wait for a recovery, others can still knock.
    standing.go(Stage::Entering);
    let _turn = if shown.unbound && hello.role == Role::Player {
        let turn = turn(edge, shown.player).await?;
        shown.wanted = at_home(edge, &shown)?;
        Some(turn)
    } else {
        None
    };
    let wanted = Wanted {
        match_id: shown.wanted,
        game: game.as_deref(),
        properties: &properties,
        create: create && hello.role == Role::Player,
    };
    let mut tries = LOBBY_TRIES;
    let (door, (place, opened)) = loop {
        let door = locate(edge, connection, wanted, redirects).await?;
        check_match(edge, &door.info(), game.as_deref(), stood.as_ref()).await?;
        // Its client may have come over another connection meanwhile: this one must not drive it
        // out.
        if connection.is_closed() {
            let words = "RK-GATE-162: the connection ended before its hello was answered";
            return Err(Refusal::new(RefuseCode::Unavailable, words).into());
        }
        match open(edge, (connection, number), &*door, &hello, &shown).await {
            Ok(opened) => break (door, opened),
            // Another client was faster: who looks for a match gets the next one.
            Err(why) if why.code == RefuseCode::Full && wanted.is_lobby() && tries > 0 => {
                tries -= 1;
            }
            Err(why) => return Err(why.into()),
        }
    };
    let info = door.info();
    let lost = lost(&*door, &info, stood.as_ref(), opened.resumed);
    if let Some(lost) = lost {
        tell_lost(edge, &info, shown.player, stood.as_ref(), lost);
    }
    let welcome = welcome(edge, info, hello.role, shown.player, opened)?;
    let back = opened.resumed || hello.role == Role::Spectator;
    let heard = told_until(heard.filter(|_| back), lost, welcome.tick);
    Ok(Visit { door, role: hello.role, version, welcome, lost, heard, place })
}

/// From where on the client is to be told events: where it says it stopped, unless that has been
/// undone or lies ahead of the match. One that does not say, or that just came, begins with `tick`.
fn told_until(heard: Option<Heard>, lost: Option<Lost>, tick: Tick) -> Heard {
    let present = Heard::through(tick);
    let heard = heard.unwrap_or(present).min(present);
    lost.map_or(heard, |lost| heard.min(Heard::through(lost.to)))
}

/// Whether the message says what its version allows.
pub(super) fn check_form(version: u16, said: u16, game: Option<&str>) -> Result<(), Refusal> {
    if said != version {
        let words = format!(
            "RK-GATE-043: this node speaks protocols {PROTOCOL} to {PROTOCOL_6}, each with its own \
             first message; you speak {said}"
        );
        return Err(Refusal::new(RefuseCode::Protocol, words));
    }
    if game.is_some_and(|game| game.len() > MAX_GAME_NAME) {
        let words = format!("RK-GATE-124: the name of a game has at most {MAX_GAME_NAME} bytes");
        return Err(Refusal::new(RefuseCode::Malformed, words));
    }
    Ok(())
}

/// Whether the match that was found is one that the client can be brought into.
async fn check_match(
    edge: &Edge,
    info: &MatchInfo,
    game: Option<&str>,
    stood: Option<&Stood>,
) -> Result<(), Refusal> {
    if let Some(game) = game.filter(|game| *game != info.game) {
        let words = format!(
            "RK-GATE-125: match {} is one of `{}`, not of `{game}`",
            info.match_id, info.game
        );
        return Err(Refusal::new(RefuseCode::NoMatch, words));
    }
    // An owner that does not know yet that it was replaced must not tell anybody that what the new
    // one showed has not happened.
    if stood.is_some_and(|stood| stood.epoch > info.epoch)
        && !edge.finding.owns(info.match_id, info.epoch).await
    {
        let words = "RK-GATE-129: you have seen a later owner of the match, and this node cannot \
            prove that it is the owner: try again";
        return Err(Refusal::new(RefuseCode::Unavailable, words));
    }
    Ok(())
}

/// Takes a place for the client, and for a player opens or resumes its session.
async fn open(
    edge: &Edge,
    (connection, number): (&Connection, u64),
    door: &dyn MatchDoor,
    hello: &Hello,
    shown: &Shown,
) -> Result<(PlaceGuard, Opened), Refusal> {
    let lives = if hello.role == Role::Player { door.session_of(shown.player) } else { None };
    // One that has expired opens no session, and leads back into the one that lives.
    let back = match (&shown.expired, lives) {
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
    let place = edge.crowd.place(number, Place { player: shown.player, source, purpose })?;
    let opened = match hello.role {
        Role::Player => door.open(shown.player, shown.name.clone(), shown.resume.or(back)).await?,
        Role::Spectator => {
            Opened { session: SessionId(0), resumed: false, next_input: 0, next_command: 0 }
        }
    };
    Ok((place, opened))
}

fn welcome(
    edge: &Edge,
    info: MatchInfo,
    role: Role,
    player: PlayerId,
    opened: Opened,
) -> Result<Welcome, Refusal> {
    let Opened { session, resumed, next_input, next_command } = opened;
    let resume_token = match role {
        Role::Player => edge
            .keys
            .issue_resume(&Resume { match_id: info.match_id, player, session })
            .map_err(|error| Refusal::new(RefuseCode::Unavailable, error.to_string()))?,
        Role::Spectator => String::new(),
    };
    Ok(Welcome {
        match_id: info.match_id,
        game: info.game,
        epoch: info.epoch,
        tick: info.tick,
        tick_rate: info.tick_rate,
        player,
        session,
        resumed,
        resume_token,
        next_input,
        next_command,
        schema: (*info.schema).clone(),
        config: info.config,
    })
}

/// Waits until no other hello of this player is being answered: two at once could open two
/// sessions.
async fn turn(edge: &Arc<Edge>, player: PlayerId) -> Result<OpeningGuard, Refusal> {
    let until = Instant::now() + edge.config.limits.unavailable_wait;
    loop {
        if let Some(turn) = edge.crowd.opening(player) {
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
fn at_home(edge: &Edge, shown: &Shown) -> Result<Option<MatchId>, Refusal> {
    match (edge.finding.plays_in(shown.player), shown.wanted) {
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
    edge: &Edge,
    connection: &Connection,
    wanted: Wanted<'_>,
    redirects: Option<u8>,
) -> Result<Arc<dyn MatchDoor>, Dismissal> {
    let until = Instant::now() + edge.config.limits.unavailable_wait;
    // Whoever has waited here is told news, however often it was sent on before.
    let mut sent_on = redirects.unwrap_or(0);
    loop {
        match edge.finding.locate(wanted, redirects).await {
            Location::Here(door) => return Ok(door),
            Location::Elsewhere(_) if sent_on >= MAX_REDIRECTS => {
                Meters::redirect("circle");
                return Err(circle().into());
            }
            Location::Elsewhere(addr) => {
                Meters::redirect("sent");
                return Err(Dismissal::moved(addr));
            }
            Location::Refused(refusal) => {
                let wait = refusal.code == RefuseCode::Unavailable
                    && Instant::now() < until
                    && !edge.crowd.is_draining();
                if !wait || connection.is_closed() {
                    return Err(refusal.into());
                }
                sleep(LOOK_AGAIN).await;
                sent_on = 0;
            }
        }
    }
}

/// Nodes send the client to each other.
fn circle() -> Refusal {
    let words = "RK-GATE-151: you were sent from node to node and none has the match: try again";
    Refusal::new(RefuseCode::Unavailable, words)
}
