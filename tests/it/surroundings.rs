//! What a command meets outside of a laboratory: other people's environment variables, wildcard
//! addresses, readers that have gone, words of strangers, terminals that must be given back.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::process::Stdio;

use crate::support::{Done, Node, REKINDLE, command, eventually, rekindle};

fn with_env(dir: &Path, args: &[&str], env: &[(OsString, OsString)]) -> Done {
    let output = command(dir).args(args).envs(env.iter().cloned()).output().unwrap();
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Starts a node that listens to players on every address, and returns the port.
fn on_a_wildcard(dir: &Path) -> (Node, u64) {
    let mut command = command(dir);
    command.args(["start", "--log", "json", "--listen", "0.0.0.0:0", "--admin", "127.0.0.1:0"]);
    let mut node = Node::from_command(command);
    node.wait_for("RK-NODE-001");
    let card: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.join("rekindle-data/node.json")).unwrap())
            .unwrap();
    let listen = card["listen"].as_str().unwrap().to_owned();
    (node, listen.strip_prefix("0.0.0.0:").unwrap().parse().unwrap())
}

#[test]
fn variables_of_service_links_and_of_others_break_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let env = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect::<Vec<(OsString, OsString)>>()
    };
    // What a container beside a service called `rekindle` has.
    let mut links = env(&[
        ("REKINDLE_SERVICE_HOST", "10.0.0.7"),
        ("REKINDLE_SERVICE_PORT", "7780"),
        ("REKINDLE_PORT", "tcp://10.0.0.7:7780"),
        ("REKINDLE_PORT_7777_UDP", "udp://10.0.0.7:7777"),
        ("REKINDLE_PORT_7777_UDP_ADDR", "10.0.0.7"),
    ]);
    links.push((
        OsString::from_vec(b"LETTERS_\xff".to_vec()),
        OsString::from_vec(b"\xfe\xff".to_vec()),
    ));
    let done = with_env(dir.path(), &["config", "check"], &links).expect(0);
    assert!(
        done.stdout.contains("note: passed over")
            && done.stdout.contains("REKINDLE_PORT_7777_UDP_ADDR"),
        "{}",
        done.stdout
    );
    with_env(dir.path(), &["ticket", "issue", "--player", "1"], &links).expect(0);

    let typed_wrong = with_env(
        dir.path(),
        &["config", "check"],
        &env(&[("REKINDLE_ADMIN_LISEN", "127.0.0.1:1")]),
    )
    .expect(2);
    assert!(
        typed_wrong.stderr.contains("did you mean `REKINDLE_ADMIN_LISTEN`?"),
        "{}",
        typed_wrong.stderr
    );
    let broken = [("REKINDLE_DATA_DIR".into(), OsString::from_vec(b"/tmp/\xff".to_vec()))];
    let broken = with_env(dir.path(), &["config", "check"], &broken).expect(2);
    assert!(
        broken.stderr.contains("REKINDLE_DATA_DIR") && broken.stderr.contains("UTF-8"),
        "{}",
        broken.stderr
    );
    let argument =
        command(dir.path()).arg(OsString::from_vec(b"--d\xff".to_vec())).output().unwrap();
    assert_eq!(argument.status.code(), Some(2), "{argument:?}");
}

#[test]
fn a_node_that_listens_everywhere_is_reached_from_here() {
    let dir = tempfile::tempdir().unwrap();
    let (node, port) = on_a_wildcard(dir.path());
    let id =
        rekindle(dir.path(), &["match", "create", "--bots", "1", "--json"]).expect(0).json()["id"]
            .as_str()
            .unwrap()
            .to_owned();
    let watched = rekindle(dir.path(), &["watch", "--seconds", "3"]).expect(0);
    assert!(watched.stdout.contains(&format!("match {} at tick", &id[..8])), "{watched:?}");
    rekindle(dir.path(), &["bots", "--count", "2", "--seconds", "3"]).expect(0);
    rekindle(
        dir.path(),
        &["bots", "--count", "1", "--seconds", "3", "--connect", &format!("0.0.0.0:{port}")],
    )
    .expect(0);
    assert!(rekindle(dir.path(), &["match", "ls"]).expect(0).stdout.contains(&id));
    node.kill();
}

