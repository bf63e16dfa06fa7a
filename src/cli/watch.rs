//! `rekindle watch`: a live match in the terminal, over the same port as any player. Elsewhere than
//! on a terminal, a line a second.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rekindle_actors::Games;
use rekindle_client::{Client, ClientEvent};
use rekindle_schema::MatchId;
use rekindle_schema::wire::Welcome;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::access::Access;
use super::context::{Context, block_on};
use super::matches;
use crate::exit::{Exit, Failure};
use crate::screen::draw::Pane;
use crate::screen::picture::Picture;
use crate::screen::terminal::{Screen, asked_to_end};
use crate::text::plain;

const FRAME: Duration = Duration::from_millis(50);
const LINE: Duration = Duration::from_secs(1);
/// With a time to watch for, the match is waited for so long, or for that time.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn run(
    context: &Context,
    prefix: Option<&str>,
    seconds: Option<u64>,
) -> Result<Exit, Failure> {
    block_on(async {
        let access = Access::find(context, None).await?;
        let found = matches::find(&access.node, prefix).await?;
        let match_id: MatchId = found.id.parse()?;
        let mut config = access.spectator(match_id).await?;
        let time = seconds.map(Duration::from_secs);
        if let Some(time) = time {
            // Whoever gives a time does not want to wait much longer than that, and is told why
            // there is nothing to see.
            config.timing.give_up = config.timing.give_up.min(time.max(PATIENCE));
        }
        let client = Client::connect(config)?;
        // From here on a signal no longer ends the process by itself: it would leave the terminal
        // as it is.
        let signals = asked_to_end()?;
        let screen = if context.common.json { None } else { Screen::enter()? };
        let seen = Seen::nothing(match_id, access.addr);
        tokio::select! {
            biased;
            () = signals => Ok(Exit::Done),
            shown = show(context, client, seen, screen, time) => shown,
        }
    })
}

/// What is known of the match so far.
struct Seen {
    match_id: MatchId,
    /// Where it is dialled.
    addr: SocketAddr,
    welcome: Option<Arc<Welcome>>,
    picture: Option<Picture>,
    entities: usize,
    beat: String,
    note: String,
    /// How the match ended.
    over: Option<String>,
}

async fn show(
    context: &Context,
    mut client: Client,
    mut seen: Seen,
    mut screen: Option<Screen>,
    time: Option<Duration>,
) -> Result<Exit, Failure> {
    // The time begins with the first picture.
    let mut end = None;
    let mut timer = interval(if screen.is_some() { FRAME } else { LINE });
    timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
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
                end = end.or_else(|| seen.welcome.as_ref().and(time).map(|time| Instant::now() + time));
            }
            event = client.event() => match event {
                Some(ClientEvent::Closed { message, .. }) => {
                    drop(screen);
                    return seen.last_words(context, &message);
                }
                Some(event) => seen.take(&context.games, event),
                None => {
                    drop(screen);
                    return seen.last_words(context, "the client stopped");
                }
            },
        }
    }
}

impl Seen {
    fn nothing(match_id: MatchId, addr: SocketAddr) -> Self {
        let (beat, note) = (String::new(), String::new());
        Self { match_id, addr, welcome: None, picture: None, entities: 0, beat, note, over: None }
    }

    fn take(&mut self, games: &Games, event: ClientEvent) {
        match event {
            ClientEvent::Welcome(welcome) => self.welcome = Some(welcome),
            ClientEvent::Resumed { welcome, outage } => {
                self.note = format!("back after {} ms", outage.as_millis());
                self.welcome = Some(welcome);
            }
            ClientEvent::Snapshot(snapshot) => {
                self.entities = snapshot.view.entities.len();
                self.picture = self
                    .welcome
                    .as_ref()
                    .and_then(|welcome| Picture::of(games, welcome, &snapshot.view));
            }
            ClientEvent::Beat { tick, hash } => {
                self.beat = format!("hash {} at tick {tick}", &hash.to_string()[..16]);
            }
            ClientEvent::Disconnected { reason } => self.note = format!("no connection: {reason}"),
            ClientEvent::Ended { reason } => {
                self.note = format!("the match is over: {reason}");
                self.over = Some(reason);
            }
            _ => {}
        }
    }

    /// Says why there is nothing more to see. Only the end of the match is what was waited for.
    fn last_words(&self, context: &Context, message: &str) -> Result<Exit, Failure> {
        if let Some(reason) = &self.over {
            let value = serde_json::json!({
                "match": self.match_id.to_string(), "tick": self.tick(), "over": reason,
            });
            context.answer(&value, || {
                vec![format!("match {} is over: {reason}", self.match_id.short())]
            })?;
            return Ok(Exit::Done);
        }
        if self.welcome.is_none() {
            return Err(self.never_seen(message));
        }
        Err(Failure::new(Exit::Failed, coded(message)))
    }

    fn never_seen(&self, why: &str) -> Failure {
        let note = if self.note.is_empty() { String::new() } else { format!(" ({})", self.note) };
        let (id, addr) = (self.match_id.short(), self.addr);
        Failure::new(
            Exit::Failed,
            format!("RK-CLI-146: nothing was seen of match {id} at UDP {addr}: {why}{note}"),
        )
    }

    fn tick(&self) -> u64 {
        self.picture.as_ref().map_or(0, |picture| picture.tick.0)
    }
}

fn pane(seen: &Seen) -> Pane {
    let title = seen.welcome.as_ref().map_or_else(
        || format!("connecting to UDP {}", seen.addr),
        |welcome| {
            format!(
                "match {} ({}), tick {}, epoch {}",
                welcome.match_id.short(),
                welcome.game,
                seen.tick(),
                welcome.epoch
            )
        },
    );
    Pane { title: plain(&title).into_owned(), picture: seen.picture.clone() }
}

fn footer(seen: &Seen) -> String {
    plain(&format!("{} entities   {}   {}   q ends", seen.entities, seen.beat, seen.note))
        .into_owned()
}

fn line(context: &Context, seen: &Seen) -> Result<(), Failure> {
    let Some(welcome) = &seen.welcome else {
        let (id, addr, note) = (seen.match_id, seen.addr, &seen.note);
        let value = serde_json::json!({
            "match": id.to_string(), "waiting_for": addr.to_string(), "note": note,
        });
        let note = if note.is_empty() { String::new() } else { format!(": {note}") };
        return context.answer(&value, || {
            vec![format!("waiting for match {} at UDP {addr}{note}", id.short())]
        });
    };
    let value = serde_json::json!({
        "match": welcome.match_id.to_string(), "game": welcome.game,
        "epoch": welcome.epoch, "tick": seen.tick(),
        "entities": seen.entities, "beat": seen.beat, "note": seen.note,
    });
    context.answer(&value, || {
        let (id, tick, epoch) = (welcome.match_id.short(), seen.tick(), welcome.epoch);
        let extra = [&seen.beat, &seen.note]
            .map(|text| if text.is_empty() { String::new() } else { format!(", {text}") })
            .concat();
        vec![format!("match {id} at tick {tick}, epoch {epoch}: {} entities{extra}", seen.entities)]
    })
}

/// What a server or the client said, with a code in front if it has none.
pub(super) fn coded(message: &str) -> String {
    if message.starts_with("RK-") {
        return message.to_owned();
    }
    format!(
        "RK-CLI-147: {}",
        if message.is_empty() { "the connection ended and nobody said why" } else { message }
    )
}
