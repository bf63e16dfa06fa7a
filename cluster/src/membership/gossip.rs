//! What the nodes tell each other of themselves, and whom they hear: a thin adapter of `chitchat`
//! (UDP, on the port number of the links). Gossip carries no secrets and proves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use chitchat::transport::{Transport, UdpTransport};
use chitchat::{
    ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, NodeState, ProtocolVersion,
    spawn_chitchat,
};
use rekindle_schema::Incarnation;

use super::{Load, Peer};

/// How often each node gossips.
pub const EVERY: Duration = Duration::from_millis(200);
/// How many usual intervals without a word are too many.
const PHI: f64 = 8.0;
/// Intervals that the usual one is computed from.
const WINDOW: usize = 200;
/// Longer intervals are interruptions, and do not count.
const LONGEST: Duration = Duration::from_secs(1);
/// A node that has been silent for so long is forgotten.
const FORGET: Duration = Duration::from_mins(2);
/// The longest name or region that is believed, in bytes.
const MAX_WORD: usize = 63;

const NAME: &str = "name";
const REGION: &str = "region";
const LOAD: &str = "load";

/// What gossip is started with.
pub struct GossipParts {
    /// This node; its address is the one that others use.
    pub me: Peer,
    /// The identity of its store: nodes of another one are not heard.
    pub store: u128,
    /// Where it listens.
    pub listen: SocketAddr,
    /// The same, as others reach it.
    pub public: SocketAddr,
    /// Addresses that are asked who is there, besides what the registry says.
    pub seeds: Vec<String>,
}

/// The gossip could not be started: most often because another process has the UDP port.
#[derive(Debug, thiserror::Error)]
#[error("gossip on UDP {listen}: {problem}")]
pub struct GossipError {
    listen: SocketAddr,
    problem: String,
}

/// What the gossip has at one moment.
#[derive(Debug, Default)]
pub struct Heard {
    /// All other nodes of which it has heard who they are.
    pub told: Vec<Peer>,
    /// Those that are heard.
    pub live: BTreeSet<Incarnation>,
    /// Those that have been silent for too long.
    pub silent: BTreeSet<Incarnation>,
    /// How much they have to do.
    pub loads: BTreeMap<Incarnation, Load>,
}

/// This node's part in the gossip. It ends when dropped.
pub struct Gossip(ChitchatHandle);

impl Gossip {
    /// Begins to gossip over UDP.
    pub async fn start(parts: GossipParts) -> Result<Self, GossipError> {
        Self::start_on(parts, &UdpTransport).await
    }

    /// Begins to gossip over another carrier: for tests in virtual time.
    pub async fn start_on(
        parts: GossipParts,
        transport: &dyn Transport,
    ) -> Result<Self, GossipError> {
        let GossipParts { me, store, listen, public, seeds } = parts;
        let id = ChitchatId::new(me.incarnation.to_string(), 0, public);
        let config = ChitchatConfig {
            chitchat_id: id,
            cluster_id: format!("rekindle-{store:032x}"),
            gossip_interval: EVERY,
            listen_addr: listen,
            seed_nodes: seeds,
            failure_detector_config: FailureDetectorConfig::new(
                PHI, WINDOW, LONGEST, EVERY, FORGET,
            ),
            marked_for_deletion_grace_period: FORGET,
            catchup_callback: None,
            extra_liveness_predicate: None,
            protocol_version: ProtocolVersion::V0,
        };
        let said = vec![(NAME.to_owned(), me.name), (REGION.to_owned(), me.region)];
        let handle = spawn_chitchat(config, said, transport)
            .await
            .map_err(|error| GossipError { listen, problem: format!("{error:#}") })?;
        Ok(Self(handle))
    }

    /// Tells the others how much this node has to do.
    pub async fn say(&self, load: Load) {
        let Load { matches, players, draining, reaches_store } = load;
        let (draining, reaches) = (u8::from(draining), u8::from(reaches_store));
        let words = format!("{matches} {players} {draining} {reaches}");
        self.0.with_chitchat(|chitchat| chitchat.self_node_state().set(LOAD, &words)).await;
    }

