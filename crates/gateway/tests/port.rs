//! A game port that is lost: the edge says so instead of serving nobody in silence.

mod support;

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime as _, TokioRuntime, UdpPoller};
use rekindle_client::Client;
use rekindle_door::NodeSide;
use rekindle_gateway::{Gateway, Limits};
use support::*;
use tokio::time::timeout;

/// A socket that the system can take away.
#[derive(Debug)]
struct Taken {
    inner: Arc<dyn AsyncUdpSocket>,
    gone: AtomicBool,
}

impl AsyncUdpSocket for Taken {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.gone.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::Error::other("taken away")));
        }
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

#[tokio::test]
async fn a_port_that_is_lost_is_told() {
    let game = FakeMatch::start(60);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = Arc::new(Taken {
        inner: TokioRuntime.wrap_udp_socket(socket).unwrap(),
        gone: AtomicBool::new(false),
    });
    let node = FakeNode::with(&game) as Arc<dyn NodeSide>;
    let gateway = Gateway::on_socket(
        gateway_config(Limits::default()),
        node,
        keys(),
        Arc::clone(&socket) as _,
    )
    .unwrap();
    let mut client = Client::connect(client_config(gateway.local_addr(), 1)).unwrap();
    snapshot(&mut client, |_| true).await;
    assert!(gateway.is_open());
    assert!(timeout(Duration::from_millis(50), gateway.lost()).await.is_err());
    socket.gone.store(true, Ordering::Relaxed);
    timeout(Duration::from_secs(5), gateway.lost()).await.expect("it is told within 5 s");
    assert!(!gateway.is_open());
}
