//! Who sees what of one tick: parts what was extracted into what everybody may see and the rest,
//! and lists for each player what it sees.

use std::any::TypeId;

use rekindle_schema::PlayerId;
use rekindle_schema::net::{FieldKind, NetEntity, NetSchema, NetView, Restricted, Sight};

use crate::ecs::registry::Registry;
use crate::ecs::world::World;
use crate::game::players::Players;
use crate::game::visibility::cells::Cells;
use crate::game::visibility::levels::{LEVELS, Levels};
use crate::game::visibility::{Interest, Viewer, Visibility};
use crate::value::component::SeenBy;
use crate::value::entity::Entity;

/// The rules of a game, put together.
pub(crate) struct Rules {
    said: Visibility,
    levels: Levels,
    /// Set if players see only so far: the axes of positions.
    axes: Option<[Axis; 2]>,
    stride: usize,
}

/// Where a coordinate stands.
#[derive(Debug, Clone, Copy)]
struct Axis {
    column: usize,
    kind: FieldKind,
    /// The bit of its component.
    component: u32,
}

/// What the rules say of an entity, whoever looks.
struct Fact {
    entity: Entity,
    components: u32,
    owner: Option<PlayerId>,
    team: Option<u32>,
    /// Who sees it at all.
    closed: SeenBy,
    always: bool,
    place: Option<[f32; 2]>,
    /// The number of the entry of each level.
    entries: [u32; 3],
}

/// How much of an entity somebody sees.
struct Shown {
    level: SeenBy,
    /// Only if the entity was shown before.
    margin: bool,
}

/// Where an eye is, and how far it sees.
#[derive(Clone, Copy)]
struct Eye {
    place: Option<[f32; 2]>,
    interest: Interest,
}

