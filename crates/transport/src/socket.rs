//! The UDP socket under QUIC: takes what came in batches instead of waking up for each packet.
//!
//! Many clients send a small packet each a tick, spread over the tick. To wake a thread for one of
//! them costs more than to read and to decrypt it. So after a batch was read the socket rests for a
//! moment ([`crate::SocketSetup::gather`]) and reads all that came meanwhile at once. Only while
//! nothing comes does it wait for the system to say that something did: then the first packet is
//! read without delay.
//!
//! All descriptors are made when the socket is. A system that has none left, or no memory, makes
//! packets late and ends nothing: QUIC would give up its endpoint at the first error, and all
//! players with it.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use quinn::AsyncUdpSocket;
use quinn::udp::{EcnCodepoint, RecvMeta, UdpSocketState};
use rustix::net::{
    AddressFamily, MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketFlags, SocketType,
    sendmmsg, sockopt,
};
use tokio::time::{Instant, Sleep, sleep};

use crate::driver::{Outbox, Packet};
use crate::unproven::Unproven;

/// After an error that passes, packets are asked for again after so long.
const READ_AGAIN: Duration = Duration::from_millis(20);
/// So many errors in a row and not one packet: the socket is of no more use.
const MAX_ERRORS: u32 = 1_000;
/// When the system takes no packet, it is asked again after so long.
pub(crate) const SEND_AGAIN: Duration = Duration::from_millis(1);
/// Packets of one connection that are made, and sent, as one.
const MAX_SEGMENTS: usize = 10;
/// Packets that the system is given at once.
const MAX_AT_ONCE: usize = 64;

/// Sockets with large buffers at one address, over which the system spreads what comes, each sender
/// to one of them. All clients of a node share them, and what does not fit is lost. `buffer`:
/// wanted bytes of each of the two of a socket.
pub(crate) fn bind(addr: SocketAddr, buffer: usize, sockets: usize) -> io::Result<Vec<UdpSocket>> {
    // Sockets that share an address would also share it with another process: that it is free is
    // seen by one that shares nothing.
    let alone = UdpSocket::bind(addr)?;
    let sockets = if sockets < 2 {
        vec![alone]
    } else {
        let addr = alone.local_addr()?;
        drop(alone);
        (0..sockets).map(|_| bind_shared(addr)).collect::<io::Result<_>>()?
    };
    for socket in &sockets {
        set_buffers(socket, buffer)?;
    }
    let granted = sockets.first().map_or(Ok(buffer), sockopt::socket_recv_buffer_size)?;
    if granted < buffer {
        tracing::info!(
            code = "RK-GATE-020",
            granted,
            wanted = buffer,
            "the system grants a smaller socket buffer: raise net.core.rmem_max and \
             net.core.wmem_max for many clients"
        );
    }
    Ok(sockets)
}

fn bind_shared(addr: SocketAddr) -> io::Result<UdpSocket> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &addr)?;
    Ok(socket.into())
}

fn set_buffers(socket: &UdpSocket, buffer: usize) -> io::Result<()> {
    // The forced variant goes beyond the system's limit, where the process may.
    if sockopt::set_socket_recv_buffer_size_force(socket, buffer).is_err() {
        sockopt::set_socket_recv_buffer_size(socket, buffer)?;
    }
    if sockopt::set_socket_send_buffer_size_force(socket, buffer).is_err() {
        sockopt::set_socket_send_buffer_size(socket, buffer)?;
    }
    Ok(())
}

/// A socket that gathers.
#[derive(Debug)]
pub(crate) struct GatheringSocket {
    io: UdpSocket,
    state: UdpSocketState,
    gather: Duration,
    unproven: Arc<Unproven>,
    /// Several packets may be sent with one call.
    batched: bool,
    /// One task receives: the loop of the port.
    receiving: Mutex<Receiving>,
}

#[derive(Debug)]
struct Receiving {
    phase: Phase,
    rest: Pin<Box<Sleep>>,
    /// A second handle to the socket, to be registered with the system while nothing comes. Lost if
    /// the system refuses the registration.
    spare: Option<UdpSocket>,
    /// Errors since the last packet.
    errors: u32,
}

#[derive(Debug)]
enum Phase {
    /// There may be packets; whether some came since the last rest.
    Reading { came: bool },
    /// Packets gather.
    Resting,
    /// None came during a rest. The second handle to the socket is registered with the system until
    /// one comes: while it is, every packet wakes the thread.
    Waiting(tokio::net::UdpSocket),
    /// Never seen from outside: while one phase becomes another.
    Between,
}

