//! Collections of documents, through the commands and questions that nodes have for them: against a
//! naive model, with a shadow that is restored all the time.

use std::collections::BTreeMap;

use rekindle_sim::documents::wire::{
    Access, Call, Caller, MAX_KEY, MAX_ORDER, MAX_ROWS, Order, Outcome, Query, Question, Refusal,
    Reply, Row, Source, Submission,
};
use rekindle_sim::documents::{CLERK, Submit};
use rekindle_sim::{
    Action, Calling, Collection, Component, Declaration, Denied, Document, GameType as _, Harness,
    PlayerId, Rng, SimError, Simulation as _, Tick, Typed, Who,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

#[derive(Debug, Clone, PartialEq, Component, Serialize)]
#[component(id = "purse")]
struct Purse {
    #[value(default = 1000, within = 0..=4000)]
    rating: i32,
    #[value(within = 0..=500)]
    credits: i64,
    items: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Amount {
    amount: i64,
}

const OPEN: Action<Purse, Amount> = Action::new("open");
const CREDIT: Action<Purse, Amount> = Action::new("credit");
const BUY: Action<Purse, String> = Action::new("buy");
const CLOSE: Action<Purse> = Action::new("close");
const CRASH: Action<Purse> = Action::new("crash");

impl Document for Purse {
    const KIND: &'static str = "purse";
    const MOST: u64 = 12;

    fn declare(purse: &mut Declaration<Self>) {
        let open = |Amount { amount }: Amount, _: &Calling<'_>| {
            Ok(Self { rating: 1000, credits: amount, items: Vec::new() })
        };
        purse.create(OPEN, open).by([Who::Operator]);
        purse.upsert(CREDIT, |purse, Amount { amount }, _| {
            purse.credits += amount;
            Ok(purse.credits)
        });
        purse.update(BUY, |purse, item: String, _| {
            if purse.credits < 10 {
                return Err(Denied::new("poor", "an item costs 10"));
            }
            purse.credits -= 10;
            purse.items.push(item);
            Ok(())
        });
        purse
            .destroy(CLOSE, |_, (), _| Ok(()))
            .by([Who::Owner, Who::Operator])
            .only_if("it is empty", |_, purse: Option<&Self>| {
                purse.is_none_or(|purse| purse.credits == 0)
            });
        purse.update(CRASH, |purse, (), _| -> Result<(), Denied> {
            purse.credits = 77;
            panic!("a fault of the action")
        });
        purse
            .calculation("worth", |purse| purse.credits + 10 * purse.items.len() as i64)
            .sum("credits", |purse| purse.credits as f64)
            .max("richest", |purse| purse.credits as f64)
            .min("poorest", |purse| purse.credits as f64)
            .count("shoppers", |purse| !purse.items.is_empty());
    }
}

/// A collection that a clerk serves.
struct Desk {
    harness: Harness<Collection<Purse>>,
    tickets: u64,
}

impl Desk {
    fn open() -> Self {
        let mut harness = Harness::new(7);
        harness.join(CLERK);
        harness.tick();
        Self { harness, tickets: 0 }
    }

    /// Brings these in one tick, in order.
    fn submit(&mut self, submissions: &[Submission]) -> Vec<Outcome> {
        for submission in submissions {
            self.tickets += 1;
            self.harness.command(CLERK, &Submit::new(self.tickets, submission));
        }
        let first = self.tickets - submissions.len() as u64;
        let events = self.harness.tick().events.clone();
        let answers = events.iter().map(|event| {
            assert_eq!((event.kind.as_str(), event.player), ("rekindle.answer", Some(CLERK)));
            let answered = rekindle_sim::value::from_bytes(&event.payload).unwrap();
            Submit::answers(&answered).unwrap()
        });
        let answers: Vec<_> = answers.collect();
        let tickets: Vec<_> = answers.iter().map(|(ticket, _)| *ticket).collect();
        assert_eq!(tickets, (first + 1..=self.tickets).collect::<Vec<_>>(), "one answer for each");
        answers.into_iter().map(|(_, outcome)| outcome).collect()
    }

    fn order(&mut self, order: &Order) -> Outcome {
        self.submit(&[Submission::Order(order.clone())]).remove(0)
    }

    fn call(&mut self, call: Call) -> Outcome {
        self.order(&operator(vec![call]))
    }

    fn ask(&self, question: &Question) -> Reply {
        let question = serde_json::to_vec(question).unwrap();
        let answer = self.harness.simulation().answer(&question).unwrap();
        serde_json::from_slice(&answer).unwrap()
    }

    fn query(&self, query: Query) -> Vec<Row> {
        match self.ask(&Question::Query(query)) {
            Reply::Rows { rows, .. } => rows,
            other => panic!("{other:?}"),
        }
    }

    fn keys(&self, filter: &str, sort: &str) -> Vec<String> {
        let query =
            Query { filter: Some(filter.into()), sort: Some(sort.into()), ..Query::default() };
        self.query(query).into_iter().map(|row| row.key).collect()
    }
}

fn operator(calls: Vec<Call>) -> Order {
    Order { caller: Caller::Operator, source: None, calls }
}

fn effect(match_id: u64, tick: u64, ordinal: u32, calls: Vec<Call>) -> Order {
    let source = Some(Source { match_id, tick, ordinal });
    Order { caller: Caller::Match(match_id), source, calls }
}

fn credit(key: &str, amount: i64) -> Call {
    CREDIT.on(key, &Amount { amount })
}

fn refusal(outcome: Outcome) -> Refusal {
    match outcome {
        Outcome::Refused { why, .. } => why,
        other => panic!("it was not refused: {other:?}"),
    }
}

/// The documents as somebody would keep them who has neither worlds nor effects: what is called is
/// done on a copy, and the copy stands if all of it succeeds.
#[derive(Clone, Default)]
struct Model {
    purses: BTreeMap<String, (u64, i64, Vec<String>)>,
    changes: u64,
    applied: BTreeMap<u64, (u64, u32)>,
}

impl Model {
    /// Whether the order is applied.
    fn order(&mut self, order: &Order) -> Result<(), &'static str> {
        if let Some(Source { match_id, tick, ordinal }) = order.source {
            let newest = self.applied.get(&match_id).copied();
            if newest.is_some_and(|newest| (tick, ordinal) <= newest) {
                return Err("repeated");
            }
            self.applied.insert(match_id, (tick, ordinal));
        }
        let mut copy = self.clone();
        for call in &order.calls {
            copy.call(&order.caller, call)?;
        }
        *self = copy;
        Ok(())
    }

    fn call(&mut self, caller: &Caller, call: &Call) -> Result<(), &'static str> {
        let found = self.purses.get(&call.key).cloned();
        let may = match call.action.as_str() {
            "open" => *caller == Caller::Operator,
            "close" => {
                let own =
                    matches!(caller, Caller::Player(player) if player.to_string() == call.key);
                (own || *caller == Caller::Operator)
                    && found.as_ref().is_none_or(|(_, credits, _)| *credits == 0)
            }
            _ => !matches!(caller, Caller::Player(_)),
        };
        if !may {
            return Err("forbidden");
        }
        if call
            .if_version
            .is_some_and(|wanted| wanted != found.as_ref().map_or(0, |(version, ..)| *version))
        {
            return Err("stale");
        }
        let amount = call.args["amount"].as_i64();
        let (_, mut credits, mut items) = match (call.action.as_str(), found) {
            ("open" | "credit", None) => (0, 0, Vec::new()),
            ("open", Some(_)) => return Err("exists"),
            (_, Some(found)) => found,
            (_, None) => return Err("missing"),
        };
        self.changes += 1;
        match call.action.as_str() {
            "open" => credits = amount.unwrap(),
            "credit" => credits += amount.unwrap(),
            "buy" if credits < 10 => return Err("poor"),
            "buy" => {
                credits -= 10;
                items.push(call.args.as_str().unwrap().to_owned());
            }
            "close" => {
                self.purses.remove(&call.key);
                return Ok(());
            }
            _ => return Err("panicked"),
        }
        if !(0..=500).contains(&credits) {
            return Err("invalid");
        }
        self.purses.insert(call.key.clone(), (self.changes, credits, items));
        if self.purses.len() > 12 { Err("full") } else { Ok(()) }
    }
}

