//! What a world does, piece by piece: queries, commands, changes, events, triggers.

use std::sync::atomic::{AtomicU64, Ordering};

use rekindle_schema::record::{
    AppliedCommand, AppliedInput, EffectId, Join, Leave, LeaveReason, Step,
};
use rekindle_schema::{PlayerId, SessionId, Tick};
use rekindle_sim::{
    Added, Changed, Commands, Component, Const, Entity, Event, EventReader, EventWriter, Game,
    GameBuilder, GameType, Harness, Inputs, IntoSystems, Output, Players, Query, RemovedComponents,
    Res, ResMut, Resource, SimError, Simulation, Stage, Typed, Value, With, Without, World,
};

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "a")]
struct A(u32);

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "b")]
struct B {
    #[value(default = 7, range = 1..=9)]
    value: i32,
    f: f32,
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "tag")]
struct Tag;

/// What systems wrote down, in order.
#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "log")]
struct Log(Vec<String>);

#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "ping")]
struct Ping(u32);

/// Which parts of the laboratory run.
#[derive(Debug, Default, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Part {
    part: String,
}

struct Lab;

impl Game for Lab {
    const NAME: &'static str = "lab";
    type Config = Part;
    type Input = u32;
    type Command = String;
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<A>().component::<B>().component::<Tag>().resource::<Log>().event::<Ping>();
        game.add_systems(Stage::First, (write_early, read_early).chain());
        game.add_systems(Stage::Update, (spawner, later, inputs, late).chain());
        game.add_systems(
            Stage::PostUpdate,
            (on_ping.on_event::<Ping>(), on_tag.on_add::<Tag>(), on_untag.on_remove::<Tag>())
                .chain(),
        );
        game.add_systems(
            Stage::PostUpdate,
            (on_b.on_change::<B>(), third.every(3), changes).chain().after(on_untag),
        );
        game.add_systems(Stage::Last, (read_late, write_late).chain());
    }

    fn max_players(_config: &Part) -> usize {
        2
    }

    fn setup(world: &mut World, _config: &Part) {
        for slot in 0..130 {
            let entity = world.spawn(A(slot));
            if slot % 2 == 0 {
                world.insert(entity, B { value: slot as i32, f: f32::NAN });
            }
            if slot % 3 == 0 {
                world.insert(entity, Tag);
            }
        }
    }

    fn join(world: &mut World, player: PlayerId) {
        let name = world
            .resource::<Players>()
            .get(player)
            .map_or(String::new(), |player| player.name.clone());
        log(world, format!("join {name}"));
    }

    fn leave(world: &mut World, player: PlayerId, reason: LeaveReason) {
        log(world, format!("leave {player} {reason:?}"));
    }

    fn command(world: &mut World, _player: PlayerId, command: String) -> bool {
        assert!(command != "panic", "the command was panic");
        log(world, format!("command {command}"));
        command != "no"
    }
}

fn log(world: &mut World, line: String) {
    world.resource_mut::<Log>().0.push(line);
}

fn is(part: &Const<Part>, name: &str) -> bool {
    part.part == name
}

fn write_early(part: Const<Part>, mut pings: EventWriter<Ping>, time: rekindle_sim::Time) {
    if is(&part, "events") && time.tick.0 == 2 {
        pings.send(Ping(1));
    }
}

fn read_early(part: Const<Part>, pings: EventReader<Ping>, mut log: ResMut<Log>) {
    if is(&part, "events") || is(&part, "late events") {
        log.0.extend(pings.read().map(|Ping(number)| format!("early {number}")));
    }
}

