//! Answers other nodes that give matches away, and carries out what a [`Target`] decides: one task
//! for each match that is on its way here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, OptionFuture};
use parking_lot::Mutex;
use rekindle_schema::lease::{MatchLease, MatchState};
use rekindle_schema::peer::{PeerReply, PeerRequest, Purpose};
use rekindle_schema::{Incarnation, MatchId, Tick};
use rekindle_store::Store;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::give::read;
use super::hands::{Followed, Hands, Telling};
use super::target::{Call, Effect, Event, Stand, Target};
use crate::bus::PeerService;

/// Requests for one match that wait to be looked at.
const INBOX: usize = 16;

/// Takes matches that other nodes give. Cheap to clone.
#[derive(Clone)]
pub struct Taking(Arc<Inner>);

struct Inner {
    me: Incarnation,
    store: Store,
    hands: Arc<dyn Hands>,
    /// Most matches that are on their way here at once.
    most: usize,
    /// Those that are.
    under_way: Mutex<BTreeMap<MatchId, mpsc::Sender<Asked>>>,
}

/// One request, and who gets its answer.
struct Asked {
    from: Incarnation,
    request: PeerRequest,
    answer: oneshot::Sender<PeerReply>,
}

impl Taking {
    /// On behalf of `me`, at most `most` at once.
    pub fn new(me: Incarnation, store: Store, hands: Arc<dyn Hands>, most: usize) -> Self {
        assert!(most > 0, "a node that takes nothing");
        Self(Arc::new(Inner { me, store, hands, most, under_way: Mutex::default() }))
    }

    /// How many matches are on their way here.
    pub fn under_way(&self) -> usize {
        self.0.under_way.lock().len()
    }

    async fn answer(&self, from: Incarnation, request: PeerRequest) -> PeerReply {
        if let PeerRequest::Create { .. }
        | PeerRequest::Crowds { .. }
        | PeerRequest::Give { .. }
        | PeerRequest::Seek { .. } = request
        {
            return refused("RK-CLUSTER-151: this is not asked of who takes matches");
        }
        let Some(match_id) = match_of(&request) else { return PeerReply::Done };
        // Said again: it is done already.
        if self.0.hands.tick(match_id).is_some() {
            return match request {
                PeerRequest::Yours { .. } | PeerRequest::Unfollow { .. } => PeerReply::Done,
                _ => refused("RK-CLUSTER-122: this match runs here already"),
            };
        }
        let known = self.0.under_way.lock().get(&match_id).cloned();
        let inbox = match (known, &request) {
            (Some(inbox), _) => inbox,
            (None, PeerRequest::Follow { purpose: Purpose::Migration, .. }) => {
                let row = match self.admit(from, match_id).await {
                    Ok(row) => row,
                    Err(words) => return refused(&words),
                };
                match self.begin(from, row) {
                    Some(inbox) => inbox,
                    None => return refused(&self.full()),
                }
            }
            (None, PeerRequest::Yours { .. }) => {
                let row = match read(&self.0.store, match_id).await {
                    Ok(Some(row)) if row.incarnation == self.0.me => *row,
                    Ok(_) => return refused("its row does not name this node"),
                    Err(error) => return refused(&error.to_string()),
                };
                match self.begin(from, row) {
                    Some(inbox) => inbox,
                    None => return refused(&self.full()),
                }
            }
            (None, PeerRequest::Unfollow { .. }) => return PeerReply::Done,
            (None, _) => return refused("RK-CLUSTER-122: this match is not followed here"),
        };
        let (answer, answered) = oneshot::channel();
        if inbox.try_send(Asked { from, request, answer }).is_err() {
            return refused("RK-CLUSTER-122: too many requests for this match wait here");
        }
        answered
            .await
            .unwrap_or_else(|_| refused("RK-CLUSTER-122: this match is not followed here"))
    }

    fn full(&self) -> String {
        format!("RK-CLUSTER-124: {} matches are on their way here; try again", self.0.most)
    }

