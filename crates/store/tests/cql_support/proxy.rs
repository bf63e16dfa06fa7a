//! A TCP proxy in front of the server that loses answers, takes its time, or is not there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Default)]
struct Faults {
    /// Answers are read from the server and thrown away.
    swallow: AtomicBool,
    /// Each piece of an answer waits for so long, in milliseconds.
    delay_ms: AtomicU64,
    /// Bytes that clients sent and that were passed on.
    sent: AtomicU64,
}

/// A proxy on a loopback port.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    faults: Arc<Faults>,
    /// Whether connections are taken, and how often all were ended: a connection of an earlier count is over.
    up: watch::Sender<(bool, u64)>,
}

impl Proxy {
    pub(crate) async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let faults = Arc::new(Faults::default());
        let (up, watched) = watch::channel((true, 0));
        tokio::spawn(accept(listener, server.to_owned(), Arc::clone(&faults), watched));
        Self { address, faults, up }
    }

    /// From now on answers are lost (or, again, not), while requests arrive.
    pub(crate) fn swallow_answers(&self, swallow: bool) {
        self.faults.swallow.store(swallow, Ordering::SeqCst);
    }

    /// From now on answers take so much longer.
    pub(crate) fn delay(&self, delay: Duration) {
        self.faults.delay_ms.store(delay.as_millis() as u64, Ordering::SeqCst);
    }

    /// Ends all connections and takes no new ones, or takes them again.
    pub(crate) fn set_up(&self, up: bool) {
        self.up.send_modify(|(now, ended)| (*now, *ended) = (up, *ended + u64::from(!up)));
    }

    /// Bytes of requests so far.
    pub(crate) fn sent(&self) -> u64 {
        self.faults.sent.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, server: String, faults: Arc<Faults>, up: watch::Receiver<(bool, u64)>) {
    while let Ok((client, _)) = listener.accept().await {
        let (taken, count) = *up.borrow();
        if !taken {
            continue;
        }
        let (server, faults, mut up) = (server.clone(), Arc::clone(&faults), up.clone());
        tokio::spawn(async move {
            let Ok(upstream) = TcpStream::connect(&server).await else { return };
            let _ = client.set_nodelay(true);
            let _ = upstream.set_nodelay(true);
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), upstream.into_split());
            tokio::select! {
                () = requests(from_client, to_server, &faults) => {}
                () = answers(from_server, to_client, &faults) => {}
                _ = up.wait_for(|(_, ended)| *ended != count) => {}
            }
        });
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, faults: &Faults) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        faults.sent.fetch_add(read as u64, Ordering::SeqCst);
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, faults: &Faults) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let delay = faults.delay_ms.load(Ordering::SeqCst);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        if faults.swallow.load(Ordering::SeqCst) {
            // A frame must not be cut in its middle: this connection says nothing more.
            while let Ok(1..) = from.read(&mut buffer).await {}
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
