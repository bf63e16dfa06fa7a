//! The one actor of a node that other nodes can send to. It answers requests with the node's
//! [`PeerService`], each in a task of its own, and a bounded number of them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ractor::message::{BoxedDowncastErr, SerializedMessage};
use ractor::{Actor, ActorProcessingErr, ActorRef, Message, RpcReplyPort, SupervisionEvent};
use rekindle_schema::Incarnation;
use rekindle_schema::codec::{self, CodecError};
use rekindle_schema::peer::{
    MAX_PEER_MESSAGE, PEER_VERSION, PEER_VERSION_MIN, PeerCall, PeerReply, PeerRequest, REPLY_TAG,
    REQUEST_TAG,
};
use tokio::sync::Semaphore;

use super::PeerService;
use super::figures::Figures;

/// Most requests of all peers together that are worked on at once.
const MAX_SERVED: usize = 256;
/// A request that takes longer is given up.
const SERVE_PATIENCE: Duration = Duration::from_secs(30);

/// A request on its way: bytes of a [`PeerCall`], answered with bytes of a [`PeerReply`].
pub(super) struct Ask {
    pub(super) call: Vec<u8>,
    pub(super) reply: RpcReplyPort<Vec<u8>>,
}

impl Message for Ask {
    fn serializable() -> bool {
        true
    }

    fn serialize(self) -> Result<SerializedMessage, BoxedDowncastErr> {
        Ok(SerializedMessage::Call {
            variant: "ask".to_owned(),
            args: self.call,
            reply: self.reply,
            metadata: None,
        })
    }

    fn deserialize(message: SerializedMessage) -> Result<Self, BoxedDowncastErr> {
        match message {
            SerializedMessage::Call { args, reply, .. } => Ok(Self { call: args, reply }),
            SerializedMessage::Cast { .. } | SerializedMessage::CallReply(..) => {
                Err(BoxedDowncastErr)
            }
        }
    }
}

/// The process group that the agent of a node is in.
pub(super) fn group(node: Incarnation) -> String {
    format!("rekindle-{node}")
}

/// What the agent answers with.
pub(super) struct Agent {
    pub(super) me: Incarnation,
    pub(super) service: Arc<OnceLock<Arc<dyn PeerService>>>,
    pub(super) figures: Arc<Figures>,
}

impl Actor for Agent {
    type Msg = Ask;
    type State = Arc<Semaphore>;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Ask>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        Ok(Arc::new(Semaphore::new(MAX_SERVED)))
    }

    async fn handle(
        &self,
        _: ActorRef<Ask>,
        Ask { call, reply }: Ask,
        places: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        self.figures.served();
        let request = match read(&call, self.me) {
            Ok((_, PeerRequest::Ping)) => {
                send(reply, &PeerReply::Done);
                return Ok(());
            }
            Ok(request) => request,
            Err(words) => {
                send(reply, &PeerReply::Refused { words });
                return Ok(());
            }
        };
        let (Some(service), Ok(place)) =
            (self.service.get(), Arc::clone(places).try_acquire_owned())
        else {
            let words = "RK-PEER-014: this node is starting, or has too much to do".to_owned();
            send(reply, &PeerReply::Refused { words });
            return Ok(());
        };
        let service = Arc::clone(service);
        tokio::spawn(async move {
            let (from, request) = request;
            // Whoever asked has given up long before.
            if let Ok(done) =
                tokio::time::timeout(SERVE_PATIENCE, service.handle(from, request)).await
            {
                send(reply, &done);
            }
            drop(place);
        });
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Ask>,
        _: SupervisionEvent,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// The request in these bytes, if it is for this node and in a version that it understands; else
/// what is wrong with it.
fn read(bytes: &[u8], me: Incarnation) -> Result<(Incarnation, PeerRequest), String> {
    let unread = |problem: &dyn std::fmt::Display| format!("RK-PEER-015: unreadable: {problem}");
    if bytes.len() > MAX_PEER_MESSAGE {
        return Err(unread(&"too long"));
    }
    let call: PeerCall =
        codec::decode_message(REQUEST_TAG, bytes).map_err(|error: CodecError| unread(&error))?;
    let PeerCall { version, from, to, request } = call;
    if !(PEER_VERSION_MIN..=PEER_VERSION).contains(&version) {
        return Err(format!("RK-PEER-011: version {version} of the peer protocol is not spoken"));
    }
    if to != me {
        return Err(format!("RK-PEER-006: node {me} answers where node {to} was expected"));
    }
    Ok((from, request))
}

fn send(reply: RpcReplyPort<Vec<u8>>, answer: &PeerReply) {
    let mut bytes = codec::encode(REPLY_TAG, answer);
    if bytes.len() > MAX_PEER_MESSAGE {
        let words = "RK-PEER-015: the answer is too long".to_owned();
        bytes = codec::encode(REPLY_TAG, &PeerReply::Refused { words });
    }
    // Whoever asked may have given up.
    let _ = reply.send(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Incarnation = Incarnation(5);

    fn call(version: u16, to: Incarnation) -> Vec<u8> {
        let (from, request) = (Incarnation(9), PeerRequest::Ping);
        codec::encode(REQUEST_TAG, &PeerCall { version, from, to, request })
    }

    #[test]
    fn what_is_for_another_run_or_in_another_version_is_refused() {
        assert_eq!(read(&call(PEER_VERSION, ME), ME), Ok((Incarnation(9), PeerRequest::Ping)));
        for (bytes, code) in [
            (call(PEER_VERSION, Incarnation(4)), "RK-PEER-006"),
            (call(PEER_VERSION + 1, ME), "RK-PEER-011"),
            (call(0, ME), "RK-PEER-011"),
            (vec![1, 2, 3], "RK-PEER-015"),
            (vec![0; MAX_PEER_MESSAGE + 1], "RK-PEER-015"),
        ] {
            let refused = read(&bytes, ME).unwrap_err();
            assert!(refused.starts_with(code), "{refused}");
        }
    }
}
