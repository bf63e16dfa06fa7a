//! The task that keeps a client's session: dials, shows the credential, serves the connection, and
//! starts over when the server is gone.
//!
//! A server that answers and does not serve is asked more and more rarely. Started by
//! [`crate::client`]. While the old connection is merely silent, a new one is dialled beside it;
//! whichever speaks first wins. [`enter`] shows the credential over a new connection, [`serve`]
//! keeps it while it lasts.

mod enter;
mod serve;
mod state;
mod stream;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rekindle_schema::wire::{MAX_REDIRECTS, RefuseCode};
use rekindle_transport::Connection;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use self::state::{Driver, reached};
use self::stream::Gone;
pub(crate) use self::stream::Stream;
use crate::config::ClientConfig;
use crate::dial::Dialer;
use crate::event::ClientEvent;
use crate::session::SharedSession;
use crate::warm::{Warmed, goes_on};

/// A connection that carried the session for so long was good: what comes after it is another
/// trouble than what was before. So was one that brought a newer tick and was not ended by a
/// refusal: a server that is only slow must not be left alone for it.
const STEADY: Duration = Duration::from_secs(2);

/// Runs until the session ends for good.
pub(crate) async fn run(
    config: ClientConfig,
    dialer: Dialer,
    shared: Arc<SharedSession>,
    events: mpsc::Sender<ClientEvent>,
) {
    let (credential, heard) = (config.credential.clone(), Instant::now());
    let mut driver = Driver {
        credential,
        config,
        dialer,
        shared,
        events,
        heard,
        searching: None,
        warm: None,
        declined: BTreeSet::new(),
        redirects: 0,
        moving: false,
        served_by: None,
        silent: None,
    };
    let (code, message) = driver.keep_session().await;
    let _ = driver.events.send(ClientEvent::Closed { code, message }).await;
}

/// How a session ended for good: what the server said, if it did, and words.
type Ending = (Option<RefuseCode>, String);

/// So often a client that was never in its match asks other addresses for it.
const ASKED_ELSEWHERE: u32 = 6;

/// How the search for a server goes.
struct Search {
    /// Since when no connection was good.
    since: Instant,
    /// Connections in a row that were not.
    failures: u32,
    /// What the last server said that refused.
    last_refusal: Option<String>,
    /// A connection that was made while the one before was still served, with its stream if that is
    /// open.
    ready: Option<(Connection, Option<Stream>)>,
}

impl Search {
    fn new() -> Self {
        let now = Instant::now();
        Self { since: now, failures: 0, last_refusal: None, ready: None }
    }
}

impl Search {
    /// The session goes on over a connection that waited for that. Returns why the old one is left.
    fn goes_on(&mut self, Warmed { connection, stream }: Warmed) -> String {
        tracing::debug!(code = "RK-CLIENT-030", to = %connection.remote_address(), "the match goes \
            on at its standby");
        (self.failures, self.since) = (0, Instant::now());
        self.ready = Some((connection, Some(stream)));
        "the match goes on at its standby".to_owned()
    }
}

impl Driver {
    async fn keep_session(&mut self) -> Ending {
        let mut search = Search::new();
        loop {
            let (connection, stream) = match self.connection(&mut search).await {
                Ok(connection) => connection,
                Err(ending) => return ending,
            };
            self.searching = None;
            let gone = self.attend(&connection, stream, &mut search).await;
            let lost = self.shared.state.lock().disconnected();
            connection.close(0, b"");
            for event in lost {
                let _ = self.events.send(event).await;
            }
            if let Some(ending) = self.gone(gone, connection.remote_address(), &mut search).await {
                return ending;
            }
            if let Some(times) = search.failures.checked_sub(1) {
                let pause = self.dialer.back_off(times, search.since.elapsed());
                tokio::select! {
                    biased;
                    () = self.shared.leave.notified() => return left(),
                    warmed = goes_on(&mut self.warm) => drop(search.goes_on(warmed)),
                    () = sleep(pause) => {}
                }
            }
        }
    }

    /// The next connection to a server.
    async fn connection(
        &mut self,
        search: &mut Search,
    ) -> Result<(Connection, Option<Stream>), Ending> {
        let give_up = self.config.timing.give_up;
        if let Some(ready) = search.ready.take() {
            // One with a stream waited at the standby: the match has hardly paused, and inputs that
            // were on their way are still wanted.
            self.moving |= ready.1.is_some();
            return Ok(ready);
        }
        tokio::select! {
            biased;
            () = self.shared.leave.notified() => Err(left()),
            Warmed { connection, stream } = goes_on(&mut self.warm) => {
                self.moving = true;
                Ok((connection, Some(stream)))
            }
            connection = reached(&mut self.searching), if self.searching.is_some() => {
                Ok((connection, None))
            }
            connection = self.dialer.dial(), if self.searching.is_none() => Ok((connection, None)),
            () = sleep_until(search.since + give_up) => {
                let why = search.last_refusal.take().or(self.dialer.last_error.take());
                let why = why.unwrap_or_else(|| "no server answered".to_owned());
                Err((None, gave_up(give_up, &why)))
            }
        }
    }

