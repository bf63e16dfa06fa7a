//! The clerk of a collection that runs here: the one session in its match. It brings orders to the
//! match as commands and hands the answers back, which the match publishes once they are durable.
//!
//! One task for each collection. It ends when the match stops here; orders without an answer then
//! have an unknown outcome, which is for who asked to settle.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rekindle_actors::MatchHandle;
use rekindle_door::{Admission, MatchDoor as _, Opened, TickFrame};
use rekindle_schema::MatchId;
use rekindle_schema::lease::MatchState;
use rekindle_sim::documents::wire::{Outcome, Question, Reply, Submission};
use rekindle_sim::documents::{ANSWER_EVENT, CLERK, Submit};
use rekindle_sim::value;
use rekindle_store::Store;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::DocumentsError;
use crate::clock;

/// Orders that wait for the clerk of one collection.
const MOST_WAITING: usize = 256;
/// Before a match that does not let the clerk in now is asked again.
const RETRY: Duration = Duration::from_millis(20);
/// How often matches that are over are looked for.
const FORGET_EVERY: Duration = Duration::from_mins(1);
/// How long nothing must have come of a match before it is forgotten: far longer than an order may
/// be on its way.
const FORGET_AFTER: Duration = Duration::from_mins(10);

/// An order on its way to the clerk.
pub(super) struct Brought {
    submission: Submission,
    reply: oneshot::Sender<Outcome>,
}

/// Where orders for one collection are left.
pub(super) type Desk = mpsc::Sender<Brought>;

/// The clerks of the collections that run here.
#[derive(Default)]
pub(crate) struct Clerks(Mutex<BTreeMap<MatchId, Desk>>);

impl Clerks {
    /// A collection begins to run here: its clerk is put to work, so that no recovery waits for it.
    pub(crate) fn begin(&self, handle: &MatchHandle, store: &Store) {
        self.of(handle, store);
    }

    /// The desk of a collection; its clerk is put to work if none is.
    pub(super) fn of(&self, handle: &MatchHandle, store: &Store) -> Desk {
        let id = handle.info().match_id;
        let mut desks = self.0.lock();
        if let Some(desk) = desks.get(&id).filter(|desk| !desk.is_closed()) {
            return desk.clone();
        }
        let (desk, orders) = mpsc::channel(MOST_WAITING);
        desks.insert(id, desk.clone());
        let rate = u64::from(handle.spec().tick_rate);
        tokio::spawn(forget(desk.downgrade(), handle.clone(), store.clone(), rate));
        tokio::spawn(work(handle.clone(), orders));
        desk
    }
}

/// Leaves an order at a desk and waits for what comes of it.
pub(super) async fn bring(desk: &Desk, submission: Submission) -> Result<Outcome, DocumentsError> {
    let (reply, outcome) = oneshot::channel();
    let brought = Brought { submission, reply };
    desk.try_send(brought).map_err(|error| {
        DocumentsError::Unreachable(match error {
            mpsc::error::TrySendError::Full(_) => "too many orders wait for it".to_owned(),
            mpsc::error::TrySendError::Closed(_) => "its collection stops here".to_owned(),
        })
    })?;
    let gone = |_| DocumentsError::Unknown("its collection stopped before it answered".to_owned());
    outcome.await.map_err(gone)
}

/// A session in the match, and what was brought on it.
struct Clerk {
    handle: MatchHandle,
    opened: Opened,
    next: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Outcome>>,
}

