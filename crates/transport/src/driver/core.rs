//! What happens at a port: packets, time and connections in, packets out. No socket, no clock.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use quinn::udp::RecvMeta;
use quinn::{EndpointConfig, ServerConfig, VarInt};
use quinn_proto::{
    AcceptError, ConnectionError, ConnectionHandle, DatagramEvent, Endpoint, Incoming, Transmit,
    TransportError, TransportErrorCode,
};
use tokio::sync::Notify;

use super::agenda::Agenda;
use super::conn::Conn;
use super::handle::Driven;
use super::outbox::Outbox;
use super::run::Loop;
use super::siblings::{Siblings, Stray};
use super::timers::Timers;
use crate::origin::Origins;
use crate::socket::PortSocket;

/// A port, as its users see it.
pub(crate) struct Port {
    pub(super) core: Mutex<Core>,
    pub(super) agenda: Arc<Agenda>,
    /// The other loops at the same address. Empty if this is the only one.
    pub(super) siblings: Siblings,
    /// A connection wants in, or none can any more.
    arrivals: Notify,
    /// The last connection has ended.
    idle: Notify,
}

/// All connections of a port, and what is to be done about them.
pub(super) struct Core {
    endpoint: Endpoint,
    conns: Vec<Option<Arc<Conn>>>,
    /// Connections that are not drained.
    open: usize,
    timers: Timers,
    /// Connections to be driven. Each is noted once.
    due: Vec<Arc<Conn>>,
    pub(super) outbox: Outbox,
    /// Connections that want in. QUIC bounds them (`max_incoming`).
    incoming: VecDeque<Incoming>,
    /// None is taken any more.
    closed: bool,
    /// The port is lost, or its loop is over.
    pub(super) over: bool,
    /// Nobody uses the port any more.
    pub(super) abandoned: bool,
    /// Packets that the socket takes at once for one address.
    segments: usize,
    /// Kept for its memory.
    datagrams: Vec<Bytes>,
    /// Kept for its memory.
    strays: Vec<Stray>,
    /// Which pages may connect.
    origins: Arc<Origins>,
}

/// A loop on a socket that does not run yet.
pub(crate) struct Made {
    pub(crate) port: Arc<Port>,
    socket: PortSocket,
}

/// Makes a loop of a port on `socket`.
pub(crate) fn make(
    socket: PortSocket,
    (config, server): (EndpointConfig, ServerConfig),
    origins: Arc<Origins>,
) -> Made {
    let paths = (!socket.may_fragment(), socket.max_transmit_segments());
    let port = Port::new(Core::new(config, server, paths, origins));
    Made { port, socket }
}

impl Made {
    /// Starts it on the tokio runtime of the caller.
    pub(crate) fn start(self) -> Arc<Port> {
        tokio::spawn(Loop::new(Arc::clone(&self.port), self.socket));
        self.port
    }
}

impl Core {
    /// `probes`: larger packets may be tried on each path. `segments`: packets that the socket
    /// takes at once for one address.
    fn new(
        config: EndpointConfig,
        server: ServerConfig,
        (probes, segments): (bool, usize),
        origins: Arc<Origins>,
    ) -> Self {
        Self {
            endpoint: Endpoint::new(Arc::new(config), Some(Arc::new(server)), probes, None),
            conns: Vec::new(),
            open: 0,
            timers: Timers::default(),
            due: Vec::new(),
            outbox: Outbox::default(),
            incoming: VecDeque::new(),
            closed: false,
            over: false,
            abandoned: false,
            segments,
            datagrams: Vec::new(),
            strays: Vec::new(),
            origins,
        }
    }

    /// Takes what the socket read at once from one address.
    pub(super) fn receive(&mut self, now: Instant, meta: &RecvMeta, bytes: &[u8], port: &Port) {
        let ecn = meta.ecn.and_then(|mark| quinn_proto::EcnCodepoint::from_bits(mark as u8));
        for packet in bytes.chunks(meta.stride.max(1)) {
            let elsewhere = port.siblings.elsewhere(packet);
            let packet = BytesMut::from(packet);
            let stray = Stray { from: meta.addr, to: meta.dst_ip, ecn, packet };
            match elsewhere {
                Some(other) => other.agenda.hand_over(stray),
                None => self.take(now, stray, port),
            }
        }
    }

