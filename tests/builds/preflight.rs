//! `rekindle preflight` of several builds on the store of a live node.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::support::eventually;
use super::{FATAL, HANGS, Studio};

/// The verdict about each match, in the order of `ids`.
fn verdicts(answer: &Value, ids: [&String; 2]) -> [String; 2] {
    ids.map(|id| of(answer, id)["verdict"].as_str().unwrap().to_owned())
}

fn of<'a>(answer: &'a Value, id: &str) -> &'a Value {
    let found = answer["matches"].as_array().unwrap().iter().find(|found| found["id"] == id);
    found.unwrap_or_else(|| panic!("{id}: {answer}"))
}

/// Names and contents of all that a killed node left.
fn contents(dir: &Path, into: &mut Vec<(std::path::PathBuf, Vec<u8>)>) {
    let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            contents(&path, into);
        } else {
            into.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
}

pub(super) fn tries() {
    let studio = Studio::new();
    let node = studio.start("first", &[], &[]);
    let (cursed, laps) = (studio.create(r#"{"size":13}"#), studio.create(r#"{"size":5}"#));
    let ids = [&cursed, &laps];
    studio.reaches(&cursed, 90);
    studio.reaches(&laps, 90);

    // While the node runs: a rebuilt one goes on with both, and says up to where it was tried.
    let equal = studio.ask_of("rebuilt", &[], &["preflight"], 0);
    assert_eq!(verdicts(&equal, ids), ["goes_on", "goes_on"], "{equal}");
    let tried = of(&equal, &laps);
    assert!(tried["written_by"].is_string() && tried["compared"]["from"] == 0, "{tried}");
    assert_eq!((&tried["last_run_by"], &tried["held"]), (&tried["written_by"], &"held".into()));
    let compared = &tried["compared"];
    assert!(compared["to"].as_u64() >= Some(90) && compared["hashes"].as_u64() >= Some(3));
    assert_eq!(studio.show(&laps)["epoch"], 1, "nobody took it");

    // Other rules: both differ, and it says from where on and in what.
    let differs = studio.ask_of("changed", &[], &["preflight"], 10);
    assert_eq!(verdicts(&differs, ids), ["differs", "differs"], "{differs}");
    let why = of(&differs, &cursed)["why"].as_str().unwrap();
    for part in ["RK-VERIFY-161", "another tick 60", "resource `count` field `ticks`"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    assert_eq!(of(&differs, &laps)["compared"]["outcome"]["differs"]["tick"], 50);

    // A match whose replay ends its process ends neither the command nor the others.
    let dies = studio.ask_of("rebuilt", &[(FATAL, "40")], &["preflight", "--jobs", "1"], 10);
    assert_eq!(verdicts(&dies, ids), ["dies", "goes_on"], "{dies}");
    let why = of(&dies, &cursed)["why"].as_str().unwrap();
    assert!(why.contains("RK-VERIFY-164") && why.contains("SIGABRT"), "{why}");

    // A configuration that it does not understand, and a game that it does not have.
    let fails = studio.ask_of("careless", &[], &["preflight", "--match", &laps], 10);
    assert_eq!(fails["matches"].as_array().unwrap().len(), 1);
    assert!(of(&fails, &laps)["why"].as_str().unwrap().contains("unknown key `size`"), "{fails}");
    let unknown = studio.ask_of("stranger", &[], &["preflight"], 10);
    assert_eq!(verdicts(&unknown, ids), ["unknown_game", "unknown_game"], "{unknown}");
    assert!(of(&unknown, &laps)["why"].as_str().unwrap().contains("RK-VERIFY-160"));
    studio.ask_of("rebuilt", &[], &["preflight", "--match", "zzzz"], 4);

    // The node noticed nothing. Of what it leaves when it is killed no byte changes either.
    let tick = studio.show(&laps)["tick"].as_u64().unwrap();
    studio.reaches(&laps, tick + 5);
    let stopped = studio.create("{}");
    studio.reaches(&stopped, 60);
    studio.ask(&["match", "stop", &stopped, "--reason", "enough"], 0);
    node.kill();
    let data = studio.dir.path().join("rekindle-data");
    let (mut before, mut after) = (Vec::new(), Vec::new());
    contents(&data, &mut before);
    let backtest = studio.ask_of("changed", &[], &["preflight", "--backtest"], 0);
    contents(&data, &mut after);
    assert!(before == after, "preflight writes nothing");

    backtested(&studio, &backtest, &laps, &stopped);
    ends_with_its_command(&studio);
}

pub(super) fn behind_a_stop() {
    let studio = Studio::new();
    let node = studio.start("first", &[], &[]);
    let id = studio.create(r#"{"size":5}"#);
    studio.reaches(&id, 90);
    assert_eq!(node.terminate(), 0);
    // Other rules go on from the checkpoint of a clean stop: nobody is asked.
    let node = studio.start("changed", &[], &[]);
    let from = studio.show(&id)["tick"].as_u64().unwrap();
    studio.reaches(&id, from + 90);
    // What they played they make again, and what the first build played is not theirs to judge.
    let own = studio.ask_of("changed", &[], &["preflight"], 0);
    let tried = of(&own, &id);
    assert_eq!(tried["verdict"], "goes_on", "{own}");
    assert!(tried["compared"]["from"].as_u64() >= Some(90), "{tried}");
    assert!(tried["compared"]["hashes"].as_u64() >= Some(2), "{tried}");
    asks_why(&studio, &id, from);
    // The first build would make otherwise what they played.
    let other = studio.ask_of("first", &[], &["preflight"], 10);
    assert_eq!(of(&other, &id)["verdict"], "differs", "{other}");
    assert_eq!(node.terminate(), 0);
}

/// A build asks why something happened that it played itself, in a match that another one began.
fn asks_why(studio: &Studio, id: &str, began: u64) {
    let ask = |args: &[&str], exit| studio.ask_of("changed", &[], args, exit);
    let laps = eventually("laps of both builds", || {
        let args = ["events", id, "--type", "lap", "--json"];
        let printed = studio.command("changed", &[]).args(args).output().unwrap().stdout;
        let ticks = String::from_utf8_lossy(&printed)
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["tick"].as_u64())
            .collect::<Vec<_>>();
        let (old, new): (Vec<u64>, Vec<u64>) = ticks.iter().partition(|&&tick| tick <= began);
        Some((*old.last()?, *new.last()?))
    });
    let (old, new) = (format!("{}.0", laps.0), format!("{}.0", laps.1));
    let found = ask(&["why", id, &new], 0);
    assert_eq!((&found["event"], &found["of"]), (&"lap".into(), &0.into()), "{found}");
    // It says that it began behind the change of builds.
    let output = studio.command("changed", &[]).args(["why", id, &new]).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let given = words
        .split_once("the state after tick ")
        .and_then(|(_, rest)| rest.split(',').next()?.parse::<u64>().ok());
    assert!(words.contains("another build played it"), "{words}");
    assert!(given.is_some_and(|given| (60..laps.1).contains(&given)), "{words}");
    // Whoever says where to begin is not overruled, and what another build played is not its own.
    for args in [&["why", id, &new, "--from", "1"][..], &["why", id, &old]] {
        let refused = ask(args, 10);
        assert!(refused["error"].to_string().contains("RK-CLI-267"), "{refused}");
    }
}

/// What a backtest by other rules says of a match that goes on, and of one that was stopped.
fn backtested(studio: &Studio, backtest: &Value, laps: &str, stopped: &str) {
    // Its row still says that the node lives: but nobody goes on with it now.
    let tried = of(backtest, laps);
    assert!(tried["written_by"].is_null() && tried["last_run_by"].is_string(), "{tried}");
    assert_eq!(tried["held"], "process_gone");
    // What an operator ended is ended for other rules, too; so it is for equal ones.
    let equal = studio.ask_of("rebuilt", &[], &["preflight", "--backtest"], 0);
    for (answer, verdict) in [(backtest, "differs"), (&equal, "goes_on")] {
        let tried = of(answer, stopped);
        let counted = &tried["compared"]["backtest"];
        assert_eq!((&tried["verdict"], &counted["by_operator"]), (&verdict.into(), &true.into()));
        let ended = [&counted["then"], &counted["now"]].map(|played| played["ended"].clone());
        assert_eq!(ended, ["enough", "enough"], "{counted}");
        assert_eq!(counted["then"]["last"], counted["now"]["last"]);
    }

    // What would have been: twice as many laps from tick 40 on.
    let counted = &of(backtest, laps)["compared"]["backtest"];
    let lasts = [&counted["then"]["last"], &counted["now"]["last"]];
    let last = lasts[0].as_u64().unwrap();
    assert_eq!(lasts[1].as_u64(), Some(last), "neither ended");
    assert_eq!(counted["then"]["events"]["lap"].as_u64(), Some(last / 20), "{counted}");
    assert_eq!(counted["now"]["events"]["lap"].as_u64(), Some((2 * last - 40) / 20), "{counted}");
    let words = studio.command("changed", &[]).args(["preflight", "--backtest"]).output().unwrap();
    let words = String::from_utf8_lossy(&words.stdout).into_owned();
    assert!(words.contains("event lap") && words.contains("3 matches tried: 3 differ"), "{words}");
    assert!(words.contains("last run by node") && !words.contains("* ended"), "{words}");
}

/// A trial process that never returns is gone as soon as the command is that started it.
fn ends_with_its_command(studio: &Studio) {
    let file = studio.dir.path().join("hangs");
    let mut command = studio.command("rebuilt", &[(HANGS, &file.to_string_lossy())]);
    let mut preflight = command.arg("preflight").stdout(Stdio::null()).spawn().unwrap();
    let pid = eventually("a trial that hangs", || {
        std::fs::read_to_string(&file).ok()?.parse::<u32>().ok()
    });
    assert!(runs(pid) && pid != preflight.id());
    preflight.kill().unwrap();
    preflight.wait().unwrap();
    eventually("the end of the trial", || (!runs(pid)).then_some(()));
}

/// Whether a process still computes: what nobody has waited for yet is in the list of processes
/// until somebody does.
fn runs(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, Some('Z' | 'X') | None)
}

pub(super) fn ruled() {
    let studio = Studio::new();
    let node = studio.start("first", &[], &[]);
    let old = studio.create("{}");
    studio.reaches(&old, 40);
    node.kill();

    // A build with new rules goes on with the old match by the old ones.
    let tried = studio.ask_of("ruled", &[], &["preflight"], 0);
    assert_eq!(
        (&of(&tried, &old)["verdict"], &of(&tried, &old)["rules"]),
        (&"goes_on".into(), &1.into())
    );
    let node = studio.start("ruled", &[], &[]);
    let view = studio.show(&old);
    assert_eq!(
        (view["state"].as_str(), view["rules"].as_u64()),
        (Some("running"), Some(1)),
        "{view}"
    );
    let create = |rules: &[&str]| {
        let args = [&["match", "create", "--game", "counting"][..], rules].concat();
        studio.ask(&args, 0)["id"].as_str().unwrap().to_owned()
    };
    let (new, chosen) = (create(&[]), create(&["--rules", "1"]));
    let listed = studio.ask(&["match", "ls"], 0);
    for (id, rules) in [(&old, 1), (&new, 2), (&chosen, 1)] {
        studio.reaches(id, 35);
        let found = listed.as_array().unwrap().iter().find(|view| view["id"] == id.as_str());
        assert_eq!(found.map(|view| view["rules"].clone()), Some(rules.into()), "{listed}");
    }
    let refused = studio.ask(&["match", "create", "--game", "counting", "--rules", "3"], 2);
    assert!(refused["error"].to_string().contains("version 3 of the rules is newer"), "{refused}");
    node.kill();

    // The build before it leaves the match of newer rules alone, and goes on with the others.
    let tried = studio.ask_of("rebuilt", &[], &["preflight"], 10);
    assert_eq!(verdicts(&tried, [&new, &chosen]), ["fails", "goes_on"], "{tried}");
    let why = of(&tried, &new)["why"].to_string();
    assert!(why.contains("version 2 of the rules is newer than this build"), "{why}");
    let _node = studio.start("rebuilt", &[], &[]);
    let view = studio.show(&new);
    let reason = view["reason"].as_str().unwrap_or_default();
    assert_eq!(
        (view["state"].as_str(), view["epoch"].as_u64()),
        (Some("waits"), Some(1)),
        "{view}"
    );
    assert!(reason.contains("version 2 of the rules is newer than this build"), "{view}");
    assert_eq!(studio.show(&chosen)["state"], "running");
}
