use std::sync::Arc;

use rekindle_actors::{Host, HostConfig, HostParts, MatchHandle};
use rekindle_schema::lease::{DEFAULT_REGION, Lineage, MatchSpec};
use rekindle_schema::{BatchNo, Epoch, Incarnation};
use rekindle_sim::documents::wire::{Access, Call, Caller, Order, Outcome, Query, Submission};
use rekindle_sim::{
    Action, Collection, Component, Declaration, Document, GameType as _, Typed, Who,
};
use rekindle_store_memory::MemoryStore;
use serde::Serialize;
use serde_json::json;

use super::super::clerk::{self, Clerks};
use super::*;

const ME: Incarnation = Incarnation(1);
const BUILD: BuildId = BuildId(1);
const KIND: &str = "purse";

#[derive(Debug, Clone, PartialEq, Component, Serialize)]
#[component(id = "purse")]
struct Purse {
    #[value(within = 0..=1_000_000)]
    credits: i64,
}

const CREDIT: Action<Purse, i64> = Action::new("credit");
const CLOSE: Action<Purse> = Action::new("close");

impl Document for Purse {
    const KIND: &'static str = KIND;

    fn declare(purse: &mut Declaration<Self>) {
        purse.upsert(CREDIT, |purse, amount: i64, _| {
            purse.credits += amount;
            Ok(purse.credits)
        });
        purse.destroy(CLOSE, |_, (), _| Ok(())).by([Who::Operator]);
        purse.calculation("rich", |purse| purse.credits > 500);
        purse.sum("credits", |purse| purse.credits as f64);
    }
}

fn games() -> Games {
    Games::new().with(Arc::new(Typed::<Collection<Purse>>::new().unwrap()))
}

fn shelf(store: &Store) -> Shelf {
    let trials = TrialOptions {
        build: BUILD,
        deaths: 1,
        healthy_after: Duration::ZERO,
        watchdog: Duration::ZERO,
    };
    Shelf::new(store.clone(), games(), trials, OtherBuild::Prove)
}

/// A collection that runs on a host.
async fn running() -> (Store, Host, MatchHandle) {
    let store = MemoryStore::new().store();
    store
        .leases
        .register(NodeLease {
            incarnation: ME,
            name: "n1".to_owned(),
            state: NodeState::Live,
            pid: 1,
            pid_start: 1,
            deadline_ms: 0,
            seal: None,
            host: String::new(),
            region: DEFAULT_REGION.to_owned(),
            reached: None,
            loss_accepted_ms: None,
        })
        .await
        .unwrap();
    let host = Host::start(HostParts {
        store: store.clone(),
        incarnation: ME,
        build: BUILD,
        games: games(),
        clock: Arc::new(|| 1_700_000_000_000),
        seed: 1,
        config: HostConfig::simulated(),
    })
    .await
    .unwrap();
    let game = Typed::<Collection<Purse>>::new().unwrap();
    let lease = MatchLease {
        match_id: collection_id(KIND),
        version: 1,
        epoch: Epoch(1),
        incarnation: ME,
        state: MatchState::Running,
        attempts: 0,
        lineage: vec![Lineage {
            epoch: Epoch(1),
            incarnation: ME,
            first_batch: BatchNo(1),
            first_seq: Seq(1),
        }],
        spec: MatchSpec {
            game: KIND.to_owned(),
            config: game.config_from_json("{}").unwrap(),
            seed: 7,
            tick_rate: game.tick_rate(),
            house_bots: 0,
            created_ms: 0,
        },
        region: DEFAULT_REGION.to_owned(),
    };
    store.leases.create(lease.clone()).await.unwrap();
    let handle = host.create(lease).await.unwrap();
    (store, host, handle)
}

fn order(calls: Vec<Call>) -> Order {
    Order { caller: Caller::Operator, source: None, calls }
}

fn call(action: &str, key: u64, args: serde_json::Value) -> Call {
    Call { action: action.to_owned(), key: key.to_string(), args, if_version: None }
}

/// What is asked of both sources.
fn questions() -> Vec<Question> {
    let filters = ["credits >= 300 and not rich", "rich", "version > 2 or key = \"3\""];
    let query = |filter: &str| Query {
        filter: Some(filter.to_owned()),
        sort: Some("-credits".to_owned()),
        ..Query::default()
    };
    let mut questions: Vec<_> =
        filters.iter().map(|filter| Question::Query(query(filter))).collect();
    questions.push(Question::Query(Query { limit: Some(2), skip: 1, ..Query::default() }));
    questions.push(Question::Query(query("luck = 1")));
    questions.push(Question::Stats);
    questions.extend((0..8).map(|key: u64| Question::Get { key: key.to_string() }));
    questions.push(Question::Can(order(vec![call("close", 2, serde_json::Value::Null)])));
    questions
}

