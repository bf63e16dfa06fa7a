use std::collections::VecDeque;
use std::time::Instant;

use aws_lc_rs::hmac;
use parking_lot::Mutex;
use rekindle_schema::lease::{DEFAULT_REGION, NodeLease, NodeState};
use rekindle_schema::posting::Posted;
use rekindle_schema::record::EffectId;
use rekindle_schema::{BatchNo, Tick};
use rekindle_store_memory::MemoryStore;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::*;

const SECRET: &str = "0123456789abcdef";
const ME: Incarnation = Incarnation(3);
const MATCH: MatchId = MatchId(7);
/// A wait that only a fault makes so long.
const LONG: Duration = Duration::from_secs(20);

/// What a receiver does with a request.
#[derive(Debug, Clone)]
enum Does {
    Answers(&'static str),
    Hangs,
    Closes,
    Redirects(String),
}

/// A request, as it came.
#[derive(Debug, Clone)]
struct Request {
    head: String,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        let of = |line: &'_ str| line.split_once(": ").is_some_and(|(found, _)| found == name);
        self.head.lines().find(|line| of(line)).unwrap().split_once(": ").unwrap().1
    }

    fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn id(&self) -> String {
        self.json()["id"].as_str().unwrap().to_owned()
    }
}

/// A receiver that does what it is told, by match and in turn; then it answers 200.
struct Receiver {
    url: String,
    requests: watch::Receiver<Vec<Request>>,
}

impl Receiver {
    async fn start(script: impl Fn(&Request) -> Option<Does> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?a=b", listener.local_addr().unwrap());
        let (sender, requests) = watch::channel(Vec::new());
        let (sender, script) = (Arc::new(sender), Arc::new(script));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (sender, script) = (Arc::clone(&sender), Arc::clone(&script));
                tokio::spawn(async move { serve(stream, &sender, &*script).await });
            }
        });
        Self { url, requests }
    }

    /// In turn, whatever is asked.
    async fn in_turn(script: Vec<Does>) -> Self {
        let script = Mutex::new(VecDeque::from(script));
        Self::start(move |_| script.lock().pop_front()).await
    }

    /// Waits for so many requests.
    async fn got(&mut self, count: usize) -> Vec<Request> {
        let found = self.requests.wait_for(|requests| requests.len() >= count);
        let found = tokio::time::timeout(LONG, found).await;
        found.expect("requests that do not come").unwrap().clone()
    }

    fn webhook(&self) -> Webhook {
        let webhook = Webhook::new("results", &self.url, SECRET).unwrap();
        Webhook { first_pause: Duration::from_millis(5), ..webhook }
    }
}

async fn serve(
    mut stream: TcpStream,
    sender: &watch::Sender<Vec<Request>>,
    script: &(dyn Fn(&Request) -> Option<Does> + Send + Sync),
) {
    let mut bytes = Vec::new();
    let request = loop {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some(end) = text.find("\r\n\r\n") else { continue };
        let head = text[..end].to_owned();
        let request = Request { head, body: bytes[end + 4..].to_vec() };
        if request.body.len() >= request.header("content-length").parse().unwrap() {
            break request;
        }
    };
    let does = script(&request);
    sender.send_modify(|requests| requests.push(request));
    let (status, more) = match does {
        Some(Does::Hangs) => return std::future::pending().await,
        Some(Does::Closes) => return,
        Some(Does::Answers(status)) => (status, String::new()),
        Some(Does::Redirects(to)) => ("307 Temporary Redirect", format!("location: {to}\r\n")),
        None => ("200 OK", String::new()),
    };
    let answer = format!("HTTP/1.1 {status}\r\n{more}content-length: 0\r\n\r\n");
    // An error means that the client has gone.
    let _ = stream.write_all(answer.as_bytes()).await;
}

fn effect(ordinal: u32, kind: &str) -> Effect {
    let id = EffectId { tick: Tick(9), ordinal };
    let payload = json!({ "winner": ordinal }).to_string();
    Effect { id, kind: kind.to_owned(), payload: payload.into() }
}

