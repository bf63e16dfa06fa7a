//! A TCP proxy in front of a server: it loses answers, takes its time, or is not there.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A proxy on a loopback port, until it is dropped. What it does wrong can be changed at any time.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: String,
    /// Answers are read from the server and thrown away.
    swallow: AtomicBool,
    /// Each piece of an answer waits for so long, in milliseconds.
    delay_ms: AtomicU64,
    /// Bytes that clients sent and that were passed on.
    sent: AtomicU64,
    connections: Mutex<Connections>,
}

struct Connections {
    taken: bool,
    /// Both ends of each that was ever taken since all were ended.
    ends: Vec<TcpStream>,
}

impl Proxy {
    /// A proxy to the server at `host:port`.
    ///
    /// # Panics
    /// If there is no free port.
    pub fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .unwrap_or_else(|error| panic!("no port for a proxy: {error}"));
        let address = listener
            .local_addr()
            .unwrap_or_else(|error| panic!("a port without an address: {error}"));
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            swallow: AtomicBool::new(false),
            delay_ms: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            connections: Mutex::new(Connections { taken: true, ends: Vec::new() }),
        });
        let listening = Arc::downgrade(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Some(shared)) = (client, listening.upgrade()) else { return };
                // A client whose connection fails tries again: that is what it is tested for.
                let _ = shared.take(client);
            }
        });
        Self { address, shared }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on answers are lost (or, again, not), while requests arrive. A connection that has
    /// lost one says nothing more.
    pub fn swallow_answers(&self, swallow: bool) {
        self.shared.swallow.store(swallow, Ordering::SeqCst);
    }

    /// From now on each piece of an answer comes so much later.
    pub fn delay(&self, delay: Duration) {
        self.shared.delay_ms.store(delay.as_millis() as u64, Ordering::SeqCst);
    }

    /// Ends all connections and takes no new ones, or takes them again.
    pub fn set_up(&self, up: bool) {
        let mut connections =
            self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.taken = up;
        if !up {
            connections.ends.drain(..).for_each(|end| close(&end));
        }
    }

    /// Bytes of requests so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set_up(false);
        // Wakes the listening thread, which finds nobody to listen for.
        let _ = TcpStream::connect(self.address);
    }
}

fn close(end: &TcpStream) {
    // It fails if the connection is over already.
    let _ = end.shutdown(Shutdown::Both);
}

impl Shared {
    fn take(self: Arc<Self>, client: TcpStream) -> io::Result<()> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if !connections.taken {
            return Ok(());
        }
        let server = TcpStream::connect(&self.server)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (mut from_client, mut to_client) = (client.try_clone()?, client.try_clone()?);
        let (mut from_server, mut to_server) = (server.try_clone()?, server.try_clone()?);
        connections.ends.extend([client, server]);
        drop(connections);
        let shared = Arc::clone(&self);
        std::thread::spawn(move || {
            let _ = shared.requests(&mut from_client, &mut to_server);
            close(&from_client);
            close(&to_server);
        });
        std::thread::spawn(move || {
            let _ = self.answers(&mut from_server, &mut to_client);
            close(&from_server);
            close(&to_client);
        });
        Ok(())
    }

    fn requests(&self, from: &mut TcpStream, to: &mut TcpStream) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        while let read @ 1.. = from.read(&mut buffer)? {
            to.write_all(&buffer[..read])?;
            self.sent.fetch_add(read as u64, Ordering::SeqCst);
        }
        Ok(())
    }

    fn answers(&self, from: &mut TcpStream, to: &mut TcpStream) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        while let read @ 1.. = from.read(&mut buffer)? {
            let delay = self.delay_ms.load(Ordering::SeqCst);
            if delay > 0 {
                std::thread::sleep(Duration::from_millis(delay));
            }
            if self.swallow.load(Ordering::SeqCst) {
                // An answer must not be cut in its middle: this connection says nothing more.
                while let 1.. = from.read(&mut buffer)? {}
                return Ok(());
            }
            to.write_all(&buffer[..read])?;
        }
        Ok(())
    }
}