/// What the model calls the outcome.
fn name(outcome: &Outcome) -> Result<(), &'static str> {
    match outcome {
        Outcome::Done(_) => Ok(()),
        Outcome::Repeated => Err("repeated"),
        Outcome::Later => Err("later"),
        Outcome::Refused { why, .. } => Err(match why {
            Refusal::Forbidden { .. } => "forbidden",
            Refusal::Stale { .. } => "stale",
            Refusal::Exists { .. } => "exists",
            Refusal::NoDocument { .. } => "missing",
            Refusal::Denied { .. } => "poor",
            Refusal::Panicked { .. } => "panicked",
            Refusal::Invalid { .. } => "invalid",
            Refusal::Full { .. } => "full",
            other => panic!("{other:?}"),
        }),
    }
}

/// An order of one to three calls on a handful of keys, good and bad, by whoever may or may not.
fn random_order(rng: &mut Rng, model: &Model, tick: u64) -> Order {
    let (caller, source) = match rng.below(8) {
        0..=2 => (Caller::Operator, None),
        3 => (Caller::Player(u64::from(rng.below(16))), None),
        _ => {
            let match_id = 100 + u64::from(rng.below(3));
            // Now and then one that came before.
            let tick = tick.saturating_sub(u64::from(rng.below(3)));
            let source = Source { match_id, tick, ordinal: rng.below(2) };
            (Caller::Match(match_id), Some(source))
        }
    };
    let calls = (0..=rng.below(3)).map(|_| {
        let key = rng.below(16).to_string();
        let version = model.purses.get(&key).map_or(0, |(version, ..)| *version);
        let if_version = match rng.below(6) {
            0 => Some(version),
            1 => Some(version + 1),
            _ => None,
        };
        let most = if tick.is_multiple_of(2) { 12 } else { 90 };
        let amount = Amount { amount: i64::from(rng.below(most)) - 6 };
        let call = match rng.below(12) {
            0..=2 => OPEN.on(&key, &amount),
            3..=6 => CREDIT.on(&key, &amount),
            7..=8 => BUY.on(&key, &format!("item {tick}")),
            9..=10 => CLOSE.on(&key, &()),
            _ => CRASH.on(&key, &()),
        };
        Call { if_version, ..call }
    });
    let calls = calls.collect();
    Order { caller, source, calls }
}

