//! No value of a secret gets into any output: a canary is put where secrets are, and where they end
//! up by mistake, and looked for everywhere.

use std::io::{Read as _, Write as _};
use std::path::Path;

use crate::support::{Done, Node, command, rekindle};

/// Digits alone, so that it is a number where TOML reads one.
const CANARY: &str = "7263514908";

#[track_caller]
fn silent(what: &str, done: &Done) {
    assert!(!done.stdout.contains(CANARY) && !done.stderr.contains(CANARY), "{what}: {done:?}");
}

fn http(address: &str, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer {CANARY}\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_secret_in_a_wrong_configuration_is_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wrong.toml");
    for text in [
        format!("[admin]\ntoken = {CANARY}"),
        format!("[admin]\ntoken = {CANARY}x"),
        format!("[admin]\ntoken = \"{CANARY}"),
        format!("[admin]\ntoken = \"{CANARY}\" junk"),
        format!("[admin]\ntoken = [\"{CANARY}\"]"),
        format!("[admin]\ntokn = \"{CANARY}\""),
        format!("store = \"local:postgres://u:{CANARY}@db/game\""),
        format!("store = \"postgres://u@db/game?sslmode={CANARY}\""),
        format!("store = \"postgres://u:{CANARY}@db/game?pool=none\""),
        format!("store = \"scylla://u:{CANARY}@db:port/game\""),
        format!("store = \"scylla://u@db/game?timeout={CANARY}\""),
        format!("data_dir = \"postgres://u:{CANARY}@db/game\""),
        format!("listen = \"postgres://u:{CANARY}@db/game\""),
        format!("node.name = \"postgres://u:{CANARY}@db/game\""),
        format!("log.filter = \"postgres://u:{CANARY}@db/game=warn\""),
        format!("jobs.cron = \"backup postgres://u:{CANARY}@db/game\""),
        format!("store = \"postgres://u:a@db/x\"\nstore_password = \"{CANARY}\""),
    ] {
        std::fs::write(&file, &text).unwrap();
        for json in [&[][..], &["--json"]] {
            let done = rekindle(
                dir.path(),
                &[&["config", "check", "--config", "wrong.toml"], json].concat(),
            )
            .expect(2);
            assert!(done.stderr.contains("RK-CONFIG-"), "{text}: {done:?}");
            silent(&text, &done);
        }
    }
    let url = format!("postgres://u:{CANARY}@db/game");
    for args in [
        &["config", "check", "--set", &format!("admin.token:{CANARY}")][..],
        &["config", "check", "--set", &format!("admin.tokn={CANARY}")],
        &["config", "check", "--config", &url],
        &["match", "show", "1", &url],
        &["store", "copy", "--to", &format!("local:{url}")],
        &["store", "copy", "--from", &format!("sqlite{url}"), "--to", "local:x"],
        &["verify", &url],
        &["store", "backup", &url, "--store", "local:nowhere"],
    ] {
        let done = rekindle(dir.path(), args);
        assert_ne!(done.code, 0, "{args:?}: {done:?}");
        silent(&format!("{args:?}"), &done);
    }
    let output = command(dir.path())
        .args(["config", "check"])
        .env("REKINDLE_ADMIN_TOKN", CANARY)
        .output()
        .unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains(CANARY), "{output:?}");
}

/// Every command beside a node that has a token and logs everything.
fn all_commands(dir: &Path, id: &str) {
    for args in [
        &["config", "show", "--origin"][..],
        &["config", "show"],
        &["config", "check"],
        &["match", "ls"],
        &["match", "show", id],
        &["match", "pins"],
        &["jobs", "ls"],
        &["jobs", "run", "keep-house", "--wait", "20"],
        &["audit"],
        &["store", "status"],
        &["ticket", "issue", "--player", "5"],
        &["watch", "--seconds", "2"],
        &["bots", "--count", "1", "--seconds", "2"],
        &["journal", id, "--from", "1", "--to", "5"],
        &["store", "backup", "copied"],
        &["match", "stop", id],
    ] {
        for json in [&[][..], &["--json"]] {
            let done = rekindle(dir, &[args, json, &["--set", "log.filter=trace"]].concat());
            // The second backup, and the second stop, have nothing left to do; and a bot that logs
            // everything has little time to play.
            assert!(done.code == 0 || !json.is_empty() || args[0] == "bots", "{args:?}: {done:?}");
            silent(&format!("{args:?}"), &done);
        }
    }
}

#[test]
fn no_command_log_metric_or_file_shows_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("rekindle.toml"),
        format!("store_password = \"{CANARY}\"\n[admin]\ntoken = \"{CANARY}\"\n"),
    )
    .unwrap();
    let mut node = Node::start(dir.path(), &["--set", "log.filter=trace"]);
    let created =
        rekindle(dir.path(), &["match", "create", "--bots", "1", "--json"]).expect(0).json();
    let id = created["id"].as_str().unwrap().to_owned();
    let card = std::fs::read_to_string(dir.path().join("rekindle-data/node.json")).unwrap();
    let admin = serde_json::from_str::<serde_json::Value>(&card).unwrap()["admin"]
        .as_str()
        .unwrap()
        .to_owned();
    all_commands(dir.path(), &id);
    for path in
        ["/", "/metrics", "/readyz", "/v1/node", "/v1/matches", "/v1/jobs", "/v1/audit", "/nowhere"]
    {
        let answer = http(&admin, path);
        assert!(answer.starts_with("HTTP/1.") && !answer.contains(CANARY), "{path}: {answer}");
    }
    node.signal(rustix::process::Signal::TERM);
    node.wait_for("RK-NODE-004");
    assert_eq!(node.wait(), 0);
    let log: Vec<String> = node.seen.iter().map(ToString::to_string).collect();
    assert!(
        log.len() > 20 && !log.iter().any(|line| line.contains(CANARY)),
        "{:?}",
        log.iter().find(|line| line.contains(CANARY))
    );
    let card = std::fs::read_to_string(dir.path().join("copied/backup.json")).unwrap();
    assert!(!card.contains(CANARY), "{card}");
}
