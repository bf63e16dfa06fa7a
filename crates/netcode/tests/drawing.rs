//! What a client does with what it got: interpolation and prediction; and the server's rewind.

mod motion;

use std::sync::Arc;

use motion::Motion;
use rekindle_netcode::{Interpolator, Predictor, clamp_view, rewind_ticks, sample};
use rekindle_schema::Tick;
use rekindle_schema::net::{FieldKind, NetComponent, NetEntity, NetField, NetSchema, NetView};

fn one_angle() -> NetSchema {
    let field = NetField { name: "aim".into(), kind: FieldKind::Angle { bits: 8 }, rate: None };
    let state =
        NetField { name: "state".into(), kind: FieldKind::Unsigned { bits: 8 }, rate: None };
    NetSchema {
        components: vec![NetComponent { name: "aim".into(), fields: vec![field, state] }],
        position: None,
    }
}

fn view(tick: u64, entities: &[(u32, u32, u32)]) -> NetView {
    NetView {
        tick: Tick(tick),
        entities: entities
            .iter()
            .map(|&(slot, generation, _)| NetEntity { slot, generation, components: 1 })
            .collect(),
        values: entities.iter().flat_map(|&(_, _, value)| [value, value]).collect(),
        ..NetView::default()
    }
}

#[test]
#[expect(clippy::float_cmp, reason = "these numbers are exact")]
fn angles_turn_the_shorter_way() {
    // 250 and 6 of 256: over the seam, 12 steps apart.
    let scene = sample(&one_angle(), &view(1, &[(0, 1, 250)]), &view(2, &[(0, 1, 6)]), 0.5);
    let step = std::f32::consts::TAU / 256.0;
    assert!(
        (scene.values[0].abs() - std::f32::consts::PI).abs() < 2.5 * step,
        "{}",
        scene.values[0]
    );
    assert!((-std::f32::consts::PI..std::f32::consts::PI).contains(&scene.values[0]));
    assert_eq!(scene.values[1], 250.0, "what is no measure does not blend");
}

#[test]
#[expect(clippy::float_cmp, reason = "these numbers are exact")]
fn another_entity_in_the_slot_is_not_blended_with_the_one_before() {
    let (a, b) = (view(1, &[(0, 1, 10), (4, 1, 10)]), view(2, &[(0, 2, 90), (7, 1, 90)]));
    let scene = sample(&one_angle(), &a, &b, 0.9);
    assert_eq!(scene.entities, a.entities);
    assert_eq!(scene.values[1], 10.0);
    assert_eq!(sample(&one_angle(), &a, &b, 1.0).entities, b.entities);
}

#[test]
fn any_moment_can_be_sampled() {
    let mut motion = Motion::new(5, 20);
    let mut buffer = Interpolator::new(motion.schema.clone());
    assert!(buffer.sample(3.0).is_none());
    let mut views: Vec<Arc<NetView>> = (0..10)
        .map(|_| {
            motion.step();
            motion.view()
        })
        .collect();
    views.swap(3, 6);
    // Tick 8 never arrives.
    views.iter().filter(|view| view.tick.0 != 8).for_each(|view| buffer.push(view.clone()));
    let stride = motion.schema.stride();
    for (at, expected) in
        [(0.2, 1.0), (1.0, 1.0), (4.25, 4.25), (7.5, 7.5), (8.5, 8.5), (10.0, 10.0), (11.0, 10.0)]
    {
        let scene = buffer.sample(at).expect("views are there");
        assert!((scene.tick - expected).abs() < 1e-9, "asked for {at}, got {}", scene.tick);
        assert_eq!(scene.values.len(), scene.entities.len() * stride);
        let slot = scene.entities.last().expect("not empty").slot;
        assert_eq!(scene.index_of(slot), Some(scene.entities.len() - 1));
    }
    buffer.clear();
    assert!(buffer.sample(3.0).is_none());
}

#[test]
fn a_prediction_that_was_right_changes_nothing_when_it_is_confirmed() {
    let apply = |place: &mut i64, step: &i64| *place += step;
    let mut predictor = Predictor::new(0i64);
    for seq in 1..=5 {
        predictor.push(seq, seq as i64, apply);
    }
    assert_eq!(*predictor.predicted(), 15);
    assert_eq!(predictor.reconcile(6, 3, apply), 15);
    assert_eq!((*predictor.confirmed(), *predictor.predicted(), predictor.pending()), (6, 15, 2));
    // The server stopped the player at 4: the later inputs start from there.
    assert_eq!(predictor.reconcile(4, 4, apply), 15);
    assert_eq!((*predictor.predicted(), predictor.pending()), (9, 1));
    predictor.reset(0);
    assert_eq!((*predictor.predicted(), predictor.pending()), (0, 0));
}

#[test]
fn the_server_looks_back_a_quarter_of_a_second_at_most() {
    assert_eq!(rewind_ticks(30), 7);
    assert_eq!(clamp_view(Tick(95), Tick(100), 30), Tick(95));
    assert_eq!(clamp_view(Tick(2), Tick(100), 30), Tick(93));
    assert_eq!(clamp_view(Tick(140), Tick(100), 30), Tick(100), "nobody has seen the future");
    assert_eq!(clamp_view(Tick(0), Tick(3), 60), Tick(0));
}
