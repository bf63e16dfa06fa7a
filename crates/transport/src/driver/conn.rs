//! One connection, shared by the core and its users.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use quinn_proto::{
    Connection, ConnectionError, ConnectionEvent, ConnectionHandle, Endpoint, Event, StreamEvent,
    VarInt,
};
use tokio::sync::Notify;

use super::agenda::Agenda;
use super::outbox::Outbox;
use crate::origin::Origins;
use crate::webtransport::{self, Session};

/// Packets that one connection gives before others are asked: a large message does not hold up
/// snapshots.
const MAX_IN_A_ROW: usize = 16;

/// Takes the datagrams of a connection as they arrive. Called by the loop with its locks held: it
/// returns soon, does not wait, and opens and closes no port.
pub(crate) type DatagramSink = Box<dyn FnMut(Bytes) + Send>;

/// One connection.
pub(super) struct Conn {
    pub(super) handle: ConnectionHandle,
    state: Mutex<State>,
    /// Called without `state` being locked.
    pub(super) sink: Mutex<Option<DatagramSink>>,
    /// Anything changed but datagrams: it is connected or lost, the stream moved.
    pub(super) changed: Notify,
    /// A datagram has come, and nobody takes them as they arrive.
    pub(super) datagram: Notify,
    /// How many users there are.
    pub(super) users: AtomicUsize,
    agenda: Arc<Agenda>,
    /// Which pages may connect.
    origins: Arc<Origins>,
}

/// What its users and the core change.
pub(super) struct State {
    pub(super) quic: Connection,
    /// Why it has ended.
    pub(super) error: Option<ConnectionError>,
    /// Its handshake is complete.
    pub(super) connected: bool,
    /// What a browser speaks on top of QUIC.
    pub(super) web: Option<Box<Session>>,
    /// It is noted in the agenda, or by the core.
    noted: bool,
}

/// What the core has to do about a connection that it has driven.
#[derive(Default)]
pub(super) struct Driven {
    /// It has more to do.
    pub(super) again: bool,
    /// It wants to be called at this time.
    pub(super) deadline: Option<Instant>,
    /// It is gone, for the network too.
    pub(super) drained: bool,
}

