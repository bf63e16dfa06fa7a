//! The client SDK with the types of a game, on a real node that is killed in the middle of it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rekindle_client::{Answer, ClientConfig, ClientEvent, GameClient, GameError, Trust};
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{MatchId, PlayerId};
use rekindle_sim::Event;
use rekindle_skirmish::Skirmish;
use rekindle_tictactoe::{Cell, Mark, Marked, Put, Seat, TicTacToe};
use tokio::time::timeout;

use crate::support::{Node, PATIENCE, command, rekindle};

/// An event that no game here tells.
#[derive(Debug, Clone, Event)]
#[event(id = "putt")]
struct Putt {
    player: PlayerId,
}

/// A port that is free now.
fn free() -> SocketAddr {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.local_addr().expect("it is bound")
}

/// A node that players reach at `listen`.
fn start(dir: &Path, listen: SocketAddr) -> Node {
    let mut command = command(dir);
    command.args(["start", "--dev", "--log", "json", "--admin", "127.0.0.1:0"]);
    command.args(["--listen", &listen.to_string()]);
    let mut node = Node::from_command(command);
    node.wait_for("RK-NODE-001");
    node
}

fn config(dir: &Path, addr: SocketAddr, player: u64, match_id: MatchId) -> ClientConfig {
    let player = player.to_string();
    let issued = rekindle(dir, &["ticket", "issue", "--player", &player]).expect(0);
    let certificate = std::fs::read(dir.join("rekindle-data/cert.der")).expect("a certificate");
    let trust = Trust::Certificate(certificate);
    let mut config = ClientConfig::new(vec![addr], trust, issued.stdout.trim());
    config.match_id = Some(match_id);
    config
}

/// What a wait for the client comes to; the test fails if nothing comes.
async fn soon<T>(waiting: impl Future<Output = Result<T, GameError>>) -> T {
    timeout(PATIENCE, waiting).await.expect("it comes").expect("it is what was waited for")
}

/// The marks on the board, as a client sees them.
async fn marks(client: &mut GameClient<TicTacToe>) -> Vec<(u8, Mark)> {
    let seen = soon(client.seen()).await;
    let view = seen.view();
    let cells = view.entities().filter_map(|entity| entity.get::<Cell>());
    cells.filter(|cell| cell.mark != Mark::None).map(|Cell { place, mark }| (place, mark)).collect()
}

/// Plays until the board has these marks.
async fn until_marks(client: &mut GameClient<TicTacToe>, wanted: &[(u8, Mark)]) {
    let shown = async { while marks(client).await != wanted {} };
    timeout(PATIENCE, shown).await.expect("the board is shown");
}

