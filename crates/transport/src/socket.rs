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

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use rustix::net::sockopt;
use tokio::time::{Instant, Sleep, sleep};

use crate::unproven::Unproven;

/// After an error that passes, packets are asked for again after so long.
const READ_AGAIN: Duration = Duration::from_millis(20);
/// So many errors in a row and not one packet: the socket is of no more use.
const MAX_ERRORS: u32 = 1_000;
/// When the system takes no packet, it is asked again after so long.
const SEND_AGAIN: Duration = Duration::from_millis(1);

/// A socket with large buffers: all clients of a node share it, and what does not fit is lost.
/// `buffer`: wanted bytes of each of the two.
pub(crate) fn bind(addr: SocketAddr, buffer: usize) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(addr)?;
    // The forced variant goes beyond the system's limit, where the process may.
    if sockopt::set_socket_recv_buffer_size_force(&socket, buffer).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, buffer)?;
    }
    if sockopt::set_socket_send_buffer_size_force(&socket, buffer).is_err() {
        sockopt::set_socket_send_buffer_size(&socket, buffer)?;
    }
    let granted = sockopt::socket_recv_buffer_size(&socket)?;
    if granted < buffer {
        tracing::info!(
            code = "RK-GATE-020",
            granted,
            wanted = buffer,
            "the system grants a smaller socket buffer: raise net.core.rmem_max and \
             net.core.wmem_max for many clients"
        );
    }
    Ok(socket)
}

/// A socket that gathers.
#[derive(Debug)]
pub(crate) struct GatheringSocket {
    io: UdpSocket,
    state: UdpSocketState,
    gather: Duration,
    unproven: Arc<Unproven>,
    /// The system took no packet when it was asked last.
    full: AtomicBool,
    /// One task receives: QUIC's endpoint.
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
        let spare = Some(io.try_clone()?);
        let (phase, rest) = (Phase::Reading { came: false }, Box::pin(sleep(gather)));
        let receiving = Mutex::new(Receiving { phase, rest, spare, errors: 0 });
        Ok(Self { io, state, gather, unproven, full: AtomicBool::new(false), receiving })
    }

    /// Counts what came from addresses that are not proved.
    fn count_received(&self, bufs: usize, meta: &[RecvMeta]) {
        if !self.unproven.is_empty() {
            meta.iter().take(bufs).for_each(|meta| self.unproven.received(meta.addr, meta.len));
        }
    }
}

impl AsyncUdpSocket for GatheringSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Patience { socket: self, rest: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if !self.unproven.is_empty()
            && !self.unproven.may_send(transmit.destination, transmit.contents.len())
        {
            return Ok(());
        }
        let sent = self.state.send((&self.io).into(), transmit);
        if self.full.load(Ordering::Relaxed) != sent.is_err() {
            self.full.store(sent.is_err(), Ordering::Relaxed);
        }
        sent
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

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Waits for room in the system's buffer: by looking again, for it is rarely full and soon empty.
#[derive(Debug)]
struct Patience {
    socket: Arc<GatheringSocket>,
    rest: Option<Pin<Box<Sleep>>>,
}

impl UdpPoller for Patience {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.rest.is_none() && self.socket.full.load(Ordering::Relaxed) {
            self.rest = Some(Box::pin(sleep(SEND_AGAIN)));
        }
        if let Some(rest) = &mut self.rest {
            ready!(rest.as_mut().poll(cx));
            self.rest = None;
        }
        Poll::Ready(Ok(()))
    }
}
