//! The matches that have clients here: one room, and one task, for each.
//!
//! [`crate::connection`] enters a room for each client that is let in, and leaves it. The room's
//! task takes the frames of the match as they are published and hands them to its [`Audience`];
//! when they break off it looks for the match again. It is gone with the last client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_door::{Location, MatchDoor, Refusal, TickFrame, Wanted};
use rekindle_schema::MatchId;
use rekindle_schema::wire::{RefuseCode, Role};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::audience::Audience;
use crate::config::Limits;
use crate::crowd::Crowd;
use crate::finding::Finding;
use crate::meters::Meters;
use crate::seat::{Dismissal, Seat};

/// How often a match that left is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How often the pause before listening again doubles, for a match whose frames break off without
/// one having come.
const DOUBLINGS: u32 = 4;
/// Clients that may wait to be seated.
const CHANGES: usize = 64;

/// What the task of a room is told.
enum Change {
    /// A client was let in.
    Enter(Arc<Seat>),
    /// The client of the connection with this number is gone.
    Leave(u64),
}

/// A match that has clients here.
pub(crate) struct Room {
    match_id: MatchId,
    /// Replaced when the match was recovered in this process.
    door: Mutex<Arc<dyn MatchDoor>>,
    changes: mpsc::Sender<Change>,
}

impl Room {
    /// The door of the match, as it was found last.
    pub(crate) fn door(&self) -> Arc<dyn MatchDoor> {
        Arc::clone(&self.door.lock())
    }

    /// The client of the connection with this number is gone.
    pub(crate) async fn leave(&self, number: u64) {
        // A room that is gone has been left.
        let _ = self.changes.send(Change::Leave(number)).await;
    }
}

/// All rooms of an edge, and what their tasks need.
pub(crate) struct Rooms {
    finding: Arc<Finding>,
    crowd: Arc<Crowd>,
    meters: Arc<Meters>,
    /// How long a match whose frames broke off is looked for.
    patience: Duration,
    /// Bytes a second in the snapshots of one client.
    snapshot_bytes: Option<u32>,
    open: Mutex<BTreeMap<MatchId, Arc<Room>>>,
}

impl Rooms {
    pub(crate) fn new(
        finding: Arc<Finding>,
        crowd: Arc<Crowd>,
        meters: Arc<Meters>,
        limits: &Limits,
    ) -> Arc<Self> {
        let (patience, snapshot_bytes) = (limits.unavailable_wait, limits.snapshot_bytes);
        let open = Mutex::default();
        Arc::new(Self { finding, crowd, meters, patience, snapshot_bytes, open })
    }

    /// Brings a client into the room of its match, which is opened if need be.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        match_id: MatchId,
        door: &Arc<dyn MatchDoor>,
        seat: &Arc<Seat>,
    ) -> Arc<Room> {
        loop {
            let room = self.room(match_id, door);
            // It fails if the room has just closed.
            if room.changes.send(Change::Enter(Arc::clone(seat))).await.is_ok() {
                return room;
            }
        }
    }

    fn room(self: &Arc<Self>, match_id: MatchId, door: &Arc<dyn MatchDoor>) -> Arc<Room> {
        let mut open = self.open.lock();
        match open.get(&match_id) {
            Some(room) if !room.changes.is_closed() => Arc::clone(room),
            _ => {
                let (changes, receiver) = mpsc::channel(CHANGES);
                let room = Arc::new(Room { match_id, door: Mutex::new(Arc::clone(door)), changes });
                let publisher = Publisher {
                    rooms: Arc::clone(self),
                    room: Arc::clone(&room),
                    audience: Audience::new(
                        Arc::clone(&self.meters),
                        door.info(),
                        self.snapshot_bytes,
                    ),
                    changes: receiver,
                };
                tokio::spawn(publisher.run());
                open.insert(match_id, Arc::clone(&room));
                room
            }
        }
    }

    /// A room has closed.
    fn forget(&self, room: &Arc<Room>) {
        let mut open = self.open.lock();
        if open.get(&room.match_id).is_some_and(|present| Arc::ptr_eq(present, room)) {
            open.remove(&room.match_id);
        }
    }
}

/// The task of a room and what it owns. However it ends, nobody waits for its frames afterwards.
struct Publisher {
    rooms: Arc<Rooms>,
    room: Arc<Room>,
    audience: Audience,
    changes: mpsc::Receiver<Change>,
}