#[tokio::test(start_paused = true)]
async fn memory_and_store_answer_every_question_equally_whatever_was_ordered() {
    let (store, host, handle) = running().await;
    let (shelf, clerks) = (shelf(&store), Clerks::default());
    let desk = clerks.of(&handle, &store);
    // A sequence of orders that looks like chance, and is the same in every run.
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut applied = 0;
    for round in 0..12 {
        for _ in 0..next(6) {
            let calls = (0..=next(3)).map(|_| match next(4) {
                0 => call("close", next(8), serde_json::Value::Null),
                _ => call("credit", next(8), json!(next(400))),
            });
            let submission = Submission::Order(order(calls.collect()));
            let outcome = clerk::bring(&desk, submission).await.unwrap();
            applied += u32::from(matches!(outcome, Outcome::Done(_)));
        }
        if round == 6 {
            assert!(host.checkpoint_all().await > 0);
        }
        for question in questions() {
            let json = serde_json::to_vec(&question).unwrap();
            let (memory, at) = handle.read(move |world| world.answer(&json)).await.unwrap();
            let memory: Reply = serde_json::from_slice(&memory.unwrap()).unwrap();
            shelf.told(KIND, at);
            let stored = shelf.answer(KIND, &question).await.unwrap().unwrap();
            assert_eq!(stored.reply, memory, "round {round}, {question:?}");
            // What memory has told is durable, so the store has it, and nothing older is told.
            assert!(stored.tick >= at, "{} < {at}", stored.tick);
        }
        // What was built is not kept for so long.
        sleep(FRESH_FOR * 2).await;
    }
    assert!(applied > 10, "{applied} orders");
    let stats = shelf.answer(KIND, &Question::Stats).await.unwrap().unwrap();
    assert!(stats.checkpoint.is_some() && stats.written_ms == Some(1_700_000_000_000));
    assert_eq!(stats.plan.unwrap().access, Access::Scan);
}

#[tokio::test(start_paused = true)]
async fn a_collection_that_is_parked_is_read_and_one_whose_log_is_open_behind_a_fence_waits() {
    let (store, host, handle) = running().await;
    let (shelf, clerks) = (shelf(&store), Clerks::default());
    let desk = clerks.of(&handle, &store);
    let credit = Submission::Order(order(vec![call("credit", 7, json!(5))]));
    clerk::bring(&desk, credit).await.unwrap();
    host.abort();
    let row = shelf.row(KIND).await.unwrap().unwrap().lease;
    let state = MatchState::Parked { report: "an operator is to look".to_owned() };
    let parked = MatchLease { version: row.version + 1, state, ..row };
    store.leases.compare_and_set(parked).await.unwrap().unwrap();
    let get = Question::Get { key: "7".to_owned() };
    let found = shelf.answer(KIND, &get).await.unwrap().unwrap();
    assert!(matches!(&found.reply, Reply::Document(Some(row)) if row.document["credits"] == 5));
    let row = shelf.row(KIND).await.unwrap().unwrap();
    assert_eq!((state_words(&row.lease.state), row.owner.unwrap().name.as_str()), ("parked", "n1"));

    // Between fence and seal nobody can say what of the log will count.
    store.leases.fence(ME).await.unwrap();
    sleep(FRESH_FOR * 2).await;
    let waits = shelf.answer(KIND, &get).await.err().unwrap();
    assert!(waits.to_string().contains("RK-DOC-121"), "{waits}");
    let last = store.journal.tail(ME).await.unwrap().last;
    store.leases.seal(ME, last).await.unwrap();
    let again = shelf.answer(KIND, &get).await.unwrap().unwrap();
    assert_eq!(again.reply, found.reply);
}

#[tokio::test]
async fn a_collection_whose_owners_died_early_is_not_replayed_here_unless_a_trial_survives_it() {
    let (store, host, _handle) = running().await;
    let shelf = shelf(&store);
    host.abort();
    let row = shelf.row(KIND).await.unwrap().unwrap().lease;
    let suspect = MatchLease { version: row.version + 1, attempts: 2, ..row };
    store.leases.compare_and_set(suspect).await.unwrap().unwrap();
    // The executable of this test is no trial process: nothing survives in it.
    let refused = shelf.answer(KIND, &Question::Stats).await.err().unwrap();
    assert!(refused.to_string().contains("RK-DOC-131"), "{refused}");
}

#[tokio::test]
async fn a_kind_that_nobody_has_used_has_no_collection_in_the_store() {
    let store = MemoryStore::new().store();
    let none = shelf(&store).answer(KIND, &Question::Stats).await.unwrap();
    assert!(none.is_none());
}
