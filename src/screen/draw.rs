//! Lays pictures and a timeline out on a ratatui frame.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::symbols::Marker;
use ratatui::text::Line;
use ratatui::widgets::canvas::{Canvas, Circle, Points};
use ratatui::widgets::{Block, Paragraph};

use super::picture::Picture;

const PLAYERS: [Color; 8] = [
    Color::LightRed,
    Color::LightGreen,
    Color::LightYellow,
    Color::LightBlue,
    Color::LightMagenta,
    Color::LightCyan,
    Color::White,
    Color::Green,
];
const KINDS: [Color; 4] = [Color::DarkGray, Color::Yellow, Color::Cyan, Color::Magenta];

/// One pane: a match with a title.
pub struct Pane {
    /// Above the picture.
    pub title: String,
    /// `None` while nothing has arrived.
    pub picture: Option<Picture>,
}

/// Panes side by side, below them the last lines of a timeline.
pub fn scene(frame: &mut Frame<'_>, panes: &[Pane], timeline: &[String], footer: &str) {
    let lines = u16::try_from(timeline.len()).unwrap_or(u16::MAX).min(frame.area().height / 3);
    let below = if timeline.is_empty() { 0 } else { lines + 2 };
    let [above, middle, last] =
        Layout::vertical([Constraint::Min(5), Constraint::Length(below), Constraint::Length(1)]).areas(frame.area());
    let columns = Layout::horizontal(panes.iter().map(|_| Constraint::Fill(1))).split(above);
    for (pane, area) in panes.iter().zip(columns.iter()) {
        match_pane(frame, pane, *area);
    }
    if below > 0 {
        let tail = timeline[timeline.len() - usize::from(lines)..].iter().map(|line| Line::raw(line.as_str()));
        frame.render_widget(Paragraph::new(tail.collect::<Vec<_>>()).block(Block::bordered().title(" timeline ")), middle);
    }
    frame.render_widget(Paragraph::new(footer).style(Style::new().fg(Color::DarkGray)), last);
}

fn match_pane(frame: &mut Frame<'_>, pane: &Pane, area: Rect) {
    let block = Block::bordered().title(format!(" {} ", pane.title));
    let Some(picture) = &pane.picture else {
        frame.render_widget(Paragraph::new("waiting for the match").block(block), area);
        return;
    };
    let radius = (picture.x[1] - picture.x[0]) / 120.0;
    let canvas = Canvas::default().block(block).marker(Marker::Braille).x_bounds(picture.x).y_bounds(picture.y).paint(|context| {
        for dot in &picture.dots {
            match dot.player {
                Some(player) => {
                    let color = PLAYERS[(player.0 % PLAYERS.len() as u64) as usize];
                    context.draw(&Circle { x: dot.x, y: dot.y, radius, color });
                }
                None => context.draw(&Points { coords: &[(dot.x, dot.y)], color: KINDS[dot.kind % KINDS.len()] }),
            }
        }
    });
    frame.render_widget(canvas, area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use rekindle_schema::{PlayerId, Tick};

    use super::*;
    use crate::screen::picture::Dot;

    #[test]
    fn a_scene_shows_titles_players_and_the_newest_lines() {
        let dots = vec![Dot { x: 0.0, y: 0.0, kind: 0, player: Some(PlayerId(1)) }];
        let picture = Picture { tick: Tick(1), x: [-1.0, 1.0], y: [-1.0, 1.0], dots, kinds: vec!["place".into()], players: 1 };
        let panes = [Pane { title: "match 7f3a91c2".into(), picture: Some(picture) }, Pane { title: "other".into(), picture: None }];
        let timeline: Vec<String> = (0..30).map(|i| format!("line {i}")).collect();
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| scene(frame, &panes, &timeline, "q ends")).unwrap();
        let text = terminal.backend().to_string();
        for part in ["match 7f3a91c2", "waiting for the match", "line 29", "q ends"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("line 0\n") && text.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)));
    }
}
