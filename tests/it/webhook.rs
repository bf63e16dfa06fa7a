//! A webhook in real processes: a receiver that is away holds up no match, and a node that is
//! killed takes nothing that was to be posted with it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::{Node, eventually, rekindle};

const SECRET: &str = "wh-0123456789abcdef";

/// Takes requests, and answers 503 until it is told to take them.
struct Receiver {
    url: String,
    takes: Arc<AtomicBool>,
    /// Head and body of each request, and whether it was taken.
    requests: Arc<Mutex<Vec<(String, Value, bool)>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/results", listener.local_addr().unwrap());
        let receiver = Self { url, takes: Arc::default(), requests: Arc::default() };
        let (takes, requests) = (Arc::clone(&receiver.takes), Arc::clone(&receiver.requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, &takes, &requests);
            }
        });
        receiver
    }

    fn taken(&self) -> Vec<Value> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|(.., taken)| *taken).map(|(_, body, _)| body.clone()).collect()
    }
}

fn serve(mut stream: TcpStream, takes: &AtomicBool, requests: &Mutex<Vec<(String, Value, bool)>>) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    let (head, body) = loop {
        let Ok(count @ 1..) = stream.read(&mut chunk) else { return };
        bytes.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        if let Ok(body) = serde_json::from_str(body) {
            break (head.to_owned(), body);
        }
    };
    let taken = takes.load(Ordering::SeqCst);
    requests.lock().unwrap().push((head, body, taken));
    let status = if taken { "204 No Content" } else { "503 Service Unavailable" };
    // An error means that the node was killed meanwhile.
    let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
}

/// Says in a directory where effects are posted.
fn configure(dir: &Path, receiver: &Receiver) {
    let config = format!(
        "[effects.webhook]\nurl = \"{}\"\nsecret = \"{SECRET}\"\nkinds = \"result\"\n",
        receiver.url
    );
    std::fs::write(dir.join("rekindle.toml"), config).unwrap();
}

/// A match from its beginning to its end.
fn played(dir: &Path) -> String {
    let create = ["match", "create", "--game", "tictactoe", "--bots", "2", "--json"];
    let created = rekindle(dir, &create).expect(0).json();
    let id = created["id"].as_str().unwrap().to_owned();
    eventually("the end of the match", || {
        let shown = rekindle(dir, &["match", "show", &id]);
        shown.stdout.contains("draw").then_some(())
    });
    id
}

/// What is told of the result of a match.
fn result(dir: &Path, id: &str) -> Value {
    let list = rekindle(dir, &["effects", "ls", id, "--kind", "result", "--json"]);
    list.expect(0).json()[0].clone()
}

#[test]
fn a_match_ends_while_the_receiver_is_away_and_what_a_killed_node_left_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    configure(dir.path(), &receiver);
    let shown = rekindle(dir.path(), &["config", "show"]).expect(0).stdout;
    assert!(shown.contains("effects.webhook.url") && !shown.contains(SECRET), "{shown}");

    let node = Node::start(dir.path(), &[]);
    let id = played(dir.path());
    let effects = || result(dir.path(), &id);
    let waiting = eventually("an attempt that failed", || {
        let effect = effects();
        let tried = effect["webhooks"][0]["attempts"].as_u64() >= Some(1);
        tried.then(|| effect["webhooks"][0].clone())
    });
    assert_eq!((&waiting["state"], &waiting["webhook"]), (&json!("waiting"), &json!("configured")));
    assert_eq!(waiting["last"], "503 Service Unavailable");
    let text = rekindle(dir.path(), &["effects", "ls"]).expect(0).stdout;
    assert!(text.contains("webhook configured: waiting, tried"), "{text}");

    node.kill();
    receiver.takes.store(true, Ordering::SeqCst);
    let node = Node::start(dir.path(), &[]);
    let taken = eventually("a request that is taken", || receiver.taken().first().cloned());
    assert_eq!((&taken["match"], &taken["kind"]), (&json!(id), &json!("result")));
    assert_eq!(taken["payload"], json!([null, "draw"]));
    eventually("an outbox that is empty", || {
        effects()["webhooks"].as_array()?.is_empty().then_some(())
    });
    let requests = receiver.requests.lock().unwrap().clone();
    let key = format!("idempotency-key: {}", taken["id"].as_str().unwrap());
    assert!(requests.iter().all(|(head, ..)| head.contains(&key)), "one effect, one key");
    assert!(requests.iter().all(|(head, ..)| head.contains("rekindle-signature: t=")));
    assert_eq!(node.terminate(), 0);
    assert_eq!(receiver.taken().len(), 1, "it is taken once");
    let none = rekindle(dir.path(), &["effects", "retry", &id]);
    assert!(none.code != 0, "nothing of this match is left: {none:?}");
    let none = rekindle(dir.path(), &["effects", "retry"]).expect(0).stdout;
    assert!(none.contains("0 effects are posted again"), "{none}");

    let away = ["config", "check", "--set", "effects.webhook.url=http://192.0.2.1/x"];
    let refused = rekindle(dir.path(), &away);
    assert!(refused.code != 0 && refused.stderr.contains("use https"), "{refused:?}");
}

#[test]
fn what_is_still_to_be_posted_is_in_a_backup_and_is_posted_once_where_that_is_restored() {
    let (home, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let receiver = Receiver::start();
    for dir in [&home, &away] {
        configure(dir.path(), &receiver);
    }
    let node = Node::start(home.path(), &[]);
    let id = played(home.path());
    eventually("an attempt that failed", || {
        (result(home.path(), &id)["webhooks"][0]["attempts"].as_u64() >= Some(1)).then_some(())
    });
    let backup = home.path().join("monday").display().to_string();
    let made = rekindle(home.path(), &["store", "backup", &backup, "--json"]).expect(0).json();
    assert_eq!(made["backup"]["copied"]["postings"], 1, "{made}");
    node.kill();

    let restore = ["store", "restore", &backup, "--store", "local:rekindle-data"];
    let said = rekindle(away.path(), &restore).expect(0).stdout;
    assert!(said.contains("1 in the outbox of webhooks"), "{said}");
    receiver.takes.store(true, Ordering::SeqCst);
    let node = Node::start(away.path(), &[]);
    let taken = eventually("a request that is taken", || receiver.taken().first().cloned());
    assert_eq!((&taken["match"], &taken["payload"]), (&json!(id), &json!([null, "draw"])));
    eventually("an outbox that is empty", || {
        result(away.path(), &id)["webhooks"].as_array()?.is_empty().then_some(())
    });
    assert_eq!(node.terminate(), 0);
    assert_eq!(receiver.taken().len(), 1, "it is taken once");
}