fn spawner(
    part: Const<Part>,
    mut commands: Commands,
    mut pings: EventWriter<Ping>,
    time: rekindle_sim::Time,
    all: Query<Entity>,
) {
    if is(&part, "commands") && time.tick.0 == 1 {
        let free: Vec<_> = [3, 64, 129]
            .into_iter()
            .filter_map(|slot| all.iter().find(|entity| entity.slot() == slot))
            .collect();
        for entity in &free {
            commands.despawn(*entity);
        }
        let new = commands.spawn((A(1000), Tag));
        commands.remove::<Tag>(new);
        commands.insert(free[0], A(5));
        assert_eq!(new.slot(), 130, "slots are free from the end of the stage on");
        assert!(!all.contains(new));
    }
    if is(&part, "commands") && time.tick.0 == 2 {
        let slots: Vec<_> = (0..5).map(|number| commands.spawn(A(number)).slot()).collect();
        assert_eq!(slots, [3, 64, 129, 131, 132], "the lowest free slot is taken");
    }
    if is(&part, "events") && time.tick.0 == 2 {
        pings.send(Ping(2));
    }
}

fn later(part: Const<Part>, all: Query<&A>) {
    if is(&part, "commands") {
        assert!(all.iter().count() >= 127);
    }
}

fn inputs(part: Const<Part>, inputs: Inputs<Lab>, mut log: ResMut<Log>) {
    if is(&part, "inputs") {
        log.0.extend(
            inputs
                .iter()
                .map(|input| format!("input {} {} {}", input.player, input.input, input.view_tick)),
        );
    }
}

fn late(
    part: Const<Part>,
    mut bs: Query<(&mut B, Option<&Tag>), With<A>>,
    time: rekindle_sim::Time,
    mut commands: Commands,
    tags: Query<Entity, With<Tag>>,
) {
    if is(&part, "changes") {
        match time.tick.0 {
            2 => bs.iter_mut().filter(|(_, tag)| tag.is_some()).for_each(|(mut b, _)| b.value += 1),
            // Looking is not changing.
            3 => assert_eq!(bs.iter_mut().map(|(b, _)| b.value).max(), Some(9)),
            4 => bs.iter_mut().take(2).for_each(|(mut b, _)| b.value = 1000),
            _ => {}
        }
    }
    if is(&part, "hooks") {
        match time.tick.0 {
            3 => tags.iter().take(2).for_each(|entity| commands.remove::<Tag>(entity)),
            5 => commands.insert(tags.iter().next().unwrap_or_default(), Tag),
            6 => {
                commands.spawn(Tag);
            }
            _ => {}
        }
    }
    assert!(!(is(&part, "panic") && time.tick.0 == 4), "at tick {}", time.tick);
}

fn on_ping(part: Const<Part>, pings: EventReader<Ping>, mut log: ResMut<Log>, mut output: Output) {
    assert!(!pings.is_empty());
    if is(&part, "events") {
        log.0.push(format!("ping {}", pings.len()));
        output.effect("result", "first");
        output.effect("result", "second");
        output.announce("pings", &(pings.len() as u32));
        output.tell(PlayerId(4), "you", &true);
        output.end_match("pinged");
        output.end_match("twice");
    }
}

fn on_tag(
    part: Const<Part>,
    added: Query<Entity, Added<Tag>>,
    mut log: ResMut<Log>,
    time: rekindle_sim::Time,
) {
    if is(&part, "hooks") {
        log.0.push(format!("{}: {} tagged", time.tick, added.iter().count()));
    }
}

fn on_untag(
    part: Const<Part>,
    removed: RemovedComponents<Tag>,
    mut log: ResMut<Log>,
    time: rekindle_sim::Time,
) {
    if is(&part, "hooks") {
        log.0.push(format!(
            "{}: untagged {:?}",
            time.tick,
            removed.read().map(Entity::slot).collect::<Vec<_>>()
        ));
    }
}

fn on_b(
    part: Const<Part>,
    changed: Query<&B, Changed<B>>,
    mut log: ResMut<Log>,
    time: rekindle_sim::Time,
) {
    if is(&part, "changes") {
        log.0.push(format!("{}: {} changed", time.tick, changed.iter().count()));
    }
}

/// State that is in no checkpoint: what a game must not have.
static LEAK: AtomicU64 = AtomicU64::new(0);

fn third(part: Const<Part>, mut log: ResMut<Log>, time: rekindle_sim::Time) {
    if is(&part, "every") {
        log.0.push(time.tick.to_string());
    }
    if is(&part, "leak") {
        log.0.push(LEAK.fetch_add(1, Ordering::Relaxed).to_string());
    }
}