impl Rules {
    /// The rules of a game, if it has any; or what is wrong with them. `interest`: players see only
    /// so far.
    pub(crate) fn new(
        said: Visibility,
        interest: bool,
        registry: &Registry,
        net: &NetSchema,
    ) -> Result<Option<Self>, Vec<String>> {
        let levels = Levels::of(registry);
        let fields = levels.has(SeenBy::Team) || levels.has(SeenBy::Owner);
        let mut errors = said.check(registry, levels.has(SeenBy::Team));
        errors.extend(visible_rates(registry));
        if interest && net.position.is_none() {
            errors.push(
                "`interest` bounds how far players see, and no entity has a position: add \
                 `game.position::<T>(\"x\", \"y\")`"
                    .to_owned(),
            );
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        if said.is_empty() && !fields && !interest {
            return Ok(None);
        }
        let axes = net
            .position
            .filter(|_| interest)
            .and_then(|(x, y)| Some([axis(net, usize::from(x))?, axis(net, usize::from(y))?]));
        Ok(Some(Self { said, levels, axes, stride: net.stride() }))
    }

    /// Leaves in the view's own entities what everybody may see, and puts the rest and the sights
    /// of all players beside it. `view` was just extracted from `world`.
    pub(crate) fn restrict(&self, world: &World, view: &mut NetView) {
        let entities = std::mem::take(&mut view.entities);
        let values = std::mem::take(&mut view.values);
        let mut facts = self.facts(world, &entities, &values);
        let interest = self.axes.and_then(|_| {
            let found = world.constants.get(&TypeId::of::<Interest>())?;
            found.downcast_ref::<Interest>().copied()
        });
        let spectator = Viewer { world, player: None, avatar: None, team: None };
        let no_eye = interest.map(|interest| Eye { place: None, interest });
        let open: Vec<bool> = facts
            .iter()
            .map(|fact| {
                let all = self.said.spectators_see_all;
                all && self.levels.sees(SeenBy::Everyone, fact.components)
                    || !all && self.shown(fact, &spectator, no_eye).is_some()
            })
            .collect();
        let mut restricted = view.restricted.take().unwrap_or_default();
        restricted.entries.clear();
        restricted.sights.clear();
        restricted.viewers.clear();
        self.lay_out(&entities, &values, &mut facts, &open, view, &mut restricted);
        self.look(world, &facts, interest, view.entities.len(), &mut restricted);
        view.restricted = Some(restricted);
    }

    fn facts(&self, world: &World, entities: &[NetEntity], values: &[u32]) -> Vec<Fact> {
        let players = world.resource::<Players>();
        let mut avatars: Vec<(Entity, PlayerId)> =
            players.iter().map(|player| (player.avatar, player.id)).collect();
        avatars.sort_unstable();
        let said = &self.said;
        let fact = |(index, net): (usize, &NetEntity)| {
            let entity = world.entities().in_slot(net.slot as usize);
            let owner = said.owners.iter().find_map(|rule| (rule.read)(world, entity)).flatten();
            let steered = || {
                let found = avatars.binary_search_by_key(&entity, |&(avatar, _)| avatar).ok();
                found.map(|found| avatars[found].1)
            };
            let closed =
                said.closed.iter().filter(|(_, rule)| (rule.read)(world, entity).is_some());
            Fact {
                entity,
                components: net.components,
                owner: owner.or_else(steered),
                team: said.teams.iter().find_map(|rule| (rule.read)(world, entity)).flatten(),
                closed: closed.map(|(closed, _)| *closed).max().unwrap_or_default(),
                always: said.always.iter().any(|rule| (rule.read)(world, entity).is_some()),
                place: self.place(net, &values[index * self.stride..][..self.stride]),
                entries: [0; 3],
            }
        };
        entities.iter().enumerate().map(fact).collect()
    }

    fn place(&self, entity: &NetEntity, row: &[u32]) -> Option<[f32; 2]> {
        let axes = self.axes?;
        let both = axes[0].component | axes[1].component;
        (entity.components & both == both)
            .then(|| axes.map(|axis| axis.kind.dequantise(row[axis.column])))
    }

    /// How much a viewer sees of an entity; `None`: nothing. `eye`: from where, if that matters.
    fn shown(&self, fact: &Fact, viewer: &Viewer<'_>, eye: Option<Eye>) -> Option<Shown> {
        let owns = fact.owner.is_some() && fact.owner == viewer.player;
        if owns || viewer.avatar == Some(fact.entity) {
            return Some(Shown { level: SeenBy::Owner, margin: false });
        }
        let mate = fact.team.is_some() && fact.team == viewer.team;
        let level = if mate { SeenBy::Team } else { SeenBy::Everyone };
        if fact.closed > level || !self.levels.sees(level, fact.components) {
            return None;
        }
        let margin = match (eye, fact.place) {
            (Some(eye), Some(place)) if !fact.always => beyond(eye, place)?,
            _ => false,
        };
        let allowed = |(_, filter): &(_, super::Filter)| filter(viewer, fact.entity) != Some(false);
        self.said.filters.iter().all(allowed).then_some(Shown { level, margin })
    }

    /// Makes the entries, and notes for each entity which entry is that of which level. `open`:
    /// whether spectators see the entity.
    fn lay_out(
        &self,
        entities: &[NetEntity],
        values: &[u32],
        facts: &mut [Fact],
        open: &[bool],
        view: &mut NetView,
        restricted: &mut Restricted,
    ) {
        let mut more = open.iter().filter(|open| **open).count() as u32;
        let mut more_values = Vec::new();
        for (index, (fact, entity)) in facts.iter_mut().zip(entities).enumerate() {
            let row = &values[index * self.stride..][..self.stride];
            let mut level = if open[index] { SeenBy::Everyone } else { fact.closed };
            let mut is_open = open[index];
            loop {
                let top = self.levels.top(entity.components, level);
                let (list, rows, number) = if std::mem::take(&mut is_open) {
                    let number = view.entities.len() as u32;
                    (&mut view.entities, &mut view.values, number)
                } else {
                    more += 1;
                    (&mut restricted.entries, &mut more_values, more - 1)
                };
                list.push(self.levels.entity(top, *entity));
                self.levels.row(top, row, rows);
                fact.entries[level as usize..=top as usize].fill(number);
                match LEVELS.get(top as usize + 1) {
                    Some(next) => level = *next,
                    None => break,
                }
            }
        }
        view.values.extend_from_slice(&more_values);
    }

    /// Lists what each player sees. `public`: how many entries everybody sees.
    fn look(
        &self,
        world: &World,
        facts: &[Fact],
        interest: Option<Interest>,
        public: usize,
        restricted: &mut Restricted,
    ) {
        let players = world.resource::<Players>();
        let near = interest.map(|interest| Nearby::new(facts, interest));
        let all: Vec<u32> = (0..facts.len() as u32).collect();
        let mut some = Vec::new();
        for player in players.iter() {
            let slot = player.avatar.slot();
            let found = facts.binary_search_by_key(&slot, |fact| fact.entity.slot()).ok();
            let avatar = found.map(|at| &facts[at]).filter(|fact| fact.entity == player.avatar);
            let team = match &self.said.player_team {
                Some(team) => team(world, player.id),
                None => avatar.and_then(|fact| fact.team),
            };
            let viewer = Viewer {
                world,
                player: Some(player.id),
                avatar: world.contains(player.avatar).then_some(player.avatar),
                team,
            };
            let place = avatar.and_then(|fact| fact.place);
            let eye = interest.map(|interest| Eye { place, interest });
            let candidates = match &near {
                Some(near) => near.of(player.id, place, &mut some),
                None => &all,
            };
            let mut sight = Sight::default();
            for &index in candidates {
                let fact = &facts[index as usize];
                let Some(shown) = self.shown(fact, &viewer, eye) else { continue };
                let entry = fact.entries[shown.level as usize];
                sight.entries.push(entry);
                if shown.margin {
                    sight.margin.push(entry);
                }
            }
            let same = |numbers: &[u32]| numbers.iter().copied().eq(0..public as u32);
            if sight.margin.is_empty() && same(&sight.entries) {
                continue;
            }
            let known = restricted.sights.iter().position(|known| *known == sight);
            let number = known.unwrap_or_else(|| {
                restricted.sights.push(sight);
                restricted.sights.len() - 1
            });
            restricted.viewers.push((player.id, number as u32));
        }
    }
}

/// Which entities may be in the sight of a player who sees only so far.
struct Nearby {
    cells: Cells,
    /// Those that no distance hides.
    anywhere: Vec<u32>,
    /// Those with an owner, ascending by owner.
    owned: Vec<(PlayerId, u32)>,
}

impl Nearby {
    fn new(facts: &[Fact], interest: Interest) -> Self {
        let each = || (0..).zip(facts);
        let bounded = |fact: &Fact| fact.place.filter(|_| !fact.always);
        let places = each().filter_map(|(index, fact)| Some((index, bounded(fact)?)));
        let cells = Cells::new(interest.radius + interest.margin, places);
        let anywhere = each().filter(|(_, fact)| bounded(fact).is_none());
        let owned = each().filter_map(|(index, fact)| Some((fact.owner?, index)));
        let mut owned: Vec<(PlayerId, u32)> = owned.collect();
        owned.sort_unstable();
        Self { cells, anywhere: anywhere.map(|(index, _)| index).collect(), owned }
    }

