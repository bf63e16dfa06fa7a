//! A game that does everything the world can do, all the time: the subject of the determinism
//! gates.
//!
//! What its systems notice (additions, changes, removals, events, random numbers) is counted in a
//! resource, so a world that notices something else has other bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_schema::record::{
    AppliedCommand, AppliedInput, EffectId, Join, Leave, LeaveReason, Step,
};
use rekindle_schema::{PlayerId, SessionId, Tick};
use rekindle_sim::{
    Added, Changed, Commands, Component, Const, Entity, Event, EventReader, EventWriter, Game,
    GameBuilder, History, Inputs, IntoSystems, Output, Players, Query, RemovedComponents, Res,
    ResMut, Resource, Rng, Simulation, Stage, Time, Value, With, Without, World, math, value,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "body")]
pub struct Body {
    #[net(min = -64.0, max = 64.0, bits = 14, rate = "motion.x")]
    #[value(range = -64.0..=64.0)]
    pub x: f32,
    #[net(min = -64.0, max = 64.0, bits = 14)]
    pub y: f32,
    #[net(angle, bits = 9)]
    pub heading: f32,
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "motion")]
pub struct Motion {
    #[net(min = -8.0, max = 8.0, bits = 10)]
    pub x: f32,
    pub y: f32,
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "life", version = 3)]
pub struct Life {
    #[net(bits = 7)]
    #[value(default = 100, range = 0..=120)]
    pub points: u16,
    pub until: Tick,
    pub mood: Mood,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Value)]
pub enum Mood {
    Calm,
    Angry,
    Asleep,
}

#[derive(Debug, Clone, PartialEq, Value)]
pub enum Plan {
    Idle,
    Hunt { target: Entity, patience: u8 },
    Flee([f32; 2]),
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "mind")]
pub struct Mind {
    pub plan: Plan,
    pub friend: Option<Entity>,
    pub memory: Vec<u16>,
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "name-tag")]
pub struct NameTag(pub String);

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "frozen")]
pub struct Frozen;

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "rare")]
pub struct Rare {
    pub table: BTreeMap<u8, (i64, bool)>,
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "owner")]
pub struct Owner {
    pub player: PlayerId,
    #[net]
    pub ready: bool,
    #[net(bits = 2)]
    pub mood: Mood,
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "never-used")]
pub struct NeverUsed {
    pub f: f64,
}

#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "seen")]
pub struct Seen {
    pub added: u64,
    pub changed: u64,
    pub removed: u64,
    pub events: u64,
    pub spawned: u64,
    pub despawned: u64,
    pub digest: u64,
    pub inputs: u64,
}

impl Seen {
    fn note(&mut self, what: u64) {
        self.digest = (self.digest ^ what).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(7);
    }
}

#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "past")]
pub struct Past {
    pub sums: History<f32>,
}

#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "bump")]
pub struct Bump {
    pub who: Entity,
    pub force: f32,
}

#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "rumour")]
pub struct Rumour(pub String);

#[derive(Debug, Clone, PartialEq, Value)]
pub struct Push {
    pub x: i8,
    #[value(range = -1.0..=1.0)]
    pub y: f32,
}

#[derive(Debug, Clone, PartialEq, Value)]
pub enum Wish {
    Despawn(Entity),
    Rename(String),
    Panic,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setting {
    pub animals: u32,
    pub churn: u32,
}

impl Default for Setting {
    fn default() -> Self {
        Self { animals: 150, churn: 5 }
    }
}

pub struct Zoo;

impl Game for Zoo {
    const NAME: &'static str = "zoo";
    type Config = Setting;
    type Input = Push;
    type Command = Wish;
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Owner>()
            .component::<Body>()
            .component::<Motion>()
            .component::<Life>()
            .component::<Mind>()
            .component::<NameTag>()
            .component::<Frozen>()
            .component::<Rare>()
            .component::<NeverUsed>()
            .resource::<Seen>()
            .resource::<Past>()
            .event::<Bump>()
            .event::<Rumour>()
            .constant(|setting: &Setting| Limits { most: setting.animals as usize * 2 })
            .position::<Body>("x", "y")
            .add_systems(Stage::First, (notice_added, notice_changed, notice_removed).chain())
            .add_systems(Stage::PreUpdate, push)
            .add_systems(Stage::Update, (movement.budget(Duration::from_micros(9)), think).chain())
            .add_systems(
                Stage::Update,
                (bumps.after(think).on_event::<Bump>(), rumours.after("bumps")),
            )
            .add_systems(Stage::PostUpdate, births.priority(2))
            .add_systems(Stage::PostUpdate, (deaths, freeze.every(3), thaw.every(7)))
            .add_systems(Stage::Last, notice_late.on_add::<Frozen>())
            .add_systems(
                Stage::Last,
                (
                    notice_thaw.on_remove::<Frozen>().after(notice_late),
                    remember.every(2).after(notice_thaw),
                ),
            )
            .add_systems(Stage::Last, news.after(remember));
    }