impl Receiving {
    /// Packets are asked for again after `time`.
    fn rest(&mut self, time: Duration) {
        self.rest.as_mut().reset(Instant::now() + time);
        self.phase = Phase::Resting;
    }

    /// A packet has come, or may have: the second handle is no longer registered, and kept for the
    /// next time.
    fn stop_waiting(&mut self) {
        if let Phase::Waiting(registered) = std::mem::replace(&mut self.phase, Phase::Between) {
            self.spare = registered.into_std().ok();
        }
        self.phase = Phase::Reading { came: false };
    }

    /// Nothing comes: waits for the system to say that something does. If that cannot be had, looks
    /// again and again.
    fn wait(&mut self, io: &UdpSocket, gather: Duration) {
        let spare = self.spare.take().map_or_else(|| io.try_clone(), Ok);
        match spare.and_then(tokio::net::UdpSocket::from_std) {
            Ok(registered) => self.phase = Phase::Waiting(registered),
            Err(_) => self.rest(gather.max(READ_AGAIN)),
        }
    }

    /// An error while reading. Most pass; whether this one does is told.
    fn failed(&mut self, error: &io::Error) -> bool {
        self.errors += 1;
        let lasting = matches!(
            error.raw_os_error().map(rustix::io::Errno::from_raw_os_error),
            Some(rustix::io::Errno::BADF | rustix::io::Errno::NOTSOCK)
        );
        if self.errors == 1 {
            tracing::warn!(code = "RK-GATE-120", %error, "packets cannot be read from the game \
                port; trying again");
        }
        !lasting && self.errors < MAX_ERRORS
    }
}

impl GatheringSocket {
    /// Must be called inside a tokio runtime.
    pub(crate) fn new(
        io: UdpSocket,
        gather: Duration,
        unproven: Arc<Unproven>,
    ) -> io::Result<Self> {
        let state = UdpSocketState::new((&io).into())?;
        let batched = may_batch_on(&io);
        let spare = Some(io.try_clone()?);
        let (phase, rest) = (Phase::Reading { came: false }, Box::pin(sleep(gather)));
        let receiving = Mutex::new(Receiving { phase, rest, spare, errors: 0 });
        Ok(Self { io, state, gather, unproven, batched, receiving })
    }

    /// Counts what came from addresses that are not proved.
    fn count_received(&self, bufs: usize, meta: &[RecvMeta]) {
        if !self.unproven.is_empty() {
            meta.iter().take(bufs).for_each(|meta| self.unproven.received(meta.addr, meta.len));
        }
    }
}

/// Under a node's port.
#[derive(Debug)]
pub(crate) enum PortSocket {
    /// The system's.
    System(GatheringSocket),
    /// A simulation's. It does not bound what is sent to unproven addresses.
    Virtual(Arc<dyn AsyncUdpSocket>),
}

impl PortSocket {
    /// Reads a batch of packets.
    pub(crate) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::System(socket) => socket.poll_recv(cx, bufs, meta),
            Self::Virtual(socket) => socket.poll_recv(cx, bufs, meta),
        }
    }

    /// Sends what waits. False if the system takes no more for the moment, and some is left.
    pub(crate) fn send(&self, outbox: &mut Outbox) -> bool {
        match self {
            Self::System(socket) => socket.send(outbox),
            Self::Virtual(socket) => {
                // What a virtual network does not take is lost.
                outbox.waiting().iter().for_each(|packet| drop(socket.try_send(&packet.as_udp())));
                outbox.sent(outbox.waiting().len());
                true
            }
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::System(socket) => socket.io.local_addr(),
            Self::Virtual(socket) => socket.local_addr(),
        }
    }

    /// Packets of one size that are sent at once to one address.
    pub(crate) fn max_transmit_segments(&self) -> usize {
        match self {
            Self::System(socket) => socket.state.max_gso_segments().min(MAX_SEGMENTS),
            Self::Virtual(socket) => socket.max_transmit_segments().min(MAX_SEGMENTS),
        }
    }

    /// Packets of one size that are read at once from one address.
    pub(crate) fn max_receive_segments(&self) -> usize {
        match self {
            Self::System(socket) => socket.state.gro_segments(),
            Self::Virtual(socket) => socket.max_receive_segments(),
        }
    }

    /// Whether packets may be cut on their way.
    pub(crate) fn may_fragment(&self) -> bool {
        match self {
            Self::System(socket) => socket.state.may_fragment(),
            Self::Virtual(socket) => socket.may_fragment(),
        }
    }
}

