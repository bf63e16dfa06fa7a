//! The links of a node, by the node at their other end. Shared by whoever makes links, whoever asks
//! over them, and the library's reports about its sessions.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use ractor::ActorRef;
use ractor_cluster::NodeEventSubscription;
use ractor_cluster::node::NodeServerSessionInformation;
use rekindle_schema::Incarnation;
use tokio::sync::{Notify, oneshot, watch};

use super::agent::{self, Ask};
use super::budget::Budget;
use super::tap::Pulse;

/// One link, from the moment at which both sides have greeted each other.
pub(super) struct Link {
    /// Tells this link from earlier ones to the same node.
    pub(super) serial: u64,
    /// The other node's name.
    pub(super) name: String,
    /// The version that both speak.
    pub(super) version: u16,
    /// Life and end of its stream.
    pub(super) pulse: Arc<Pulse>,
    /// Ends the stream when dropped.
    pub(super) closer: Option<oneshot::Sender<()>>,
    /// The other node's agent, once the library has it: from then on the link is of use.
    pub(super) agent: watch::Sender<Option<ActorRef<Ask>>>,
    /// What waits for the other node.
    pub(super) budget: Arc<Mutex<Budget>>,
}

impl Link {
    fn is_up(&self) -> bool {
        !self.pulse.is_over() && self.agent.borrow().is_some()
    }

    /// How the library's reports name it.
    pub(super) fn label(to: Incarnation, serial: u64) -> String {
        format!("{to}/{serial}")
    }
}

/// What is needed to ask over a link.
pub(super) struct Line {
    pub(super) agent: ActorRef<Ask>,
    pub(super) budget: Arc<Mutex<Budget>>,
    pub(super) version: u16,
}

/// All links of a node.
pub(super) struct LinkTable {
    links: Mutex<BTreeMap<Incarnation, Link>>,
    /// Notified when a link begins or ends.
    pub(super) changed: Arc<Notify>,
}

impl LinkTable {
    pub(super) fn new() -> Self {
        Self { links: Mutex::default(), changed: Arc::default() }
    }

    /// Takes in a new link. One to the same node that is there still is closed.
    pub(super) fn insert(&self, to: Incarnation, link: Link) {
        self.links.lock().insert(to, link);
    }

    /// What is needed to ask a node, if there is a link to it.
    pub(super) fn line(&self, to: Incarnation) -> Option<Line> {
        let links = self.links.lock();
        let link = links.get(&to).filter(|link| !link.pulse.is_over())?;
        let agent = link.agent.borrow().clone()?;
        Some(Line { agent, budget: Arc::clone(&link.budget), version: link.version })
    }

    /// The links that are up: name of the other node, and when it was last heard.
    pub(super) fn up(&self) -> BTreeMap<Incarnation, (String, u64)> {
        let links = self.links.lock();
        let up = links.iter().filter(|(_, link)| link.is_up());
        up.map(|(to, link)| (*to, (link.name.clone(), link.pulse.heard_ms()))).collect()
    }

    /// Ends the link to a node, if there is one.
    pub(super) fn close(&self, to: Incarnation) -> bool {
        self.links.lock().get_mut(&to).is_some_and(|link| link.closer.take().is_some())
    }

    /// Ends all links.
    pub(super) fn close_all(&self) {
        for link in self.links.lock().values_mut() {
            link.closer.take();
        }
    }

    /// Whether there is a link to a node, up or not.
    pub(super) fn has(&self, to: Incarnation) -> bool {
        self.links.lock().contains_key(&to)
    }

    /// Forgets a link.
    pub(super) fn remove(&self, to: Incarnation, serial: u64) {
        let mut links = self.links.lock();
        if links.get(&to).is_some_and(|link| link.serial == serial) {
            links.remove(&to);
            drop(links);
            self.changed.notify_one();
        }
    }

    /// The link that a report of the library is about.
    fn named(label: &str) -> Option<(Incarnation, u64)> {
        let (to, serial) = label.split_once('/')?;
        Some((to.parse().ok()?, serial.parse().ok()?))
    }
}

/// Takes in what the library reports of its sessions.
pub(super) struct Reports(pub(super) Arc<LinkTable>);

impl NodeEventSubscription for Reports {
    fn node_session_opened(&self, _: NodeServerSessionInformation) {}

    fn node_session_authenticated(&self, _: NodeServerSessionInformation) {}

    fn node_session_ready(&self, session: NodeServerSessionInformation) {
        let Some((to, serial)) = LinkTable::named(&session.peer_addr) else { return };
        // The session has entered the other node's agent into its group by now, as one of its own
        // remote actors.
        let agent = ractor::pg::get_members(&agent::group(to)).into_iter().find(|member| {
            matches!(
                member.get_id(),
                ractor::ActorId::Remote { node_id, .. } if node_id == session.node_id
            )
        });
        let links = self.0.links.lock();
        if let (Some(agent), Some(link)) = (agent, links.get(&to))
            && link.serial == serial
        {
            link.agent.send_replace(Some(ActorRef::from(agent)));
            drop(links);
            self.0.changed.notify_one();
        }
    }

    fn node_session_disconnected(&self, session: NodeServerSessionInformation) {
        if let Some((to, serial)) = LinkTable::named(&session.peer_addr) {
            self.0.remove(to, serial);
        }
    }
}
