//! The demo with three nodes, whole: two are killed, one frozen, one drained; the verdict; then
//! what the store says of the nodes when none runs.

use crate::support::rekindle;

#[test]
fn three_nodes_hold_every_promise_while_each_of_them_goes_once() {
    let dir = tempfile::tempdir().unwrap();
    let done = rekindle(
        dir.path(),
        &["demo", "--nodes", "3", "--players", "12", "--json", "--data-dir", "kept"],
    )
    .expect(0);
    let verdict = done.json();
    let figure = |name: &str| {
        verdict[name].as_u64().unwrap_or_else(|| panic!("{name} is missing in {verdict}"))
    };
    assert_eq!((figure("matches"), figure("players"), figure("sessions_resumed")), (6, 12, 12));
    for broken in [
        "durable_inputs_lost",
        "duplicate_inputs",
        "hash_mismatches",
        "joins_after_kill",
        "ticks_rolled_back_max",
        "results_wrong",
    ] {
        assert_eq!(figure(broken), 0, "{broken}: {verdict}");
    }
    let events = verdict["events"].as_array().unwrap();
    let acts: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(acts, ["kill", "standby", "freeze", "drain"]);
    for event in events {
        assert!(event["matches"].as_u64() >= Some(1), "{event}");
        assert!(event["gap_ms_max"].as_f64().unwrap() > 0.0, "{event}");
        assert_eq!((&event["hash_ok"], &event["ended_by_itself"]), (&true.into(), &true.into()));
    }
    for name in ["failover_ms_p99", "standby_failover_ms_p99", "hang_failover_ms_max"] {
        assert!(verdict[name].as_f64().unwrap() > 0.0, "{name}: {verdict}");
    }
    // What the demo leaves stands up to an audit of every byte.
    rekindle(dir.path(), &["verify", "kept/store"]).expect(0);

    // Nobody is there any more to run what is left, and the status says so from the store alone.
    let offline = ["cluster", "status", "--store", "local:kept/store", "--json"];
    let status = rekindle(dir.path(), &offline).expect(5).json();
    assert_eq!((&status["verdict"], &status["nodes_live"]), (&"bad".into(), &0.into()));
    assert_eq!((&status["matches"], &status["can_lose_one"]), (&6.into(), &false.into()));
    let listed =
        rekindle(dir.path(), &["node", "ls", "--store", "local:kept/store", "--json"]).expect(0);
    let states: Vec<String> = listed
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|node| {
            format!("{} {}", node["name"].as_str().unwrap(), node["state"].as_str().unwrap())
        })
        .collect();
    for expected in ["n1 stopped", "n2 stopped", "n3 stopped"] {
        assert!(states.iter().any(|state| state == expected), "{expected}: {states:?}");
    }
}
