//! What strangers are told who name no match.

use rekindle_actors::{Games, HostConfig, HostParts};
use rekindle_arena::Arena;
use rekindle_schema::lease::{
    DEFAULT_REGION, Lineage, MatchLease, MatchSpec, MatchState, NodeLease, NodeState,
};
use rekindle_schema::{BuildId, Incarnation, Seq};
use rekindle_sim::{Game as _, GameType as _, Typed};
use rekindle_store_memory::MemoryStore;

use super::*;

const ME: Incarnation = Incarnation(1);
const MATCH: MatchId = MatchId(7);

async fn node() -> (Host, Store, Links) {
    let store = MemoryStore::new().store();
    let lease = NodeLease {
        incarnation: ME,
        name: "n1".to_owned(),
        state: NodeState::Live,
        pid: 0,
        pid_start: 0,
        deadline_ms: 0,
        seal: None,
        host: String::new(),
        region: DEFAULT_REGION.to_owned(),
        reached: None,
        loss_accepted_ms: None,
    };
    store.leases.register(lease).await.unwrap();
    let host = Host::start(HostParts {
        store: store.clone(),
        incarnation: ME,
        build: BuildId(1),
        games: Games::new().with(Arc::new(Typed::<Arena>::new().unwrap())),
        clock: Arc::new(|| 1_700_000_000_000),
        seed: 1,
        config: HostConfig::simulated(),
    })
    .await
    .unwrap();
    let lookup = Arc::new(Lookup::new(store.clone(), ME));
    let links = Links::new(host.clone(), store.clone(), Arc::default(), Arc::default(), lookup);
    (host, store, links)
}

/// A match for two.
async fn create(host: &Host, store: &Store) {
    let game = Typed::<Arena>::new().unwrap();
    let row = MatchLease {
        match_id: MATCH,
        version: 1,
        epoch: Epoch(1),
        incarnation: ME,
        state: MatchState::Running,
        attempts: 0,
        lineage: vec![Lineage {
            epoch: Epoch(1),
            incarnation: ME,
            first_batch: host.next_batch(),
            first_seq: Seq(1),
        }],
        spec: MatchSpec {
            game: Arena::NAME.to_owned(),
            config: game.config_from_json(r#"{"max_players":2}"#).unwrap(),
            seed: 5,
            tick_rate: 30,
            house_bots: 0,
            created_ms: 0,
        },
        region: DEFAULT_REGION.to_owned(),
    };
    store.leases.create(row.clone()).await.unwrap();
    host.create(row).await.unwrap();
}

#[track_caller]
fn is_refused(links: &Links, game: Option<&str>, code: RefuseCode, begins: &str) {
    match links.locate(Wanted { game, ..Wanted::default() }) {
        Location::Refused(refusal) => {
            assert_eq!(refusal.code, code, "{}", refusal.words);
            assert!(refusal.words.starts_with(begins), "{}", refusal.words);
        }
        Location::Here(_) | Location::Elsewhere(_) => panic!("there is no room"),
    }
}

#[tokio::test(start_paused = true)]
async fn full_is_said_only_where_a_match_runs() {
    let (host, store, links) = node().await;
    is_refused(&links, None, RefuseCode::NoMatch, "RK-NODE-220");
    create(&host, &store).await;
    is_refused(&links, Some("chess"), RefuseCode::NoMatch, "RK-NODE-220");
    for player in 1..=2 {
        let Location::Here(door) = links.locate(Wanted::default()) else { panic!("it has room") };
        door.open(PlayerId(player), format!("p{player}"), None).await.unwrap();
    }
    is_refused(&links, None, RefuseCode::Full, "RK-NODE-032");
    is_refused(&links, Some(Arena::NAME), RefuseCode::Full, "RK-NODE-032");
}