    /// Takes one packet.
    fn take(&mut self, now: Instant, Stray { from, to, ecn, packet }: Stray, port: &Port) {
        let mut answer = self.outbox.buffer();
        match self.endpoint.handle(now, from, to, ecn, packet, &mut answer) {
            Some(DatagramEvent::Response(transmit)) => {
                return self.outbox.push(transmit, answer);
            }
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(Some(conn)) = self.conns.get(handle.0)
                    && conn.receive(event)
                {
                    self.due.push(Arc::clone(conn));
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) if self.closed => {
                let transmit = self.endpoint.refuse(incoming, &mut answer);
                return self.outbox.push(transmit, answer);
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                self.incoming.push_back(incoming);
                port.arrivals.notify_one();
            }
            None => {}
        }
        self.outbox.give_back(answer);
    }

    /// Has the connections called whose time has come.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(handle) = self.timers.pop(now) {
            let Some(Some(conn)) = self.conns.get(handle.0) else { continue };
            let (drive, later) = conn.expire(now);
            if drive {
                self.due.push(Arc::clone(conn));
            }
            if let Some(later) = later {
                self.timers.arm(handle, later);
            }
        }
    }

    /// When the next connection wants to be called, at the latest.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Brings connections up to date that packets, time or users have touched, until all are, or
    /// the outbox is full. True if there is more to do.
    pub(super) fn drive(&mut self, now: Instant, port: &Port) -> bool {
        let mut strays = std::mem::take(&mut self.strays);
        port.agenda.take(&mut self.due, &mut strays);
        strays.drain(..).for_each(|stray| self.take(now, stray, port));
        self.strays = strays;
        let mut due = std::mem::take(&mut self.due);
        let mut driven = 0;
        while driven < due.len() && !self.outbox.is_full() {
            let conn = &due[driven];
            driven += 1;
            let out = (&mut self.outbox, self.segments);
            let outcome = conn.drive(now, &mut self.endpoint, out, &mut self.datagrams);
            if let Some(at) = outcome.deadline {
                self.timers.arm(conn.handle, at);
            }
            if outcome.drained {
                self.remove(conn.handle, port);
            } else if outcome.again {
                self.due.push(Arc::clone(conn));
            }
        }
        due.drain(..driven);
        // Those that were not reached come first.
        due.append(&mut self.due);
        self.due = due;
        !self.due.is_empty()
    }

    fn remove(&mut self, handle: ConnectionHandle, port: &Port) {
        self.timers.disarm(handle);
        if self.conns[handle.0].take().is_some() {
            self.open -= 1;
            if self.open == 0 {
                port.idle.notify_waiters();
            }
        }
    }

    /// Whether the loop may end: nobody uses the port, and no connection is left.
    pub(super) fn is_done(&self) -> bool {
        self.abandoned && self.open == 0 && self.outbox.waiting().is_empty()
    }

    /// The port is lost: nothing can be sent or received any more.
    pub(super) fn give_up(&mut self, port: &Port) {
        self.closed = true;
        self.over = true;
        for conn in self.conns.iter_mut().filter_map(Option::take) {
            let why = TransportError {
                code: TransportErrorCode::INTERNAL_ERROR,
                frame: None,
                reason: "the port is lost".to_owned(),
            };
            conn.lose(&mut conn.lock(), ConnectionError::TransportError(why));
        }
        for incoming in self.incoming.drain(..) {
            self.endpoint.ignore(incoming);
        }
        self.open = 0;
        self.due.clear();
        port.agenda.end();
        port.arrivals.notify_one();
        port.idle.notify_waiters();
    }

    fn answer(&mut self, make: impl FnOnce(&mut Endpoint, &mut Vec<u8>) -> Option<Transmit>) {
        let mut bytes = self.outbox.buffer();
        match make(&mut self.endpoint, &mut bytes) {
            Some(transmit) => self.outbox.push(transmit, bytes),
            None => self.outbox.give_back(bytes),
        }
    }

    /// Takes a connection.
    fn accept(
        &mut self,
        incoming: Incoming,
        now: Instant,
        agenda: &Arc<Agenda>,
    ) -> Option<Arc<Conn>> {
        if self.over {
            self.endpoint.ignore(incoming);
            return None;
        }
        let mut bytes = self.outbox.buffer();
        match self.endpoint.accept(incoming, now, &mut bytes, None) {
            Ok((handle, quic)) => {
                self.outbox.give_back(bytes);
                let conn = Conn::new(handle, quic, Arc::clone(agenda), Arc::clone(&self.origins));
                if self.conns.len() <= handle.0 {
                    self.conns.resize(handle.0 + 1, None);
                }
                assert!(self.conns[handle.0].is_none(), "two connections have one handle");
                self.conns[handle.0] = Some(Arc::clone(&conn));
                self.open += 1;
                Some(conn)
            }
            Err(AcceptError { response, .. }) => {
                match response {
                    Some(transmit) => self.outbox.push(transmit, bytes),
                    None => self.outbox.give_back(bytes),
                }
                None
            }
        }
    }
}

