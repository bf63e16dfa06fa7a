//! From a networked view to something to draw: the game's own sketch if this executable knows the
//! game, otherwise points on a plane, by the schema's position columns and by which components an
//! entity has.

use std::collections::BTreeMap;

use rekindle_actors::Games;
use rekindle_schema::net::{FieldKind, NetSchema, NetView};
use rekindle_schema::wire::Welcome;
use rekindle_schema::{PlayerId, Tick};
use rekindle_sim::sketch::{Ink, Shape, Sketch};

/// All that is drawn of a match.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Of which tick.
    pub tick: Tick,
    /// What to draw.
    pub sketch: Sketch,
}

impl Picture {
    /// What `view` shows of the match that `welcome` describes. `None` if the game has neither a
    /// sketch nor positions.
    pub fn of(games: &Games, welcome: &Welcome, view: &NetView) -> Option<Self> {
        // A game of another build may have another schema: then its own way to draw does not apply.
        let known =
            games.get(&welcome.game).ok().filter(|game| *game.net_schema() == welcome.schema);
        let sketch = known
            .and_then(|game| game.sketch(view, &welcome.config))
            .or_else(|| positions(&welcome.schema, view))?;
        Some(Self { tick: view.tick, sketch })
    }
}

/// Entities that have a position: a circle for those that a player steers, a point for the others,
/// by kind.
fn positions(schema: &NetSchema, view: &NetView) -> Option<Sketch> {
    let (x, y) = schema.position?;
    let kinds: Vec<FieldKind> = schema.columns().map(|field| field.kind).collect();
    let (x_kind, y_kind) = (*kinds.get(usize::from(x))?, *kinds.get(usize::from(y))?);
    let holder = component_of(schema, usize::from(x))?;
    let (width, height) = (range(x_kind), range(y_kind));
    let radius = (width[1] - width[0]) / 120.0;
    let players: BTreeMap<u32, PlayerId> =
        view.avatars.iter().map(|&(player, slot)| (slot, player)).collect();
    // Entities with the same components are of one kind: 0, 1, 2 in order of appearance.
    let mut masks: Vec<u32> = Vec::new();
    let mut shapes = Vec::with_capacity(view.entities.len());
    for (index, entity) in view
        .entities
        .iter()
        .enumerate()
        .filter(|(_, entity)| entity.components & (1 << holder) != 0)
    {
        let row = view.row(index, kinds.len());
        let kind = masks.iter().position(|&mask| mask == entity.components).unwrap_or_else(|| {
            masks.push(entity.components);
            masks.len() - 1
        });
        let at = [value(x_kind, row[usize::from(x)]), value(y_kind, row[usize::from(y)])];
        shapes.push(match players.get(&entity.slot) {
            Some(player) => Shape::Circle { at, radius, ink: Ink::Player(*player) },
            None => Shape::Point { at, ink: Ink::Kind(kind as u8) },
        });
    }
    Some(Sketch { x: width, y: height, title: String::new(), shapes, board: Vec::new() })
}

/// Which component column `column` belongs to.
fn component_of(schema: &NetSchema, column: usize) -> Option<usize> {
    let mut end = 0;
    schema.components.iter().position(|component| {
        end += component.fields.len();
        column < end
    })
}

fn range(kind: FieldKind) -> [f32; 2] {
    match kind {
        FieldKind::Float { min, max, .. } => [min, max],
        FieldKind::Angle { .. } => [-std::f32::consts::PI, std::f32::consts::PI],
        FieldKind::Unsigned { bits } => [0.0, 2f32.powi(i32::from(bits))],
        FieldKind::Bool => [0.0, 1.0],
    }
}

fn value(kind: FieldKind, quantum: u32) -> f32 {
    let [low, high] = range(kind);
    let steps = match kind {
        FieldKind::Float { bits, .. } => 2f32.powi(i32::from(bits)) - 1.0,
        FieldKind::Angle { bits } | FieldKind::Unsigned { bits } => 2f32.powi(i32::from(bits)),
        FieldKind::Bool => 1.0,
    };
    low + quantum as f32 / steps * (high - low)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rekindle_arena::Arena;
    use rekindle_schema::net::{NetComponent, NetEntity, NetField};
    use rekindle_schema::{Epoch, MatchId, SessionId};
    use rekindle_sim::{GameType, Harness, Simulation, Typed};

    use super::*;

    fn welcome(game: &str, schema: NetSchema) -> Welcome {
        Welcome {
            match_id: MatchId(1),
            game: game.to_owned(),
            epoch: Epoch(1),
            tick: Tick(0),
            tick_rate: 30,
            player: PlayerId(1),
            session: SessionId(1),
            resumed: false,
            resume_token: String::new(),
            next_input: 1,
            next_command: 1,
            schema,
            config: bytes::Bytes::from_static(b"{}"),
        }
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "these numbers are exact")]
    fn entities_of_an_unknown_game_stand_where_the_schema_says() {
        let float = |name: &str| NetField {
            name: name.into(),
            kind: FieldKind::Float { min: -10.0, max: 10.0, bits: 8 },
            rate: None,
        };
        let flag = NetField { name: "on".into(), kind: FieldKind::Bool, rate: None };
        let component = |name: &str, fields| NetComponent { name: name.into(), fields };
        let schema = NetSchema {
            components: vec![
                component("lit", vec![flag]),
                component("place", vec![float("x"), float("y")]),
            ],
            position: Some((1, 2)),
        };
        let entity = |slot, components| NetEntity { slot, generation: 0, components };
        let view = NetView {
            tick: Tick(3),
            entities: vec![entity(0, 0b11), entity(4, 0b01), entity(5, 0b10)],
            values: vec![1, 0, 255, 1, 9, 9, 0, 255, 0],
            avatars: vec![(PlayerId(8), 5)],
            restricted: None,
        };
        let picture = Picture::of(&Games::new(), &welcome("other", schema), &view).unwrap();
        assert_eq!(picture.sketch.x, [-10.0, 10.0]);
        let radius = 20.0 / 120.0;
        let steered = Shape::Circle { at: [10.0, -10.0], radius, ink: Ink::Player(PlayerId(8)) };
        assert_eq!(
            picture.sketch.shapes,
            [Shape::Point { at: [-10.0, 10.0], ink: Ink::Kind(0) }, steered]
        );
        assert_eq!(
            Picture::of(&Games::new(), &welcome("other", NetSchema::default()), &view),
            None
        );
    }

    #[test]
    fn a_known_game_draws_itself_unless_its_schema_is_another() {
        let fight = Harness::<Arena>::new(1).bots(4).run(10);
        let mut view = NetView::default();
        fight.simulation().extract(&mut view);
        let game = Arc::new(Typed::<Arena>::new().unwrap());
        let mut schema = game.net_schema().clone();
        let games = Games::new().with(game);
        let drawn = |schema: &NetSchema| {
            Picture::of(&games, &welcome("arena", schema.clone()), &view).unwrap().sketch
        };
        assert_eq!(drawn(&schema).board.len(), 4);
        schema.components[0].name = "renamed".to_owned();
        assert_eq!(drawn(&schema).board.len(), 0);
    }
}
