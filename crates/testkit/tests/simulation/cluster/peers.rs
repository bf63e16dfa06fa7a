//! How nodes of a simulated cluster ask each other: messages are late, overtake each other, and are
//! lost one way or the other.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rekindle_cluster::bus::{PeerBus, PeerError};
use rekindle_schema::peer::{PeerReply, PeerRequest};
use rekindle_schema::{BatchNo, Incarnation, Seq, Tick};
use tokio::sync::oneshot;

use super::faults::{NODES, Step};
use super::link::Mutant;
use super::world::World;

/// The bus of one process.
pub(crate) struct Peers {
    pub world: World,
    pub node: usize,
    pub me: Incarnation,
}

impl Peers {
    /// Sends a request on its way, and returns where its reply comes, if it does.
    fn send(&self, to: Incarnation, request: PeerRequest) -> Option<oneshot::Receiver<PeerReply>> {
        let (world, me) = (self.world.clone(), self.me);
        let route = world.path(self.node, world.node_of(to)?);
        let (reply, answer) = oneshot::channel();
        let network = world.network.clone();
        network.spawn(async move {
            tokio::time::sleep(route.there).await;
            let Some(reached) = world.reached(to).filter(|_| !route.lose_request) else { return };
            let peers = reached.peers;
            // One that is paused answers when it goes on, and one that dies never does.
            let asked = reached.runtime.spawn(async move { peers.handle(me, request).await });
            let Ok(answer) = asked.await else { return };
            tokio::time::sleep(route.back).await;
            if !route.lose_answer {
                let _ = reply.send(answer);
            }
        });
        Some(answer)
    }

    /// What a source takes for said that does not wait for its target.
    fn pretended(&self, request: &PeerRequest) -> Option<PeerReply> {
        match request {
            _ if self.world.mutant != Some(Mutant::CommitsTooEarly) => None,
            PeerRequest::Follow { .. } => Some(PeerReply::Done),
            PeerRequest::Followed { .. } => {
                Some(PeerReply::Follows { tick: Tick(u64::MAX / 2), seq: Seq(0) })
            }
            PeerRequest::Stopped { match_id, .. } => {
                self.world.comes_to(Step::Ready, *match_id, self.me);
                Some(PeerReply::Ready { first_batch: BatchNo(1) })
            }
            _ => None,
        }
    }
}

impl PeerBus for Peers {
    fn call(
        &self,
        to: Incarnation,
        request: PeerRequest,
        patience: Duration,
    ) -> BoxFuture<'_, Result<PeerReply, PeerError>> {
        if let Some(reply) = self.pretended(&request) {
            return std::future::ready(Ok(reply)).boxed();
        }
        let stopped = match &request {
            PeerRequest::Stopped { match_id, .. } => Some(*match_id),
            _ => None,
        };
        let answer = self.send(to, request);
        async move {
            let answer = answer.ok_or(PeerError::NoLink(to))?;
            // No answer comes: the link is there, and nobody knows.
            let never = std::future::pending();
            let come = async {
                match answer.await {
                    Ok(reply) => reply,
                    Err(_) => never.await,
                }
            };
            let reply = tokio::time::timeout(patience, come).await;
            let reply = reply.map_err(|_| PeerError::Unknown(to))?;
            if let (Some(match_id), PeerReply::Ready { .. }) = (stopped, &reply) {
                self.world.comes_to(Step::Ready, match_id, self.me);
            }
            Ok(reply)
        }
        .boxed()
    }

    fn linked(&self) -> Vec<Incarnation> {
        let mut others: Vec<Incarnation> = (0..NODES)
            .filter(|&node| node != self.node)
            .filter_map(|node| self.world.incarnation(node))
            .collect();
        others.sort_unstable();
        others
    }
}
