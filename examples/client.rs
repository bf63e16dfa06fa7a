//! A client without a game: it enters a match of a running node with a ticket and prints what it is
//! told, for ten seconds or until the match ends. Kill the node and start it again meanwhile: the
//! session goes on.
//!
//! ```console
//! $ cargo run --release &
//! $ TICKET=$(cargo run --release -- ticket issue --player 42)
//! $ cargo run --example client -- 127.0.0.1:7777 "$TICKET"
//! ```

use std::error::Error;
use std::time::Duration;

use rekindle_client::{Client, ClientConfig, ClientEvent, Trust};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(addr), Some(ticket)) = (arguments.next(), arguments.next()) else {
        return Err("give the address of a node and a ticket: client ADDR TICKET".into());
    };
    // With a third argument, the DER file that the node shows its certificate in, only that node is
    // trusted. Without one anybody on the path could answer: for experiments on one machine.
    let trust = match arguments.next() {
        Some(file) => Trust::Certificate(std::fs::read(file)?),
        None => Trust::InsecureAnyServer,
    };
    let config = ClientConfig::new(vec![addr.parse()?], trust, ticket.trim());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let watched = tokio::time::timeout(Duration::from_secs(10), watch(config));
        watched.await.unwrap_or(Ok(()))
    })
}

/// Prints events until the client has stopped.
async fn watch(config: ClientConfig) -> Result<(), Box<dyn Error>> {
    let mut client = Client::connect(config)?;
    while let Some(event) = client.event().await {
        match event {
            ClientEvent::Welcome(welcome) => {
                println!(
                    "in match {} of `{}`, {} ticks a second",
                    welcome.match_id, welcome.game, welcome.tick_rate
                );
            }
            ClientEvent::Snapshot(snapshot) if snapshot.header.tick.0.is_multiple_of(30) => {
                println!(
                    "tick {}: {} entities, durable up to tick {}",
                    snapshot.header.tick,
                    snapshot.view.entities.len(),
                    snapshot.header.durable
                );
            }
            ClientEvent::Disconnected { reason } => println!("away: {reason}"),
            ClientEvent::Resumed { outage, .. } => println!("back after {} ms", outage.as_millis()),
            ClientEvent::Moved { from, to, gap } => {
                println!("moved from {from} to {to} in {} ms", gap.as_millis());
            }
            ClientEvent::EventsMissed { from, to } => println!("events of {from} to {to} missed"),
            ClientEvent::Ended { reason } => println!("the match is over: {reason}"),
            ClientEvent::Closed { message, .. } => println!("closed: {message}"),
            _ => {}
        }
    }
    Ok(())
}
