//! How commands talk to a running node: one HTTP/1.0 request a connection, answered in JSON. Called
//! by the command line only.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::api::Problem;

/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 16 << 20;
/// A node that takes longer than this to answer counts as hung.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why a node gave no useful answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there, or not any more.
    #[error(
        "RK-ADMIN-001: no node answers at http://{0}: {1}; start one with `rekindle` or name \
         another with --admin"
    )]
    Unreachable(SocketAddr, String),
    /// The connection ended before its answer did.
    #[error(
        "RK-ADMIN-003: the connection to the node at http://{0} broke before its answer was whole \
         ({1}): the node has probably ended, and what was asked of it may be done or not; \
         `rekindle cluster status` shows which nodes run, and `rekindle audit` what was done"
    )]
    Broken(SocketAddr, String),
    /// The node refused.
    #[error("{}", .1.message)]
    Refused(u16, Problem),
    /// What answers is no node of this version.
    #[error(
        "RK-ADMIN-002: the answer of http://{0} is not understood ({1}): is it a Rekindle node of \
         this version?"
    )]
    Strange(SocketAddr, String),
}

/// A node's admin listener, as a command sees it.
#[derive(Clone)]
pub struct AdminClient {
    /// Where the node listens.
    addr: SocketAddr,
    /// The node's `admin.token`, sent with each request. A secret: `Debug` leaves it out.
    token: Option<String>,
}

impl fmt::Debug for AdminClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminClient").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl AdminClient {
    /// The listener at `addr`; `token` is the node's `admin.token`, if it has one.
    pub fn new(addr: SocketAddr, token: Option<String>) -> Self {
        Self { addr, token }
    }

    /// Where it asks.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `GET path`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json("GET", path, Vec::new()).await
    }

    /// `GET path` with a query.
    pub async fn get_by<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> Result<T, ClientError> {
        let query = serde_urlencoded::to_string(query)
            .map_err(|error| ClientError::Strange(self.addr, error.to_string()))?;
        self.json("GET", &format!("{path}?{query}"), Vec::new()).await
    }

    /// `POST path` with a JSON body.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| ClientError::Strange(self.addr, error.to_string()))?;
        self.json("POST", path, body).await
    }

    /// `GET path` as text, whatever the status.
    pub async fn text(&self, path: &str) -> Result<(u16, String), ClientError> {
        let (status, body) = self.exchange("GET", path, Vec::new()).await?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, ClientError> {
        let (status, body) = self.exchange(method, path, body).await?;
        let strange = |error: serde_json::Error| {
            ClientError::Strange(self.addr, format!("status {status}, {error}"))
        };
        if status == 200 {
            serde_json::from_slice(&body).map_err(strange)
        } else {
            Err(ClientError::Refused(status, serde_json::from_slice(&body).map_err(strange)?))
        }
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(u16, Vec<u8>), ClientError> {
        let unreachable =
            |cause: std::io::Error| ClientError::Unreachable(self.addr, cause.to_string());
        let broken = |cause: String| ClientError::Broken(self.addr, cause);
        let authorization = self
            .token
            .as_ref()
            .map(|token| format!("Authorization: Bearer {token}\r\n"))
            .unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\n{authorization}User-Agent: \
             {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.addr,
            agent(),
            body.len()
        );
        let talk = async {
            let mut stream = TcpStream::connect(self.addr).await.map_err(unreachable)?;
            let mut answer = Vec::new();
            let told = async {
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(&body).await?;
                stream.take(MAX_ANSWER).read_to_end(&mut answer).await
            };
            told.await.map_err(|cause| broken(cause.to_string()))?;
            Ok(answer)
        };
        let answer = match tokio::time::timeout(TIMEOUT, talk).await {
            Ok(answer) => answer?,
            Err(_) => return Err(unreachable(std::io::ErrorKind::TimedOut.into())),
        };
        match split(&answer) {
            Split::Whole(status, body) => Ok((status, body)),
            Split::CutOff(words) => Err(broken(words)),
            Split::NoHttp => Err(ClientError::Strange(self.addr, "no HTTP".to_owned())),
        }
    }
}

/// Under which name commands ask: it stands in the node's audit log.
pub fn agent() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    let user: String = user.chars().filter(char::is_ascii_graphic).take(64).collect();
    if user.is_empty() { "rekindle-cli".to_owned() } else { format!("rekindle-cli ({user})") }
}

/// What came before a connection ended.
#[derive(Debug, PartialEq, Eq)]
enum Split {
    /// An HTTP/1.x answer: its status and body.
    Whole(u16, Vec<u8>),
    /// The beginning of one: where it stops.
    CutOff(String),
    /// Something else.
    NoHttp,
}

/// Takes an HTTP/1.x answer apart that ended with its connection. One that says how long it is has
/// to be as long.
fn split(answer: &[u8]) -> Split {
    const BEGINS: &[u8] = b"HTTP/1.";
    if answer.is_empty() {
        return Split::CutOff("it answered nothing".to_owned());
    }
    let begun = answer.len().min(BEGINS.len());
    if answer[..begun] != BEGINS[..begun] {
        return Split::NoHttp;
    }
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Split::CutOff(format!("it stopped within its head, after {} bytes", answer.len()));
    };
    let Ok(head) = std::str::from_utf8(&answer[..end]) else { return Split::NoHttp };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let Some(status) = status else { return Split::NoHttp };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let body = answer[end + 4..].to_vec();
    match length {
        Some(length) if body.len() < length => {
            Split::CutOff(format!("{} of its {length} bytes came", body.len()))
        }
        _ => Split::Whole(status, body),
    }
}

#[cfg(test)]
mod tests {
    use super::{AdminClient, Split, split};

    #[test]
    fn the_token_is_not_printed() {
        let client = AdminClient::new(([127, 0, 0, 1], 1).into(), Some("s3cret".to_owned()));
        assert!(!format!("{client:?}").contains("s3cret"));
    }

    #[test]
    fn an_answer_is_split_or_refused() {
        let whole = Split::Whole(200, b"body".to_vec());
        assert_eq!(split(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\nbody"), whole);
        assert_eq!(split(b"HTTP/1.0 200 OK\r\ncontent-length: 4\r\n\r\nbody"), whole);
        for cut in
            ["", "HT", "HTTP/1.0 200 OK\r\n", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nbody"]
        {
            assert!(matches!(split(cut.as_bytes()), Split::CutOff(_)), "{cut:?}");
        }
        for strange in ["SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.0 ok\r\n\r\n", "220 mail"] {
            assert_eq!(split(strange.as_bytes()), Split::NoHttp, "{strange:?}");
        }
    }
}