impl Port {
    fn new(core: Core) -> Arc<Self> {
        Arc::new(Self {
            core: Mutex::new(core),
            agenda: Arc::default(),
            siblings: Siblings::default(),
            arrivals: Notify::new(),
            idle: Notify::new(),
        })
    }

    /// The next connection that wants in; `None` when no more can come.
    pub(crate) async fn accept(self: &Arc<Self>) -> Option<Knock> {
        loop {
            {
                let mut core = self.core.lock();
                if core.closed {
                    // For whoever waits beside us.
                    self.arrivals.notify_one();
                    return None;
                }
                if let Some(incoming) = core.incoming.pop_front() {
                    return Some(Knock { incoming: Some(incoming), port: Arc::clone(self) });
                }
            }
            self.arrivals.notified().await;
        }
    }

    /// Ends all connections; takes no more.
    pub(crate) fn close(&self, now: Instant, code: VarInt, words: &[u8]) {
        let mut core = self.core.lock();
        core.closed = true;
        for conn in core.conns.iter().flatten() {
            conn.close(now, code, Bytes::copy_from_slice(words));
        }
        while let Some(incoming) = core.incoming.pop_front() {
            core.answer(|endpoint, bytes| Some(endpoint.refuse(incoming, bytes)));
        }
        self.arrivals.notify_one();
        self.agenda.wake();
    }

    /// Resolves when no connection is left.
    pub(crate) async fn wait_idle(&self) {
        loop {
            let notified = {
                let core = self.core.lock();
                if core.open == 0 {
                    return;
                }
                self.idle.notified()
            };
            notified.await;
        }
    }

    /// Nobody uses the port any more: its loop ends with its last connection.
    pub(crate) fn abandon(&self) {
        let mut core = self.core.lock();
        core.abandoned = true;
        core.closed = true;
        self.agenda.wake();
    }
}

/// A connection that wants in. Dropping it refuses it.
pub(crate) struct Knock {
    /// Until its fate is decided.
    incoming: Option<Incoming>,
    port: Arc<Port>,
}

impl Knock {
    fn incoming(&self) -> &Incoming {
        self.incoming.as_ref().expect("its fate is decided by what consumes it")
    }

    /// Where it says it comes from.
    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.incoming().remote_address()
    }

    /// It has proved that it receives what is sent there.
    pub(crate) fn is_validated(&self) -> bool {
        self.incoming().remote_address_validated()
    }

    /// Takes it; `None` if its first packet is of no use.
    pub(crate) fn accept(mut self, now: Instant) -> Option<Driven> {
        let incoming = self.incoming.take()?;
        let conn = self.port.core.lock().accept(incoming, now, &self.port.agenda);
        let driven = conn.map(Driven::new);
        match &driven {
            Some(driven) => driven.touch(),
            None => self.port.agenda.wake(),
        }
        driven
    }

    /// Has it prove its address first. Nothing happens if it has.
    pub(crate) fn retry(mut self) {
        self.decide(|endpoint, incoming, bytes| match endpoint.retry(incoming, bytes) {
            Ok(transmit) => Some(transmit),
            Err(refused) => {
                endpoint.ignore(refused.into_incoming());
                None
            }
        });
    }

    /// Says nothing.
    pub(crate) fn ignore(mut self) {
        self.decide(|endpoint, incoming, _| {
            endpoint.ignore(incoming);
            None
        });
    }

    fn decide(
        &mut self,
        make: impl FnOnce(&mut Endpoint, Incoming, &mut Vec<u8>) -> Option<Transmit>,
    ) {
        if let Some(incoming) = self.incoming.take() {
            self.port.core.lock().answer(|endpoint, bytes| make(endpoint, incoming, bytes));
            self.port.agenda.wake();
        }
    }
}

impl Drop for Knock {
    fn drop(&mut self) {
        self.decide(|endpoint, incoming, bytes| Some(endpoint.refuse(incoming, bytes)));
    }
}

#[cfg(test)]
mod tests;
