//! Every command in README.md works as written.
//!
//! Lines that begin with `$ ` in its `console` blocks are run by bash, in order, in one empty
//! directory. Only `cargo run --release` is not run as such: it becomes the executable under test,
//! so that the tests build nothing. A command that ends with `&` goes on while the next ones run.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use crate::support::{REKINDLE, eventually};

const README: &str = include_str!("../../README.md");

fn commands() -> Vec<&'static str> {
    let mut inside = false;
    README
        .lines()
        .filter(|line| {
            if line.starts_with("```") {
                inside = *line == "```console";
            }
            inside
        })
        .filter_map(|line| line.strip_prefix("$ "))
        .collect()
}

#[test]
fn every_command_in_the_readme_works() {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let cargo = format!(
        "#!/bin/sh\n[ \"$1 $2\" = 'run --release' ] || {{ echo \"the README runs: cargo $*\" >&2; \
         exit 1; }}\nshift 2\n\
         [ \"$1\" = -- ] && shift\nexec {REKINDLE} \"$@\"\n"
    );
    std::fs::write(bin.join("cargo"), cargo).unwrap();
    std::fs::set_permissions(bin.join("cargo"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut background = Background(Vec::new());
    let commands = commands();
    assert!(commands.len() >= 8, "the commands were not found: {commands:?}");
    for written in commands {
        let forks = written.ends_with('&');
        let mut bash = Command::new("bash");
        bash.args(["-c", written.trim_end_matches('&')])
            .current_dir(dir.path())
            .env("PATH", &path)
            .stdin(Stdio::null());
        // A group of its own, so that nothing is left behind.
        bash.process_group(0);
        if forks {
            background.0.push(bash.stdout(Stdio::null()).spawn().unwrap());
            let card = dir.path().join("rekindle-data/node.json");
            eventually("the node of the README", || card.exists().then_some(()));
            eventually("its readiness", || {
                crate::support::rekindle(dir.path(), &["match", "ls"])
                    .stdout
                    .contains("running")
                    .then_some(())
            });
            continue;
        }
        let output = bash.output().unwrap();
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "`{written}` ended with {}:\n{text}", output.status);
        if written.starts_with("kill -9") {
            let _ = background.0.pop().map(|mut child| child.wait());
        }
    }
}

/// Commands that go on. Ended with the test.
struct Background(Vec<std::process::Child>);

impl Drop for Background {
    fn drop(&mut self) {
        for child in &mut self.0 {
            if let Some(group) = rustix::process::Pid::from_raw(child.id() as i32) {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            let _ = child.wait();
        }
    }
}