impl GatheringSocket {
    /// Sends what waits. False if the system takes no more for the moment, and some is left. What
    /// cannot be sent at all is dropped, as a network would.
    fn send(&self, outbox: &mut Outbox) -> bool {
        while let Some(first) = outbox.waiting().first() {
            let most = if self.batched { MAX_AT_ONCE } else { 0 };
            let alike = outbox.waiting().iter().take(most).take_while(|p| may_batch(p)).count();
            let sent = if !self.may_send(first) {
                Ok(1)
            } else if alike > 1 && self.unproven.is_empty() {
                send_many(&self.io, &outbox.waiting()[..alike])
            } else {
                self.state.send((&self.io).into(), &first.as_udp()).map(|()| 1)
            };
            match sent {
                Ok(count) => outbox.sent(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It is about the first packet: too long for the path, no way there.
                Err(_) => outbox.sent(1),
            }
        }
        true
    }

    /// Whether a packet may go to its address, which may have to prove itself first. If so, it is
    /// counted.
    fn may_send(&self, packet: &Packet) -> bool {
        let transmit = packet.as_udp();
        self.unproven.is_empty()
            || self.unproven.may_send(transmit.destination, transmit.contents.len())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut receiving = self.receiving.lock();
        let receiving = &mut *receiving;
        loop {
            match &mut receiving.phase {
                Phase::Resting => {
                    ready!(receiving.rest.as_mut().poll(cx));
                    receiving.phase = Phase::Reading { came: false };
                }
                Phase::Waiting(registered) => {
                    // An error is seen again when the packet is read.
                    let _ = ready!(registered.poll_recv_ready(cx));
                    receiving.stop_waiting();
                }
                Phase::Between => receiving.phase = Phase::Reading { came: false },
                Phase::Reading { came } => match self.state.recv((&self.io).into(), bufs, meta) {
                    Ok(read) => {
                        *came = true;
                        receiving.errors = 0;
                        self.count_received(read, meta);
                        if read < bufs.len() {
                            // That was all. To ask once more would cost as much as to read a
                            // packet.
                            receiving.rest(self.gather);
                        }
                        return Poll::Ready(Ok(read));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if *came {
                            receiving.rest(self.gather);
                        } else {
                            receiving.wait(&self.io, self.gather);
                        }
                    }
                    Err(error) if receiving.failed(&error) => receiving.rest(READ_AGAIN),
                    Err(error) => return Poll::Ready(Err(error)),
                },
            }
        }
    }
}

/// Whether a packet may leave together with others: it is one packet, and marked as the socket
/// marks all.
fn may_batch(packet: &Packet) -> bool {
    let transmit = packet.as_udp();
    transmit.segment_size.is_none() && transmit.ecn == Some(EcnCodepoint::Ect0)
}

/// Sends packets with one call. Returns how many the system took, at least one.
fn send_many(io: &UdpSocket, packets: &[Packet]) -> io::Result<usize> {
    let parts: Vec<(SocketAddrAny, [IoSlice<'_>; 1])> = packets
        .iter()
        .map(|packet| {
            let transmit = packet.as_udp();
            (transmit.destination.into(), [IoSlice::new(packet.bytes())])
        })
        .collect();
    let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> =
        parts.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let mut messages: Vec<MMsgHdr<'_>> = parts
        .iter()
        .zip(&mut controls)
        .map(|((addr, bytes), control)| MMsgHdr::new_with_addr(addr, bytes, control))
        .collect();
    Ok(sendmmsg(io, &mut messages, SendFlags::empty())?)
}

/// Has the system mark each packet that carries no mark of its own as capable of ECN, as QUIC marks
/// those of connections. False if it does not, or if packets may leave from several addresses: then
/// each must say which.
fn may_batch_on(io: &UdpSocket) -> bool {
    let marked = match io.local_addr() {
        Ok(SocketAddr::V4(addr)) if !addr.ip().is_unspecified() => {
            sockopt::set_ip_tos(io, EcnCodepoint::Ect0 as u8).is_ok()
        }
        Ok(SocketAddr::V6(addr)) if !addr.ip().is_unspecified() => {
            sockopt::set_ipv6_tclass(io, EcnCodepoint::Ect0 as u32).is_ok()
        }
        _ => false,
    };
    if !marked {
        tracing::debug!("packets are sent one by one: the port is at no single address");
    }
    marked
}
