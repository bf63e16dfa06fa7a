//! A way from a network namespace to a server outside: TCP inside, a socket in the file system in
//! between (which knows no network namespaces), TCP outside.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The outer half: whoever connects to the socket at `path` is connected to `server` (`host:port`).
/// For the rest of the process.
pub(super) fn lead_out(path: &Path, server: &str) {
    let (listener, server) = (UnixListener::bind(path).unwrap(), server.to_owned());
    std::thread::spawn(move || {
        for inner in listener.incoming().map_while(Result::ok) {
            // Whoever finds no server tries again.
            if let Ok(outer) = TcpStream::connect(&server) {
                join(outer, inner);
            }
        }
    });
}

/// The inner half: whoever connects to `address` comes to the socket at `path`.
pub(super) fn lead_to(path: PathBuf, address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for outer in listener.incoming().map_while(Result::ok) {
            if let Ok(inner) = UnixStream::connect(&path) {
                join(outer, inner);
            }
        }
    });
}

/// Passes on what comes at either end, until one of them is closed.
fn join(tcp: TcpStream, unix: UnixStream) {
    let _ = tcp.set_nodelay(true);
    let ends = Arc::new((tcp, unix));
    for up in [true, false] {
        let ends = Arc::clone(&ends);
        std::thread::spawn(move || {
            let (tcp, unix) = &*ends;
            let (mut tcp_end, mut unix_end) = (tcp, unix);
            // However it ends, both ends are closed.
            let _ = if up {
                io::copy(&mut tcp_end, &mut unix_end)
            } else {
                io::copy(&mut unix_end, &mut tcp_end)
            };
            let _ = tcp.shutdown(Shutdown::Both);
            let _ = unix.shutdown(Shutdown::Both);
        });
    }
}