#[test]
fn a_collection_does_what_a_naive_model_does_and_a_restored_one_the_same() {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 1..=4 {
        let mut desk = Desk::open();
        let mut rng = Rng::stream(seed, Tick(0), 3);
        let mut model = Model::default();
        for tick in 1..=600 {
            let orders: Vec<Order> =
                (0..rng.below(4)).map(|_| random_order(&mut rng, &model, tick)).collect();
            let submissions: Vec<_> = orders.iter().cloned().map(Submission::Order).collect();
            for (order, outcome) in orders.iter().zip(desk.submit(&submissions)) {
                let expected = model.order(order);
                let repeats = expected == Err("repeated");
                // An effect that was refused is refused again in the same words.
                assert!(repeats || name(&outcome) == expected, "{order:?}: {outcome:?}");
                assert!(!repeats || !matches!(outcome, Outcome::Done(_)), "{order:?}: {outcome:?}");
                *seen.entry(expected.err().unwrap_or("done")).or_default() += 1;
            }
            if tick.is_multiple_of(40) {
                compare(&desk, &model);
            }
        }
        // Restores the world again and again, and compares answers and hashes.
        desk.harness.assert_replay_identical();
    }
    let all = ["done", "forbidden", "stale", "exists", "missing", "poor", "panicked"];
    for name in all.into_iter().chain(["invalid", "full", "repeated"]) {
        assert!(seen.get(name).is_some_and(|count| *count > 3), "{name}: {seen:?}");
    }
}

