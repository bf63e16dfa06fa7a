//! What each viewer may see of the game, entity by entity, without grids, entries or shared lists.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_schema::PlayerId;
use rekindle_schema::net::NetSchema;
use rekindle_sim::{Entity, Harness, Players};

use super::{
    Config, Detectors, FILTER, Flag, INTEREST, Place, Purse, SPECTATORS, Signal, Trap, Unit, Veil,
};

/// An entity as a viewer may see it: generation, components by name, quanta of each.
pub type Expected = BTreeMap<u32, (u32, BTreeMap<&'static str, Vec<u32>>)>;
/// Slots and generations.
pub type Before = BTreeSet<(u32, u32)>;

/// An entity of the world.
#[derive(Clone)]
pub struct Thing {
    entity: Entity,
    place: Option<Place>,
    unit: Option<Unit>,
    purse: Option<Purse>,
    trap: Option<Trap>,
    signal: Option<Signal>,
    flag: Option<Flag>,
}

pub struct Scene {
    things: Vec<Thing>,
    players: Vec<(PlayerId, Entity)>,
    detectors: u8,
    config: Config,
    rules: u8,
}

impl Scene {
    pub fn of<const RULES: u8>(game: &mut Harness<Veil<RULES>>, config: &Config) -> Self {
        type All<'w> = (
            Entity,
            Option<&'w Place>,
            Option<&'w Unit>,
            Option<&'w Purse>,
            Option<&'w Trap>,
            Option<&'w Signal>,
            Option<&'w Flag>,
        );
        let mut things = Vec::new();
        game.world_mut().query::<All<'_>, (), _>(|all| {
            for (entity, place, unit, purse, trap, signal, flag) in &all {
                things.push(Thing {
                    entity,
                    place: place.cloned(),
                    unit: unit.cloned(),
                    purse: purse.cloned(),
                    trap: trap.cloned(),
                    signal: signal.cloned(),
                    flag: flag.cloned(),
                });
            }
        });
        let world = game.world();
        Self {
            things,
            players: world
                .resource::<Players>()
                .iter()
                .map(|player| (player.id, player.avatar))
                .collect(),
            detectors: world.resource::<Detectors>().team,
            config: config.clone(),
            rules: RULES,
        }
    }

    fn avatar(&self, viewer: Option<PlayerId>) -> Option<&Thing> {
        let (_, avatar) = self.players.iter().find(|(player, _)| Some(*player) == viewer)?;
        self.things.iter().find(|thing| thing.entity == *avatar)
    }

    pub fn avatar_slot(&self, viewer: Option<PlayerId>) -> Option<u32> {
        self.avatar(viewer).map(|thing| thing.entity.slot())
    }

    /// What a viewer may see who was shown `before`.
    pub fn seen(&self, viewer: Option<PlayerId>, before: &Before, net: &NetSchema) -> Expected {
        // Who is not in the match looks on.
        let viewer = viewer.filter(|viewer| self.players.iter().any(|(id, _)| id == viewer));
        let avatar = self.avatar(viewer);
        let team = avatar.and_then(Thing::team);
        let mut expected = Expected::new();
        for thing in &self.things {
            let owner = thing.unit.as_ref().map(|unit| unit.player).filter(|owner| owner.0 != 0);
            let owner = owner.or(thing.trap.as_ref().map(|trap| trap.player));
            let is_avatar = avatar.is_some_and(|avatar| avatar.entity == thing.entity);
            let own = is_avatar || viewer.is_some() && owner == viewer;
            let mate = own || team.is_some() && thing.team() == team;
            let name = (thing.entity.slot(), thing.entity.generation());
            let near = self.rules & INTEREST == 0
                || own
                || thing.flag.is_some()
                || thing.place.is_none()
                || self.is_near(avatar, thing, before.contains(&name), net);
            let closed = thing.trap.is_some() && !own || thing.signal.is_some() && !mate;
            let cloaked = self.rules & FILTER != 0
                && !own
                && thing.unit.as_ref().is_some_and(|unit| unit.cloaked)
                && team != Some(self.detectors);
            let everything = viewer.is_none() && self.rules & SPECTATORS != 0;
            let components = thing.components(own, mate, net);
            if !components.is_empty() && (everything || near && !closed && !cloaked) {
                expected.insert(name.0, (name.1, components));
            }
        }
        expected
    }

    fn is_near(
        &self,
        avatar: Option<&Thing>,
        thing: &Thing,
        before: bool,
        net: &NetSchema,
    ) -> bool {
        let at = |thing: &Thing| {
            let quanta = thing.components(true, true, net).remove("place")?;
            let place = net.components.iter().find(|component| component.name == "place")?;
            Some([0, 1].map(|axis| place.fields[axis].kind.dequantise(quanta[axis])))
        };
        let (Some(eye), Some(place)) = (avatar.and_then(at), at(thing)) else { return false };
        let square = (eye[0] - place[0]).powi(2) + (eye[1] - place[1]).powi(2);
        let reach = self.config.radius + if before { self.config.margin } else { 0.0 };
        square <= reach * reach
    }
}

impl Thing {
    fn team(&self) -> Option<u8> {
        self.unit.as_ref().map(|unit| unit.team).or(self.signal.as_ref().map(|signal| signal.team))
    }

    fn components(
        &self,
        own: bool,
        mate: bool,
        net: &NetSchema,
    ) -> BTreeMap<&'static str, Vec<u32>> {
        let mut all = BTreeMap::new();
        if let Some(place) = &self.place {
            let of = net.components.iter().find(|component| component.name == "place");
            let kind = of.expect("places are networked").fields[0].kind;
            all.insert("place", vec![kind.quantise(place.x), kind.quantise(place.y)]);
        }
        if let Some(unit) = &self.unit {
            let plan = if mate { u32::from(unit.plan) } else { 0 };
            let ammo = if own { u32::from(unit.ammo) } else { 0 };
            all.insert("unit", vec![unit.team.into(), plan, ammo, unit.cloaked.into()]);
        }
        if let (Some(purse), true) = (&self.purse, own) {
            all.insert("purse", vec![purse.gold]);
        }
        if let Some(trap) = &self.trap {
            all.insert("trap", vec![trap.damage.into()]);
        }
        if let Some(signal) = &self.signal {
            all.insert("signal", vec![signal.colour.into()]);
        }
        if let Some(flag) = &self.flag {
            all.insert("flag", vec![flag.height.into()]);
        }
        all
    }
}
