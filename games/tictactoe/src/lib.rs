//! Tic-tac-toe: a game for two that take turns. What it shows, beside `games/arena`, is in
//! `docs/TICTACTOE.md`: players act by commands, which are acknowledged when they are durable; the
//! phases are a state machine, whose timeouts end a match that one of the players has left; and a
//! seat belongs to its player, who may come back days later.

use rekindle_sim::sketch::{Ink, Shape, Sketch};
use rekindle_sim::{
    Action, Calling, Component, Declaration, Document, Entity, Event, Game, GameBuilder,
    LeaveReason, PlayerId, Players, Resource, State, Statistic, Value, View, Who, World,
};
use serde::{Deserialize, Serialize};

/// What stands in a cell, and who a player is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Value)]
pub enum Mark {
    /// Nothing.
    None,
    /// Begins.
    Cross,
    /// Comes second.
    Nought,
}

/// A cell of the board. Cells 0 to 2 are the first row.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "tictactoe.cell")]
pub struct Cell {
    /// Which.
    #[net(bits = 4)]
    pub place: u8,
    /// What stands in it.
    #[net(bits = 2)]
    pub mark: Mark,
}

/// How many marks each player has made: `rekindle match stats`.
#[derive(Debug)]
pub struct Marks;

impl Statistic for Marks {
    const NAME: &'static str = "marks";
    type Of = Marked;
    fn player(event: &Marked) -> Option<PlayerId> {
        Some(event.player)
    }
}

/// Told to everybody as `put`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Event)]
#[event(id = "put")]
pub struct Marked {
    /// Who has made a mark.
    pub player: PlayerId,
    /// On which field.
    pub place: u8,
}

/// A player's place at the board; it outlives the player's sessions.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "tictactoe.seat")]
pub struct Seat {
    /// Whose it is.
    pub player: PlayerId,
    /// Which marks the player makes.
    #[net(bits = 2)]
    pub mark: Mark,
    /// Whether it is this player's turn.
    #[net]
    pub turn: bool,
}

/// What the match is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Resource)]
#[resource(id = "tictactoe.phase")]
pub enum Phase {
    /// Two players.
    Waiting,
    /// A cross.
    Cross,
    /// A nought.
    Nought,
    /// Nothing.
    Over,
}

/// How the match ended, as soon as it did.
#[derive(Debug, Clone, PartialEq, Resource, Serialize)]
#[resource(id = "tictactoe.verdict")]
pub struct Verdict {
    /// Who won; nobody in a draw.
    #[serde(skip)]
    pub winner: Option<PlayerId>,
    /// How: `three in a row`, `draw`, `time`.
    pub how: String,
}

/// How a player has done in all rounds: a document, which outlives matches. Its key is the player's
/// number.
#[derive(Debug, Clone, PartialEq, Component, Serialize)]
#[component(id = "tictactoe.standing")]
pub struct Standing {
    /// Rounds that were played to their end.
    pub rounds: u32,
    /// Those that the player won.
    pub wins: u32,
    /// Those that nobody won.
    pub draws: u32,
}

/// How a round ended for a player.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The player won it.
    Won,
    /// The other one did.
    Lost,
    /// Nobody did.
    Drew,
}

/// A round has ended for the player.
pub const PLAYED: Action<Standing, Ending> = Action::new("played");
/// The player begins anew.
pub const RESET: Action<Standing> = Action::new("reset");

impl Document for Standing {
    const KIND: &'static str = "tictactoe-standing";

    fn declare(standing: &mut Declaration<Self>) {
        let played = |standing: &mut Self, ending: Ending, _: &Calling<'_>| {
            standing.rounds += 1;
            standing.wins += u32::from(ending == Ending::Won);
            standing.draws += u32::from(ending == Ending::Drew);
            Ok(())
        };
        standing.upsert(PLAYED, played).by([Who::Match]);
        standing.destroy(RESET, |_, (), _| Ok(())).by([Who::Owner, Who::Operator]);
        // Whoever plays may see how all stand.
        standing
            .read_by([Who::Player])
            .calculation("losses", |standing| standing.rounds - standing.wins - standing.draws)
            .sum("rounds", |standing| f64::from(standing.rounds));
    }
}

/// What a player can ask for.
#[derive(Debug, Clone, PartialEq, Eq, Value)]
pub struct Put {
    /// The cell, 0 to 8.
    pub place: u8,
}

/// How a match is set up.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// How long a player may think, seconds.
    pub turn_s: u32,
    /// Whether the two play again after each round. Without it the match ends with the first.
    pub rematch: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { turn_s: 3 * 24 * 3600, rematch: false }
    }
}

/// How long the result of a round stands before the next one begins, seconds.
const PAUSE_S: u64 = 1;