fn compare(desk: &Desk, model: &Model) {
    let rows = desk.query(Query { limit: Some(100), ..Query::default() });
    let found: BTreeMap<_, _> = rows
        .into_iter()
        .map(|row| {
            let credits = row.document["credits"].as_i64().unwrap();
            let items: Vec<String> = serde_json::from_value(row.document["items"].clone()).unwrap();
            (row.key, (row.version, credits, items))
        })
        .collect();
    assert_eq!(found, model.purses);
    let Reply::Stats(stats) = desk.ask(&Question::Stats) else { panic!("no stats") };
    let credits = model.purses.values().map(|(_, credits, _)| *credits);
    assert_eq!(stats["documents"], json!(model.purses.len()));
    assert_eq!(stats["credits"], json!(credits.clone().sum::<i64>()));
    assert_eq!(stats["richest"], credits.clone().max().map_or(Json::Null, |most| json!(most)));
    assert_eq!(stats["poorest"], credits.min().map_or(Json::Null, |least| json!(least)));
    // A copy answers as the collection itself, though its indexes are not made yet.
    let game = Typed::<Collection<Purse>>::new().unwrap();
    let copy = game.restore(&desk.harness.simulation().checkpoint()).unwrap();
    for key in model.purses.keys().chain([&"nobody".to_owned()]) {
        let question = serde_json::to_vec(&Question::Get { key: key.clone() }).unwrap();
        assert_eq!(copy.answer(&question), desk.harness.simulation().answer(&question));
    }
    // How it was found differs, and is said.
    let Some(key) = model.purses.keys().next().cloned() else { return };
    let plan = Question::Plan(Box::new(Question::Get { key }));
    let Reply::Plan(indexed) = desk.ask(&plan) else { panic!("no plan") };
    assert_eq!((indexed.access, indexed.scanned), (Access::KeyIndex, 1));
    let scanned = copy.answer(&serde_json::to_vec(&plan).unwrap()).unwrap();
    let Reply::Plan(scanned) = serde_json::from_slice(&scanned).unwrap() else { panic!("no plan") };
    let documents = model.purses.len() as u64;
    assert_eq!((scanned.access, scanned.scanned), (Access::Scan, documents));
}

#[test]
fn what_is_refused_says_why_and_changes_nothing() {
    let mut desk = Desk::open();
    assert!(matches!(desk.call(OPEN.on("7", &Amount { amount: 100 })), Outcome::Done(_)));
    let before = desk.query(Query::default());
    let version = before[0].version;
    let raw = |action: &str, key: &str, args: Json| {
        operator(vec![Call { action: action.into(), key: key.into(), args, if_version: None }])
    };
    let player = |player, call| Order { caller: Caller::Player(player), ..operator(vec![call]) };
    let stale = Call { if_version: Some(version + 9), ..credit("7", 1) };
    let long = "k".repeat(MAX_KEY + 1);
    let heavy = json!({ "amount": 1, "x": "x".repeat(MAX_ORDER) });
    let cases = [
        (raw("steal", "7", json!({})), "RK-DOC-101: no action `steal`; there are: buy, close"),
        (raw("buy", "8", json!("a hat")), "RK-DOC-102: there is no document `8`"),
        (raw("open", "7", json!({ "amount": 1 })), "RK-DOC-103"),
        (operator(vec![stale]), &format!("RK-DOC-104: `7` has version {version}, not")),
        (
            player(7, credit("7", 1)),
            "RK-DOC-105: player 7 may not call `credit` on `7`: only matches",
        ),
        (player(8, CLOSE.on("7", &())), "only its own player and operators may"),
        (
            player(7, CLOSE.on("7", &())),
            "RK-DOC-105: player 7 may not call `close` on `7`: only if",
        ),
        (
            raw("credit", "7", json!({ "amount": "much" })),
            "expected a whole number, found the text \"much\"",
        ),
        (raw("credit", "7", json!({ "amount": 1, "x": 2 })), "unknown field `x`"),
        (raw("credit", "7", json!({ "amount": 401 })), "`credits` is 501, outside of 0..=500"),
        (raw("credit", "9", json!({ "amount": -1 })), "RK-DOC-107"),
        (raw("credit", &long, json!({ "amount": 1 })), "RK-DOC-109: a key of 129 bytes"),
        (raw("credit", "7", heavy), "RK-DOC-109: an order of"),
        (operator(vec![]), "RK-DOC-109: 0 calls"),
        (raw("crash", "7", json!(null)), "RK-DOC-110: action `crash` panicked: a fault of the"),
        (raw("buy", "7", json!({})), "RK-DOC-106: arguments of `buy`: expected a text, found an"),
        // All or nothing: the first call would have succeeded.
        (operator(vec![credit("7", 5), credit("x", 5), credit("7", 1000)]), "RK-DOC-107"),
        (operator(vec![credit("7", -95), BUY.on("7", &"hat".into())]), "refuses (poor): an item"),
    ];
    for (order, words) in cases {
        let why = refusal(desk.order(&order)).to_string();
        assert!(why.contains(words), "{why:?} does not say {words:?}");
        assert_eq!(desk.query(Query::default()), before, "{words}");
        // Asking whether it could be done has the same answer.
        if words.contains("RK-DOC-109: an order") {
            continue;
        }
        match desk.ask(&Question::Can(order)) {
            Reply::Can(outcome) => assert_eq!(refusal(outcome).to_string(), why),
            other => panic!("{other:?}"),
        }
    }
    let garbage = Submission::Order(operator(vec![]));
    assert!(matches!(desk.submit(&[garbage])[0], Outcome::Refused { .. }));
    desk.harness.assert_replay_identical();
}

