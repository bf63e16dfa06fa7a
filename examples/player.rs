//! A player of tic-tac-toe with the types of the game's crate: asks for any open match, makes moves
//! until the round is over, and prints what it is told. Kill the node and start it again meanwhile:
//! the round goes on.
//!
//! ```console
//! $ cargo run --release &
//! $ cargo run --release -- match create --game tictactoe --bots 1
//! $ TICKET=$(cargo run --release -- ticket issue --player 42)
//! $ cargo run --example player -- 127.0.0.1:7777 "$TICKET"
//! ```

use std::error::Error;

use rekindle_client::{Answer, ClientConfig, GameClient, GameError, Lobby, Trust};
use rekindle_sim::Game as _;
use rekindle_tictactoe::{Marked, TicTacToe};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(addr), Some(ticket)) = (arguments.next(), arguments.next()) else {
        return Err("give the address of a node and a ticket: player ADDR TICKET".into());
    };
    // For experiments on one machine: anybody on the path could answer.
    let mut config =
        ClientConfig::new(vec![addr.parse()?], Trust::InsecureAnyServer, ticket.trim());
    config.lobby = Some(Lobby::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(play(config)) {
        Err(GameError::Closed { message, .. }) => println!("over: {message}"),
        other => other?,
    }
    Ok(())
}

/// Plays as the game's bot does. It ends with the match.
async fn play(config: ClientConfig) -> Result<(), GameError> {
    let mut client = GameClient::<TicTacToe>::connect(config)?;
    let welcome = client.joined().await?;
    println!("player {} in match {}", welcome.player, welcome.match_id);
    let mut moved_at = 0;
    loop {
        let seen = client.seen().await?;
        let (view, rules) = (seen.view(), seen.config()?);
        let put = TicTacToe::bot_command(welcome.player, &view, &rules, &mut moved_at);
        if let Some(put) = put {
            let place = put.place;
            match client.ask(&put).await? {
                Answer::Granted(tick) => println!("place {place} is mine since tick {tick}"),
                Answer::Refused(tick) => println!("place {place} was refused in tick {tick}"),
                Answer::Unknown => println!("place {place}: whoever knew has died"),
            }
        }
        while let Some(event) = client.try_event() {
            if event.is_told::<Marked>() {
                let Marked { player, place } = event.told()?.event;
                println!("player {player} marks {place}");
            }
        }
    }
}