/// The game.
#[derive(Debug)]
pub struct TicTacToe;

/// Three cells that win.
const LINES: [[usize; 3]; 8] =
    [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]];

impl Game for TicTacToe {
    const NAME: &'static str = "tictactoe";
    const TICK_RATE: u16 = 10;
    type Config = Rules;
    type Input = ();
    type Command = Put;
    /// How many marks there were when the bot moved last.
    type Bot = u8;

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Cell>().component::<Seat>().resource::<Verdict>();
        game.tells::<Marked>().statistic::<Marks>().aggregates::<Cell>(|cells| {
            cells.count_by("cells_by_mark", |cell| cell.mark as u8);
        });
        let think = |world: &World| {
            u64::from(world.constant::<Rules>().turn_s) * u64::from(world.tick_rate())
        };
        // Without a rematch the match ends when it is over, and so nothing ever times out there.
        let pause = |world: &World| {
            let again = world.constant::<Rules>().rematch;
            if again { PAUSE_S * u64::from(world.tick_rate()) } else { u64::MAX }
        };
        game.states::<Phase>(|phase| {
            phase
                .allow(Phase::Waiting, Phase::Cross)
                .allow(Phase::Cross, Phase::Nought)
                .allow(Phase::Nought, Phase::Cross)
                .timeout(Phase::Cross, Phase::Over, think)
                .timeout(Phase::Nought, Phase::Over, think)
                .timeout(Phase::Over, Phase::Cross, pause)
                .on_exit(Phase::Over, clear)
                .on_enter(Phase::Cross, |world| turn(world, Mark::Cross))
                .on_enter(Phase::Nought, |world| turn(world, Mark::Nought))
                .on_enter(Phase::Over, conclude);
        });
    }

    fn validate(rules: &Rules) -> Result<(), String> {
        if rules.turn_s == 0 { Err("`turn_s` must be at least 1".to_owned()) } else { Ok(()) }
    }

    fn max_players(_rules: &Rules) -> usize {
        2
    }

    fn setup(world: &mut World, _rules: &Rules) {
        for place in 0..9 {
            world.spawn(Cell { place, mark: Mark::None });
        }
    }

    fn join(world: &mut World, player: PlayerId) {
        let seats = seats(world);
        let mut own = seats.iter().find(|(_, seat)| seat.player == player).map(|(seat, _)| *seat);
        if own.is_none() && seats.len() < 2 {
            let mark = if seats.is_empty() { Mark::Cross } else { Mark::Nought };
            own = Some(world.spawn(Seat { player, mark, turn: false }));
            if mark == Mark::Nought {
                world.go(Phase::Cross).expect("the second player comes while it waits");
            }
        }
        world.resource_mut::<Players>().set_avatar(player, own.unwrap_or_default());
    }

    fn leave(_world: &mut World, _player: PlayerId, _reason: LeaveReason) {
        // The seat stays: the player has time to come back until the turn times out.
    }

    fn command(world: &mut World, player: PlayerId, Put { place }: Put) -> bool {
        let seat = seats(world).into_iter().find(|(_, seat)| seat.player == player);
        let Some((_, Seat { mark, turn: true, .. })) = seat else { return false };
        let mut board = board(world);
        if board.get(usize::from(place)) != Some(&Mark::None) {
            return false;
        }
        board[usize::from(place)] = mark;
        let won = LINES.iter().any(|line| line.iter().all(|cell| board[*cell] == mark));
        let over = won || !board.contains(&Mark::None);
        let other = if mark == Mark::Cross { Phase::Nought } else { Phase::Cross };
        // A second command in one tick is refused here: the turn has ended already.
        if world.go(if over { Phase::Over } else { other }).is_err() {
            return false;
        }
        world.query::<&mut Cell, (), _>(|mut cells| {
            if let Some(mut cell) = cells.iter_mut().find(|cell| cell.place == place) {
                cell.mark = mark;
            }
        });
        if over {
            let how = if won { "three in a row" } else { "draw" };
            *world.resource_mut() = Verdict { winner: won.then_some(player), how: how.to_owned() };
        }
        let marked = Marked { player, place };
        world.output().publish(&marked);
        world.send(marked);
        true
    }

    fn bot_command(
        player: PlayerId,
        view: &View<'_>,
        _rules: &Rules,
        moved_at: &mut u8,
    ) -> Option<Put> {
        let Seat { mark, turn, .. } = view.avatar(player)?.get::<Seat>()?;
        let mut board = [Mark::None; 9];
        for cell in view.entities().filter_map(|entity| entity.get::<Cell>()) {
            *board.get_mut(usize::from(cell.place))? = cell.mark;
        }
        let marks = board.iter().filter(|mark| **mark != Mark::None).count() as u8 + 1;
        if !turn {
            // In the next round as many marks may stand when it is this player's turn.
            *moved_at = 0;
        }
        if !turn || *moved_at == marks {
            return None;
        }
        *moved_at = marks;
        best(&board, mark).map(|place| Put { place })
    }

    fn sketch(view: &View<'_>, _rules: &Rules) -> Option<Sketch> {
        let line = |from, to, ink| Shape::Line { from, to, ink };
        let mut shapes: Vec<Shape> = [1.0, 2.0]
            .into_iter()
            .flat_map(|at| [([at, 0.0], [at, 3.0]), ([0.0, at], [3.0, at])])
            .map(|(from, to)| line(from, to, Ink::Still))
            .collect();
        for Cell { place, mark } in view.entities().filter_map(|entity| entity.get::<Cell>()) {
            let (x, y) = (f32::from(place % 3) + 0.5, 2.5 - f32::from(place / 3));
            match mark {
                Mark::None => {}
                Mark::Cross => shapes.extend(
                    [-0.3, 0.3]
                        .map(|tilt| line([x - 0.3, y - tilt], [x + 0.3, y + tilt], Ink::Kind(0))),
                ),
                Mark::Nought => {
                    shapes.push(Shape::Circle { at: [x, y], radius: 0.3, ink: Ink::Kind(1) });
                }
            }
        }
        let mut seats = view.entities().filter_map(|entity| entity.get::<Seat>());
        let title = seats
            .find(|seat| seat.turn)
            .map_or_else(String::new, |seat| format!("{:?} to move", seat.mark).to_lowercase());
        Some(Sketch { x: [0.0, 3.0], y: [0.0, 3.0], title, shapes, board: Vec::new() })
    }
}