#[test]
fn a_filter_is_refused_by_types_though_there_is_no_document_yet() {
    let desk = Desk::open();
    let query = Query { filter: Some("key = 7".into()), ..Query::default() };
    assert!(matches!(desk.ask(&Question::Query(query)), Reply::Refused(_)));
    assert_eq!(desk.keys("items.0 = 7 and key = '7'", "key").len(), 0, "what may be in lists");
}

#[test]
fn a_version_is_never_given_twice_and_the_end_of_a_document_has_one() {
    let mut desk = Desk::open();
    let mut before = 0;
    for _ in 0..3 {
        for call in [credit("7", 0), CLOSE.on("7", &())] {
            let Outcome::Done(done) = desk.call(call) else { panic!("it may") };
            assert!(done[0].version > before, "{done:?} after {before}");
            before = done[0].version;
        }
        // There is none: whoever wants to make one, and not to change one, says 0.
        let stale = refusal(desk.call(Call { if_version: Some(before), ..credit("7", 0) }));
        assert!(matches!(stale, Refusal::Stale { found: 0, .. }), "{stale}");
        let new = Call { if_version: Some(0), ..credit("8", 0) };
        assert!(matches!(desk.order(&operator(vec![new, CLOSE.on("8", &())])), Outcome::Done(_)));
        before += 2;
    }
    desk.harness.assert_replay_identical();
}

#[test]
fn what_a_collection_answers_is_read_by_its_fields() {
    let game = Typed::<Collection<Purse>>::new().unwrap();
    let mut desk = Desk::open();
    desk.harness.command(CLERK, &Submit::order(7, &operator(vec![credit("7", 5)])));
    let event = desk.harness.tick().events[0].clone();
    let fields = game.payloads().event(&event.kind, &event.payload).unwrap();
    let answered: Json = serde_json::from_str(fields["json"].as_str().unwrap()).unwrap();
    assert_eq!((&fields["ticket"], &answered["done"][0]["key"]), (&json!(7), &json!("7")));
}

#[test]
fn nobody_but_the_clerk_is_listened_to() {
    let mut desk = Desk::open();
    desk.harness.join(PlayerId(7));
    desk.harness.tick();
    desk.harness.command(PlayerId(7), &Submit::order(1, &operator(vec![credit("7", 5)])));
    let output = desk.harness.tick();
    assert!(output.commands == [false] && output.events.is_empty(), "{output:?}");
    assert_eq!(desk.query(Query::default()), []);
}

#[test]
fn asking_whether_an_action_can_be_called_changes_nothing() {
    let mut desk = Desk::open();
    desk.call(credit("7", 30));
    let before = desk.harness.simulation().state_hash();
    let order = operator(vec![BUY.on("7", &"hat".into()), BUY.on("7", &"coat".into())]);
    let Reply::Can(Outcome::Done(done)) = desk.ask(&Question::Can(order)) else {
        panic!("it can be called")
    };
    assert_eq!(done.len(), 2);
    assert_eq!(desk.harness.simulation().state_hash(), before);
}

