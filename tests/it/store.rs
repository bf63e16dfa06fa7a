//! Stores as their operators meet them: moved, backed up, restored, looked into, and silent about
//! passwords.

use std::path::Path;
use std::process::Stdio;

use rekindle_store_open::address::StoreAddress;
use rekindle_testservers as servers;
use serde_json::Value;

use crate::support::{Done, Node, command, eventually, rekindle};

const SECRET: &str = "s3cret-w0rd";

/// Tables of a test's own on a server. Dropped with it.
pub(crate) struct Tables(StoreAddress);

impl Tables {
    /// On the server at this address.
    pub(crate) fn new(address: &str) -> Self {
        let name = format!("it_{:08x}", rekindle::clock::random() >> 32);
        Self(address.parse::<StoreAddress>().unwrap().apart(&name))
    }

    /// On the Postgres server for tests, if there is one.
    pub(crate) fn postgres() -> Option<Self> {
        servers::postgres().map(|server| Self::new(&server.url))
    }

    /// On the CQL servers for tests, if there are some.
    pub(crate) fn cql() -> Option<Self> {
        let cql = servers::cql()?;
        let local = cql.nodes[0].datacenter.clone();
        let hosts: Vec<_> = cql
            .nodes
            .iter()
            .filter(|node| node.datacenter == local)
            .map(|node| node.address.as_str())
            .collect();
        let datacentre = local.map_or_else(String::new, |name| format!("&dc={name}"));
        Some(Self::new(&format!("scylla://{}/rekindle?replication=1{datacentre}", hosts.join(","))))
    }

    pub(crate) fn url(&self) -> String {
        self.0.reveal()
    }

    /// Makes the tables; a proxy to their server, and the way to them through it.
    pub(crate) fn proxied(&self, dir: &Path) -> (servers::Proxy, String) {
        let url = self.url();
        rekindle(dir, &["store", "migrate", "--store", &url]).expect(0);
        let (scheme, rest) = url.split_once("//").unwrap();
        let (authority, tables) = rest.split_once('/').unwrap();
        let (user, server) = authority.split_at(authority.find('@').map_or(0, |at| at + 1));
        let proxy = servers::Proxy::to(server.split(',').next().unwrap());
        let address = proxy.address();
        (proxy, format!("{scheme}//{user}{address}/{tables}&timeout=1s"))
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        let address = self.0.clone();
        let discard = move || {
            tokio::runtime::Runtime::new().map(|runtime| runtime.block_on(address.discard()))
        };
        if !matches!(std::thread::spawn(discard).join(), Ok(Ok(Ok(())))) {
            eprintln!("{} is left over", self.0);
        }
    }
}

/// Creates matches with house bots and returns their ids, ascending.
fn create(dir: &Path, count: usize) -> Vec<String> {
    let mut ids: Vec<String> = (0..count)
        .map(|_| {
            let created = rekindle(
                dir,
                &[
                    "match",
                    "create",
                    "--bots",
                    "3",
                    "--game-config",
                    r#"{"rematch":true}"#,
                    "--json",
                ],
            )
            .expect(0);
            created.json()["id"].as_str().unwrap().to_owned()
        })
        .collect();
    ids.sort();
    ids
}

fn tick(dir: &Path, id: &str) -> u64 {
    rekindle(dir, &["match", "show", id, "--json"]).expect(0).json()["tick"].as_u64().unwrap()
}

fn wait_for_tick(dir: &Path, id: &str, wanted: u64) {
    eventually("the tick", || (tick(dir, id) >= wanted).then_some(()));
}

/// Where each match of a store stands: (id, last tick, hash there), simulated again from what the
/// store holds.
fn standing(dir: &Path, store: &str) -> Vec<(String, u64, String)> {
    let found = rekindle(dir, &["store", "verify", "--json", "--store", store]).expect(0).json();
    let row = |found: &Value| {
        let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        (text("id"), found["to_tick"].as_u64().unwrap(), text("hash"))
    };
    found["matches"].as_array().unwrap().iter().map(row).collect()
}

fn copy(dir: &Path, from: &str, to: &str) -> Done {
    rekindle(dir, &["store", "copy", "--from", from, "--to", to, "--json"])
}

