//! What may lie in a directory besides what a node wrote there, and who else may look: nothing
//! waits for ever, nothing leaks, every code tells.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Done, Node, command, eventually, rekindle};

fn remains(dir: &Path, ticks: u64) -> String {
    let node = Node::start(dir, &["--set", "checkpoint.every_s=1"]);
    let id = rekindle(dir, &["match", "create", "--bots", "2", "--json"]).expect(0).json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    eventually("the tick", || {
        let view = rekindle(dir, &["match", "show", &id, "--json"]).expect(0).json();
        (view["tick"].as_u64()? >= ticks).then_some(())
    });
    node.kill();
    id
}

fn only_file(dir: &Path) -> PathBuf {
    let log = std::fs::read_dir(dir).unwrap().next().unwrap().unwrap().path();
    std::fs::read_dir(log).unwrap().next().unwrap().unwrap().path()
}

/// Runs a command that must come to an end by itself.
fn ends(dir: &Path, args: &[&str]) -> Done {
    let mut child =
        command(dir).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually(&format!("the end of {args:?}"), || child.try_wait().unwrap());
    let output = child.wait_with_output().unwrap();
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What a start does that finds a pipe.
enum Start {
    IsRefused,
    /// It serves, without the matches of the log.
    Parks,
}

fn starts(dir: &Path, wanted: Start, name: &str) {
    let log = dir.join("start.log");
    let mut node = command(dir)
        .args(["start", "--dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .arg("--until-stdin-closes")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let said = || std::fs::read_to_string(&log).unwrap();
    match wanted {
        Start::IsRefused => {
            let ended = eventually("the end of the start", || node.try_wait().unwrap());
            assert!(!ended.success() && !said().contains("RK-NODE-025"), "{name}: {}", said());
        }
        Start::Parks => {
            eventually("the matches of that log are parked, and the node serves others", || {
                assert!(node.try_wait().unwrap().is_none(), "{name}: {}", said());
                let parked = said().contains("RK-CLUSTER-004") && said().contains("a named pipe");
                let list = rekindle(dir, &["match", "ls", "--json"]);
                (parked && list.code == 0 && list.stdout.contains("parked")).then_some(())
            });
            node.kill().unwrap();
            node.wait().unwrap();
        }
    }
}

#[test]
fn a_pipe_where_a_file_should_be_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let id = remains(dir.path(), 40);
    let data = dir.path().join("rekindle-data");
    let (log, checkpoints) = (only_file(&data.join("logs")), only_file(&data.join("checkpoints")));
    // The log comes last: its start changes what is stored.
    for (number, path) in
        [checkpoints, data.join("format"), data.join("node.db"), log].into_iter().enumerate()
    {
        let aside = dir.path().join("aside");
        std::fs::rename(&path, &aside).unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let batches = path.starts_with(data.join("logs"));
        let target = format!("local:{}", dir.path().join(format!("target-{number}")).display());
        for args in [
            &["verify"][..],
            &["store", "restore", "rekindle-data", "--store", &target],
            &["replay", &id],
            &["store", "status"],
        ] {
            let done = ends(dir.path(), args);
            assert!(
                !done.stderr.contains("rekindle-read-") && !done.stdout.contains("rekindle-read-"),
                "the real place is named: {done:?}"
            );
            match args[0] {
                "verify" => assert_eq!(done.code, 5, "{name}: {done:?}"),
                "store" if args[1] == "restore" => assert_ne!(done.code, 0, "{name}: {done:?}"),
                _ => {}
            }
        }
        let doctor = ends(dir.path(), &["doctor"]);
        assert!(
            doctor.code == 5 && doctor.stdout.contains("not a regular file"),
            "{name}: {doctor:?}"
        );
        // Without that checkpoint nothing is lost: the log leads to the same state.
        if !path.starts_with(data.join("checkpoints")) {
            starts(dir.path(), if batches { Start::Parks } else { Start::IsRefused }, name);
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(&aside, &path).unwrap();
    }
}

/// The copies that commands of ours make in `temp`.
fn copies(temp: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(temp).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("rekindle-read-"))
        .collect()
}

#[test]
fn a_copy_is_for_its_owner_alone_and_goes_although_the_command_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    remains(dir.path(), 200);
    let temp = dir.path().join("temp");
    std::fs::create_dir(&temp).unwrap();
    // Killed in the middle of it, whenever that can be seen.
    let left = eventually("a copy in use", || {
        let mut child = command(dir.path())
            .arg("verify")
            .env("TMPDIR", &temp)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let seen = loop {
            if let Some(copy) = copies(&temp).into_iter().find(|copy| copy.join("node.db").exists())
            {
                kill_process(Pid::from_raw(child.id() as i32).unwrap(), Signal::KILL).unwrap();
                break Some(copy);
            }
            if child.try_wait().unwrap().is_some() {
                break None;
            }
        };
        child.wait().unwrap();
        seen.filter(|copy| copy.exists())
    });
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&left), 0o700);
    for entry in std::fs::read_dir(&left).unwrap() {
        let path = entry.unwrap().path();
        let meta = std::fs::symlink_metadata(&path).unwrap();
        if meta.is_file() {
            assert_eq!((mode(&path), meta.nlink()), (0o600, 1), "{}", path.display());
        }
    }
    let done = command(dir.path()).arg("verify").env("TMPDIR", &temp).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    assert_eq!(
        copies(&temp),
        Vec::<PathBuf>::new(),
        "neither its own nor the one of the killed command"
    );
    let done = command(dir.path())
        .arg("verify")
        .env("TMPDIR", dir.path().join("nowhere"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        done.status.code() == Some(1) && said.contains("TMPDIR") && said.contains("rekindle-data"),
        "{said}"
    );
}

#[test]
fn a_doctor_that_finds_unreadable_logs_or_keys_says_so_by_its_code() {
    let dir = tempfile::tempdir().unwrap();
    remains(dir.path(), 5);
    let data = dir.path().join("rekindle-data");
    let bad = |done: &Done, word: &str| {
        done.code == 5
            && done.stdout.lines().any(|line| line.starts_with("FAIL") && line.contains(word))
    };
    let log = only_file(&data.join("logs"));
    let aside = dir.path().join("aside");
    std::fs::rename(&log, &aside).unwrap();
    std::fs::create_dir(&log).unwrap();
    let done = rekindle(dir.path(), &["doctor"]);
    assert!(bad(&done, log.file_name().unwrap().to_str().unwrap()), "{done:?}");
    std::fs::remove_dir(&log).unwrap();
    std::fs::rename(&aside, &log).unwrap();
    std::fs::write(data.join("gateway.keys"), "half of").unwrap();
    let done = rekindle(dir.path(), &["doctor"]);
    assert!(bad(&done, "gateway.keys"), "{done:?}");
}
