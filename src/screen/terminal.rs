//! The terminal as a drawing surface: entered when made, given back when dropped, also on a panic.

use std::io::{self, IsTerminal};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};

use super::draw::{self, Pane};

/// A terminal that shows scenes.
pub struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal over. `None` if standard output is none.
    pub fn enter() -> io::Result<Option<Self>> {
        if !io::stdout().is_terminal() {
            return Ok(None);
        }
        Ok(Some(Self { terminal: ratatui::try_init()? }))
    }

    /// Draws one frame.
    pub fn draw(&mut self, panes: &[Pane], timeline: &[String], footer: &str) -> io::Result<()> {
        self.terminal.draw(|frame| draw::scene(frame, panes, timeline, footer)).map(|_| ())
    }

    /// Whether the user has pressed q, Esc or Ctrl-C since the last call. Returns at once.
    pub fn quit_pressed(&self) -> io::Result<bool> {
        while event::poll(Duration::ZERO)? {
            if let Event::Key(key) = event::read()? {
                let control_c =
                    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Resolves when somebody asks the process to end: SIGINT, SIGTERM, or SIGHUP because the terminal
/// is closed. From this call on these signals do not end the process by themselves, so that a
/// [`Screen`] is dropped and gives the terminal back.
pub fn asked_to_end() -> io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate, mut hangup) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    );
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