    fn max_players(_config: &Setting) -> usize {
        64
    }

    fn setup(world: &mut World, config: &Setting) {
        let mut rng = world.rng(1);
        for _ in 0..config.animals {
            spawn_animal(&mut rng, |bundle| world.spawn(bundle));
        }
    }

    fn join(world: &mut World, player: PlayerId) {
        let avatar = world.spawn((
            Body { x: 0.0, y: 0.0, heading: 0.0 },
            Owner { player, ready: false, mood: Mood::Calm },
        ));
        world.resource_mut::<Players>().set_avatar(player, avatar);
        world.send(Rumour(format!("{player} came")));
    }

    fn leave(world: &mut World, player: PlayerId, _reason: LeaveReason) {
        let avatar = world.resource::<Players>().avatar(player);
        world.despawn(avatar.unwrap_or_default());
    }

    fn command(world: &mut World, player: PlayerId, command: Wish) -> bool {
        match command {
            Wish::Despawn(entity) => world.get::<Owner>(entity).is_none() && world.despawn(entity),
            Wish::Rename(name) => {
                let avatar = world.resource::<Players>().avatar(player);
                avatar.is_some_and(|avatar| world.insert(avatar, NameTag(name)))
            }
            Wish::Panic => panic!("as {player} wished"),
        }
    }
}

pub struct Limits {
    most: usize,
}

type Animal = (Body, Motion, Life, Mind);

fn spawn_animal(rng: &mut Rng, spawn: impl FnOnce(Animal) -> Entity) -> Entity {
    let life = Life {
        points: 60 + rng.below(60) as u16,
        until: Tick(u64::from(rng.below(400))),
        mood: Mood::Calm,
    };
    spawn((
        Body {
            x: rng.range(-60.0, 60.0),
            y: rng.range(-60.0, 60.0),
            heading: rng.range(-3.0, 3.0),
        },
        Motion { x: rng.range(-8.0, 8.0), y: rng.range(-8.0, 8.0) },
        life,
        Mind { plan: Plan::Idle, friend: None, memory: Vec::new() },
    ))
}

fn notice_added(mut seen: ResMut<Seen>, added: Query<Entity, (Added<Body>, Without<Frozen>)>) {
    for entity in &added {
        seen.added += 1;
        seen.note(u64::from(entity.slot()) << 32 | u64::from(entity.generation()));
    }
}

fn notice_changed(mut seen: ResMut<Seen>, changed: Query<(Entity, &Life), Changed<Life>>) {
    for (entity, life) in &changed {
        seen.changed += 1;
        seen.note(u64::from(entity.slot()) ^ u64::from(life.points) << 40);
    }
}

fn notice_removed(mut seen: ResMut<Seen>, removed: RemovedComponents<Mind>) {
    for entity in removed.read() {
        seen.removed += 1;
        seen.note(u64::from(entity.slot()) + 77);
    }
}

fn push(
    inputs: Inputs<Zoo>,
    players: Res<Players>,
    mut bodies: Query<&mut Body, With<Owner>>,
    mut seen: ResMut<Seen>,
) {
    for input in &inputs {
        seen.inputs += 1;
        seen.note(input.view_tick.0);
        if let Some(mut body) = bodies.get_mut(players.avatar(input.player).unwrap_or_default()) {
            body.x += f32::from(input.input.x);
            body.y += input.input.y;
        }
    }
}