#[test]
fn two_players_speak_in_the_types_of_the_game_and_a_kill_takes_nothing_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let listens = free();
    let node = start(dir.path(), listens);
    let made = rekindle(dir.path(), &["match", "create", "--game", "tictactoe", "--json"]);
    let id: MatchId = made.expect(0).json()["id"].as_str().unwrap().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let enter = |player| {
        let config = config(dir.path(), listens, player, id);
        let mut client = GameClient::<TicTacToe>::connect(config).expect("a client");
        let welcome = runtime.block_on(soon(client.joined()));
        assert_eq!((welcome.player, welcome.match_id), (PlayerId(player), id));
        client
    };
    // The first to come has the crosses.
    let (mut anne, mut bert) = (enter(1), enter(2));
    runtime.block_on(async {
        let granted = soon(anne.ask(&Put { place: 4 })).await;
        assert!(matches!(granted, Answer::Granted(_)), "{granted:?}");
        let refused = soon(anne.ask(&Put { place: 0 })).await;
        assert!(matches!(refused, Answer::Refused(_)), "it is not her turn: {refused:?}");
        let told = soon(bert.next::<Marked>()).await;
        assert_eq!(told.event, Marked { player: PlayerId(1), place: 4 });
        until_marks(&mut bert, &[(4, Mark::Cross)]).await;
        let seen = soon(bert.seen()).await;
        let own = seen.view().avatar(PlayerId(2)).and_then(|own| own.get::<Seat>()).unwrap();
        assert_eq!((own.mark, own.turn), (Mark::Nought, true));
        assert_eq!(seen.config().unwrap().turn_s, 3 * 24 * 3600);
    });
    node.kill();
    let node = start(dir.path(), listens);
    runtime.block_on(async {
        let granted = soon(bert.ask(&Put { place: 0 })).await;
        assert!(matches!(granted, Answer::Granted(_)), "{granted:?}");
        // She was told of her own mark before the kill, and of his after it.
        let told = [soon(anne.next::<Marked>()).await, soon(anne.next::<Marked>()).await];
        let marked = told.map(|told| (told.event.player.0, told.event.place));
        assert_eq!(marked, [(1, 4), (2, 0)]);
        until_marks(&mut anne, &[(0, Mark::Nought), (4, Mark::Cross)]).await;
        let resumed = async {
            loop {
                match anne.event().await.expect("the client goes on") {
                    ClientEvent::Resumed { welcome, .. } => break welcome,
                    ClientEvent::Rewound { .. } => panic!("nothing that she saw is undone"),
                    _ => {}
                }
            }
        };
        assert!(timeout(PATIENCE, resumed).await.expect("it came meanwhile").resumed);
    });
    assert_eq!(node.terminate(), 0);
}

#[test]
fn what_does_not_fit_the_types_of_a_game_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let listens = free();
    let _node = start(dir.path(), listens);
    let made = rekindle(dir.path(), &["match", "create", "--game", "tictactoe", "--json"]);
    let id: MatchId = made.expect(0).json()["id"].as_str().unwrap().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let config = |player| config(dir.path(), listens, player, id);
    runtime.block_on(async {
        // No match of another game is entered.
        let mut client = GameClient::<Skirmish>::connect(config(1)).unwrap();
        let refused = timeout(PATIENCE, client.joined()).await.expect("an answer").unwrap_err();
        let GameError::Closed { code: Some(RefuseCode::NoMatch), message } = &refused else {
            panic!("{refused}")
        };
        assert!(message.contains("not of `skirmish`"), "{message}");
        // One that lets itself be sent there all the same is told by its first snapshot.
        let mut config = config(1);
        config.game = Some("tictactoe".to_owned());
        let mut client = GameClient::<Skirmish>::connect(config).unwrap();
        let error = timeout(PATIENCE, client.seen()).await.expect("a snapshot").err();
        assert!(matches!(error, Some(GameError::OtherGame { .. })), "{error:?}");
        client.leave().await;
    });
    let mut client = GameClient::<TicTacToe>::connect(config(2)).unwrap();
    runtime.block_on(async {
        soon(client.joined()).await;
        let unknown = client.next::<Putt>().await.unwrap_err().to_string();
        assert!(unknown.contains("no event `putt`") && unknown.ends_with("`put`?"), "{unknown}");
    });
    let event = |kind: &str, payload: &'static [u8]| ClientEvent::Event {
        tick: rekindle_schema::Tick(7),
        ordinal: 0,
        kind: kind.to_owned(),
        payload: payload.into(),
    };
    let told = event("put", &[9, 0, 0, 0, 0, 0, 0, 0, 3]).told::<Marked>().unwrap();
    assert_eq!(told.event, Marked { player: PlayerId(9), place: 3 });
    let other = event("result", &[]).told::<Marked>().unwrap_err();
    assert!(matches!(other, GameError::OtherEvent { wanted: "put", .. }), "{other}");
    let short = event("put", &[9]).told::<Marked>().unwrap_err();
    assert!(matches!(short, GameError::Bytes { len: 1, .. }), "{short}");
    runtime.block_on(timeout(Duration::from_secs(5), client.leave())).expect("it leaves");
}