/// A directory that a killed node left: some matches that ran for a while.
fn remains(dir: &Path, matches: usize, ticks: u64) -> Vec<String> {
    let node = Node::start(dir, &[]);
    let ids = create(dir, matches);
    for id in &ids {
        wait_for_tick(dir, id, ticks);
    }
    node.kill();
    ids
}

/// Starts a node on a store and waits until it has resumed these matches where they stood.
fn resume(dir: &Path, store: &str, expected: &[(String, u64, String)]) -> Node {
    let mut node = Node::spawn(dir, &["--store", store, "--data-dir", "another-node"]);
    node.wait_for("RK-NODE-001");
    for (id, tick, _) in expected {
        let resumed = node
            .seen
            .iter()
            .find(|event| event["code"] == "RK-NODE-010" && event["match_id"] == id.as_str());
        let resumed =
            resumed.unwrap_or_else(|| panic!("match {id} was not resumed: {:#?}", node.seen));
        assert_eq!(
            (resumed["tick"].as_u64(), &resumed["hash_ok"]),
            (Some(*tick), &Value::Bool(true)),
            "{resumed}"
        );
    }
    node
}

#[test]
fn a_copy_stands_where_its_original_stands_and_goes_on_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let ids = create(dir.path(), 3);
    wait_for_tick(dir.path(), &ids[2], 40);
    let refused = copy(dir.path(), "local", "local:copy").expect(7);
    assert!(
        refused.stderr.contains(&format!("pid {}", node.pid()))
            && refused.stderr.contains("backup"),
        "{}",
        refused.stderr
    );
    node.kill();

    let before = standing(dir.path(), "local");
    assert_eq!(before.len(), 3);
    let done = copy(dir.path(), "local", "local:copy").expect(0).json();
    assert_eq!(
        (done["copied"]["matches"].as_u64(), done["copied"]["present"].as_u64()),
        (Some(3), Some(0)),
        "{done}"
    );
    assert_eq!(standing(dir.path(), "local:copy"), before);
    for (id, tick, hash) in &before {
        let replayed = rekindle(dir.path(), &["replay", id, "--json", "--store", "local:copy"])
            .expect(0)
            .json();
        assert_eq!(
            (replayed["tick"].as_u64(), replayed["hash"].as_str()),
            (Some(*tick), Some(hash.as_str()))
        );
    }
    let again = copy(dir.path(), "local", "local:copy").expect(0).json();
    assert_eq!(
        (again["copied"]["present"].as_u64(), again["copied"]["batches"].as_u64()),
        (Some(3), Some(0)),
        "{again}"
    );
    let status = rekindle(dir.path(), &["store", "status", "--json", "--store", "local:copy"])
        .expect(0)
        .json();
    assert_eq!(
        (status["matches_running"].as_u64(), status["nodes_fenced"].as_u64()),
        (Some(3), Some(1)),
        "{status}"
    );

    let node = resume(dir.path(), "local:copy", &before);
    let refused = copy(dir.path(), "local", "local:copy").expect(7);
    assert!(refused.stderr.contains("cannot be copied into"), "{}", refused.stderr);
    assert_eq!(node.terminate(), 0);
    let refused = copy(dir.path(), "local", "local:copy").expect(1);
    assert!(
        refused.stderr.contains("RK-STORE-050") && refused.stderr.contains("gone on there"),
        "{}",
        refused.stderr
    );
    // One match alone, into a store of its own.
    rekindle(dir.path(), &["store", "copy", "--to", "local:one", "--match", &ids[1]]).expect(0);
    assert_eq!(standing(dir.path(), "local:one"), before[1..2]);
    rekindle(dir.path(), &["store", "copy", "--to", "local:one", "--match", "77"]).expect(4);
}

