//! As much of the CQL protocol (version 4) as it takes to ask a server whether it is ready, and how
//! it is set up.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

const PATIENCE: Duration = Duration::from_secs(10);
/// No answer to our questions is longer.
const MAX_BODY: usize = 1 << 20;

const STARTUP: u8 = 0x01;
const READY: u8 = 0x02;
const QUERY: u8 = 0x07;
const RESULT: u8 = 0x08;
const ROWS: i32 = 2;
const CONSISTENCY_ONE: u16 = 1;
const SKIP_METADATA: u8 = 0x02;
const HAS_METADATA_OF_ITS_OWN: i32 = 0x04;

/// A connection that the server has accepted.
pub(super) struct Connection(TcpStream);

impl Connection {
    /// Connects and says hello. An error while the server is starting.
    pub(super) fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut connection = Self(stream);
        let mut options = 1_u16.to_be_bytes().to_vec();
        for text in ["CQL_VERSION", "3.0.0"] {
            options.extend((text.len() as u16).to_be_bytes());
            options.extend(text.as_bytes());
        }
        match connection.ask(STARTUP, &options)? {
            (READY, _) => Ok(connection),
            (other, body) => bail!(
                "{address} did not answer STARTUP with READY but {other:#04x}: {}",
                String::from_utf8_lossy(&body)
            ),
        }
    }

    /// The first column, as text, of all rows that a query gives.
    pub(super) fn column(&mut self, query: &str) -> Result<Vec<String>> {
        let mut body = (query.len() as u32).to_be_bytes().to_vec();
        body.extend(query.as_bytes());
        body.extend(CONSISTENCY_ONE.to_be_bytes());
        body.push(SKIP_METADATA);
        match self.ask(QUERY, &body)? {
            (RESULT, body) => {
                first_column(&body).with_context(|| format!("cannot read the answer to {query:?}"))
            }
            (other, body) => bail!(
                "{query:?} was answered with {other:#04x}: {}",
                String::from_utf8_lossy(&body)
            ),
        }
    }

    fn ask(&mut self, opcode: u8, body: &[u8]) -> Result<(u8, Vec<u8>)> {
        let mut frame = vec![0x04, 0, 0, 0, opcode];
        frame.extend((body.len() as u32).to_be_bytes());
        frame.extend(body);
        self.0.write_all(&frame)?;
        let mut header = [0; 9];
        self.0.read_exact(&mut header)?;
        let [version, _, _, _, opcode, length @ ..] = header;
        let length = u32::from_be_bytes(length) as usize;
        if version != 0x84 || length > MAX_BODY {
            bail!("what answers is not a CQL server: its first bytes are {header:02x?}");
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((opcode, body))
    }
}

fn first_column(mut body: &[u8]) -> Result<Vec<String>> {
    let kind = int(&mut body)?;
    let flags = int(&mut body)?;
    let columns = int(&mut body)?;
    if kind != ROWS || flags & HAS_METADATA_OF_ITS_OWN == 0 || columns < 1 {
        bail!("not rows without metadata: kind {kind}, flags {flags:#x}, {columns} columns");
    }
    let mut found = Vec::new();
    for _ in 0..int(&mut body)? {
        for column in 0..columns {
            let length = int(&mut body)?.max(0) as usize;
            let (value, rest) =
                body.split_at_checked(length).context("a value ends after its frame")?;
            body = rest;
            if column == 0 {
                found.push(String::from_utf8_lossy(value).into_owned());
            }
        }
    }
    Ok(found)
}

fn int(body: &mut &[u8]) -> Result<i32> {
    let (int, rest) =
        body.split_first_chunk().context("an answer ends in the middle of a number")?;
    *body = rest;
    Ok(i32::from_be_bytes(*int))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn rows_are_read_and_torn_ones_refused() {
        let mut body = Vec::new();
        for number in [ROWS, HAS_METADATA_OF_ITS_OWN, 2, 2] {
            body.extend(number.to_be_bytes());
        }
        for value in [Some("eu"), None, Some(""), Some("x")] {
            body.extend(value.map_or(-1, |value| value.len() as i32).to_be_bytes());
            body.extend(value.unwrap_or_default().as_bytes());
        }
        assert_eq!(first_column(&body).unwrap(), ["eu", ""]);
        for length in 0..body.len() {
            assert!(first_column(&body[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_server_of_another_kind_is_not_taken_for_cql() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
            // Closed by the client.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let error = Connection::open(address).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("not a CQL server"), "{error}");
        server.join().unwrap();
    }
}