fn movement(
    time: Time,
    mut bodies: Query<(&mut Body, &mut Motion, Option<&NameTag>), Without<Frozen>>,
) {
    for (mut body, mut motion, name) in &mut bodies {
        if motion.x == 0.0 && motion.y == 0.0 {
            continue;
        }
        let speed = if name.is_some() { 0.5 } else { 1.0 };
        body.x += motion.x * time.delta * speed;
        body.y += motion.y * time.delta * speed;
        body.heading = math::wrap_angle(math::atan2(motion.y, motion.x) + 0.1 * math::sin(body.x));
        if body.x.abs() > 63.0 {
            motion.x = -motion.x;
        }
        // Now and then something goes wrong: a NaN must not tell two worlds apart.
        if body.y > 64.0 {
            body.y = -(0.0 * f32::INFINITY);
            motion.y = 0.0;
        } else if body.y.is_nan() || body.y < -64.0 {
            body.y = 0.0;
        }
    }
}

fn think(
    mut rng: Rng,
    mut minds: Query<(Entity, &mut Mind, &mut Life)>,
    bodies: Query<&Body>,
    mut bumps: EventWriter<Bump>,
) {
    let count = minds.iter().count() as u32;
    let chosen =
        minds.iter().map(|(entity, ..)| entity).nth(rng.below(count) as usize).unwrap_or_default();
    for (entity, mut mind, mut life) in &mut minds {
        match rng.below(40) {
            0 => mind.plan = Plan::Hunt { target: chosen, patience: rng.below(9) as u8 },
            1 => mind.plan = Plan::Flee([rng.unit(), f32::NAN]),
            2 => mind.friend = (chosen != entity).then_some(chosen),
            3 if mind.memory.len() < 6 => mind.memory.push(rng.next_u32() as u16),
            4 => mind.memory.clear(),
            5 => life.points = life.points.wrapping_add(rng.below(50) as u16),
            6 => life.mood = if rng.one_in(2) { Mood::Angry } else { Mood::Asleep },
            _ => {}
        }
        if let (Some(friend), 0) = (mind.friend, rng.below(30)) {
            match bodies.get(friend) {
                Some(body) => bumps.send(Bump { who: friend, force: body.x / body.y }),
                None => mind.friend = None,
            }
        }
    }
}

fn bumps(events: EventReader<Bump>, mut seen: ResMut<Seen>, mut rumours: EventWriter<Rumour>) {
    for bump in events.read() {
        seen.events += 1;
        seen.note(u64::from(bump.force.to_bits()));
        if bump.force > 3.0 {
            rumours.send(Rumour(format!("{:?} was hit", bump.who)));
        }
    }
}

fn rumours(events: EventReader<Rumour>, mut seen: ResMut<Seen>) {
    for Rumour(text) in events.read() {
        seen.note(text.bytes().map(u64::from).sum());
    }
}

fn births(
    mut commands: Commands,
    mut rng: Rng,
    setting: Const<Setting>,
    limits: Const<Limits>,
    animals: Query<Entity, With<Mind>>,
    mut seen: ResMut<Seen>,
) {
    let room = limits.most.saturating_sub(animals.iter().count()) as u32;
    for _ in 0..rng.below(2 * setting.churn + 1).min(room) {
        let entity = spawn_animal(&mut rng, |bundle| commands.spawn(bundle));
        seen.spawned += 1;
        seen.note(u64::from(entity.slot()));
        match rng.below(12) {
            0 => commands.insert(entity, NameTag(format!("n{}", rng.below(1000)))),
            1 => commands.insert(
                entity,
                Rare { table: (0..rng.below(4) as u8).map(|key| (key, (-3, key > 1))).collect() },
            ),
            2 => commands.remove::<Motion>(entity),
            3 => commands.despawn(entity),
            _ => {}
        }
    }
}

fn deaths(
    mut commands: Commands,
    mut rng: Rng,
    time: Time,
    setting: Const<Setting>,
    animals: Query<(Entity, &Life)>,
    mut seen: ResMut<Seen>,
) {
    let count = animals.iter().count() as u32;
    for (entity, life) in &animals {
        if life.points == 0 || rng.below(count.max(1)) < setting.churn || time.tick.0 % 5000 == 4999
        {
            commands.despawn(entity);
            seen.despawned += 1;
        }
    }
}

