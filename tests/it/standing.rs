//! Matches that do not run: none of them for no reason, and each says why where one looks. A start
//! that cannot succeed claims nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rekindle::node::recover::{Asked, Outcome, Recoverer, RecovererParts};
use rekindle::node::standing::Standings;
use rekindle::node::trial::TrialOptions;
use rekindle_actors::{Games, Host, HostConfig, HostParts};
use rekindle_schema::lease::{
    DEFAULT_REGION, Lineage, MatchLease, MatchSpec, MatchState, NodeLease, NodeState,
};
use rekindle_schema::{BatchNo, BuildId, Epoch, Incarnation, MatchId, Seq};
use rekindle_store_memory::MemoryStore;
use rekindle_testservers as servers;
use serde_json::Value;

use crate::store::Tables;
use crate::support::{Done, Node, REKINDLE, command, eventually, http_get, rekindle};

fn create(dir: &Path) -> String {
    create_with(dir, &[])
}

fn create_with(dir: &Path, more: &[&str]) -> String {
    let args = ["match", "create", "--bots", "2", "--game-config", r#"{"endless":true}"#, "--json"];
    let created = rekindle(dir, &[&args[..], more].concat()).expect(0).json();
    created["id"].as_str().unwrap().to_owned()
}

fn show(dir: &Path, id: &str) -> Value {
    rekindle(dir, &["match", "show", id, "--json"]).expect(0).json()
}

fn reaches(dir: &Path, id: &str, tick: u64) {
    eventually("the tick", || show(dir, id)["tick"].as_u64().filter(|&at| at >= tick));
}

/// What the admin listener of the node in `dir` answers.
fn ask(dir: &Path, path: &str) -> String {
    let card: Value =
        serde_json::from_slice(&std::fs::read(dir.join("rekindle-data/node.json")).unwrap())
            .unwrap();
    http_get(card["admin"].as_str().unwrap(), path)
}

#[test]
fn short_lives_park_no_match_however_early_they_end() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let ids: Vec<String> = (0..4).map(|_| create(dir.path())).collect();
    reaches(dir.path(), &ids[3], 40);
    node.kill();
    // Killed as the first match is claimed, as one is replayed, as one goes on, as players are let
    // in. A single early end would have counted before.
    let one = ["--set", "recovery.attempts=1"];
    for code in [
        "RK-NODE-019",
        "RK-NODE-009",
        "RK-NODE-010",
        "RK-NODE-009",
        "RK-NODE-010",
        "RK-NODE-001",
        "RK-NODE-019",
        "RK-NODE-010",
    ] {
        let mut node = Node::spawn(dir.path(), &one);
        node.wait_for(code);
        node.kill();
    }
    let mut node = Node::start(dir.path(), &one);
    for id in &ids {
        assert_eq!(show(dir.path(), id)["state"], "running", "{id}");
    }
    assert!(!node.seen.iter().any(|event| event["code"] == "RK-NODE-011"), "{:#?}", node.seen);
    node.stays_silent_about("RK-NODE-134", Duration::from_millis(100));
}

#[test]
fn a_start_that_cannot_succeed_touches_no_match() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let id = create(dir.path());
    reaches(dir.path(), &id, 10);
    node.kill();
    let file = dir.path().join("file");
    std::fs::write(&file, "no directory").unwrap();
    let in_a_file = format!("backup.dir={}/backups", file.display());
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let free = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let wrong: [(&[&str], i32, &str); 4] = [
        (&["--set", "jobs.cron=kep-house every 1s"], 2, "RK-CONFIG-140"),
        (&["--set", "jobs.cron=backup every 1h"], 2, "RK-CONFIG-140"),
        (&["--set", "jobs.cron=backup every 1h", "--set", &in_a_file], 2, "RK-CONFIG-140"),
        (&["--listen", &taken], 1, "RK-GATE"),
    ];
    for (args, exit, code) in wrong {
        let mut all = vec!["start"];
        all.extend(args);
        all.extend(if args[0] == "--listen" { &free[2..] } else { &free });
        let done = rekindle(dir.path(), &all).expect(exit);
        assert!(done.stderr.contains(code), "{}", done.stderr);
    }
    let _node = Node::start(dir.path(), &[]);
    let view = show(dir.path(), &id);
    assert_eq!(
        (view["state"].as_str(), view["epoch"].as_u64(), view["attempts"].as_u64()),
        (Some("running"), Some(2), Some(1)),
        "{view}"
    );
}