fn changes(mut commands: Commands, part: Const<Part>) {
    if is(&part, "direct") {
        commands.add(|world| {
            world.send(Ping(9));
        });
    }
}

fn read_late(part: Const<Part>, pings: EventReader<Ping>, log: Res<Log>, mut commands: Commands) {
    if is(&part, "events") {
        let lines: Vec<_> = pings.read().map(|Ping(number)| format!("late {number}")).collect();
        commands.add(|world| world.resource_mut::<Log>().0.extend(lines));
    }
    let _ = log.is_changed();
}

fn write_late(part: Const<Part>, mut pings: EventWriter<Ping>, time: rekindle_sim::Time) {
    if is(&part, "late events") {
        pings.send(Ping(time.tick.0 as u32));
    }
}

fn lab(part: &str) -> Harness<Lab> {
    Harness::with_config(1, &format!(r#"{{"part": "{part}"}}"#))
}

fn lines(harness: &Harness<Lab>) -> Vec<String> {
    harness.assert_replay_identical();
    harness.world().resource::<Log>().0.clone()
}

#[test]
fn queries_go_ascending_and_filter() {
    let mut harness = lab("");
    let world = harness.world_mut();
    let slots = |list: Vec<Entity>| list.into_iter().map(Entity::slot).collect::<Vec<_>>();
    let every = |step: usize| (0..130u32).step_by(step).collect::<Vec<_>>();
    assert_eq!(world.query::<Entity, (), _>(|q| slots(q.iter().collect())), every(1));
    assert_eq!(
        world.query::<(Entity, &B), With<Tag>, _>(|q| slots(
            q.iter().map(|(entity, _)| entity).collect()
        )),
        every(6)
    );
    assert_eq!(world.query::<Entity, (Without<B>, Without<Tag>), _>(|q| q.iter().count()), 43);
    assert_eq!(
        world.query::<(&A, Option<&B>), (), _>(|q| q.iter().filter(|(_, b)| b.is_some()).count()),
        65
    );
    let entity = world.query::<Entity, With<B>, _>(|q| q.iter().nth(3)).unwrap();
    world.query::<(&mut A, Option<&mut B>), Without<Tag>, _>(|mut q| {
        assert!(!q.contains(entity), "slot 6 has a tag");
        assert!(q.get(entity).is_none() && q.get_mut(entity).is_none());
        for (mut a, b) in &mut q {
            a.0 += 1;
            if let Some(mut b) = b {
                b.value = -5;
            }
        }
        assert!(!q.is_empty());
    });
    assert_eq!(
        world.query::<(&A, &B), Without<Tag>, _>(|q| q.iter().map(|(a, b)| (a.0, b.value)).nth(1)),
        Some((5, -5))
    );
    assert_eq!(world.get::<A>(entity), Some(A(6)));
    assert!(world.get::<A>(Entity::NONE).is_none());
    assert!(world.despawn(entity) && !world.despawn(entity) && !world.contains(entity));
    let again = world.spawn(Tag);
    assert_eq!((again.slot(), again.generation()), (entity.slot(), entity.generation() + 1));
    assert!(
        world.get::<Tag>(entity).is_none()
            && !world.insert(entity, Tag)
            && !world.remove::<Tag>(entity)
    );
}

#[test]
fn values_are_brought_into_range_at_the_end_of_a_tick() {
    let harness = lab("").run(1);
    let values = |world: &World| {
        let slots = [0u32, 4, 126];
        let entity = |slot| world.get::<B>(world_entity(world, slot)).unwrap();
        slots.map(|slot| (entity(slot).value, entity(slot).f.to_bits()))
    };
    assert_eq!(values(harness.world()), [(1, 0x7fc0_0000), (4, 0x7fc0_0000), (9, 0x7fc0_0000)]);
    assert_eq!(B::initial(), B { value: 7, f: 0.0 });
}

fn world_entity(world: &World, slot: u32) -> Entity {
    rekindle_sim::value::from_bytes(&[slot.to_le_bytes(), 0u32.to_le_bytes()].concat())
        .ok()
        .filter(|entity| world.contains(*entity))
        .unwrap()
}

#[test]
fn commands_wait_for_the_end_of_the_stage_and_take_the_lowest_slot() {
    let harness = lab("commands").run(3);
    assert_eq!(harness.world().len(), 130 - 3 + 1 + 5);
    harness.assert_replay_identical();
}

#[test]
fn each_reader_sees_each_event_once() {
    let harness = lab("events").run(5);
    assert_eq!(lines(&harness), ["early 1", "ping 2", "late 1", "late 2", "early 2"]);
    assert_eq!(harness.ended(), Some("pinged"));
    let ids: Vec<_> = harness.effects().map(|effect| (effect.id, effect.payload.clone())).collect();
    assert_eq!(ids[1], (EffectId { tick: Tick(2), ordinal: 1 }, "second".into()));
    assert_eq!(harness.last_event::<u32>("pings"), Some(2));
    assert_eq!(harness.last_event::<bool>("you"), Some(true));
    assert_eq!(harness.simulation().open_effects().len(), 2);
}

#[test]
fn no_event_is_lost_or_seen_twice_when_stamps_move_down() {
    let game = Typed::<Lab>::new().unwrap();
    let config = game.config_from_json(r#"{"part": "late events"}"#).unwrap();
    let mut made = Typed::create(&game, &config, 1).unwrap();
    let era = 1 << 20;
    made.skip_to(Tick(era - 3));
    (era - 2..era + 3).for_each(|tick| drop(made.step(&step(tick)).unwrap()));
    let expected: Vec<_> = (era - 2..era + 2).map(|tick| format!("early {tick}")).collect();
    assert_eq!(made.world().resource::<Log>().0, expected);
}

#[test]
fn hooks_run_when_there_is_something_for_them() {
    let harness = lab("hooks").run(8);
    // All that was set up is new at first; a tag that is there already is not added again.
    assert_eq!(lines(&harness), ["1: 44 tagged", "3: untagged [0, 3]", "6: 1 tagged"]);
}

#[test]
fn changes_are_seen_once_and_looking_is_none() {
    let harness = lab("changes").run(8);
    assert_eq!(lines(&harness), ["1: 65 changed", "2: 22 changed", "4: 2 changed"]);
}

#[test]
fn systems_run_every_so_many_ticks() {
    assert_eq!(lines(&lab("every").run(10)), ["3", "6", "9"]);
}

#[test]
#[should_panic(expected = "tick 3: the replay is another world")]
fn a_game_that_keeps_state_outside_of_the_world_is_caught() {
    lab("leak").run(10).assert_replay_identical();
}

fn step(tick: u64) -> Step {
    Step { tick: Tick(tick), ..Step::default() }
}

fn input(session: u64, seq: u64, payload: &[u8]) -> AppliedInput {
    AppliedInput {
        player: PlayerId(4),
        session: SessionId(session),
        seq,
        view_tick: Tick(8),
        payload: payload.to_vec().into(),
    }
}

fn command(session: u64, seq: u64, text: &str) -> AppliedCommand {
    let payload = rekindle_sim::value::to_bytes(&text.to_owned()).into();
    AppliedCommand { player: PlayerId(4), session: SessionId(session), seq, payload }
}

fn join(session: u64) -> Join {
    Join { player: PlayerId(4), session: SessionId(session), name: "ann".to_owned() }
}

fn leave(session: u64) -> Leave {
    Leave { player: PlayerId(4), session: SessionId(session), reason: LeaveReason::Left }
}

#[test]
fn sessions_inputs_and_commands_are_applied_once_and_only_to_their_session() {
    let game = Typed::<Lab>::new().unwrap();
    let config = game.config_from_json(r#"{"part": "inputs"}"#).unwrap();
    let mut made = GameType::create(&game, &config, 1).unwrap();
    let mut apply = |step: Step| made.step(&step).unwrap().commands;
    assert!(apply(Step { inputs: vec![input(1, 1, &[1, 0, 0, 0])], ..step(1) }).is_empty());
    apply(Step { joins: vec![join(1)], inputs: vec![input(1, 5, &[2, 0, 0, 0])], ..step(2) });
    apply(Step { inputs: vec![input(1, 5, &[3, 0, 0, 0])], ..step(3) });
    apply(Step { inputs: vec![input(2, 6, &[4, 0, 0, 0])], ..step(4) });
    apply(Step { inputs: vec![input(1, 7, &[5, 0, 0])], ..step(5) });
    let mut garbage = command(1, 3, "x");
    garbage.payload = vec![9, 9].into();
    let commands = vec![
        command(1, 1, "yes"),
        command(1, 1, "yes"),
        command(1, 2, "no"),
        command(2, 3, "other"),
        garbage,
    ];
    assert_eq!(apply(Step { commands, ..step(6) }), [true, false, false, false, false]);
    apply(Step { leaves: vec![leave(9)], ..step(7) });
    apply(Step {
        leaves: vec![leave(1)],
        joins: vec![join(2)],
        inputs: vec![input(2, 1, &[6, 0, 0, 0])],
        ..step(8)
    });
    apply(Step { leaves: vec![leave(2)], ..step(9) });
    apply(Step { joins: vec![join(3)], leaves: vec![leave(3)], ..step(10) });
    assert!(made.sessions().is_empty());
    let log = made.describe()["resources"]["log"]["0"].clone();
    let expected = [
        "join ann",
        "input 4 2 8",
        "command yes",
        "command no",
        "leave 4 Left",
        "join ann",
        "input 4 6 8",
        "leave 4 Left",
        "join ann",
        "leave 4 Left",
    ];
    assert_eq!(log, serde_json::json!(expected));
}

#[test]
fn a_step_out_of_order_is_refused_and_changes_nothing() {
    let mut made = Typed::<Lab>::new().unwrap().create(b"", 1).unwrap();
    let hash = made.state_hash();
    let error = made.step(&step(2)).unwrap_err();
    assert_eq!(error, SimError::OutOfOrder { at: Tick(0), got: Tick(2) });
    assert_eq!(made.state_hash(), hash);
    made.step(&step(1)).unwrap();
    assert_ne!(made.state_hash(), hash);
}

#[test]
fn a_panic_names_the_system_and_the_tick() {
    let game = Typed::<Lab>::new().unwrap();
    let config = game.config_from_json(r#"{"part": "panic"}"#).unwrap();
    let mut made = game.create(&config, 1).unwrap();
    let probe = made.probe();
    (1..4).for_each(|tick| drop(made.step(&step(tick)).unwrap()));
    let error = made.step(&step(4)).unwrap_err();
    assert_eq!(
        error,
        SimError::Panicked {
            system: "late".to_owned(),
            tick: Tick(4),
            message: "at tick 4".to_owned()
        }
    );
    assert_eq!(probe.running(), None);

    let mut made = game.create(b"", 1).unwrap();
    let error = made
        .step(&Step { joins: vec![join(1)], commands: vec![command(1, 1, "panic")], ..step(1) })
        .unwrap_err();
    assert!(matches!(error, SimError::Panicked { system, .. } if system == "command"));
}

#[test]
fn effects_stay_open_until_they_are_done() {
    let game = Typed::<Lab>::new().unwrap();
    let config = game.config_from_json(r#"{"part": "events"}"#).unwrap();
    let mut made = game.create(&config, 1).unwrap();
    (1..=3).for_each(|tick| drop(made.step(&step(tick)).unwrap()));
    let mut made = game.restore(&made.checkpoint()).unwrap();
    assert_eq!(made.open_effects().len(), 2);
    let done = EffectId { tick: Tick(2), ordinal: 0 };
    made.step(&Step { effects_done: vec![done], ..step(4) }).unwrap();
    let open = made.open_effects();
    assert_eq!((open.len(), open[0].id.ordinal), (1, 1));
}
