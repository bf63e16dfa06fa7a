//! Clients that ask for a game and properties, on two real nodes: they come into a match with a
//! free seat wherever it runs, and are told if there is none.

use std::net::SocketAddr;
use std::path::PathBuf;

use rekindle_client::{Client, ClientConfig, GameClient, GameError, Lobby, Trust};
use rekindle_schema::MatchId;
use rekindle_schema::wire::RefuseCode;
use rekindle_tictactoe::TicTacToe;
use serde_json::Value;
use tokio::time::timeout;

use crate::support::{Node, PATIENCE, eventually, rekindle};

/// Two nodes beside one store.
struct Place {
    dir: tempfile::TempDir,
}

/// What came of looking for a match.
type Found = Result<(GameClient<TicTacToe>, MatchId), (Option<RefuseCode>, String)>;

impl Place {
    fn of(&self, name: &str) -> PathBuf {
        let place = self.dir.path().join(name);
        std::fs::create_dir_all(&place).expect("a directory");
        place
    }

    fn start(&self, name: &str, more: &[&str]) -> Node {
        let store = format!("store=local:{}", self.dir.path().join("store").display());
        let name_of = format!("node.name={name}");
        Node::start(&self.of(name), &[&["--set", &store, "--set", &name_of], more].concat())
    }

    fn card(&self, name: &str) -> Value {
        let card = std::fs::read(self.of(name).join("rekindle-data/node.json")).expect("node.json");
        serde_json::from_slice(&card).expect("JSON")
    }

    /// A match of tictactoe for two, on this node.
    fn create(&self, on: &str, properties: &[&str]) -> MatchId {
        let mut args = vec!["match", "create", "--game", "tictactoe", "--on", on, "--json"];
        for property in properties {
            args.extend(["--property", property]);
        }
        let id = rekindle(&self.of(on), &args).expect(0).json()["id"].clone();
        id.as_str().and_then(|id| id.parse().ok()).expect("an id")
    }

    /// Until this node knows that the match is open.
    fn is_known(&self, at: &str, id: MatchId) {
        eventually("an open match of the other node", || {
            let open =
                rekindle(&self.of(at), &["match", "ls", "--open", "--json"]).expect(0).json();
            let id = Value::from(id.to_string());
            open.as_array()?.iter().any(|found| found["id"] == id).then_some(())
        });
    }

    /// A player who asks this node alone. The ticket names no match.
    fn config(&self, asked: &str, player: u64) -> ClientConfig {
        let player = player.to_string();
        let issued = rekindle(&self.of(asked), &["ticket", "issue", "--player", &player]).expect(0);
        let certificate = std::fs::read(self.of(asked).join("rekindle-data/cert.der"));
        let addr: SocketAddr = self.card(asked)["listen"].as_str().unwrap().parse().unwrap();
        let trust = Trust::Certificate(certificate.expect("a certificate"));
        ClientConfig::new(vec![addr], trust, issued.stdout.trim())
    }

    async fn seek(&self, asked: &str, player: u64, lobby: Lobby) -> Found {
        Self::seek_as(self.config(asked, player), lobby).await
    }

    async fn seek_as(config: ClientConfig, lobby: Lobby) -> Found {
        let config = ClientConfig { lobby: Some(lobby), ..config };
        let mut client = GameClient::<TicTacToe>::connect(config).expect("a client");
        match timeout(PATIENCE, client.joined()).await.expect("an answer") {
            Ok(welcome) => {
                let id = welcome.match_id;
                Ok((client, id))
            }
            Err(GameError::Closed { code, message }) => Err((code, message)),
            Err(error) => panic!("{error}"),
        }
    }
}

fn refused(found: Found) -> (RefuseCode, String) {
    match found {
        Err((Some(code), words)) => (code, words),
        Err((None, words)) => panic!("without a code: {words}"),
        Ok((_, id)) => panic!("it is in match {id}"),
    }
}

#[test]
fn a_client_finds_a_match_by_its_properties_on_any_node_and_two_do_not_get_one_seat() {
    let place = Place { dir: tempfile::tempdir().expect("a directory") };
    let (_a, _b) = (place.start("a", &[]), place.start("b", &[]));
    let (duel, _plain) = (place.create("a", &["mode=duel", "map=sea"]), place.create("b", &[]));
    place.is_known("b", duel);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let wanted = || Lobby::with([("mode", "duel")]);
    runtime.block_on(async {
        // Node b has an open match of the game, and it is not the one that is wanted.
        let (first, found) = place.seek("b", 1, wanted()).await.expect("a seat");
        assert_eq!((found, first.counts().redirects), (duel, 1));
        // Two ask for the last seat, at both nodes at once.
        let race = tokio::join!(place.seek("a", 2, wanted()), place.seek("b", 3, wanted()));
        let (winners, losers): (Vec<Found>, Vec<Found>) =
            [race.0, race.1].into_iter().partition(Result::is_ok);
        assert_eq!((winners.len(), losers.len()), (1, 1), "one seat");
        for loser in losers {
            let (code, words) = refused(loser);
            assert_eq!(code, RefuseCode::Full, "{words}");
            assert!(words.contains("RK-NODE-242") && words.contains("mode=duel"), "{words}");
        }
        // What nobody has is another answer, and comes at once though other addresses are known.
        let (code, words) = refused(place.seek("b", 4, Lobby::with([("mode", "race")])).await);
        assert!(code == RefuseCode::NoMatch && words.contains("RK-NODE-243"), "{words}");
        // Operators let no matches be made unless they say which.
        let (code, words) = refused(place.seek("b", 4, wanted().or_create()).await);
        assert!(code == RefuseCode::Full && words.contains("lobbies.create"), "{words}");
        // The full one is skipped for one that has a free seat.
        let second = place.create("b", &["mode=duel"]);
        place.is_known("a", second);
        let (_third, found) = place.seek("a", 5, wanted()).await.expect("a seat");
        assert_eq!(found, second);
        drop((first, winners));
    });
}