#[test]
fn an_effect_is_applied_once_however_often_and_late_it_comes() {
    let mut desk = Desk::open();
    let (first, second) =
        (effect(9, 3, 0, vec![credit("7", 5)]), effect(9, 3, 1, vec![credit("7", 7)]));
    let refused = effect(9, 4, 0, vec![credit("7", 1000)]);
    assert!(matches!(desk.order(&first), Outcome::Done(_)));
    for _ in 0..3 {
        assert_eq!(desk.order(&first), Outcome::Repeated);
    }
    let twice = [second.clone(), second.clone(), first.clone()].map(Submission::Order);
    let outcomes = desk.submit(&twice);
    assert!(matches!(outcomes[0], Outcome::Done(_)), "{outcomes:?}");
    assert_eq!(outcomes[1..], [Outcome::Repeated, Outcome::Repeated]);
    let why = desk.order(&refused);
    assert!(matches!(why, Outcome::Refused { .. }));
    assert_eq!(desk.order(&refused), why, "a refusal is told again");
    assert_eq!(desk.order(&second), Outcome::Repeated);
    // Another match has effects of its own.
    assert!(matches!(desk.order(&effect(10, 1, 0, vec![credit("7", 1)])), Outcome::Done(_)));
    assert_eq!(desk.query(Query::default())[0].document["credits"], json!(13));
    desk.harness.assert_replay_identical();
}

#[test]
fn matches_that_are_over_are_forgotten_after_a_while() {
    let mut desk = Desk::open();
    for id in 0..5 {
        desk.order(&effect(id, 1, 0, vec![credit("7", 1)]));
    }
    let sources = |desk: &Desk, idle| match desk.ask(&Question::Sources { idle }) {
        Reply::Sources(found) => found,
        other => panic!("{other:?}"),
    };
    assert_eq!(sources(&desk, 0), [0, 1, 2, 3, 4]);
    assert_eq!(sources(&desk, 3), [0, 1]);
    let forget = Submission::Forget { matches: vec![0, 3, 77], idle: 3 };
    assert_eq!(desk.submit(std::slice::from_ref(&forget)), [Outcome::Done(vec![])]);
    assert_eq!(sources(&desk, 0), [1, 2, 3, 4], "what came lately is remembered");
    desk.harness = desk.harness.run(5);
    desk.submit(&[forget]);
    assert_eq!(sources(&desk, 0), [1, 2, 4]);
    desk.harness.assert_replay_identical();
}