#[test]
fn a_copy_that_is_killed_goes_on_when_it_is_run_again() {
    let dir = tempfile::tempdir().unwrap();
    remains(dir.path(), 2, 300);
    let before = standing(dir.path(), "local");
    let mut killed = command(dir.path());
    killed
        .args(["store", "copy", "--to", "local:copy"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut killed = killed.spawn().unwrap();
    eventually("some of the log", || {
        let log = std::fs::read_dir(dir.path().join("copy/logs")).ok()?.next()?.ok()?;
        let segment = std::fs::read_dir(log.path()).ok()?.next()?.ok()?;
        (segment.metadata().ok()?.len() > 5_000).then_some(())
    });
    killed.kill().unwrap();
    killed.wait().unwrap();
    let half = rekindle(dir.path(), &["store", "status", "--json", "--store", "local:copy"])
        .expect(0)
        .json();
    assert_eq!(
        (half["matches_running"].as_u64(), half["logs"].as_u64()),
        (Some(0), Some(1)),
        "half a copy shows no match: {half}"
    );

    let done = copy(dir.path(), "local", "local:copy").expect(0).json();
    let figure = |name: &str| done["copied"][name].as_u64().unwrap();
    assert!(
        figure("batches_present") > 0 && figure("batches") > 0,
        "it did not go on, but began anew: {done}"
    );
    assert_eq!(standing(dir.path(), "local:copy"), before);
    resume(dir.path(), "local:copy", &before).kill();
}

#[test]
fn a_backup_is_taken_while_players_play_and_restored_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &["--set", "checkpoint.every_s=1"]);
    let ids = create(dir.path(), 2);
    let mut bots = command(dir.path());
    bots.args(["bots", "--count", "4", "--seconds", "60", "--match", &ids[0]])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut bots = bots.spawn().unwrap();
    eventually("the bots", || {
        let view = rekindle(dir.path(), &["match", "show", &ids[0], "--json"]).expect(0).json();
        (view["players"] == 7).then_some(())
    });
    wait_for_tick(dir.path(), &ids[0], 60);

    let at_least = tick(dir.path(), &ids[0]);
    let made = rekindle(dir.path(), &["store", "backup", "safe/monday", "--json"]).expect(0).json();
    let at_most = tick(dir.path(), &ids[0]);
    assert_eq!(made["backup"]["copied"]["matches"].as_u64(), Some(2), "{made}");
    let refused = rekindle(dir.path(), &["store", "backup", "safe/monday"]).expect(2);
    assert!(refused.stderr.contains("RK-BACKUP-001"), "{}", refused.stderr);
    rekindle(dir.path(), &["store", "backup", "safe/tuesday"]).expect(0);
    assert!(!dir.path().join("safe/tuesday.partial").exists());
    // The node has not noticed.
    wait_for_tick(dir.path(), &ids[0], at_most + 10);
    let view = rekindle(dir.path(), &["match", "show", &ids[0], "--json"]).expect(0).json();
    assert_eq!((view["epoch"].as_u64(), view["players"].as_u64()), (Some(1), Some(7)), "{view}");
    bots.kill().unwrap();
    bots.wait().unwrap();
    node.kill();

    let (monday, tuesday) =
        (standing(dir.path(), "local:safe/monday"), standing(dir.path(), "local:safe/tuesday"));
    assert!(
        (at_least..=at_most).contains(&monday[usize::from(monday[0].0 != ids[0])].1),
        "{monday:?}: {at_least}..={at_most}"
    );
    assert!(
        monday.iter().zip(&tuesday).all(|(earlier, later)| earlier.1 < later.1),
        "{monday:?} {tuesday:?}"
    );
    // What the backup says of its last tick is what the match was.
    for (id, tick, hash) in monday.iter().chain(&tuesday) {
        let replayed = rekindle(dir.path(), &["replay", id, "--to", &tick.to_string(), "--json"])
            .expect(0)
            .json();
        assert_eq!(replayed["hash"].as_str(), Some(hash.as_str()), "match {id} at tick {tick}");
    }
    rekindle(dir.path(), &["store", "restore", "safe/monday", "--store", "local:restored"])
        .expect(0);
    let refused =
        rekindle(dir.path(), &["store", "restore", "safe/tuesday", "--store", "local:restored"])
            .expect(1);
    assert!(refused.stderr.contains("matches rest on it"), "{}", refused.stderr);
    assert_eq!(standing(dir.path(), "local:restored"), monday);
    resume(dir.path(), "local:restored", &monday).kill();
}