#[test]
fn players_have_a_match_made_where_the_operator_lets_them_and_meet_in_it() {
    let place = Place { dir: tempfile::tempdir().expect("a directory") };
    let modes = "lobbies.create=tictactoe mode=ranked map=sea {\"turn_s\": 77}; arena mode=ranked";
    let _a = place.start("a", &["--set", modes]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let wanted = |mode| Lobby::with([("mode", mode)]).or_create();
    runtime.block_on(async {
        // Both ask while there is none: one match is made, and they meet.
        let both = tokio::join!(
            place.seek("a", 1, wanted("ranked")),
            place.seek("a", 2, wanted("ranked"))
        );
        let ((mut first, id), (second, other)) = (both.0.expect("one"), both.1.expect("one"));
        assert_eq!(id, other, "they meet");
        let seen = timeout(PATIENCE, first.seen()).await.expect("a snapshot").expect("the game's");
        assert_eq!(seen.config().expect("the game's").turn_s, 77);
        // The third finds it full, and has the next one made.
        let (_third, next) = place.seek("a", 3, wanted("ranked")).await.expect("a new one");
        assert_ne!(next, id);
        let shown = rekindle(&place.of("a"), &["match", "show", &next.to_string(), "--json"]);
        let properties = shown.expect(0).json()["properties"].clone();
        assert_eq!(properties, serde_json::json!({ "mode": "ranked", "map": "sea" }));
        // What the operator has not named is not made.
        let (code, words) = refused(place.seek("a", 4, wanted("casual")).await);
        assert!(code == RefuseCode::NoMatch && words.contains("RK-NODE-243"), "{words}");
        // Who has a session comes back to it, and is told if it is not what is asked for.
        drop(second);
        let (_again, back) = place.seek("a", 2, wanted("ranked")).await.expect("the session");
        assert_eq!(back, id);
        let (code, words) = refused(place.seek("a", 2, wanted("casual")).await);
        assert!(code == RefuseCode::Credential && words.contains("RK-NODE-244"), "{words}");
    });
}

#[test]
fn players_who_ask_two_nodes_in_the_same_moment_meet_in_one_match() {
    let place = Place { dir: tempfile::tempdir().expect("a directory") };
    // Of eight modes each node makes some, as good as certainly.
    let modes: Vec<String> = (1..=8).map(|mode| format!("mode-{mode}")).collect();
    let listed: Vec<String> = modes.iter().map(|mode| format!("tictactoe mode={mode}")).collect();
    let create = format!("lobbies.create={}", listed.join("; "));
    let (_a, b) = (place.start("a", &["--set", &create]), place.start("b", &["--set", &create]));
    // Until each has a link to the other, and takes it for a node that makes matches.
    for (at, other) in [("a", "b"), ("b", "a")] {
        let id = place.create(other, &["mode=other"]);
        place.is_known(at, id);
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let wanted = |mode: &str| Lobby::with([("mode", mode)]).or_create();
    runtime.block_on(async {
        // Tickets first: they take longer than what is to happen in the same moment.
        let players = |mode: u64| (place.config("a", 2 * mode), place.config("b", 2 * mode + 1));
        let players: Vec<_> = (1..=modes.len() as u64).map(players).collect();
        let mut clients = Vec::new();
        for (mode, (one, other)) in modes.iter().zip(players) {
            let (one, other) = tokio::join!(
                Place::seek_as(one, wanted(mode)),
                Place::seek_as(other, wanted(mode))
            );
            let ((one, id), (other, of_other)) = (one.expect("a seat"), other.expect("a seat"));
            assert_eq!(id, of_other, "they meet in {mode}");
            clients.push((one, other));
        }
    });
    // One match of each mode was made.
    let all = rekindle(&place.of("a"), &["match", "ls", "--json"]).expect(0).json();
    let made = all.as_array().unwrap().iter().filter_map(|found| {
        found["properties"]["mode"].as_str().filter(|mode| mode.starts_with("mode-"))
    });
    let mut made: Vec<String> = made.map(str::to_owned).collect();
    made.sort();
    assert_eq!(made, modes);
    // Where the one that should make a match is gone, the other one does.
    b.kill();
    runtime.block_on(async {
        for (player, mode) in (21..).zip(&modes) {
            place.seek("a", player, wanted(mode)).await.expect("a seat");
        }
    });
}

#[test]
fn what_clients_may_have_made_is_checked_before_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    for (modes, words) in [
        ("chess mode=duel", "RK-CONFIG-160: lobbies.create: no game `chess` here"),
        ("tictactoe {\"turns\": 3}", "unknown key `turns`"),
        ("tictactoe duel", "`duel` is no property"),
    ] {
        let set = format!("lobbies.create={modes}");
        let checked = rekindle(dir.path(), &["config", "check", "--set", &set]);
        assert!(checked.code == 2 && checked.stderr.contains(words), "{}", checked.stderr);
    }
    let mut config =
        ClientConfig::new(vec![([127, 0, 0, 1], 1).into()], Trust::InsecureAnyServer, "ticket");
    config.lobby = Some(Lobby::default());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let refused = runtime.block_on(async { Client::connect(config).err() });
    assert!(refused.is_some_and(|error| error.to_string().contains("RK-CLIENT-007")));
}
