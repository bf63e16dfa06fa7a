//! Servers die and come back at the command of a test.

use std::net::TcpStream;
use std::path::PathBuf;

use rekindle_testservers::{Process, State, cql, postgres, skipped};

/// Who runs the server with this address, by the state file.
fn process(address: &str) -> Option<Process> {
    let path = std::env::var_os("REKINDLE_TEST_SERVICES").map_or_else(
        || {
            rekindle_testservers::default_dir(std::env::var_os("CARGO_TARGET_DIR"))
                .join(State::FILE)
        },
        PathBuf::from,
    );
    let state = State::load(&path).unwrap().unwrap();
    let postgres = state
        .postgres
        .filter(|server| server.address.to_string() == address)
        .and_then(|server| server.process);
    postgres.or_else(|| {
        state
            .cql
            .into_iter()
            .find(|node| node.address.to_string() == address)
            .and_then(|node| node.process)
    })
}

fn accepts(address: &str) -> bool {
    TcpStream::connect(address).is_ok()
}

#[test]
fn postgres_is_killed_started_and_restarted() {
    let Some(server) = postgres() else { return skipped("killing Postgres", "no server") };
    let Some(control) = server.control else {
        return skipped("killing Postgres", "the server is not ours");
    };
    let address = server.url.split(['@', '/']).nth(3).unwrap();
    let first = process(address).unwrap();
    assert!(first.is_alive() && accepts(address));
    let children = first.children().unwrap();
    assert!(!children.is_empty());
    control.kill();
    assert!(!accepts(address) && process(address).is_none());
    assert!(
        !first.is_alive() && !children.iter().any(Process::is_alive),
        "no process is left to finish a commit"
    );
    control.start();
    let second = process(address).unwrap();
    assert!(second != first && second.is_alive() && accepts(address));
    control.start();
    assert_eq!(process(address).unwrap(), second, "what runs is not started");
    control.restart_immediately();
    let third = process(address).unwrap();
    assert!(third.is_alive() && !second.is_alive() && accepts(address));
}

#[test]
fn one_cql_node_is_killed_and_started_while_the_others_run() {
    let Some(cql) = cql() else { return skipped("killing a CQL node", "no server") };
    let node = cql.nodes.last().unwrap();
    let Some(control) = &node.control else {
        return skipped("killing a CQL node", "the server is not ours");
    };
    let first = process(&node.address).unwrap();
    assert!(first.is_alive() && accepts(&node.address));
    control.kill();
    assert!(!first.is_alive() && process(&node.address).is_none());
    assert!(!accepts(&node.address), "gone is gone, with all its threads");
    for other in &cql.nodes[..cql.nodes.len() - 1] {
        assert!(accepts(&other.address), "{} was not meant", other.address);
    }
    control.start();
    let second = process(&node.address).unwrap();
    assert!(second != first && second.is_alive() && accepts(&node.address));
}
