//! Where a demo is seen: the fight and a timeline on a terminal, lines elsewhere, nothing with
//! `--json`.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_actors::Games;
use rekindle_client::{Client, ClientEvent};
use rekindle_schema::MatchId;
use rekindle_schema::wire::Welcome;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::exit::Failure;
use crate::output;
use crate::screen::draw::Pane;
use crate::screen::picture::Picture;
use crate::screen::terminal::Screen;
use crate::text::plain;

const FRAME: Duration = Duration::from_millis(50);

/// One match as a spectator sees it.
#[derive(Default)]
struct Seat {
    match_id: MatchId,
    title: String,
    picture: Option<Picture>,
}

/// What is shown. Shared by the script, which tells, and the drawing loop.
pub struct Stage {
    start: Instant,
    quiet: bool,
    games: Games,
    screen: Mutex<Option<Screen>>,
    seats: Mutex<Vec<Arc<Mutex<Seat>>>>,
    timeline: Mutex<Vec<String>>,
    footer: Mutex<String>,
}

impl Stage {
    /// Takes the terminal over if there is one and `quiet` is not asked for. `games` know how their
    /// matches are drawn.
    pub fn open(quiet: bool, games: Games) -> std::io::Result<Self> {
        let screen = if quiet { None } else { Screen::enter()? };
        Ok(Self {
            start: Instant::now(),
            quiet,
            games,
            screen: Mutex::new(screen),
            seats: Mutex::default(),
            timeline: Mutex::default(),
            footer: Mutex::default(),
        })
    }

    /// Whether a terminal shows pictures.
    pub fn has_screen(&self) -> bool {
        self.screen.lock().is_some()
    }

    /// Something happened.
    pub fn tell(&self, what: &str) {
        let line = format!("{:>6.2} s  {}", self.start.elapsed().as_secs_f64(), plain(what));
        if !self.quiet && !self.has_screen() {
            output::milestone(&line);
        }
        self.timeline.lock().push(line);
    }

    /// The line below everything.
    pub fn foot(&self, words: String) {
        *self.footer.lock() = words;
    }

    /// Shows what a spectator's client sees, in the pane of a match that has ended or as one more.
    /// The task ends with the client.
    pub fn seat(&self, match_id: MatchId, instead_of: Option<MatchId>, mut client: Client) {
        let seat = Arc::new(Mutex::new(Seat {
            match_id,
            title: format!("match {}", match_id.short()),
            picture: None,
        }));
        let mut seats = self.seats.lock();
        match seats.iter_mut().find(|seat| Some(seat.lock().match_id) == instead_of) {
            Some(pane) => *pane = Arc::clone(&seat),
            None => seats.push(Arc::clone(&seat)),
        }
        drop(seats);
        let games = self.games.clone();
        tokio::spawn(async move {
            let mut welcome: Option<Arc<Welcome>> = None;
            while let Some(event) = client.event().await {
                match event {
                    ClientEvent::Welcome(new) | ClientEvent::Resumed { welcome: new, .. } => {
                        welcome = Some(new);
                    }
                    ClientEvent::Snapshot(snapshot) => {
                        let Some(welcome) = &welcome else { continue };
                        let mut seat = seat.lock();
                        let tick = snapshot.header.tick;
                        seat.title = format!(
                            "match {}  tick {tick}  epoch {}",
                            match_id.short(),
                            snapshot.header.epoch
                        );
                        seat.picture = Picture::of(&games, welcome, &snapshot.view);
                    }
                    ClientEvent::Disconnected { .. } => {
                        seat.lock().title = format!("match {}  NODE DEAD", match_id.short());
                    }
                    _ => {}
                }
            }
        });
    }

    /// Draws until the user has had enough; without a terminal, never ends.
    pub async fn draw(&self) -> Result<(), Failure> {
        if !self.has_screen() {
            return std::future::pending().await;
        }
        let mut timer = interval(FRAME);
        timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            timer.tick().await;
            let panes: Vec<Pane> = self
                .seats
                .lock()
                .iter()
                .map(|seat| {
                    let seat = seat.lock();
                    Pane { title: seat.title.clone(), picture: seat.picture.clone() }
                })
                .collect();
            let timeline = self.timeline.lock().clone();
            let footer = self.footer.lock().clone();
            let mut screen = self.screen.lock();
            let Some(screen) = screen.as_mut() else { return Ok(()) };
            if screen.quit_pressed()? {
                return Ok(());
            }
            screen.draw(&panes, &timeline, &footer)?;
        }
    }

    /// Gives the terminal back and prints the timeline that was on it.
    pub fn close(&self) {
        if self.screen.lock().take().is_some() {
            self.timeline.lock().iter().for_each(|line| output::milestone(line));
        }
    }
}