    /// Enters over a new connection and serves it until it ends. Notes whether it was good.
    async fn attend(
        &mut self,
        connection: &Connection,
        stream: Option<Stream>,
        search: &mut Search,
    ) -> Gone {
        // The node that is asked may not know yet who goes on; the standby says it first. Not if it
        // is the standby that is asked: two hellos of one session drive each other out.
        let mut warm = self.warm.take();
        let elsewhere =
            warm.as_ref().is_some_and(|warm| warm.addr() != connection.remote_address());
        let entered = tokio::select! {
            biased;
            warmed = goes_on(&mut warm), if elsewhere => return Gone::GoesOn(warmed),
            entered = self.enter(connection, stream) => entered,
        };
        let stream = match entered {
            // Its server names the standby that the match has now.
            Ok(stream) => stream,
            Err(gone) => {
                self.warm = warm;
                search.failures += 1;
                return gone;
            }
        };
        self.dialer.calm();
        let (begun, before) = (Instant::now(), self.shared.state.lock().newest);
        let gone = self.serve(connection, stream).await;
        let refused = matches!(gone, Gone::Refused(..));
        if begun.elapsed() >= STEADY || !refused && self.shared.state.lock().newest > before {
            (search.since, search.failures) = (Instant::now(), 0);
            self.declined.clear();
        } else {
            search.failures += 1;
        }
        gone
    }

    /// The connection to `remote` is no longer served: what to do next. `Some` ends the session.
    async fn gone(
        &mut self,
        gone: Gone,
        remote: SocketAddr,
        search: &mut Search,
    ) -> Option<Ending> {
        match gone {
            Gone::Left => return Some(left()),
            Gone::GoesOn(warmed) => self.say_disconnected(search.goes_on(warmed)).await,
            Gone::Replaced(connection) => {
                search.ready = Some((connection, None));
                let why = if self.moving {
                    search.failures = 0;
                    "the match is served elsewhere"
                } else {
                    self.silent = Some(remote);
                    "the server fell silent"
                };
                self.say_disconnected(why.to_owned()).await;
            }
            Gone::Redirected if self.goes_in_circles() => {
                let words = format!(
                    "RK-CLIENT-021: {MAX_REDIRECTS} servers in a row sent the client on, and none \
                     has the match"
                );
                (self.moving, self.searching) = (false, None);
                search.last_refusal = Some(words.clone());
                search.failures = search.failures.max(1);
                self.say_disconnected(words).await;
            }
            // Nothing has failed: the next server is asked at once.
            Gone::Redirected => {
                search.failures = 0;
                self.say_disconnected("the match is served elsewhere".to_owned()).await;
            }
            Gone::Restarted => {
                // It answers now. Attempts that knocked while it did not would knock again later
                // than a new one.
                self.searching = None;
                self.dialer.calm();
                self.dialer.prefer(remote);
                self.say_disconnected("the server was started anew".to_owned()).await;
            }
            Gone::Lost(reason) => {
                self.moving = false;
                self.silent = Some(remote);
                self.dialer.avoid(remote);
                self.say_disconnected(reason).await;
            }
            Gone::Refused(code, message) => {
                return self.refused(code, message, remote, search).await;
            }
        }
        None
    }

    /// The server at `remote` does not let the client in. `Some` ends the session.
    async fn refused(
        &mut self,
        code: RefuseCode,
        message: String,
        remote: SocketAddr,
        search: &mut Search,
    ) -> Option<Ending> {
        // A match that this node has not heard of may be known to another, or be on its way here.
        // For one that is looked for the node has asked the others.
        let elsewhere = (self.config.lobby.is_none() || self.config.match_id.is_some())
            && self.dialer.knows_another(remote)
            && search.failures < ASKED_ELSEWHERE;
        let patient = code.is_temporary()
            || code == RefuseCode::NoMatch
                && (elsewhere || self.shared.state.lock().welcome.is_some());
        if !patient {
            return Some((Some(code), message));
        }
        // Counted from the last good connection: a refusal after a long one is the first.
        let give_up = self.config.timing.give_up;
        if search.since.elapsed() >= give_up {
            return Some((Some(code), gave_up(give_up, &message)));
        }
        self.moving = false;
        search.last_refusal = Some(message.clone());
        self.say_disconnected(message).await;
        // Also behind a good connection: who says "not now" means it.
        search.failures = search.failures.max(1);
        None
    }
}

/// What a client is told whose patience is over; `why`: what came last.
fn gave_up(patience: Duration, why: &str) -> String {
    format!("RK-CLIENT-011: no session for {patience:?}: {why}")
}

/// The game ended the session.
fn left() -> Ending {
    (None, "the client left".to_owned())
}