fn seats(world: &mut World) -> Vec<(Entity, Seat)> {
    world.query::<(Entity, &Seat), (), _>(|seats| {
        seats.iter().map(|(entity, seat)| (entity, seat.clone())).collect()
    })
}

fn board(world: &mut World) -> [Mark; 9] {
    let mut board = [Mark::None; 9];
    world.query::<&Cell, (), _>(|cells| {
        cells.iter().for_each(|cell| board[usize::from(cell.place)] = cell.mark);
    });
    board
}

/// It is this mark's turn now.
fn turn(world: &mut World, mark: Mark) {
    world.query::<&mut Seat, (), _>(|mut seats| {
        seats.iter_mut().for_each(|mut seat| seat.turn = seat.mark == mark);
    });
}

/// A round is over and the next one begins: on an empty board, with crosses again.
fn clear(world: &mut World) {
    world.query::<&mut Cell, (), _>(|mut cells| {
        cells.iter_mut().for_each(|mut cell| cell.mark = Mark::None);
    });
    *world.resource_mut() = Verdict { winner: None, how: String::new() };
}

/// The result goes out. Without a verdict time was over for the one whose turn it is.
fn conclude(world: &mut World) {
    let mut verdict = world.resource::<Verdict>().clone();
    if verdict.how.is_empty() {
        let waiting = seats(world).into_iter().find(|(_, seat)| !seat.turn);
        let winner = waiting.map(|(_, seat)| seat.player);
        verdict = Verdict { winner, how: "time".to_owned() };
        world.insert_resource(verdict.clone());
    }
    turn(world, Mark::None);
    debug_assert!(world.resource::<State<Phase>>().is(Phase::Over));
    let (winner, players) = (verdict.winner.map(|player| player.0), seats(world));
    let endings = players.iter().map(|(_, seat)| {
        let ending = match verdict.winner {
            Some(winner) if winner == seat.player => Ending::Won,
            Some(_) => Ending::Lost,
            None => Ending::Drew,
        };
        PLAYED.on(seat.player, &ending)
    });
    let endings = endings.collect();
    let rematch = world.constant::<Rules>().rematch;
    let mut output = world.output();
    output.effect_json("result", &(winner, &verdict.how));
    output.calls::<Standing>(None, endings);
    if !rematch {
        output.end_match(&verdict.how);
    }
}

/// Wins if it can, else keeps the other from it, else takes the middle, a corner, a side.
fn best(board: &[Mark; 9], own: Mark) -> Option<u8> {
    let completes = |mark: Mark| {
        LINES.iter().find_map(|line| {
            let free = line.iter().find(|cell| board[**cell] == Mark::None)?;
            let others = line.iter().filter(|cell| *cell != free);
            others.into_iter().all(|cell| board[*cell] == mark).then_some(*free)
        })
    };
    let other = if own == Mark::Cross { Mark::Nought } else { Mark::Cross };
    let free = || [4, 0, 2, 6, 8, 1, 3, 5, 7].into_iter().find(|cell| board[*cell] == Mark::None);
    completes(own).or_else(|| completes(other)).or_else(free).map(|cell| cell as u8)
}