/// Copies `matches` matches around: local, Postgres, CQL, local. A node goes on from the first and
/// from the last.
fn around(matches: usize, ticks: u64) {
    let (Some(postgres), Some(cql)) = (Tables::postgres(), Tables::cql()) else {
        return servers::skipped(
            "matches copied local, Postgres, CQL, local",
            "a Postgres and a CQL server are needed",
        );
    };
    let dir = tempfile::tempdir().unwrap();
    remains(dir.path(), matches, ticks);
    let before = standing(dir.path(), "local");
    assert_eq!(before.len(), matches);
    let ring = ["local".to_owned(), postgres.url(), cql.url(), "local:around".to_owned()];
    let refused = copy(dir.path(), "local", &ring[1]).expect(1);
    assert!(refused.stderr.contains("`rekindle store migrate`"), "{}", refused.stderr);
    let refused = rekindle(
        dir.path(),
        &["start", "--store", &ring[2], "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
    )
    .expect(1);
    assert!(refused.stderr.contains("`rekindle store migrate`"), "{}", refused.stderr);
    for url in &ring[1..3] {
        assert_eq!(
            rekindle(dir.path(), &["store", "status", "--json", "--store", url]).expect(1).json()["tables"],
            "missing"
        );
        rekindle(dir.path(), &["store", "migrate", "--store", url]).expect(0);
        assert_eq!(
            rekindle(dir.path(), &["store", "status", "--json", "--store", url]).expect(0).json()["tables"],
            "current"
        );
    }
    for pair in ring.windows(2) {
        let done = copy(dir.path(), &pair[0], &pair[1]).expect(0).json();
        assert_eq!(done["copied"]["matches"].as_u64(), Some(matches as u64), "{done}");
        assert_eq!(standing(dir.path(), &pair[1]), before, "{} to {}", pair[0], pair[1]);
    }
    resume(dir.path(), &ring[3], &before).kill();
    resume(dir.path(), &ring[1], &before).kill();
    let checked = rekindle(dir.path(), &["doctor", "--json", "--store", &ring[1]]).json();
    for name in ["tables", "round_trip", "commit"] {
        assert!(
            checked["findings"].as_array().unwrap().iter().any(|finding| finding["check"] == name),
            "{checked}"
        );
    }
}

#[test]
fn matches_go_around_all_stores_and_stay_the_same() {
    around(2, 40);
}

#[test]
#[ignore = "takes minutes: cargo test --test it a_hundred_matches -- --ignored"]
fn a_hundred_matches_go_around_all_stores() {
    around(100, 100);
}

/// The demo on a server: every promise holds, and nothing of it is left there.
fn demo_on(tables: Option<Tables>, what: &str) {
    let Some(tables) = tables else {
        return servers::skipped(&format!("the demo on {what}"), "no such server");
    };
    let dir = tempfile::tempdir().unwrap();
    let done = rekindle(
        dir.path(),
        &["demo", "--kills", "2", "--players", "8", "--json", "--store", &tables.url()],
    )
    .expect(0)
    .json();
    assert_eq!(
        (done["kills"].as_u64(), done["sessions_resumed"].as_u64(), &done["store"]),
        (Some(2), Some(8), &Value::Null),
        "{done}"
    );
    for broken in [
        "durable_inputs_lost",
        "duplicate_inputs",
        "hash_mismatches",
        "joins_after_kill",
        "ticks_rolled_back_max",
    ] {
        assert_eq!(done[broken].as_u64(), Some(0), "{broken}: {done}");
    }
}

#[test]
fn the_demo_holds_on_postgres() {
    demo_on(Tables::postgres(), "Postgres");
}

#[test]
fn the_demo_holds_on_cql() {
    demo_on(Tables::cql(), "CQL");
}

#[test]
fn an_unfinished_backup_is_not_restored() {
    let dir = tempfile::tempdir().unwrap();
    remains(dir.path(), 1, 5);
    rekindle(dir.path(), &["store", "backup", "whole"]).expect(0);
    std::fs::write(dir.path().join("whole/unfinished"), "").unwrap();
    let refused =
        rekindle(dir.path(), &["store", "restore", "whole", "--store", "local:target"]).expect(5);
    assert!(refused.stderr.contains("RK-BACKUP-002"), "{}", refused.stderr);
    rekindle(dir.path(), &["store", "restore", "nothing", "--store", "local:target"]).expect(4);
    rekindle(dir.path(), &["store", "copy", "--to", "memory"]).expect(2);
    rekindle(dir.path(), &["store", "copy", "--to", "local"]).expect(2);
    assert!(!dir.path().join("target").exists());
}

#[test]
fn passwords_are_shown_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("password"), format!("{SECRET}\n")).unwrap();
    let in_url = format!("postgres://game:{SECRET}@127.0.0.1:1/rekindle");
    let plain = "postgres://game@127.0.0.1:1/rekindle";
    let cql = format!("scylla://game:{SECRET}@127.0.0.1:1/rekindle?timeout=300ms");
    let wrong = format!("mysql://game:{SECRET}@127.0.0.1:1/rekindle");
    let file = ["--set", "store_password_file=password"];
    let word = format!("store_password={SECRET}");
    let ways: Vec<(Vec<&str>, i32)> = vec![
        (vec!["config", "show", "--origin", "--store", &in_url], 0),
        (vec!["config", "show", "--json", "--store", &in_url], 0),
        (vec!["config", "show", "--store", plain, "--set", &word], 0),
        (vec!["config", "show", "--store", plain, file[0], file[1]], 0),
        (vec!["config", "check", "--store", &wrong], 2),
        (vec!["config", "check", "--store", &in_url, "--set", &word], 2),
        (vec!["start", "--store", &in_url, "--log", "json", "--set", "log.filter=trace"], 1),
        (vec!["start", "--store", plain, file[0], file[1], "--set", "log.filter=trace"], 1),
        (vec!["start", "--store", &cql, "--set", "log.filter=trace"], 1),
        (vec!["store", "status", "--store", &in_url, "--set", "log.filter=trace"], 1),
        (vec!["store", "migrate", "--store", &cql], 1),
        (vec!["store", "copy", "--from", &in_url, "--to", "local:x"], 1),
        (vec!["store", "copy", "--from", &wrong, "--to", "local:x"], 2),
        (
            vec![
                "store",
                "copy",
                "--from",
                plain,
                "--from-password-file",
                "password",
                "--to",
                "local:x",
                "--json",
            ],
            1,
        ),
        (vec!["doctor", "--store", &in_url], 5),
        (vec!["demo", "--store", &in_url], 1),
    ];
    for (mut args, code) in ways {
        args.extend([
            "--set",
            "store_wait_s=0",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ]);
        let done = rekindle(dir.path(), &args).expect(code);
        assert!(
            !done.stdout.contains(SECRET) && !done.stderr.contains(SECRET),
            "{args:?}: {done:?}"
        );
        // Wherever an address is shown, it is seen that something is hidden.
        if args.contains(&"--origin") {
            assert!(done.stdout.contains("postgres://game:***@127.0.0.1:1/rekindle"), "{done:?}");
        }
    }
    let output = command(dir.path())
        .args(["config", "show", "--store", plain])
        .env("REKINDLE_STORE_PASSWORD", SECRET)
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && !shown.contains(SECRET) && shown.contains("(set)"),
        "{shown}"
    );
    let done = rekindle(
        dir.path(),
        &["config", "check", "--store", plain, "--set", "store_password_file=missing"],
    )
    .expect(2);
    assert!(
        done.stderr.contains("RK-CONFIG-001") && done.stderr.contains("missing"),
        "{}",
        done.stderr
    );
}