impl Publisher {
    async fn run(mut self) {
        let mut frames = self.room.door().subscribe();
        let mut silence = Silence::default();
        loop {
            tokio::select! {
                biased;
                change = self.changes.recv() => match change {
                    Some(Change::Enter(seat)) => {
                        let number = seat.number;
                        self.audience.enter(seat);
                        self.audience.catch_up(number, &*self.room.door());
                    }
                    Some(Change::Leave(number)) => self.audience.leave(number),
                    None => break,
                },
                frame = frames.recv() => match frame {
                    Some(frame) => {
                        silence = Silence::default();
                        self.audience.publish(&frame, Instant::now());
                    }
                    None if self.audience.is_over() => self.audience.clear(),
                    None => match find_again(&self.rooms, &self.room, &mut silence).await {
                        Ok(door) => {
                            frames = self.listen_again(&*door);
                            self.audience.catch_up_all(&*door);
                        }
                        Err(dismissal) => self.audience.dismiss_all(&dismissal),
                    },
                },
            }
            if self.audience.is_empty() && self.changes.is_empty() && self.close().await {
                break;
            }
        }
    }

    fn listen_again(&self, door: &dyn MatchDoor) -> mpsc::Receiver<Arc<TickFrame>> {
        tracing::info!(
            code = "RK-GATE-031", match_id = %self.room.match_id,
            "the match's frames broke off; listening again"
        );
        self.audience.each(|seat| {
            if seat.role == Role::Player {
                door.back(seat.session);
            }
        });
        door.subscribe()
    }

    /// Nobody is in: whoever enters from now on is told to open another room. True once nobody is
    /// left who came before that.
    async fn close(&mut self) -> bool {
        self.changes.close();
        match self.changes.recv().await {
            Some(Change::Enter(seat)) => {
                seat.dismiss(Refusal::new(
                    RefuseCode::Unavailable,
                    "RK-GATE-032: you came just as the last one left: connect again",
                ));
                false
            }
            Some(Change::Leave(_)) => false,
            None => true,
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.rooms.forget(&self.room);
        if !std::thread::panicking() {
            return;
        }
        tracing::error!(
            code = "RK-GATE-130", match_id = %self.room.match_id,
            "the frames of a match broke a rule: its clients are told to connect again"
        );
        let words = "RK-GATE-130: the match's frames could not be told on: connect again";
        let why = Dismissal::from(Refusal::new(RefuseCode::Unavailable, words));
        self.audience.dismiss_all(&why);
        self.changes.close();
        while let Ok(change) = self.changes.try_recv() {
            if let Change::Enter(seat) = change {
                seat.dismiss(why.clone());
            }
        }
    }
}

/// The pauses between frames that a match makes when it is found and gives none.
#[derive(Default)]
struct Silence {
    /// How often frames broke off since the last one came.
    breaks: u32,
    /// When they first did.
    since: Option<Instant>,
}

/// The match's frames ended without a last one: it was recovered, moved, or we were too slow. One
/// that is found and gives no frames either, again and again, is given up: else the search would be
/// a hot loop.
async fn find_again(
    rooms: &Rooms,
    room: &Room,
    silence: &mut Silence,
) -> Result<Arc<dyn MatchDoor>, Dismissal> {
    let until = *silence.since.get_or_insert_with(Instant::now) + rooms.patience;
    if silence.breaks > 0 {
        if Instant::now() >= until {
            let words = "RK-GATE-036: the match is here but gives no frames: ask its operator";
            return Err(Refusal::new(RefuseCode::Unavailable, words).into());
        }
        tokio::time::sleep(LOOK_AGAIN * (1 << silence.breaks.min(DOUBLINGS))).await;
    }
    silence.breaks = silence.breaks.saturating_add(1);
    loop {
        let wanted = Wanted { match_id: Some(room.match_id), ..Wanted::default() };
        match rooms.finding.locate(wanted, None).await {
            Location::Here(door) => {
                *room.door.lock() = Arc::clone(&door);
                return Ok(door);
            }
            Location::Elsewhere(addr) => {
                Meters::redirect("sent");
                return Err(Dismissal::moved(addr));
            }
            Location::Refused(refusal)
                if !refusal.code.is_temporary()
                    || Instant::now() >= until
                    || rooms.crowd.is_draining() =>
            {
                return Err(refusal.into());
            }
            Location::Refused(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}