impl Conn {
    pub(super) fn new(
        handle: ConnectionHandle,
        quic: Connection,
        agenda: Arc<Agenda>,
        origins: Arc<Origins>,
    ) -> Arc<Self> {
        let state = State { quic, error: None, connected: false, web: None, noted: false };
        Arc::new(Self {
            handle,
            state: Mutex::new(state),
            sink: Mutex::new(None),
            changed: Notify::new(),
            datagram: Notify::new(),
            users: AtomicUsize::new(0),
            agenda,
            origins,
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// A user has changed something: the loop must look at it.
    pub(super) fn touch(self: &Arc<Self>, state: &mut State) {
        if !state.noted {
            state.noted = true;
            self.agenda.note(self);
        }
    }

    /// Ends it from this side.
    pub(super) fn close(self: &Arc<Self>, now: Instant, code: VarInt, words: Bytes) {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.error.is_none() {
            match &mut state.web {
                Some(web) => web.close(now, &mut state.quic, code, &words),
                None => state.quic.close(now, code, words),
            }
            self.lose(state, ConnectionError::LocallyClosed);
        }
        self.touch(state);
    }

    /// It has ended.
    pub(super) fn lose(&self, state: &mut State, why: ConnectionError) {
        state.error.get_or_insert(why);
        self.changed.notify_waiters();
        self.datagram.notify_waiters();
    }

    /// A packet for it, of which the endpoint knows. True if it must be driven and was not noted
    /// yet.
    pub(super) fn receive(&self, event: ConnectionEvent) -> bool {
        let mut state = self.lock();
        state.quic.handle_event(event);
        !std::mem::replace(&mut state.noted, true)
    }

    /// It is `now`. True if it must be driven and was not noted yet; otherwise the time at which it
    /// wants to be called.
    pub(super) fn expire(&self, now: Instant) -> (bool, Option<Instant>) {
        let mut state = self.lock();
        match state.deadline() {
            Some(deadline) if deadline <= now => {
                state.expire(now);
                (!std::mem::replace(&mut state.noted, true), None)
            }
            later => (false, later),
        }
    }

    /// Brings it up to date at `now`: tells `endpoint` and its users what happened, puts its
    /// packets into `outbox`, hands its datagrams over.
    pub(super) fn drive(
        &self,
        now: Instant,
        endpoint: &mut Endpoint,
        (outbox, most): (&mut Outbox, usize),
        datagrams: &mut Vec<Bytes>,
    ) -> Driven {
        let mut state = self.lock();
        state.noted = false;
        self.exchange(&mut state, endpoint);
        let arrived = self.tell_users(&mut state, now);
        let mut driven =
            Driven { again: !give_packets(&mut state, now, outbox, most), ..Driven::default() };
        driven.again |= self.exchange(&mut state, endpoint);
        driven.drained = state.quic.is_drained();
        match state.deadline().filter(|_| !driven.drained) {
            Some(deadline) if deadline <= now => {
                state.expire(now);
                driven.again = true;
            }
            later => driven.deadline = later,
        }
        state.noted = driven.again;
        if arrived {
            self.hand_over(state, datagrams);
        }
        driven
    }

    /// Hands datagrams over, or says that there are some.
    fn hand_over(&self, mut state: MutexGuard<'_, State>, datagrams: &mut Vec<Bytes>) {
        let mut sink = self.sink.lock();
        let Some(take) = &mut *sink else {
            self.datagram.notify_waiters();
            return;
        };
        while let Some(datagram) = state.quic.datagrams().recv() {
            datagrams.push(datagram);
        }
        drop(state);
        datagrams.drain(..).for_each(take);
    }

    /// Passes events between the connection and the endpoint. True if the endpoint had an answer.
    fn exchange(&self, state: &mut State, endpoint: &mut Endpoint) -> bool {
        let mut answered = false;
        while let Some(event) = state.quic.poll_endpoint_events() {
            if let Some(answer) = endpoint.handle_event(self.handle, event) {
                state.quic.handle_event(answer);
                answered = true;
            }
        }
        answered
    }

    /// Wakes those who wait for what has happened. True if datagrams have come.
    fn tell_users(&self, state: &mut State, now: Instant) -> bool {
        let (mut arrived, mut changed) = (false, false);
        while let Some(event) = state.quic.poll() {
            match event {
                Event::DatagramReceived => arrived = true,
                Event::Connected => {
                    state.connected = true;
                    let web = webtransport::is_spoken(&state.quic);
                    state.web = web.then(|| Box::new(Session::new(Arc::clone(&self.origins))));
                    changed = true;
                }
                Event::ConnectionLost { reason } => self.lose(state, reason),
                Event::Stream(StreamEvent::Available { .. })
                | Event::HandshakeDataReady
                | Event::DatagramsUnblocked => {}
                Event::Stream(_) => changed = true,
            }
        }
        if changed {
            if let Some(web) = &mut state.web
                && let Some(over) = web.drive(now, &mut state.quic)
            {
                self.lose(state, over);
            }
            self.changed.notify_waiters();
        }
        arrived
    }
}

impl State {
    /// When the connection wants to be called.
    fn deadline(&mut self) -> Option<Instant> {
        let quic = self.quic.poll_timeout();
        let Some(web) = self.web.as_ref().and_then(|web| web.deadline()) else { return quic };
        Some(quic.map_or(web, |quic| quic.min(web)))
    }

    /// It is `now`, and the connection wanted to be called.
    fn expire(&mut self, now: Instant) {
        self.quic.handle_timeout(now);
        if let Some(web) = &mut self.web {
            web.expire(now, &mut self.quic);
        }
    }
}

/// Puts packets into the outbox. False if there may be more.
fn give_packets(state: &mut State, now: Instant, outbox: &mut Outbox, most: usize) -> bool {
    for _ in 0..MAX_IN_A_ROW {
        let mut bytes = outbox.buffer();
        let Some(transmit) = state.quic.poll_transmit(now, most, &mut bytes) else {
            outbox.give_back(bytes);
            return true;
        };
        outbox.push(transmit, bytes);
    }
    false
}