#[test]
fn a_rebuild_that_computes_the_same_goes_on_by_itself_and_says_so_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let id = create(dir.path());
    reaches(dir.path(), &id, 31);
    node.kill();
    // The same code with another fingerprint: bytes behind the end of an executable change nothing
    // but its hash.
    let other = dir.path().join("other-build");
    std::fs::copy(REKINDLE, &other).unwrap();
    std::io::Write::write_all(
        &mut std::fs::File::options().append(true).open(&other).unwrap(),
        b"another build",
    )
    .unwrap();
    let mut command = std::process::Command::new(&other);
    command.current_dir(dir.path()).args([
        "start",
        "--dev",
        "--log",
        "json",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ]);
    let mut node = Node::from_command(command);
    let changed = node.wait_for("RK-HOST-015");
    assert!(
        changed["message"].as_str().is_some_and(|words| {
            words.contains("build changed") && words.ends_with("ticks replayed, equal")
        }),
        "{changed}"
    );
    assert_eq!(node.wait_for("RK-NODE-010")["hash_ok"], true);
    node.wait_for("RK-NODE-001");
    let view = show(dir.path(), &id);
    assert_eq!((view["state"].as_str(), view["epoch"].as_u64()), (Some("running"), Some(2)));
    assert_eq!(view["build_change"], changed["message"], "{view}");
    let shown = rekindle(dir.path(), &["match", "show", &id]).expect(0).stdout;
    assert!(shown.contains("build      build changed"), "{shown}");
    let metrics = ask(dir.path(), "/metrics");
    assert!(metrics.contains("rekindle_build_changes_total{grounds=\"equal\"} 1"), "{metrics}");
}

#[test]
fn matches_of_other_nodes_and_matches_that_ended_are_shown_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let store = format!("store=local:{}", dir.path().join("store").display());
    let place = |name: &str| dir.path().join(name);
    let start = |name: &str| {
        std::fs::create_dir(place(name)).unwrap();
        Node::start(&place(name), &["--set", &store, "--set", &format!("node.name={name}")])
    };
    let (_a, _b) = (start("a"), start("b"));
    let there = || create_with(&place("a"), &["--on", "a"]);
    let (runs, over) = (there(), there());
    reaches(&place("a"), &over, 20);
    rekindle(&place("a"), &["match", "stop", &over]).expect(0);
    let view = show(&place("b"), &runs);
    assert_eq!(
        (view["state"].as_str(), view["node"].as_str(), &view["tick"]),
        (Some("elsewhere"), Some("a"), &Value::Null),
        "{view}"
    );
    assert!(view["reason"].as_str().unwrap().contains("node a"), "{view}");
    for name in ["a", "b"] {
        let view = show(&place(name), &over);
        assert!(
            view["state"] == "ended" && view["tick"].as_u64().unwrap() >= 20,
            "where it ended: {view}"
        );
    }
    let listed = rekindle(&place("b"), &["match", "ls"]).expect(0).stdout;
    assert!(
        listed
            .lines()
            .any(|line| line.contains(&runs) && line.contains("elsewhere") && line.contains(" - ")),
        "{listed}"
    );
    let refused = rekindle(&place("b"), &["match", "resume", &runs]).expect(1);
    assert!(refused.stderr.contains("RK-ADMIN-409"), "{}", refused.stderr);
}

#[test]
fn a_start_waits_for_its_store_and_says_so() {
    let Some(tables) = Tables::postgres() else {
        return servers::skipped("a start before its database", "no Postgres");
    };
    let dir = tempfile::tempdir().unwrap();
    let (proxy, store) = tables.proxied(dir.path());
    proxy.set_up(false);
    let spawn = |more: &[&str]| {
        let mut args = vec!["--store", store.as_str()];
        args.extend(more);
        Node::spawn(dir.path(), &args)
    };
    // A stop during the wait is a clean one.
    let mut node = spawn(&[]);
    let admin = node.wait_for("RK-NODE-139")["admin"].as_str().unwrap().to_owned();
    assert!(http_get(&admin, "/livez").starts_with("HTTP/1.0 200"));
    for path in ["/startupz", "/readyz"] {
        let answer = http_get(&admin, path);
        assert!(
            answer.starts_with("HTTP/1.0 503") && answer.contains("waiting for the store"),
            "{path}: {answer}"
        );
    }
    let answer = http_get(&admin, "/v1/matches");
    assert!(answer.starts_with("HTTP/1.0 503") && answer.contains("RK-ADMIN-130"), "{answer}");
    assert_eq!(node.terminate(), 0);

    // The wait has an end, with words that say what to do.
    let mut node = spawn(&["--set", "store_wait_s=0"]);
    assert_eq!(node.wait(), 1);

    let mut node = spawn(&[]);
    let admin = node.wait_for("RK-NODE-139")["admin"].as_str().unwrap().to_owned();
    proxy.set_up(true);
    node.wait_for("RK-NODE-001");
    assert!(http_get(&admin, "/startupz").starts_with("HTTP/1.0 200"));
    let id = create(dir.path());
    reaches(dir.path(), &id, 5);

    // The store hangs: what the node knows is answered soon, and the matches that stand still are
    // named.
    proxy.swallow_answers(true);
    let ready = eventually("a match that stands still", || {
        Some(http_get(&admin, "/readyz"))
            .filter(|answer| answer.contains(&format!("match {id} stalled")))
    });
    assert!(ready.starts_with("HTTP/1.0 200"), "{ready}");
    let asked = Instant::now();
    let Done { code, stdout, .. } = rekindle(dir.path(), &["match", "ls"]);
    assert!(code == 0 && stdout.contains(&id) && stdout.contains("stalled"), "{stdout}");
    assert!(asked.elapsed() < Duration::from_millis(2_500), "it took {:?}", asked.elapsed());
    node.kill();
    proxy.swallow_answers(false);
}

