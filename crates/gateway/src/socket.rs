//! The UDP socket under QUIC: takes what came in batches instead of waking up for each packet.
//!
//! Many clients send a small packet each a tick, spread over the tick. To wake a thread for one of them costs more than to read and to decrypt
//! it. So after a batch was read the socket rests for a moment ([`crate::GatewayConfig::gather`]) and reads all that came meanwhile at
//! once. Only while nothing comes does it wait for the system to say that something did: then the first packet is read without delay.

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
use tokio::time::{Instant, Sleep, sleep};

/// When the system takes no packet, it is asked again after so long.
const SEND_AGAIN: Duration = Duration::from_millis(1);

/// A socket that gathers.
#[derive(Debug)]
pub(crate) struct GatheringSocket {
    io: UdpSocket,
    state: UdpSocketState,
    gather: Duration,
    /// The system took no packet when it was asked last.
    full: AtomicBool,
    /// One task receives: QUIC's endpoint.
    receiving: Mutex<Receiving>,
}

#[derive(Debug)]
struct Receiving {
    phase: Phase,
    rest: Pin<Box<Sleep>>,
}

#[derive(Debug)]
enum Phase {
    /// There may be packets; whether some came since the last rest.
    Reading { came: bool },
    /// Packets gather.
    Resting,
    /// None came during a rest. This second handle to the socket is registered with the system until one comes: while it is, every packet
    /// wakes the thread.
    Waiting(tokio::net::UdpSocket),
}

impl GatheringSocket {
    /// Must be called inside a tokio runtime.
    pub(crate) fn new(io: UdpSocket, gather: Duration) -> io::Result<Self> {
        let state = UdpSocketState::new((&io).into())?;
        let receiving = Mutex::new(Receiving { phase: Phase::Reading { came: false }, rest: Box::pin(sleep(gather)) });
        Ok(Self { io, state, gather, full: AtomicBool::new(false), receiving })
    }
}

impl AsyncUdpSocket for GatheringSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Patience { socket: self, rest: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send((&self.io).into(), transmit);
        if self.full.load(Ordering::Relaxed) != sent.is_err() {
            self.full.store(sent.is_err(), Ordering::Relaxed);
        }
        sent
    }

    fn poll_recv(&self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        let Receiving { phase, rest } = &mut *self.receiving.lock();
        loop {
            match phase {
                Phase::Resting => {
                    ready!(rest.as_mut().poll(cx));
                    *phase = Phase::Reading { came: false };
                }
                Phase::Waiting(registration) => {
                    ready!(registration.poll_recv_ready(cx))?;
                    *phase = Phase::Reading { came: false };
                }
                Phase::Reading { came } => match self.state.recv((&self.io).into(), bufs, meta) {
                    Ok(read) => {
                        *came = true;
                        if read < bufs.len() {
                            // That was all. To ask once more would cost as much as to read a packet.
                            *phase = Phase::Resting;
                            rest.as_mut().reset(Instant::now() + self.gather);
                        }
                        return Poll::Ready(Ok(read));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        *phase = if *came {
                            rest.as_mut().reset(Instant::now() + self.gather);
                            Phase::Resting
                        } else {
                            Phase::Waiting(tokio::net::UdpSocket::from_std(self.io.try_clone()?)?)
                        };
                    }
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