    /// What it has heard by now.
    pub async fn hear(&self) -> Heard {
        self.0
            .with_chitchat(|chitchat| {
                let me = chitchat.self_chitchat_id().clone();
                let mut heard = Heard::default();
                let other = |id: &&ChitchatId| **id != me;
                heard.live = chitchat.live_nodes().filter(other).filter_map(node).collect();
                heard.silent = chitchat.dead_nodes().filter(other).filter_map(node).collect();
                for (id, state) in chitchat.node_states() {
                    let (Some(peer), true) = (peer(id, state), *id != me) else { continue };
                    if let Some(load) = state.get(LOAD).and_then(load) {
                        heard.loads.insert(peer.incarnation, load);
                    }
                    heard.told.push(peer);
                }
                heard
            })
            .await
    }

    /// Sends gossip to whoever listens at an address.
    pub fn greet(&self, address: SocketAddr) {
        // If the gossip has ended there is nobody to say it.
        let _ = self.0.gossip(address);
    }

    /// Ends it.
    pub fn stop(&self) {
        self.0.abort();
    }
}

fn node(id: &ChitchatId) -> Option<Incarnation> {
    id.node_id.parse().ok()
}

/// Who a node says it is, once that has come.
fn peer(id: &ChitchatId, state: &NodeState) -> Option<Peer> {
    let word = |key| state.get(key).filter(|word| word.len() <= MAX_WORD).map(str::to_owned);
    Some(Peer {
        incarnation: node(id)?,
        name: word(NAME)?,
        region: word(REGION)?,
        address: id.gossip_advertise_addr.to_string(),
    })
}

fn load(words: &str) -> Option<Load> {
    let mut words = words.split(' ');
    let mut next = || words.next()?.parse().ok();
    let (matches, players, draining) = (next()?, next()?, next()? != 0);
    // Earlier releases say nothing about the store.
    let reaches_store = next().is_none_or(|reaches| reaches != 0);
    Some(Load { matches, players, draining, reaches_store })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_read_as_it_was_said_and_junk_is_none() {
        let said = Load { matches: 3, players: 40, draining: true, reaches_store: false };
        assert_eq!(load("3 40 1 0"), Some(said));
        let earlier = Load { reaches_store: true, ..said };
        assert_eq!(load("3 40 1"), Some(earlier), "of an earlier release");
        assert_eq!(load("3 40"), None);
        assert_eq!(load("x y z"), None);
    }

    fn parts(id: u64, store: u128, listen: SocketAddr, seeds: Vec<String>) -> GossipParts {
        let me = Peer {
            incarnation: Incarnation(id),
            name: format!("n{id}"),
            region: "main".to_owned(),
            address: listen.to_string(),
        };
        GossipParts { me, store, listen, public: listen, seeds }
    }

    fn free() -> SocketAddr {
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    async fn until(gossip: &Gossip, wanted: impl Fn(&Heard) -> bool) -> Heard {
        loop {
            let heard = gossip.hear().await;
            if wanted(&heard) {
                return heard;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn nodes_of_one_store_hear_each_other_and_those_of_another_do_not() {
        let [at_a, at_b, at_c] = [free(), free(), free()];
        let a = Gossip::start(parts(1, 7, at_a, Vec::new())).await.unwrap();
        let b = Gossip::start(parts(2, 7, at_b, vec![at_a.to_string()])).await.unwrap();
        let stranger = Gossip::start(parts(3, 8, at_c, vec![at_a.to_string()])).await.unwrap();
        b.say(Load { matches: 5, players: 9, ..Load::default() }).await;
        let has_load = |heard: &Heard| heard.loads.contains_key(&Incarnation(2));
        let heard = tokio::time::timeout(Duration::from_secs(20), async {
            until(&b, |heard| heard.live.contains(&Incarnation(1))).await;
            until(&a, |heard| heard.live.contains(&Incarnation(2)) && has_load(heard)).await
        });
        let heard = heard.await.unwrap();
        assert_eq!(heard.loads[&Incarnation(2)].matches, 5);
        let names: Vec<&str> = heard.told.iter().map(|peer| peer.name.as_str()).collect();
        assert_eq!(names, ["n2"], "the stranger has sent as much");
        assert!(stranger.hear().await.live.is_empty());
        b.stop();
        let silence = until(&a, |heard| heard.silent.contains(&Incarnation(2)));
        tokio::time::timeout(Duration::from_secs(20), silence).await.unwrap();
    }
}