/// Waits until this many entries are left, and says what they are.
async fn left(store: &Store, count: usize) -> Vec<outbox::Found> {
    let began = Instant::now();
    loop {
        let found = outbox::all(store).await.unwrap();
        if found.len() == count {
            return found;
        }
        assert!(began.elapsed() < LONG, "{found:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn effects_are_signed_and_arrive_in_order_though_the_receiver_fails_at_first() {
    let mut receiver =
        Receiver::in_turn(vec![Does::Answers("503 Busy"), Does::Closes, Does::Hangs]).await;
    let webhook = receiver.webhook().timeout(Duration::from_millis(200));
    let memory = MemoryStore::new().store();
    let store = before(&memory, vec![webhook], ME);
    for ordinal in 0..3 {
        assert!(store.effects.deliver(MATCH, effect(ordinal, "result")).await.unwrap());
    }
    // Those that nobody asked for.
    store.effects.deliver(MATCH, effect(3, "rekindle.call")).await.unwrap();
    assert_eq!(store.effects.delivered().await.unwrap().len(), 4, "the match waits for nothing");

    let requests = receiver.got(6).await;
    left(&memory, 0).await;
    let ids: Vec<String> = requests.iter().map(Request::id).collect();
    let id = |ordinal| format!("{MATCH}/9.{ordinal}");
    assert_eq!(ids, [id(0), id(0), id(0), id(0), id(1), id(2)]);
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    for request in &requests {
        assert!(request.head.starts_with("POST /hook?a=b HTTP/1.1"), "{}", request.head);
        assert_eq!(request.header("idempotency-key"), request.id());
        let (time, sum) = request.header("rekindle-signature").split_once(",v1=").unwrap();
        let seconds = time.strip_prefix("t=").unwrap();
        let signed = [seconds.as_bytes(), b".", &request.body].concat();
        hmac::verify(&key, &signed, &crate::hex::decode(sum).unwrap()).unwrap();
        assert!(clock::now_ms() / 1_000 - seconds.parse::<u64>().unwrap() < 60);
    }
    let expected = json!({
        "id": id(2), "match": MATCH.to_string(), "tick": 9, "ordinal": 2, "kind": "result",
        "payload": { "winner": 2 }, "payload_hex": null,
    });
    assert_eq!(requests[5].json(), expected);
    assert_eq!(requests[0].body, requests[3].body, "each attempt has the same body");
}

#[tokio::test]
async fn a_receiver_that_hangs_for_one_match_holds_up_no_other_and_no_delivery() {
    let hangs = MATCH.to_string();
    let mut receiver =
        Receiver::start(move |request| (request.json()["match"] == hangs).then_some(Does::Hangs))
            .await;
    let memory = MemoryStore::new().store();
    let store = before(&memory, vec![receiver.webhook().timeout(LONG)], ME);
    store.effects.deliver(MATCH, effect(0, "result")).await.unwrap();
    receiver.got(1).await;
    store.effects.deliver(MATCH, effect(1, "result")).await.unwrap();
    for other in 100..140 {
        store.effects.deliver(MatchId(other), effect(0, "result")).await.unwrap();
    }
    let requests = receiver.got(41).await;
    let of_others = requests.iter().filter(|request| request.json()["match"] != MATCH.to_string());
    assert_eq!(of_others.count(), 40);
    let left = left(&memory, 2).await;
    assert!(left.iter().all(|found| found.place.match_id == MATCH && found.entry.attempts == 0));
}

#[tokio::test]
async fn what_is_unwanted_or_failed_too_often_is_given_up_and_the_next_goes_on() {
    let mut elsewhere = Receiver::in_turn(Vec::new()).await;
    let script = Mutex::new(VecDeque::from([
        Does::Answers("410 Gone"),
        Does::Redirects(elsewhere.url.clone()),
        Does::Answers("500 Oh"),
    ]));
    let mut receiver = Receiver::start(move |_| script.lock().pop_front()).await;
    let memory = MemoryStore::new().store();
    let webhook = receiver.webhook().attempts(2).kinds(["result", "rekindle.call"]);
    let store = before(&memory, vec![webhook], ME);
    for (ordinal, kind) in [(0, "result"), (1, "result"), (2, "rekindle.call"), (3, "loot")] {
        store.effects.deliver(MATCH, effect(ordinal, kind)).await.unwrap();
    }
    let requests = receiver.got(4).await;
    assert_eq!(requests[3].json()["kind"], "rekindle.call");
    let given_up = left(&memory, 2).await;
    let words: Vec<String> = given_up.iter().map(|found| outbox::words(&found.entry)).collect();
    assert_eq!(words[0], "given up, tried 1 times: 410 Gone");
    assert!(words[1].starts_with("given up, tried 2 times: 500"), "{words:?}");
    assert!(elsewhere.requests.borrow_and_update().is_empty(), "redirects are not followed");

    // An operator has them posted again, and now they are taken.
    let again = outbox::retry(&memory, given_up.into_iter(), clock::now_ms()).await;
    assert_eq!(again.unwrap(), 2);
    let requests = receiver.got(6).await;
    let again: Vec<String> = requests[4..].iter().map(Request::id).collect();
    assert_eq!(again, [format!("{MATCH}/9.0"), format!("{MATCH}/9.1")]);
    left(&memory, 0).await;
}

#[tokio::test]
async fn what_a_dead_node_left_is_posted_by_another_one() {
    let mut receiver = Receiver::in_turn(Vec::new()).await;
    let memory = MemoryStore::new().store();
    for (incarnation, state) in [(2, NodeState::Fenced), (3, NodeState::Live)] {
        let lease = NodeLease {
            incarnation: Incarnation(incarnation),
            name: "n".to_owned(),
            state,
            pid: 1,
            pid_start: 1,
            deadline_ms: 0,
            seal: Some(BatchNo(0)),
            host: String::new(),
            region: DEFAULT_REGION.to_owned(),
            reached: None,
            loss_accepted_ms: None,
        };
        memory.leases.register(lease).await.unwrap();
    }
    let dead = effect(0, "result");
    // Twice, as after a crash: it stays what it is.
    for now_ms in [5, 6] {
        let by = (Incarnation(2), now_ms);
        outbox::enter(&memory, "results", MATCH, &dead, by).await.unwrap();
    }
    let _store = before(&memory, vec![receiver.webhook()], ME);
    assert_eq!(receiver.got(1).await[0].id(), format!("{MATCH}/9.0"));
    left(&memory, 0).await;
}

#[test]
fn addresses_that_others_could_read_along_and_weak_secrets_are_refused() {
    for (url, words) in [
        ("http://example.com/x", "use https"),
        ("http://10.0.0.1/x", "use https"),
        ("ftp://127.0.0.1/x", "neither https nor http"),
        ("https://user:pass@example.com/", "it has a user in it"),
        ("example.com", "it is no URL"),
        ("data:x", "it names no host"),
    ] {
        let why = Webhook::new("results", url, SECRET).unwrap_err();
        assert!(why.contains(words) && !why.contains("pass"), "{url}: {why}");
    }
    for url in
        ["https://example.com/x", "http://127.0.0.1:80/x", "http://[::1]/", "http://localhost/"]
    {
        let webhook = Webhook::new("results", url, SECRET).unwrap();
        assert!(!format!("{webhook:?}").contains(SECRET));
    }
    assert!(Webhook::new("results", "https://a.b/", "short").unwrap_err().contains("16"));
    assert!(Webhook::new("Results!", "https://a.b/", SECRET).unwrap_err().contains("1 to 32"));
}

#[tokio::test]
async fn bytes_that_are_no_json_are_posted_as_digits_and_what_is_too_large_is_said() {
    let mut receiver = Receiver::in_turn(Vec::new()).await;
    let memory = MemoryStore::new().store();
    let store = before(&memory, vec![receiver.webhook()], ME);
    let large = Effect { payload: vec![b'1'; 65_000].into(), ..effect(0, "result") };
    let bytes = Effect { payload: vec![0xff, 1].into(), ..effect(1, "result") };
    for effect in [large, bytes] {
        assert!(store.effects.deliver(MATCH, effect).await.unwrap());
    }
    let posted = receiver.got(1).await[0].json();
    assert_eq!((&posted["payload"], &posted["payload_hex"]), (&Json::Null, &json!("ff01")));
    let left = left(&memory, 1).await;
    let words = outbox::words(&left[0].entry);
    assert_eq!(words, "given up, tried 0 times: its payload of 65000 bytes is too large");
    let id = effect(0, "").id;
    assert_eq!(left[0].place, Posted { webhook: "results".to_owned(), match_id: MATCH, id });
}