fn freeze(
    mut commands: Commands,
    mut rng: Rng,
    animals: Query<Entity, (With<Mind>, Without<Frozen>)>,
) {
    for entity in &animals {
        if rng.one_in(20) {
            commands.insert(entity, Frozen);
        }
    }
}

fn thaw(mut commands: Commands, mut rng: Rng, frozen: Query<Entity, With<Frozen>>) {
    for entity in &frozen {
        if rng.one_in(3) {
            commands.remove::<Frozen>(entity);
        }
    }
}

fn notice_late(mut seen: ResMut<Seen>, frozen: Query<(Entity, &Body), Added<Frozen>>) {
    for (entity, body) in &frozen {
        seen.note(u64::from(entity.slot()) ^ u64::from(body.y.to_bits()));
    }
}

fn notice_thaw(mut seen: ResMut<Seen>, removed: RemovedComponents<Frozen>) {
    let count = removed.read().count() as u64;
    seen.note(count);
}

fn remember(time: Time, mut past: ResMut<Past>, bodies: Query<&Body>, mut seen: ResMut<Seen>) {
    let sum = bodies.iter().map(|body| body.x).filter(|x| !x.is_nan()).sum();
    past.sums.record(time.tick, sum, 12);
    let back = past.sums.at(Tick(time.tick.0.saturating_sub(8))).map_or(0, |sum| sum.to_bits());
    seen.note(u64::from(back));
}

fn news(mut output: Output, seen: Res<Seen>, time: Time) {
    if seen.digest.is_multiple_of(97) {
        output.effect("loot", seen.digest.to_le_bytes().to_vec());
    }
    if time.tick.0.is_multiple_of(50) {
        output.announce("digest", &seen.digest);
    }
}

/// Makes steps with everything that can be in them, malformed payloads included, from one seed.
pub struct Keeper {
    rng: Rng,
    players: BTreeMap<u64, u64>,
    sequence: u64,
}

impl Keeper {
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::stream(seed, Tick(0), 99), players: BTreeMap::new(), sequence: 0 }
    }

    pub fn step(&mut self, running: &impl Simulation) -> Step {
        let mut step = Step { tick: running.tick().next(), ..Step::default() };
        let rng = &mut self.rng;
        if rng.one_in(20) {
            let (player, session) = (1 + u64::from(rng.below(12)), rng.next_u64());
            self.players.insert(player, session);
            step.joins.push(Join {
                player: PlayerId(player),
                session: SessionId(session),
                name: format!("p{player}"),
            });
        }
        if rng.one_in(40)
            && let Some((player, session)) = self.players.pop_first()
        {
            step.leaves.push(Leave {
                player: PlayerId(player),
                session: SessionId(session),
                reason: LeaveReason::TimedOut,
            });
        }
        for (&player, &session) in &self.players {
            self.sequence += 1;
            let (player, session, seq) = (PlayerId(player), SessionId(session), self.sequence);
            if !rng.one_in(5) {
                let push = Push { x: rng.below(5) as i8 - 2, y: rng.range(-1.0, 1.0) };
                let mut payload = value::to_bytes(&push);
                if rng.one_in(10) {
                    payload.truncate(rng.below(5) as usize);
                }
                let view_tick = Tick(step.tick.0 - u64::from(rng.below(3)).min(step.tick.0));
                step.inputs.push(AppliedInput {
                    player,
                    session,
                    seq,
                    view_tick,
                    payload: payload.into(),
                });
            }
            if rng.one_in(12) {
                let wish = if rng.one_in(2) {
                    Wish::Rename(format!("r{}", rng.below(99)))
                } else {
                    Wish::Despawn(Entity::NONE)
                };
                let mut payload = value::to_bytes(&wish);
                if rng.one_in(4) {
                    payload.push(0);
                }
                step.commands.push(AppliedCommand {
                    player,
                    session,
                    seq,
                    payload: payload.into(),
                });
            }
        }
        step.effects_done = running
            .open_effects()
            .iter()
            .map(|effect| effect.id)
            .filter(|_| rng.one_in(4))
            .collect::<Vec<EffectId>>();
        step
    }
}
