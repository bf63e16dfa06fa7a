//! Lays pictures and a timeline out on a ratatui frame.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::symbols::Marker;
use ratatui::text::Line;
use ratatui::widgets::canvas::{self, Canvas, Circle, Context, Points, Rectangle};
use ratatui::widgets::{Block, Paragraph};
use rekindle_schema::PlayerId;
use rekindle_sim::sketch::{Ink, Shape, Sketch};

use super::picture::Picture;
use crate::text::plain;

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
        Layout::vertical([Constraint::Min(5), Constraint::Length(below), Constraint::Length(1)])
            .areas(frame.area());
    let columns = Layout::horizontal(panes.iter().map(|_| Constraint::Fill(1))).split(above);
    for (pane, area) in panes.iter().zip(columns.iter()) {
        match_pane(frame, pane, *area);
    }
    if below > 0 {
        let tail = timeline[timeline.len() - usize::from(lines)..]
            .iter()
            .map(|line| Line::raw(line.as_str()));
        frame.render_widget(
            Paragraph::new(tail.collect::<Vec<_>>()).block(Block::bordered().title(" timeline ")),
            middle,
        );
    }
    frame.render_widget(Paragraph::new(footer).style(Style::new().fg(Color::DarkGray)), last);
}

fn match_pane(frame: &mut Frame<'_>, pane: &Pane, area: Rect) {
    let block = Block::bordered().title(format!(" {} ", pane.title));
    let Some(picture) = &pane.picture else {
        frame.render_widget(Paragraph::new("waiting for the match").block(block), area);
        return;
    };
    let sketch = &picture.sketch;
    let [drawing, board] =
        Layout::vertical([Constraint::Min(5), Constraint::Length(board_lines(sketch, area))])
            .areas(block.inner(area));
    frame.render_widget(block.title_bottom(format!(" {} ", plain(&sketch.title))), area);
    let wide = |range: [f32; 2]| [f64::from(range[0]), f64::from(range[1])];
    let canvas = Canvas::default()
        .marker(Marker::Braille)
        .x_bounds(wide(sketch.x))
        .y_bounds(wide(sketch.y))
        .paint(|context| {
            for shape in &sketch.shapes {
                draw(context, shape);
            }
        });
    frame.render_widget(canvas, drawing);
    let lines = sketch.board.iter().take(usize::from(board.height)).map(|(player, text)| {
        Line::styled(
            format!("{:<9} {}", tag(*player), plain(text)),
            Style::new().fg(color(Ink::Player(*player))),
        )
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), board);
}

/// How many lines of the board there is room for.
fn board_lines(sketch: &Sketch, area: Rect) -> u16 {
    u16::try_from(sketch.board.len()).unwrap_or(u16::MAX).min(area.height / 6)
}

/// A short name for a player: the last digits tell players of one match apart.
fn tag(player: PlayerId) -> String {
    format!("player {}", player.0 % 1000)
}

fn color(ink: Ink) -> Color {
    match ink {
        Ink::Still => Color::Gray,
        Ink::Kind(kind) => KINDS[usize::from(kind) % KINDS.len()],
        Ink::Player(player) => PLAYERS[(player.0 % PLAYERS.len() as u64) as usize],
    }
}

fn draw(context: &mut Context<'_>, shape: &Shape) {
    match *shape {
        Shape::Point { at: [x, y], ink } => {
            context.draw(&Points { coords: &[(x.into(), y.into())], color: color(ink) });
        }
        Shape::Circle { at: [x, y], radius, ink } => {
            context.draw(&Circle {
                x: x.into(),
                y: y.into(),
                radius: radius.into(),
                color: color(ink),
            });
        }
        Shape::Line { from: [x1, y1], to: [x2, y2], ink } => {
            context.draw(&canvas::Line {
                x1: x1.into(),
                y1: y1.into(),
                x2: x2.into(),
                y2: y2.into(),
                color: color(ink),
            });
        }
        Shape::Rectangle { min, max, ink } => {
            let (width, height) = ((max[0] - min[0]).into(), (max[1] - min[1]).into());
            context.draw(&Rectangle {
                x: min[0].into(),
                y: min[1].into(),
                width,
                height,
                color: color(ink),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use rekindle_schema::Tick;

    use super::*;

    #[test]
    fn a_scene_shows_titles_players_and_the_newest_lines() {
        let (ink, at) = (Ink::Player(PlayerId(1)), [0.0, 0.0]);
        let shapes = vec![
            Shape::Rectangle { min: [-1.0, -1.0], max: [1.0, 1.0], ink: Ink::Still },
            Shape::Circle { at, radius: 0.1, ink },
        ];
        let board = vec![(PlayerId(1), "7 kills".to_owned())];
        let sketch =
            Sketch { x: [-1.0, 1.0], y: [-1.0, 1.0], title: "live".to_owned(), shapes, board };
        let picture = Picture { tick: Tick(1), sketch };
        let panes = [
            Pane { title: "match 7f3a91c2".into(), picture: Some(picture) },
            Pane { title: "other".into(), picture: None },
        ];
        let timeline: Vec<String> = (0..30).map(|i| format!("line {i}")).collect();
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| scene(frame, &panes, &timeline, "q ends")).unwrap();
        let text = terminal.backend().to_string();
        for part in [
            "match 7f3a91c2",
            "live",
            "player 1",
            "7 kills",
            "waiting for the match",
            "line 29",
            "q ends",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(
            !text.contains("line 0\n")
                && text.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c))
        );
    }
}
