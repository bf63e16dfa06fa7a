//! Worlds of many kinds of entities: more than have chances of their own in a range coded body.

use std::sync::Arc;

use rekindle_netcode::{Coding, SnapshotHeader, SnapshotReceiver, SnapshotSender, ViewHistory};
use rekindle_schema::net::{FieldKind, NetComponent, NetEntity, NetField, NetSchema, NetView};
use rekindle_schema::{Tick, mix};

/// A body has chances for 31 kinds of entities, and one more set for all others.
#[test]
fn any_number_of_kinds_of_entities_is_told() {
    let kind = FieldKind::Float { min: 0.0, max: 1023.0, bits: 10 };
    let component = |index: u16| NetComponent {
        name: format!("c{index}"),
        fields: vec![NetField { name: "x".into(), kind, rate: (index > 2).then(|| index - 3) }],
    };
    let components = (0..6).map(component).collect();
    let schema = Arc::new(NetSchema { components, position: None });
    let mut state = 5u64;
    let mut below_1024 = || {
        state = state.wrapping_add(mix::STEP);
        mix::mix(state) as u32 % 1024
    };
    let mut sender = SnapshotSender::new(schema.clone()).with_coding(Coding::Range);
    let mut receiver = SnapshotReceiver::new(schema);
    let (mut history, mut out) = (ViewHistory::new(), Vec::new());
    for tick in 1..20 {
        let mut view = NetView { tick: Tick(tick), ..NetView::default() };
        for components in 0..64 {
            let slot = components;
            view.entities.push(NetEntity { slot, generation: 1, components });
            let mut value = |at: u32| below_1024() * (components >> at & 1);
            view.values.extend((0..6).map(&mut value));
        }
        let view = Arc::new(view);
        history.push(view.clone());
        let header = SnapshotHeader { tick: view.tick, durable: view.tick, ..Default::default() };
        sender.encode(&header, &view, &history, None, 60_000, &mut out);
        assert_eq!(receiver.receive(&out).expect("own snapshot").view, view);
        sender.acknowledge(view.tick, 0);
    }
}