#[test]
fn the_trial_process_wants_nothing_of_its_surroundings() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rekindle.toml"), "no such configuration").unwrap();
    let output = command(dir.path()).arg("try-replay").output().unwrap();
    assert!(output.status.success() && output.stdout == b"rekindle-trial ready\n", "{output:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "it wrote nothing");
    assert!(!rekindle(dir.path(), &["--help"]).stdout.contains("try-replay"));
}

/// What earlier releases parked by mistake: the report of each, and whether it comes back by
/// itself.
#[tokio::test]
async fn what_was_parked_for_a_reason_that_no_longer_holds_comes_back_by_itself() {
    let reports = [
        (
            "RK-RECOVERY-004: match 1: RK-SIM-002: checkpoint of game `arena`: component `x`: this \
             build has no such component",
            true,
        ),
        (
            "RK-RECOVERY-004: match 2: RK-SIM-001: configuration of game `arena`: unknown key `y`",
            true,
        ),
        ("5 recoveries in a row ended before the match had run healthily for long enough", true),
        (
            "RK-RECOVERY-001: match 4 at tick 9: replay gives state hash a, the journal says b",
            false,
        ),
        ("system `s` panicked at tick 9 without any player's input (player: none): m", false),
    ];
    let store = MemoryStore::new().store();
    let (dead, me) = (Incarnation(1), Incarnation(2));
    for (incarnation, state) in [(dead, NodeState::Stopped), (me, NodeState::Live)] {
        let lease = NodeLease {
            incarnation,
            name: "test".into(),
            state: NodeState::Live,
            pid: 0,
            pid_start: 0,
            deadline_ms: 0,
            seal: None,
            host: "elsewhere".into(),
            region: DEFAULT_REGION.into(),
            reached: None,
            loss_accepted_ms: None,
        };
        store.leases.register(lease).await.unwrap();
        if state == NodeState::Stopped {
            store.leases.stop(incarnation).await.unwrap();
        }
    }
    let game = rekindle_sim::Typed::<rekindle_arena::Arena>::new().unwrap();
    for (number, (report, _)) in (1..).zip(&reports) {
        let config = rekindle_sim::GameType::config_from_json(&game, "{}").unwrap();
        let row = MatchLease {
            match_id: MatchId(number),
            version: 1,
            epoch: Epoch(1),
            incarnation: dead,
            state: MatchState::Parked { report: (*report).to_owned() },
            attempts: 0,
            lineage: vec![Lineage {
                epoch: Epoch(1),
                incarnation: dead,
                first_batch: BatchNo(1),
                first_seq: Seq(1),
            }],
            spec: MatchSpec {
                game: "arena".into(),
                config,
                seed: 1,
                tick_rate: 30,
                house_bots: 0,
                created_ms: 0,
            },
            region: DEFAULT_REGION.into(),
        };
        store.leases.create(row).await.unwrap();
    }
    let config = HostConfig { watchdog: Duration::ZERO, ..HostConfig::default() };
    let (build, games, clock) = (BuildId(1), Games::default().with(Arc::new(game)), Arc::new(|| 0));
    let host = Host::start(HostParts {
        store: store.clone(),
        incarnation: me,
        build,
        games,
        clock,
        seed: 1,
        config,
    })
    .await
    .unwrap();
    let trials = TrialOptions {
        build,
        deaths: 5,
        healthy_after: Duration::from_secs(3),
        watchdog: Duration::ZERO,
    };
    let standings = Arc::<Standings>::default();
    let region = DEFAULT_REGION.to_owned();
    let mut recoverer = Recoverer::new(RecovererParts {
        host,
        store: store.clone(),
        me,
        region,
        trials: Some(trials),
        standings: Arc::clone(&standings),
        fresh: rekindle::clock::fresh,
    });
    let mut resumed = BTreeSet::new();
    let nobody = Asked::new();
    let looked = recoverer.look(0, &nobody, |outcome| match outcome {
        Outcome::Resumed(id, _) => drop(resumed.insert(id)),
        other => panic!("{other:?}"),
    });
    assert!(looked.await.is_ok());
    for (number, (report, comes_back)) in (1..).zip(reports) {
        let id = MatchId(number);
        let row = store.leases.get(id).await.unwrap().unwrap();
        assert_eq!(
            (resumed.contains(&id), row.state == MatchState::Running),
            (comes_back, comes_back),
            "{report}"
        );
        assert_eq!(standings.of(id).is_none(), comes_back, "{report}");
    }
}
