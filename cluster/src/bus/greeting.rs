//! The greeting on a new link: each side says who it is before anything else is read, so that nodes
//! of different stores or of distant versions part with clear words.

use std::io;

use rekindle_schema::Incarnation;
use rekindle_schema::hello::{Hello, HelloAnswer, MAX_HELLO};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::tap::Wire;

/// Why there is no link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoLink {
    /// The two nodes work on different stores.
    #[error(
        "RK-PEER-005: node `{0}` works on another store: nodes of one cluster have the same `store`"
    )]
    OtherStore(String),
    /// Another run answers than was expected: the address is out of date.
    #[error("RK-PEER-006: node {found} answers where node {wanted} was expected")]
    OtherNode {
        /// Who was meant.
        wanted: Incarnation,
        /// Who is there.
        found: Incarnation,
    },
    /// TLS failed: a certificate of another authority, or one side has none.
    #[error(
        "RK-PEER-007: TLS between the nodes failed: {0}; all nodes need certificates of one \
         authority (`rekindle ca issue`), in cluster.tls.*"
    )]
    Tls(String),
    /// What came is no greeting.
    #[error(
        "RK-PEER-008: what answers is no node of Rekindle, or one node uses TLS and one does \
             not: {0}"
    )]
    NoNode(String),
    /// Nothing answers there, or not in time.
    #[error("RK-PEER-009: the node cannot be reached: {0}")]
    Unreachable(String),
    /// Nobody listens at the address: the host says so.
    #[error("RK-PEER-009: the node cannot be reached: nobody listens there")]
    NobodyListens,
    /// The certificate is for another node.
    #[error("RK-PEER-010: node `{0}` shows a certificate that is not for that name")]
    OtherName(String),
    /// The builds do not understand each other.
    #[error(
        "RK-PEER-011: node `{name}` speaks versions {} to {} of the peer protocol, this one {} to \
         {}; run neighbouring releases in one cluster", theirs.0, theirs.1, ours.0, ours.1
    )]
    Version {
        /// The other node.
        name: String,
        /// Its versions.
        theirs: (u16, u16),
        /// Ours.
        ours: (u16, u16),
    },
    /// The other node refuses, in its words.
    #[error("{0}")]
    Refused(String),
}

/// Whether a link with the node that said `theirs` may be, and in which version.
pub fn judge(ours: &Hello, theirs: &Hello) -> Result<u16, NoLink> {
    if theirs.store != ours.store {
        return Err(NoLink::OtherStore(theirs.name.clone()));
    }
    if let Some(wanted) = theirs.to.filter(|wanted| *wanted != ours.from) {
        return Err(NoLink::OtherNode { wanted, found: ours.from });
    }
    ours.common_version(theirs.speaks).ok_or_else(|| NoLink::Version {
        name: theirs.name.clone(),
        theirs: theirs.speaks,
        ours: ours.speaks,
    })
}

/// Greets whoever was dialled. Returns what it said of itself, and the version.
pub async fn dialled(wire: &mut impl Wire, ours: &Hello) -> Result<(Hello, u16), NoLink> {
    send(wire, &ours.encode()).await.map_err(unreachable)?;
    let bytes = receive(wire).await.map_err(|error| NoLink::NoNode(error.to_string()))?;
    let answer = HelloAnswer::decode(&bytes).map_err(|error| NoLink::NoNode(error.to_string()))?;
    let theirs = match answer {
        HelloAnswer::Welcome(theirs) => theirs,
        HelloAnswer::Refused { words } => return Err(NoLink::Refused(words)),
    };
    let version = judge(ours, &theirs)?;
    match ours.to {
        Some(wanted) if wanted != theirs.from => {
            Err(NoLink::OtherNode { wanted, found: theirs.from })
        }
        _ => Ok((theirs, version)),
    }
}

/// Reads what the one who dialled says of itself.
pub async fn heard(wire: &mut impl Wire) -> Result<Hello, NoLink> {
    let bytes = receive(wire).await.map_err(|error| NoLink::NoNode(error.to_string()))?;
    Hello::decode(&bytes).map_err(|error| NoLink::NoNode(error.to_string()))
}

/// Answers it.
pub async fn answer(wire: &mut impl Wire, answer: &HelloAnswer) -> Result<(), NoLink> {
    send(wire, &answer.encode()).await.map_err(unreachable)
}

fn unreachable(error: io::Error) -> NoLink {
    NoLink::Unreachable(error.to_string())
}

async fn send(wire: &mut impl Wire, bytes: &[u8]) -> io::Result<()> {
    let bytes = &bytes[..bytes.len().min(MAX_HELLO)];
    let mut frame = (bytes.len() as u16).to_be_bytes().to_vec();
    frame.extend_from_slice(bytes);
    wire.write_all(&frame).await?;
    wire.flush().await
}

async fn receive(wire: &mut impl Wire) -> io::Result<Vec<u8>> {
    let len = usize::from(wire.read_u16().await?);
    if len > MAX_HELLO {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too long for a greeting"));
    }
    let mut bytes = vec![0; len];
    wire.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(from: u64, to: Option<u64>) -> Hello {
        Hello {
            speaks: (1, 2),
            store: 7,
            from: Incarnation(from),
            name: format!("n{from}"),
            to: to.map(Incarnation),
        }
    }

    #[test]
    fn only_nodes_of_one_store_and_near_versions_link() {
        let ours = hello(1, None);
        assert_eq!(judge(&ours, &hello(2, Some(1))), Ok(2));
        assert_eq!(judge(&ours, &hello(2, None)), Ok(2));
        let stranger = Hello { store: 8, ..hello(2, Some(1)) };
        assert_eq!(judge(&ours, &stranger), Err(NoLink::OtherStore("n2".into())));
        let late = judge(&ours, &hello(2, Some(9)));
        assert!(matches!(late, Err(NoLink::OtherNode { .. })), "{late:?}");
        let distant = Hello { speaks: (3, 4), ..hello(2, Some(1)) };
        let words = judge(&ours, &distant).unwrap_err().to_string();
        assert!(words.contains("3 to 4") && words.contains("RK-PEER-011"), "{words}");
    }

    #[tokio::test]
    async fn the_refusal_of_the_other_side_is_told() {
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        let other = tokio::spawn(async move {
            let caller = heard(&mut theirs).await.unwrap();
            let stranger = Hello { store: 8, ..hello(2, None) };
            let words = judge(&stranger, &caller).unwrap_err().to_string();
            answer(&mut theirs, &HelloAnswer::Refused { words }).await.unwrap();
        });
        let refused = dialled(&mut ours, &hello(1, Some(2))).await.unwrap_err().to_string();
        assert!(refused.starts_with("RK-PEER-005"), "{refused}");
        other.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_greeting_is_refused() {
        for junk in [&b"\xff\xff"[..], b"\x00\x02ab", b"GET / HTTP/1.1\r\n\r\n"] {
            let (mut ours, mut theirs) = tokio::io::duplex(4096);
            theirs.write_all(junk).await.unwrap();
            drop(theirs);
            let refused = heard(&mut ours).await;
            assert!(matches!(refused, Err(NoLink::NoNode(_))), "{refused:?}");
        }
    }
}