#[test]
fn a_command_that_cannot_do_its_work_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let full =
        ["match", "create", "--bots", "2", "--game-config", r#"{"max_players":2}"#, "--json"];
    let id = rekindle(dir.path(), &full).expect(0).json()["id"].as_str().unwrap().to_owned();
    let bots =
        rekindle(dir.path(), &["bots", "--count", "2", "--seconds", "4", "--match", &id]).expect(1);
    assert!(
        bots.stderr.contains("RK-CLI-148")
            && bots.stdout.contains("2 bots: RK-")
            && bots.stdout.contains("places are taken"),
        "{bots:?}"
    );
    let nobody = ["bots", "--count", "1", "--seconds", "2", "--connect", "127.0.0.1:1", "--json"];
    let nobody = rekindle(dir.path(), &nobody).expect(1);
    assert!(nobody.stderr.contains("RK-CLI-148"), "{nobody:?}");
    let mut watch = command(dir.path())
        .args(["watch", &id[..8]])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    rekindle(dir.path(), &["match", "stop", &id, "--reason", "that was all"]).expect(0);
    assert!(watch.wait().is_ok());
    let (mut out, mut err) = (String::new(), String::new());
    watch.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    watch.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    // It came before the end and saw it, or behind and is told that there is no such match.
    assert!(out.contains("that was all") || err.contains("RK-"), "{out}{err}");
    node.kill();
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &["ticket", "issue", "--player", "7"][..],
        &["config", "show"],
        &["config", "check", "--json"],
        &["--help"],
        &["--version"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command(dir.path()).args(args).stdout(full).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(1) && stderr.contains("RK-CLI-140"),
            "{args:?}: {output:?}"
        );

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(dir.path()).args(args).stdout(writer).output().unwrap();
        assert!(
            output.status.code() == Some(141) && output.stderr.is_empty(),
            "{args:?}: {output:?}"
        );

        // Reasons that nobody reads change nothing either.
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command(dir.path())
            .args(["config", "check", "--config", "missing"])
            .stderr(full)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
    }
    let help = rekindle(dir.path(), &["--help"]).expect(0).stdout;
    assert!(help.contains("  141  "), "{help}");
}

#[test]
fn words_of_others_stay_on_their_line_and_do_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let id =
        rekindle(dir.path(), &["match", "create", "--bots", "1", "--json"]).expect(0).json()["id"]
            .as_str()
            .unwrap()
            .to_owned();
    let reason = "over\n2030-01-01T00:00:00Z  node.drain forged\u{1b}[31m\u{202e}";
    let stopped = rekindle(dir.path(), &["match", "stop", &id, "--reason", reason]).expect(0);
    let audit = rekindle(dir.path(), &["audit"]).expect(0);
    let shown = rekindle(dir.path(), &["match", "show", &id]).expect(0);
    let listed = rekindle(dir.path(), &["match", "ls"]).expect(0);
    for done in [&stopped, &audit, &shown, &listed] {
        let odd = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(
            !done.stdout.contains(odd) && !done.stdout.lines().any(|line| line.starts_with("2030")),
            "{done:?}"
        );
    }
    assert!(
        shown.stdout.contains(r"over\n2030-01-01T00:00:00Z  node.drain forged\u{1b}[31m\u{202e}"),
        "{shown:?}"
    );
    assert!(audit.stdout.contains(r"\u{1b}"), "{audit:?}");
    // JSON keeps the words as they are.
    let shown = rekindle(dir.path(), &["match", "show", &id, "--json"]).expect(0).json();
    assert_eq!(shown["reason"], reason);
    node.kill();
    // The same in the reason of an error.
    let wrong = rekindle(dir.path(), &["match", "show", "x\nerror: forged\u{1b}"]).expect(3);
    assert!(
        !wrong.stderr.contains('\u{1b}') && !wrong.stderr.contains("\nerror: forged"),
        "{wrong:?}"
    );
}

#[test]
fn a_watch_that_is_told_to_end_gives_the_terminal_back() {
    let script = std::process::Command::new("script").arg("--version").output();
    if script.is_err() {
        eprintln!("SKIPPED: there is no `script` here, so no terminal was made");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    rekindle(dir.path(), &["match", "create", "--bots", "1"]).expect(0);
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::HUP] {
        let seen = dir.path().join("seen");
        let (pid_file, code_file) = (dir.path().join("pid"), dir.path().join("code"));
        let line = format!(
            "{REKINDLE} watch & echo $! > {}; wait $!; echo $? > {}; stty -a",
            pid_file.display(),
            code_file.display()
        );
        let mut terminal = std::process::Command::new("script");
        terminal.args(["-qfec", &line]).arg(&seen).current_dir(dir.path()).env("TERM", "xterm");
        let mut terminal = terminal.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let text =
            || String::from_utf8_lossy(&std::fs::read(&seen).unwrap_or_default()).into_owned();
        eventually("the picture", || text().contains("\u{1b}[?1049h").then_some(()));
        let pid: i32 = std::fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal)
            .unwrap();
        terminal.wait().unwrap();
        let text = text();
        assert!(text.contains("\u{1b}[?1049l"), "the alternate screen was not left: {text:?}");
        assert!(
            text.contains(" icanon") && text.contains(" echo "),
            "the terminal stays raw: {text:?}"
        );
        assert_eq!(std::fs::read_to_string(&code_file).unwrap().trim(), "0");
        std::fs::remove_file(&seen).unwrap();
    }
    node.kill();
}

