//! The documentation's game, through the public doors.

use rekindle_schema::PlayerId;
use rekindle_sim::doc_game::{Ask, Coin, Duel, Position, Score};
use rekindle_sim::{GameType, Harness, Simulation, Typed};

#[test]
fn bots_play_and_the_replay_is_identical() {
    let harness = Harness::<Duel>::new(7).bots(4).run(600);
    harness.assert_replay_identical();
    assert!(harness.world().resource::<Score>().total > 5, "{:?}", harness.simulation().describe());
    assert!(harness.events().count() > 0);
}

#[test]
fn commands_are_granted_or_not() {
    let mut harness = Harness::<Duel>::new(1);
    let player = PlayerId(5);
    harness.join(player);
    harness.command(player, &Ask::Home);
    harness.command(player, &Ask::Say { text: "x".repeat(100) });
    assert_eq!(harness.tick().commands, [true, false]);
    harness.assert_replay_identical();
    let _ = (Coin { worth: 1 }, Position { x: 0.0, y: 0.0 });
}

#[test]
fn configurations_are_checked_key_by_key() {
    let game = Typed::<Duel>::new().unwrap();
    assert_eq!(&game.config_from_json("{}").unwrap()[..], br#"{"coins":8,"goal":50}"#);
    assert_eq!(&game.config_from_json(r#"{"goal":3}"#).unwrap()[..], br#"{"coins":8,"goal":3}"#);
    let problem = game.config_from_json(r#"{"gaol":3}"#).unwrap_err().to_string();
    assert_eq!(
        problem,
        "RK-SIM-001: configuration of game `duel`: unknown key `gaol`: known are `coins`, `goal`"
    );
    assert!(
        game.config_from_json(r#"{"goal":0}"#)
            .unwrap_err()
            .to_string()
            .contains("`goal` must be at least 1")
    );
    for (wrong, found) in [("\"5\"", "the text \"5\""), ("-1", "-1"), ("[5]", "a list")] {
        let problem = game.config_from_json(&format!(r#"{{"goal":{wrong}}}"#)).unwrap_err();
        let words = format!("`goal`: expected a whole number, not below 0, found {found}");
        assert!(problem.to_string().ends_with(&words), "{problem}");
    }
    assert!(game.config_from_json("[1]").is_err());
    assert!(game.config_from_json("{").is_err());
}