    /// Ascending, in `found`, which is replaced.
    fn of<'f>(
        &self,
        player: PlayerId,
        place: Option<[f32; 2]>,
        found: &'f mut Vec<u32>,
    ) -> &'f Vec<u32> {
        found.clear();
        found.extend_from_slice(&self.anywhere);
        let from = self.owned.partition_point(|&(owner, _)| owner < player);
        let own = self.owned[from..].iter().take_while(|&&(owner, _)| owner == player);
        found.extend(own.map(|&(_, index)| index));
        if let Some(place) = place {
            self.cells.near(place, found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Whether a place is at the margin of what an eye sees; `None`: it is farther.
fn beyond(eye: Eye, place: [f32; 2]) -> Option<bool> {
    let from = eye.place?;
    let (x, y) = (place[0] - from[0], place[1] - from[1]);
    let distance2 = x * x + y * y;
    let Interest { radius, margin } = eye.interest;
    if distance2 <= radius * radius {
        return Some(false);
    }
    let reach = radius + margin;
    (distance2 <= reach * reach).then_some(true)
}

fn axis(net: &NetSchema, column: usize) -> Option<Axis> {
    let mut offset = 0;
    for (place, component) in net.components.iter().enumerate() {
        if let Some(field) = component.fields.get(column.checked_sub(offset)?) {
            return Some(Axis { column, kind: field.kind, component: 1 << place });
        }
        offset += component.fields.len();
    }
    None
}

/// Fields that somebody sees whose rates this viewer does not see: clients would extrapolate them
/// by a rate that is not there.
fn visible_rates(registry: &Registry) -> Vec<String> {
    let kinds = || registry.networked.iter().map(|(index, _)| &registry.components.list[*index]);
    let fields = || {
        kinds().flat_map(|kind| {
            kind.net.iter().map(|field| (format!("{}.{}", kind.id, field.name), field))
        })
    };
    let hidden = fields().filter_map(|(name, field)| {
        let (rate, of) = fields().find(|(rate, _)| Some(rate.as_str()) == field.rate)?;
        (of.seen_by > field.seen_by).then(|| {
            format!(
                "networked field `{name}` is seen by more than its rate `{rate}`: give both the \
                 same `owner` or `team`, or take `rate` away"
            )
        })
    });
    hidden.collect()
}
