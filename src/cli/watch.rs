//! `rekindle watch`: a live match in the terminal, over the same port as any player. Elsewhere than on a terminal, a line a second.

use std::sync::Arc;
use std::time::Duration;

use rekindle_actors::Games;
use rekindle_client::{Client, ClientEvent};
use rekindle_schema::MatchId;
use rekindle_schema::wire::Welcome;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::access::Access;
use super::exit::{Exit, Failure};
use super::{Context, block_on, matches};
use crate::screen::draw::Pane;
use crate::screen::picture::Picture;
use crate::screen::terminal::Screen;

const FRAME: Duration = Duration::from_millis(50);
const LINE: Duration = Duration::from_secs(1);

pub(super) fn run(context: &Context, prefix: Option<&str>, seconds: Option<u64>) -> Result<Exit, Failure> {
    block_on(async {
        let access = Access::find(context, None).await?;
        let found = matches::find(&access.node, prefix).await?;
        let match_id: MatchId = found.id.parse()?;
        let client = Client::connect(access.spectator(match_id).await?)?;
        let screen = if context.common.json { None } else { Screen::enter()? };
        let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        show(context, client, screen, end).await
    })
}

/// What is known of the match so far.
#[derive(Default)]
struct Seen {
    welcome: Option<Arc<Welcome>>,
    picture: Option<Picture>,
    entities: usize,
    beat: String,
    note: String,
}

async fn show(context: &Context, mut client: Client, mut screen: Option<Screen>, end: Option<Instant>) -> Result<Exit, Failure> {
    let mut timer = interval(if screen.is_some() { FRAME } else { LINE });
    timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut seen = Seen::default();
    loop {
        tokio::select! {
            biased;
            _ = timer.tick() => {
                match &mut screen {
                    Some(screen) => {
                        if screen.quit_pressed()? {
                            return Ok(Exit::Done);
                        }
                        screen.draw(&[pane(&seen)], &[], &footer(&seen))?;
                    }
                    None => line(context, &seen)?,
                }
                if end.is_some_and(|end| Instant::now() >= end) {
                    return Ok(Exit::Done);
                }
            }
            event = client.event() => match event {
                Some(ClientEvent::Closed { message, code }) => {
                    drop(screen);
                    let ended = code.is_none() || message.is_empty();
                    return if ended { Ok(Exit::Done) } else { Err(Failure::new(Exit::Failed, message)) };
                }
                Some(event) => seen.take(&context.games, event),
                None => return Ok(Exit::Done),
            },
        }
    }
}

impl Seen {
    fn take(&mut self, games: &Games, event: ClientEvent) {
        match event {
            ClientEvent::Welcome(welcome) => self.welcome = Some(welcome),
            ClientEvent::Resumed { welcome, outage } => {
                self.note = format!("back after {} ms", outage.as_millis());
                self.welcome = Some(welcome);
            }
            ClientEvent::Snapshot(snapshot) => {
                self.entities = snapshot.view.entities.len();
                self.picture = self.welcome.as_ref().and_then(|welcome| Picture::of(games, welcome, &snapshot.view));
            }
            ClientEvent::Beat { tick, hash } => self.beat = format!("hash {} at tick {tick}", &hash.to_string()[..16]),
            ClientEvent::Disconnected { reason } => self.note = format!("no connection: {reason}"),
            ClientEvent::Ended { reason } => self.note = format!("the match is over: {reason}"),
            _ => {}
        }
    }

    fn tick(&self) -> u64 {
        self.picture.as_ref().map_or(0, |picture| picture.tick.0)
    }
}

fn pane(seen: &Seen) -> Pane {
    let title = seen.welcome.as_ref().map_or_else(
        || "connecting".to_owned(),
        |welcome| format!("match {} ({}), tick {}, epoch {}", welcome.match_id.short(), welcome.game, seen.tick(), welcome.epoch),
    );
    Pane { title, picture: seen.picture.clone() }
}

fn footer(seen: &Seen) -> String {
    format!("{} entities   {}   {}   q ends", seen.entities, seen.beat, seen.note)
}

fn line(context: &Context, seen: &Seen) -> Result<(), Failure> {
    let Some(welcome) = &seen.welcome else { return Ok(()) };
    let value = serde_json::json!({
        "match": welcome.match_id.to_string(), "game": welcome.game, "epoch": welcome.epoch, "tick": seen.tick(),
        "entities": seen.entities, "beat": seen.beat, "note": seen.note,
    });
    context.answer(&value, || {
        let (id, tick, epoch) = (welcome.match_id.short(), seen.tick(), welcome.epoch);
        let extra = [&seen.beat, &seen.note].map(|text| if text.is_empty() { String::new() } else { format!(", {text}") }).concat();
        format!("match {id} at tick {tick}, epoch {epoch}: {} entities{extra}", seen.entities)
    })
}