    /// Whether a match of `from` may come here.
    async fn admit(&self, from: Incarnation, match_id: MatchId) -> Result<MatchLease, String> {
        let row = read(&self.0.store, match_id).await.map_err(|error| error.to_string())?;
        let row = row.ok_or_else(|| format!("there is no match {match_id}"))?;
        if row.incarnation != from {
            return Err(format!("match {match_id} belongs to node {}", row.incarnation));
        }
        if row.state != MatchState::Running {
            return Err(format!("match {match_id} does not run"));
        }
        self.0.hands.admits(&row)?;
        Ok(*row)
    }

    /// Starts the task of a match, unless there is one or there are too many.
    fn begin(&self, from: Incarnation, row: MatchLease) -> Option<mpsc::Sender<Asked>> {
        let match_id = row.match_id;
        let mut under_way = self.0.under_way.lock();
        if let Some(inbox) = under_way.get(&match_id) {
            return Some(inbox.clone());
        }
        if under_way.len() >= self.0.most || from == self.0.me {
            return None;
        }
        let (inbox, requests) = mpsc::channel(INBOX);
        under_way.insert(match_id, inbox.clone());
        let taking = Take::new(Arc::clone(&self.0), from, row);
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            taking.run(requests).await;
            inner.under_way.lock().remove(&match_id);
        });
        Some(inbox)
    }
}

impl PeerService for Taking {
    fn handle(&self, from: Incarnation, request: PeerRequest) -> BoxFuture<'_, PeerReply> {
        self.answer(from, request).boxed()
    }
}

/// Which match a request is about.
fn match_of(request: &PeerRequest) -> Option<MatchId> {
    match request {
        // Whoever runs matches answers this before it comes here.
        PeerRequest::Ping
        | PeerRequest::Create { .. }
        | PeerRequest::Crowds { .. }
        | PeerRequest::Documents { .. }
        | PeerRequest::Give { .. }
        | PeerRequest::Seek { .. } => None,
        PeerRequest::Follow { match_id, .. }
        | PeerRequest::Followed { match_id }
        | PeerRequest::Unfollow { match_id }
        | PeerRequest::Stopped { match_id, .. }
        | PeerRequest::Yours { match_id, .. } => Some(*match_id),
    }
}

fn refused(words: &str) -> PeerReply {
    PeerReply::Refused { words: words.to_owned() }
}

/// One match on its way here.
struct Take {
    inner: Arc<Inner>,
    core: Target,
    row: MatchLease,
    begun: Instant,
    wake: Option<u64>,
    follower: Option<Box<dyn Followed>>,
    /// A read or a start under way: the core asks for one after the other.
    work: Option<BoxFuture<'static, Event>>,
    /// From before the row is read until the match runs, or does not: see [`Hands::enter`].
    entered: Option<Box<dyn Send>>,
    answers: BTreeMap<Call, oneshot::Sender<PeerReply>>,
    calls: Call,
    /// The last tick of the source, and when the source said so.
    stopped: Option<(Tick, Instant)>,
}

impl Take {
    fn new(inner: Arc<Inner>, from: Incarnation, row: MatchLease) -> Self {
        let core = Target::new(row.match_id, inner.me, from);
        Self {
            inner,
            core,
            row,
            begun: Instant::now(),
            wake: None,
            follower: None,
            work: None,
            entered: None,
            answers: BTreeMap::new(),
            calls: 0,
            stopped: None,
        }
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Asked>) {
        // The newest place alone matters.
        let (stood, mut stands) = tokio::sync::watch::channel(None::<Result<Stand, String>>);
        let tell: Telling = Arc::new(move |stand| {
            stood.send_replace(Some(stand));
        });
        while !self.core.is_over() {
            let sleep = OptionFuture::from(
                self.wake.map(|at| sleep_until(self.begun + Duration::from_millis(at))),
            );
            let event = tokio::select! {
                biased;
                Some(event) = OptionFuture::from(self.work.as_mut()) => {
                    self.work = None;
                    event
                }
                Some(asked) = requests.recv() => self.asked(asked),
                Ok(()) = stands.changed() => match stands.borrow_and_update().clone() {
                    Some(Ok(stand)) => Event::Stands(stand),
                    Some(Err(why)) => Event::Failed(why),
                    None => continue,
                },
                Some(()) = sleep => {
                    self.wake = None;
                    Event::Time
                }
            };
            let now = self.begun.elapsed().as_millis() as u64;
            let mut effects: VecDeque<Effect> = self.core.handle(now, event).into();
            while let Some(effect) = effects.pop_front() {
                self.carry_out(effect, &tell);
            }
            if self.work.is_none() {
                self.entered = None;
            }
        }
    }

