//! QUIC over the virtual network: quinn's socket, timer and clock on top of turmoil.
//!
//! Called by the simulation of whole nodes and clients. One seed decides what quinn decides by
//! chance (packet number gaps, greasing); keys and nonces of TLS stay random, which changes bytes
//! but neither sizes nor times.

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{
    AsyncTimer, AsyncUdpSocket, Endpoint, EndpointConfig, Runtime, ServerConfig, UdpPoller,
};
use turmoil::net::UdpSocket;

use crate::seed::Dice;

/// An endpoint on the current virtual host, at `port` (0: any). It accepts connections if `server`
/// is given.
pub async fn endpoint(
    port: u16,
    server: Option<ServerConfig>,
    dice: &mut Dice,
) -> io::Result<Endpoint> {
    let mut config = EndpointConfig::default();
    config.rng_seed(Some(dice.bytes()));
    Endpoint::new_with_abstract_socket(
        config,
        server,
        socket(port).await?,
        Arc::new(VirtualRuntime),
    )
}

/// A socket on the current virtual host, at `port` (0: any).
pub async fn socket(port: u16) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    let io = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
    Ok(Arc::new(VirtualSocket { io: Arc::new(io), readable: Mutex::new(None) }))
}

/// The clock, timers and tasks of the virtual host that runs at the moment.
#[derive(Debug)]
pub struct VirtualRuntime;

impl Runtime for VirtualRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(tokio::time::sleep_until(at.into()))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(future);
    }

    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a virtual host has no sockets of the operating system",
        ))
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

struct VirtualSocket {
    io: Arc<UdpSocket>,
    /// Waits for the next datagram. While it waits it holds the socket's receiving half, so it is
    /// asked before the socket is.
    readable: Mutex<Option<BoxFuture<'static, io::Result<()>>>>,
}

impl std::fmt::Debug for VirtualSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.io.fmt(f)
    }
}

impl AsyncUdpSocket for VirtualSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit) -> io::Result<()> {
        self.io.try_send_to(transmit.contents, transmit.destination).map(|_| ())
    }

    fn poll_recv(
        &self,
        cx: &mut Context,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut readable = self.readable.lock();
        loop {
            if let Some(waiting) = readable.as_mut() {
                ready!(waiting.as_mut().poll(cx))?;
                *readable = None;
            }
            match self.io.try_recv_from(&mut bufs[0]) {
                Ok((len, addr)) => {
                    meta[0] = RecvMeta { addr, len, stride: len, ecn: None, dst_ip: None };
                    return Poll::Ready(Ok(1));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let io = self.io.clone();
                    *readable = Some(Box::pin(async move { io.readable().await }));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// The virtual network takes every datagram at once; what it cannot carry it loses.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