#[test]
fn documents_are_found_by_what_they_are() {
    let mut desk = Desk::open();
    for (key, amount) in [("ada", 50), ("bob", 120), ("cy", 120), ("dan", 0)] {
        desk.call(OPEN.on(key, &Amount { amount }));
    }
    desk.call(BUY.on("bob", &"hat".into()));
    assert_eq!(desk.keys("credits > 40", "-credits"), ["cy", "bob", "ada"]);
    assert_eq!(desk.keys("worth = 120", "key"), ["bob", "cy"], "a calculation");
    assert_eq!(desk.keys("items.0 = 'hat' or key in ('dan')", "-key"), ["dan", "bob"]);
    assert_eq!(desk.keys("not credits between 1 and 119", "rating"), ["cy", "dan"]);
    assert_eq!(desk.keys("version >= 4", "version"), ["dan", "bob"]);
    let page = |skip, limit| {
        let query = Query { skip, limit: Some(limit), ..Query::default() };
        match desk.ask(&Question::Query(query)) {
            Reply::Rows { rows, matching, more } => {
                (rows.into_iter().map(|row| row.key).collect::<Vec<_>>(), matching, more)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(page(0, 3), (vec!["ada".into(), "bob".into(), "cy".into()], 4, true));
    assert_eq!(page(3, 3), (vec!["dan".into()], 4, false));
    assert_eq!(page(9, 3), (vec![], 4, false));
    for (filter, sort, words) in [
        ("credit > 1", "key", "`credits`?; there are: rating, credits, items, worth, key"),
        ("credits > 1", "-wealth", "no field `wealth`"),
        ("credits >", "key", "expected a number"),
        ("key = 7", "key", "`key`, which is a text, with 7, which is a number; a text stands in"),
        ("not key != 7", "key", "in quotes: \"7\""),
        ("credits > 1 or rating = 'high'", "key", "`rating`, which is a number, with \"high\""),
        ("worth between '1' and 2", "key", "`worth`, which is a number, with \"1\""),
        ("credits in (1, true)", "key", "with true, which is a truth value"),
        ("items = 'hat'", "key", "`items`, which is a list, with \"hat\""),
        ("items.0 = 1", "key", "`items.0`, which is a text, with 1"),
        ("version = 'new'", "key", "`version`, which is a number"),
        ("credits < null", "key", "the filter orders `credits` by null"),
        ("rating.high = 1", "key", "`rating` has no parts, so there is no `rating.high`"),
    ] {
        let query =
            Query { filter: Some(filter.into()), sort: Some(sort.into()), ..Query::default() };
        match desk.ask(&Question::Query(query)) {
            Reply::Refused(why) => {
                let why = why.to_string();
                assert!(why.starts_with("RK-DOC-112") && why.contains(words), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
    // What a comparison with null says is so, and what is not there yet may come.
    assert_eq!(desk.keys("items.5 = null and credits != null", "key").len(), 4);
    assert_eq!(desk.keys("items.5 = 'hat' or items.5 = 1", "key").len(), 0);
    let query =
        |limit| desk.ask(&Question::Query(Query { limit: Some(limit), ..Query::default() }));
    let Reply::Refused(why) = query(MAX_ROWS + 1) else { panic!("it was cut in silence") };
    assert!(why.to_string().starts_with("RK-DOC-112: a limit of 1001: at most 1000"), "{why}");
    assert!(matches!(query(MAX_ROWS), Reply::Rows { matching: 4, more: false, .. }));
    assert!(matches!(query(0), Reply::Rows { rows, matching: 4, .. } if rows.is_empty()));
    let answer = desk.harness.simulation().answer(b"{\"mend\":1}").unwrap();
    assert!(String::from_utf8(answer).unwrap().contains("this is no question"));
}

#[test]
fn an_answer_is_never_longer_than_a_message_between_nodes() {
    let mut desk = Desk::open();
    let item = "x".repeat(12_000);
    for key in ["a", "b", "c", "d", "e", "f"] {
        desk.call(credit(key, 20));
        desk.call(BUY.on(key, &item));
    }
    let too_large = refusal(desk.call(BUY.on("a", &item)));
    assert!(matches!(too_large, Refusal::TooLarge { .. }), "{too_large}");
    match desk.ask(&Question::Query(Query::default())) {
        Reply::Rows { rows, matching, more } => {
            assert!((1..6).contains(&rows.len()) && matching == 6 && more, "{}", rows.len());
        }
        other => panic!("{other:?}"),
    }
}

#[derive(Clone, Component, Serialize)]
#[component(id = "wrong")]
struct Wrong {
    version: u32,
    size: u32,
}

impl Document for Wrong {
    const KIND: &'static str = "wrong";
    fn declare(wrong: &mut Declaration<Self>) {
        wrong.update(Action::<Self>::new("Grow"), |_, (), _| Ok(()));
        wrong.update(Action::<Self>::new("mend"), |_, (), _| Ok(()));
        wrong.update(Action::<Self>::new("mend"), |_, (), _| Ok(()));
        wrong.calculation("size", |_| 1).count("documents", |_| true).count("a", |_| true);
        wrong.sum("a", |_| 1.0);
    }
}

#[test]
fn everything_that_is_wrong_with_a_declaration_is_said_at_once() {
    let Err(SimError::Schedule { game, problem }) = Typed::<Collection<Wrong>>::new() else {
        panic!("it was taken");
    };
    assert_eq!(game, "wrong");
    for words in [
        "attribute `version` of the kind `wrong`",
        "action `Grow` of the kind `wrong`: names have",
        "action `mend` of the kind `wrong` is declared twice",
        "calculation `size` of the kind `wrong` is called as an attribute",
        "aggregate `documents`",
        "aggregate `a` of the kind `wrong` is declared twice",
    ] {
        assert!(problem.contains(words), "{problem:?} does not say {words:?}");
    }
}

#[test]
fn a_collection_says_what_can_be_done_with_it() {
    let info = Typed::<Collection<Purse>>::new().unwrap().collection().unwrap();
    assert_eq!((info.kind.as_str(), info.most), ("purse", 12));
    assert_eq!(info.attributes, ["rating", "credits", "items"]);
    let close = info.actions.iter().find(|action| action.name == "close").unwrap();
    assert_eq!(close.does, "destroy");
    assert_eq!(close.policy, "only its own player and operators may; only if it is empty");
}