    fn asked(&mut self, asked: Asked) -> Event {
        let Asked { from, request, answer } = asked;
        if let PeerRequest::Stopped { cut, .. } = &request
            && self.stopped.is_none_or(|(tick, _)| tick != cut.tick)
        {
            self.stopped = Some((cut.tick, Instant::now()));
        }
        self.answers.retain(|_, answer| !answer.is_closed());
        self.calls += 1;
        self.answers.insert(self.calls, answer);
        Event::Asked { from, call: self.calls, request }
    }

    fn carry_out(&mut self, effect: Effect, tell: &Telling) {
        match effect {
            Effect::Reply(call, reply) => {
                if let Some(answer) = self.answers.remove(&call) {
                    // Whoever asked may have given up.
                    let _ = answer.send(reply);
                }
            }
            Effect::Follow => {
                let follower = self.inner.hands.follow(self.row.clone(), Arc::clone(tell));
                self.follower = Some(follower);
            }
            Effect::Drop => self.follower = None,
            Effect::Read => {
                let inner = Arc::clone(&self.inner);
                let match_id = self.row.match_id;
                if self.entered.is_none() {
                    self.entered = inner.hands.enter(match_id);
                }
                let alone = self.entered.is_some();
                let reading = async move {
                    if !alone {
                        let why = "somebody else on this node is about to run the match";
                        return Event::Read(Err(why.to_owned()));
                    }
                    let row = read(&inner.store, match_id).await;
                    Event::Read(row.map_err(|error| error.to_string()))
                };
                self.work = Some(reading.boxed());
            }
            Effect::Run(row) => {
                let running = match self.follower.take() {
                    Some(follower) => self.run_followed(follower, *row),
                    None => self.recover(*row),
                };
                self.work = Some(self.arriving(running));
            }
            Effect::Recover(row) => {
                self.follower = None;
                self.work = Some(self.arriving(self.recover(*row)));
            }
            Effect::Wake(at) => self.wake = Some(at),
            Effect::Ended(why) => {
                let match_id = self.row.match_id;
                tracing::info!(code = "RK-CLUSTER-125", %match_id, why, "a match is on its way \
                    here no longer");
            }
        }
    }

    /// Says that the match has come, once it runs.
    fn arriving(&self, running: BoxFuture<'static, Event>) -> BoxFuture<'static, Event> {
        let (hands, match_id) = (Arc::clone(&self.inner.hands), self.row.match_id);
        let stopped = self.stopped;
        async move {
            let event = running.await;
            if let (Event::Ran(Ok(())), Some(last)) = (&event, stopped) {
                hands.arrived(match_id, last);
            }
            event
        }
        .boxed()
    }

    /// A follower that cannot run it is no reason that nobody does: its row names this node.
    fn run_followed(
        &self,
        follower: Box<dyn Followed>,
        row: MatchLease,
    ) -> BoxFuture<'static, Event> {
        let hands = Arc::clone(&self.inner.hands);
        async move {
            let problem = match follower.run(row.clone()).await {
                Ok(()) => return Event::Ran(Ok(())),
                Err(problem) => problem,
            };
            tracing::warn!(code = "RK-CLUSTER-126", match_id = %row.match_id, problem, "a match \
                that came here is recovered from the store");
            Event::Ran(hands.recover(row).await)
        }
        .boxed()
    }

    fn recover(&self, row: MatchLease) -> BoxFuture<'static, Event> {
        let hands = Arc::clone(&self.inner.hands);
        async move { Event::Ran(hands.recover(row).await) }.boxed()
    }
}
