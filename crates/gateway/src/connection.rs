//! One connection from its first packet to its last: handshake, hello, then inputs and commands up,
//! messages down.
//!
//! Started by [`crate::gateway`] for each connection that it accepts. Everything that arrives is
//! bounded, decoded and handed to the match through its [`rekindle_door::MatchDoor`].
//!
//! * [`waiting`]: a client that waits for its match to come here.
//! * [`hello`]: the first message, the welcome. [`credential`] checks what the client shows,
//!   [`lost`] what it has lost since it was here last.
//! * [`datagrams`]: inputs. [`commands`]: the stream; what of it is for
//!   documents goes to [`crate::desk`].
//! * [`farewell`]: how a client is sent away. [`end`]: why a connection ends.

mod commands;
mod credential;
mod datagrams;
mod end;
mod farewell;
mod hello;
mod lost;
mod waiting;

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rekindle_schema::MatchId;
use rekindle_schema::wire::{
    ClientMessage, MAX_ADDR, MAX_NODES, PROTOCOL, PROTOCOL_3, PROTOCOL_4, Role, ServerMessage,
    encode_server,
};
use rekindle_transport::{
    Connection, Handshake, HandshakeError, MessageReader, MessageWriter, WriteError,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use self::datagrams::Datagrams;
use self::end::End;
use self::farewell::{GOODBYE, say_goodbye};
use self::hello::{Answered, Visit};
use crate::crowd::superseded;
use crate::desk::Questions;
use crate::edge::Edge;
use crate::meters::Meters;
use crate::seat::{Listening, Seat};
use crate::stage::{Stage, Standing};

/// A connection over which its client says nothing for so long is let go, if it has said something
/// over another one of its session since.
const SPARE: Duration = Duration::from_secs(3);

/// Serves one connection. `number` counts the connections of the edge; `standing` says where this
/// one stands.
pub(crate) async fn serve(
    edge: Arc<Edge>,
    handshake: Handshake,
    number: u64,
    mut standing: Standing,
) {
    let (connection, _address) =
        match handshake.complete(edge.config.limits.handshake_timeout).await {
            Ok(connected) => connected,
            Err(HandshakeError::Unusable) => return,
            Err(HandshakeError::Incomplete(aftermath)) => {
                Meters::malformed("handshake");
                standing.go(Stage::Goodbye);
                aftermath.over().await;
                return;
            }
        };
    standing.go(Stage::Hello);
    serve_connected(&edge, (connection, number), standing).await;
}

/// Serves a connection whose handshake is complete, as [`serve`] does.
pub(crate) async fn serve_connected(
    edge: &Arc<Edge>,
    (connection, number): (Connection, u64),
    mut standing: Standing,
) {
    let Some(Answered { reader, mut writer, admitted }) =
        hello::receive(edge, (&connection, number), &mut standing).await
    else {
        return;
    };
    match admitted {
        Ok(visit) => {
            standing.go(Stage::In);
            stay(edge, (connection, number), (reader, writer), visit, standing).await;
        }
        Err(why) => {
            standing.go(Stage::Goodbye);
            say_goodbye(&connection, &mut writer, why).await;
        }
    }
}

/// Serves a client that is let in, until it goes.
async fn stay(
    edge: &Arc<Edge>,
    (connection, number): (Connection, u64),
    (mut reader, mut writer): (MessageReader<ClientMessage>, MessageWriter),
    visit: Visit,
    mut standing: Standing,
) {
    let limits = &edge.config.limits;
    let (queue, mut messages) = mpsc::channel(limits.stream_queue.max(1));
    let seat = seat(&visit, (connection.clone(), number), queue);
    let Visit { door, role, welcome, place, .. } = visit;
    edge.crowd.seat(&seat);
    // Also for a new session: whoever opened it may have gone away before it was durable, which
    // left it waiting.
    if role == Role::Player {
        door.back(seat.session);
    }
    let match_id = welcome.match_id;
    let room = edge.rooms.enter(match_id, &door, &seat).await;
    drop((door, welcome));

    reader.set_limit(limits.max_command);
    let questions = Questions::default();
    let mut datagrams = Datagrams::new(edge, &seat, &room);
    let delivery = connection.deliver_datagrams(move |datagram| datagrams.take(&datagram));
    let end = tokio::select! {
        biased;
        why = seat.dismissed() => End::Dismissed(why),
        end = spare(edge, &seat) => end,
        never = tell_nodes(edge, &seat) => match never {},
        never = tell_standby(edge, &seat, match_id) => match never {},
        never = questions.answer(&edge.desk, &seat) => match never {},
        end = commands::read_commands(edge, (&seat, &questions), &room, &mut reader) => end,
        end = write_messages(&mut writer, &mut messages) => end,
        // Last: what the client said before it went still counts.
        _ = connection.closed() => End::Lost,
    };
    // Whatever comes from now on is not listened to.
    drop(delivery);
    let door = room.door();
    drop(place);
    room.leave(number).await;
    // Whoever took the session over is here now: only the last connection of a session says that it
    // is away.
    if edge.crowd.unseat(&seat) && role == Role::Player {
        if matches!(end, End::Bye) { door.close(seat.session) } else { door.away(seat.session) }
    }
    match end {
        End::Dismissed(why) => {
            standing.go(Stage::Goodbye);
            // A client that does not read would keep us here for ever.
            let _ = timeout(GOODBYE, flush(&mut writer, &mut messages)).await;
            say_goodbye(&connection, &mut writer, why).await;
        }
        End::Bye => connection.close(0, b"bye"),
        End::Lost => {}
    }
}

/// Makes the client known to the other tasks. The welcome is the first that waits in its queue, or
/// follows on what the client has lost.
fn seat(
    visit: &Visit,
    (connection, number): (Connection, u64),
    queue: mpsc::Sender<Bytes>,
) -> Arc<Seat> {
    let Visit { welcome, lost, .. } = visit;
    let who = (welcome.player, welcome.session);
    let listening = Listening { version: visit.version, heard: visit.heard };
    let part = (visit.role, listening);
    let seat = Arc::new(Seat::new(number, welcome.match_id, who, part, connection, queue));
    let rewound = lost
        .map(|lost| encode_server(&ServerMessage::Rewound { epoch: welcome.epoch, to: lost.to }));
    let welcome = encode_server(&ServerMessage::Welcome(Box::new(welcome.clone())));
    // Version 1 knows no message before the welcome.
    let (first, second) =
        if visit.version == PROTOCOL { (Some(welcome), rewound) } else { (rewound, Some(welcome)) };
    first.into_iter().chain(second).for_each(|message| seat.tell(message));
    seat
}

/// Tells a client of version 3 where the cluster's nodes are, and again whenever that changes.
async fn tell_nodes(edge: &Edge, seat: &Seat) -> Infallible {
    let mut nodes = edge.finding.nodes();
    if seat.listening.version < PROTOCOL_3 {
        return pending().await;
    }
    loop {
        let addrs: Vec<String> = {
            let known = nodes.borrow_and_update();
            let short = known.iter().filter(|addr| addr.len() <= MAX_ADDR);
            short.take(MAX_NODES).cloned().collect()
        };
        if !addrs.is_empty() {
            seat.tell(encode_server(&ServerMessage::Nodes { addrs }));
        }
        // It ends with the node.
        if nodes.changed().await.is_err() {
            return pending().await;
        }
    }
}

/// Tells a client of version 4 where the standby of its match is, and again whenever that changes.
async fn tell_standby(edge: &Edge, seat: &Seat, match_id: MatchId) -> Infallible {
    let mut standbys = edge.finding.standbys();
    if seat.listening.version < PROTOCOL_4 {
        return pending().await;
    }
    let mut told = None;
    loop {
        let addr = standbys.borrow_and_update().get(&match_id).cloned();
        let addr = addr.filter(|addr| addr.len() <= MAX_ADDR);
        if addr != told {
            seat.tell(encode_server(&ServerMessage::Standby { addr: addr.clone() }));
            told = addr;
        }
        // It ends with the node.
        if standbys.changed().await.is_err() {
            return pending().await;
        }
    }
}

/// Ends a connection that its client does not use while it uses another one of the session.
async fn spare(edge: &Edge, seat: &Seat) -> End {
    let since = Instant::now();
    loop {
        sleep(SPARE).await;
        if seat.role == Role::Spectator || seat.is_used() {
            return pending().await;
        }
        if edge.crowd.is_spare(seat, since) {
            return End::Dismissed(superseded().into());
        }
    }
}

async fn write_messages(writer: &mut MessageWriter, messages: &mut mpsc::Receiver<Bytes>) -> End {
    while let Some(message) = messages.recv().await {
        if writer.write(message).await.is_err() {
            return End::Lost;
        }
    }
    End::Lost
}

/// Writes what waits in the queue of a client that has to go.
async fn flush(
    writer: &mut MessageWriter,
    messages: &mut mpsc::Receiver<Bytes>,
) -> Result<(), WriteError> {
    while let Ok(message) = messages.try_recv() {
        writer.write(message).await?;
    }
    Ok(())
}