#[cfg(test)]
mod tests {
    use rekindle_sim::documents::wire::EffectCalls;
    use rekindle_sim::{GameType as _, Harness, Typed};

    use super::*;

    const ANNE: PlayerId = PlayerId(1);
    const BERT: PlayerId = PlayerId(2);

    /// Two players, and whether each of these moves was granted.
    fn play(rules: &str, moves: &[(PlayerId, u8)]) -> (Harness<TicTacToe>, Vec<bool>) {
        let mut harness = Harness::with_config(7, rules);
        harness.join(ANNE);
        harness.join(BERT);
        harness.tick();
        let mut granted = Vec::new();
        for (player, place) in moves {
            harness.command(*player, &Put { place: *place });
            granted.extend(&harness.tick().commands);
        }
        (harness, granted)
    }

    #[test]
    fn players_take_turns_and_three_in_a_row_win() {
        let moves = [
            (BERT, 0), // not his turn
            (ANNE, 0),
            (ANNE, 1), // twice
            (BERT, 0), // taken
            (BERT, 9), // no such cell
            (BERT, 4),
            (ANNE, 1),
            (BERT, 8),
            (ANNE, 2),
            (BERT, 7), // it is over
        ];
        let (harness, granted) = play("{}", &moves);
        let expected = [false, true, false, false, false, true, true, true, true, false];
        assert_eq!(granted, expected);
        assert_eq!(harness.ended(), Some("three in a row"));
        let effects: Vec<_> = harness.effects().collect();
        assert_eq!((effects.len(), &*effects[0].payload), (2, &b"[1,\"three in a row\"]"[..]));
        let calls: EffectCalls = serde_json::from_slice(&effects[1].payload).unwrap();
        let expected = [PLAYED.on(ANNE, &Ending::Won), PLAYED.on(BERT, &Ending::Lost)];
        assert_eq!((calls.kind.as_str(), &calls.calls[..]), (Standing::KIND, &expected[..]));
        harness.assert_replay_identical();
    }

    #[test]
    fn a_second_move_in_one_tick_is_refused() {
        let (mut harness, _) = play("{}", &[]);
        harness.command(ANNE, &Put { place: 0 });
        harness.command(ANNE, &Put { place: 1 });
        assert_eq!(harness.tick().commands, [true, false]);
        harness.assert_replay_identical();
    }

    #[test]
    fn who_does_not_move_in_time_loses() {
        let (harness, _) = play(r#"{"turn_s": 2}"#, &[(ANNE, 0)]);
        let harness = harness.run(19);
        assert_eq!(harness.ended(), None);
        let harness = harness.run(2);
        assert_eq!(harness.ended(), Some("time"));
        assert_eq!(harness.world().resource::<Verdict>().winner, Some(ANNE));
        harness.assert_replay_identical();
    }

    #[test]
    fn who_leaves_finds_the_seat_again() {
        let (mut harness, _) = play("{}", &[(ANNE, 0)]);
        harness.leave(BERT);
        harness.tick();
        harness.join(PlayerId(3));
        harness = harness.run(50);
        harness.command(PlayerId(3), &Put { place: 1 });
        assert_eq!(harness.tick().commands, [false], "a stranger has no seat");
        harness.leave(PlayerId(3));
        harness.join(BERT);
        harness.tick();
        harness.command(BERT, &Put { place: 1 });
        assert_eq!(harness.tick().commands, [true]);
        harness.assert_replay_identical();
    }

    #[test]
    fn bots_play_by_commands_to_a_draw() {
        let harness = Harness::<TicTacToe>::new(3).bots(2).run(60);
        assert_eq!(harness.ended(), Some("draw"));
        harness.assert_replay_identical();
    }

    #[test]
    fn with_a_rematch_one_round_follows_the_other_and_each_has_its_result() {
        let harness = Harness::<TicTacToe>::with_config(3, r#"{"rematch": true}"#).bots(2).run(200);
        assert_eq!(harness.ended(), None);
        let results: Vec<_> = harness.effects().filter(|effect| effect.kind == "result").collect();
        assert!(results.len() >= 3, "{results:?}");
        assert!(results.iter().all(|result| &*result.payload == b"[null,\"draw\"]"), "{results:?}");
        harness.assert_replay_identical();
    }

    #[test]
    fn the_phases_are_drawn() {
        let chart = Typed::<TicTacToe>::new().unwrap().state_chart();
        assert!(chart.contains("tictactoe_phase_Nought --> tictactoe_phase_Over : timeout"));
    }
}