#[test]
fn the_doctor_says_what_it_found() {
    let dir = tempfile::tempdir().unwrap();
    let done = rekindle(dir.path(), &["doctor", "--json"]);
    assert!([0, 5].contains(&done.code), "{done:?}");
    let found = done.json();
    let findings = found["findings"].as_array().unwrap();
    let check = |name: &str| {
        findings
            .iter()
            .find(|finding| finding["check"] == name)
            .unwrap_or_else(|| panic!("no {name}: {found}"))
    };
    for name in [
        "cores",
        "memory",
        "udp_buffers",
        "descriptors",
        "clock_steps",
        "clock_date",
        "file_system",
        "disk_space",
    ] {
        check(name);
    }
    for name in ["disk_sync", "commit"] {
        assert!(check(name)["found"].as_str().unwrap().contains("p99"), "{found}");
    }
    for finding in findings {
        assert_eq!(
            finding["level"] != "ok",
            finding["fix"].is_string(),
            "what is not well has a fix, and nothing else: {finding}"
        );
    }
    assert_eq!(done.code == 5, found["worst"] == "fail");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "it leaves nothing behind");
    let done = rekindle(dir.path(), &["doctor", "--store", "memory"]);
    assert!(
        done.stdout.contains("gone with the process") && done.stdout.contains("->"),
        "{}",
        done.stdout
    );
}