#[test]
fn a_node_that_runs_no_more_is_not_counted_as_live() {
    let dir = tempfile::tempdir().unwrap();
    let status = || {
        let status = rekindle(dir.path(), &["store", "status", "--json"]).expect(0).json();
        (
            status["nodes_live"].as_u64().unwrap(),
            status["nodes_gone"].as_u64().unwrap(),
            status["nodes_stopped"].as_u64().unwrap(),
        )
    };
    let node = Node::start(dir.path(), &[]);
    assert_eq!(status(), (1, 0, 0));
    node.kill();
    assert_eq!(status(), (0, 1, 0));
    let node = Node::start(dir.path(), &[]);
    assert_eq!(node.terminate(), 0);
    assert_eq!(status().0, 0);
}

/// Words of the form `--flag` that are for other programs, or stand for any flag.
const FLAGS_OF_OTHERS: &[&str] =
    &["--bin", "--format-version", "--no-deps", "--profile", "--target", "--target-dir"];

/// All flags of a command and of those below it.
fn flags(command: &clap::Command, into: &mut std::collections::BTreeSet<String>) {
    into.extend(
        command
            .get_arguments()
            .filter_map(|argument| argument.get_long())
            .map(|long| format!("--{long}")),
    );
    command.get_subcommands().for_each(|below| flags(below, into));
}

fn sources(folder: &Path, into: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn every_flag_that_a_message_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known: std::collections::BTreeSet<String> =
        ["--help", "--version"].map(str::to_owned).into();
    flags(&rekindle::cli::args::command_line("rekindle", &[]), &mut known);
    let mut files = Vec::new();
    for folder in [
        "src",
        "actors/src",
        "cluster/src",
        "crates/gateway/src",
        "crates/store/src",
        "crates/store-cql/src",
        "crates/store-local/src",
        "crates/store-memory/src",
        "crates/store-open/src",
        "crates/store-postgres/src",
        "crates/client/src",
        "crates/sim/src",
        "schema/src",
    ] {
        sources(&root.join(folder), &mut files);
    }
    let (mut strange, mut count) = (Vec::new(), 0);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let own = text.find("\n#[cfg(test)]\nmod ").map_or(&text[..], |end| &text[..end]);
        for line in own.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for (at, _) in line.match_indices("--") {
                let word: String = line[at + 2..]
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '-')
                    .collect();
                let begins = !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '-');
                if !begins || !word.starts_with(|c: char| c.is_ascii_lowercase()) {
                    continue;
                }
                count += 1;
                let flag = format!("--{}", word.trim_end_matches('-'));
                if !known.contains(&flag) && !FLAGS_OF_OTHERS.contains(&flag.as_str()) {
                    strange.push(format!("{}: {flag}", file.display()));
                }
            }
        }
    }
    assert!(count > 30, "the messages were not read");
    assert!(strange.is_empty(), "flags that no command has: {strange:#?}");
}

#[test]
fn a_configuration_that_would_end_a_start_is_found_by_the_check_and_by_the_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    for (setting, words) in [
        ("log.filter=warning", "did you mean `warn`?"),
        ("log.filter=off", "use `error`"),
        ("data_dir=", "the path of a directory"),
        ("data_dir=file", "is no directory"),
        ("store=local:file/below", "store = file/below"),
        ("jobs.cron=keep-hause every 1h", "keep-house"),
        ("jobs.cron=backup every 1d", "backup.dir is not set"),
        ("jobs.cron=keep-house 0 0 30 2 *", "never comes"),
        ("backup.dir=file", "backup.dir = file"),
        ("listen=192.0.2.1:7777", "listen = 192.0.2.1:7777"),
        ("checkpoint.every_s=18446744073709551615", "ten years"),
    ] {
        for command in
            [&["config", "check"][..], &["start", "--log", "json", "--admin", "127.0.0.1:0"]]
        {
            let done = rekindle(dir.path(), &[command, &["--set", setting]].concat()).expect(2);
            assert!(
                done.stderr.contains(words) && done.stderr.contains("RK-CONFIG-"),
                "{setting}: {}",
                done.stderr
            );
        }
    }
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["file"], "nothing was begun");
}