async fn work(handle: MatchHandle, mut orders: mpsc::Receiver<Brought>) {
    while let Some(opened) = enter(&handle).await {
        // From before the first order on: no answer is missed.
        let mut frames = handle.subscribe();
        let (handle, next) = (handle.clone(), opened.next_command);
        let mut clerk = Clerk { handle, opened, next, waiting: BTreeMap::new() };
        let mut held: Option<Brought> = None;
        let mut frame_seen = false;
        loop {
            tokio::select! {
                biased;
                frame = frames.recv() => {
                    let Some(frame) = frame else { break };
                    frame_seen = true;
                    clerk.hear(&frame);
                    if frame.ended.is_some() {
                        return;
                    }
                    if let Some(brought) = held.take() {
                        match clerk.submit(brought) {
                            Submitted::Yes => {}
                            Submitted::Later(brought) => held = Some(brought),
                            Submitted::Never => break,
                        }
                    }
                }
                brought = orders.recv(), if held.is_none() => {
                    let Some(brought) = brought else { return };
                    match clerk.submit(brought) {
                        Submitted::Yes => {}
                        Submitted::Later(brought) => held = Some(brought),
                        Submitted::Never => break,
                    }
                }
            }
        }
        // Without a frame the match does not run here any more; otherwise this task was too slow,
        // or its session ended: it begins anew, and what waited has an unknown outcome.
        if !frame_seen {
            return;
        }
    }
}

/// What became of an order that was handed to the match.
enum Submitted {
    /// The match has it.
    Yes,
    /// The match has no room before its next tick.
    Later(Brought),
    /// The session is over.
    Never,
}

impl Clerk {
    fn submit(&mut self, brought: Brought) -> Submitted {
        let ticket = clock::random();
        let command = value::to_bytes(&Submit::new(ticket, &brought.submission));
        let command = Bytes::from(command);
        match self.handle.command(self.opened.session, self.next, command) {
            Admission::Queued => {
                self.next += 1;
                self.waiting.insert(ticket, brought.reply);
                Submitted::Yes
            }
            Admission::Full => Submitted::Later(brought),
            _ => Submitted::Never,
        }
    }

    /// Hands on the answers that are in a frame.
    fn hear(&mut self, frame: &TickFrame) {
        let answers = frame.events.iter().filter(|event| event.kind == ANSWER_EVENT);
        for event in answers {
            let answered = value::from_bytes(&event.payload).ok();
            let Some((ticket, outcome)) = answered.as_ref().and_then(Submit::answers) else {
                continue;
            };
            if let Some(reply) = self.waiting.remove(&ticket) {
                // An error means that nobody waits for it any more.
                let _ = reply.send(outcome);
            }
        }
    }
}

/// The clerk's session. `None` if the match does not run here any more.
async fn enter(handle: &MatchHandle) -> Option<Opened> {
    loop {
        match handle.open(CLERK, "clerk".to_owned(), None).await {
            Ok(opened) => {
                handle.back(opened.session);
                return Some(opened);
            }
            Err(_) if handle.inspect().await.is_some() => sleep(RETRY).await,
            Err(_) => return None,
        }
    }
}

/// Now and then has the collection forget matches that are over, for as long as its clerk works.
async fn forget(desk: mpsc::WeakSender<Brought>, handle: MatchHandle, store: Store, rate: u64) {
    let idle = FORGET_AFTER.as_secs() * rate;
    let mut next = Instant::now();
    loop {
        next += FORGET_EVERY;
        tokio::time::sleep_until(next).await;
        let Some(desk) = desk.upgrade() else { return };
        let question = serde_json::to_vec(&Question::Sources { idle }).unwrap_or_default();
        let found = handle.read(move |world| world.answer(&question)).await;
        let Some((Some(found), _)) = found else { return };
        let Ok(Reply::Sources(found)) = serde_json::from_slice(&found) else { return };
        let mut matches = Vec::new();
        for id in found {
            match store.leases.get(MatchId(id)).await {
                Ok(Some(row)) if !matches!(row.state, MatchState::Ended { .. }) => {}
                Ok(_) => matches.push(id),
                // Asked again the next time.
                Err(_) => break,
            }
        }
        if !matches.is_empty() {
            // An error means that the clerk stops: the next one has them forgotten.
            let _ = bring(&desk, Submission::Forget { matches, idle }).await;
        }
    }
}
