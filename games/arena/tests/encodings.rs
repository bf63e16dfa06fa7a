//! The payloads of the arena as `docs/PROTOCOL.md` shows them: what players send, what they are
//! told. The files are in `schema/golden/protocol`.

use std::fmt::Debug;
use std::path::PathBuf;

use rekindle_arena::components::PickupKind;
use rekindle_arena::events::{Kill, PhaseChange, Reason, Respawn, Taken};
use rekindle_arena::input::{Command, Input};
use rekindle_arena::phases::Phase;
use rekindle_arena::weapons::WeaponKind;
use rekindle_sim::PlayerId;
use rekindle_sim::value::{Value, from_bytes, to_bytes};

#[track_caller]
fn check<T: Value + PartialEq + Debug>(name: &str, value: &T) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../schema/golden/protocol")
        .join(format!("arena-{name}.bin"));
    let made = to_bytes(value);
    if !path.exists() && std::env::var("REKINDLE_GOLDEN").is_ok_and(|value| value == "new") {
        std::fs::write(&path, &made).unwrap();
    }
    let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(made, golden, "{name}");
    assert_eq!(from_bytes::<T>(&golden).as_ref(), Ok(value), "{name}");
}

#[test]
fn inputs_and_commands_are_encoded_as_documented() {
    check("input", &Input { right: -127, up: 64, aim: 0x4000, fire: true });
    check("ready", &Command::Ready);
    check("switch", &Command::Switch(WeaponKind::Launcher));
}

#[test]
fn events_are_encoded_as_documented() {
    check("phase", &PhaseChange { phase: Phase::Live, reason: Reason::Fight });
    let (killer, victim) = (PlayerId(7), PlayerId(0x0001_0203));
    check("kill", &Kill { killer, victim, weapon: WeaponKind::Shotgun });
    check("respawn", &Respawn { player: PlayerId(7) });
    check("pickup", &Taken { player: PlayerId(7), kind: PickupKind::Health });
}
