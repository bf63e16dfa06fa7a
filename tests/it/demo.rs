//! The demo, whole: a node process, bots over QUIC, SIGKILL, the verdict.

use crate::support::rekindle;

#[test]
fn the_demo_holds_every_promise() {
    let dir = tempfile::tempdir().unwrap();
    let done = rekindle(
        dir.path(),
        &["demo", "--kills", "2", "--players", "16", "--seed", "3", "--json", "--data-dir", "kept"],
    )
    .expect(0);
    let verdict = done.json();
    let figure = |name: &str| {
        verdict[name].as_u64().unwrap_or_else(|| panic!("{name} is missing in {verdict}"))
    };
    assert_eq!(
        (figure("kills"), figure("matches"), figure("players"), figure("sessions_resumed")),
        (2, 2, 16, 16)
    );
    assert!(figure("inputs_durable") >= 1_000 && figure("beats_checked") >= 20, "{verdict}");
    for broken in [
        "durable_inputs_lost",
        "duplicate_inputs",
        "hash_mismatches",
        "joins_after_kill",
        "ticks_rolled_back_max",
    ] {
        assert_eq!(figure(broken), 0, "{broken}: {verdict}");
    }
    assert!(verdict["kill_to_tick_ms_p50"].as_f64().unwrap() > 0.0);
    // What the demo leaves stands up to an audit of every byte.
    rekindle(dir.path(), &["verify", "kept"]).expect(0);
    rekindle(dir.path(), &["demo", "--data-dir", "kept"]).expect(2);
}
