//! What a game declares about its systems: stage, name, order, and when they run.
//!
//! Called by games in `Game::build`; read by [`crate::ecs::schedule::order`].

use std::any::type_name;
use std::time::Duration;

use crate::ecs::registry::{Access, Registry};
use crate::ecs::system::{Check, Condition, FunctionSystem, System, SystemFunction, check};
use crate::value::component::{Component, Event};

/// Parts of a tick. What systems ask for through `Commands` is done at the end of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Before anything else.
    First,
    /// Inputs become intentions.
    PreUpdate,
    /// The game.
    Update,
    /// What follows from it: deaths, scores, phases.
    PostUpdate,
    /// After everything else.
    Last,
}

/// Names a system in `after` and `before`: the function itself, or its name as text.
pub trait SystemName<Marker> {
    /// The name.
    fn system_name(&self) -> String;
}

impl SystemName<()> for &str {
    fn system_name(&self) -> String {
        (*self).to_owned()
    }
}

impl<F: SystemFunction<M>, M> SystemName<(M,)> for F {
    fn system_name(&self) -> String {
        name_of::<F>()
    }
}

/// The last part of a function's path, without its type parameters.
fn name_of<F>() -> String {
    last_segment(type_name::<F>()).to_owned()
}

/// `<crate::Game as Trait>::build::{{closure}}` gives `{{closure}}`, `crate::system<crate::Type>`
/// gives `system`.
fn last_segment(path: &str) -> &str {
    let (mut depth, mut start, mut end) = (0, 0, path.len());
    for (index, c) in path.char_indices() {
        match c {
            '<' => {
                if depth == 0 && index > start {
                    end = index;
                }
                depth += 1;
            }
            '>' => depth -= 1,
            ':' if depth == 0 => (start, end) = (index + 1, path.len()),
            _ => {}
        }
    }
    &path[start..end]
}

type Init = Box<dyn FnOnce(&Registry, &mut Access) -> Box<dyn System>>;
/// Makes a condition ready.
pub(super) type MakeCheck = Box<dyn FnOnce(&Registry, &mut Access) -> Check>;
type Watch = fn(&Registry, &mut Access) -> Trigger;

/// Systems with what was declared about them.
pub struct Systems {
    pub(crate) list: Vec<Declared>,
}

pub(crate) struct Declared {
    pub(crate) name: String,
    pub(super) init: Init,
    pub(super) after: Vec<String>,
    pub(super) before: Vec<String>,
    pub(super) priority: i32,
    pub(super) every: u64,
    pub(super) triggers: Vec<Watch>,
    pub(super) conditions: Vec<MakeCheck>,
    pub(super) budget: Option<Duration>,
    pub(super) side_by_side: bool,
}

/// What makes a system run besides the passing of ticks.
#[derive(Debug, Clone, Copy)]
pub enum Trigger {
    /// An event of the type with this index was sent.
    Event(usize),
    /// An entity got the component with this index.
    Added(usize),
    /// The component with this index was added or changed somewhere.
    Changed(usize),
    /// An entity lost the component with this index.
    Removed(usize),
}

/// A system, a tuple of systems, or systems with declarations: `movement.after(input)`,
/// `(aim, fire).chain()`, `regenerate.every(30)`.
///
/// ```
/// use rekindle_sim::doc_game::{Coin, Collected, Position, Velocity};
/// use rekindle_sim::{EventReader, IntoSystems as _, Query, Time};
///
/// fn steer(mut velocities: Query<&mut Velocity>) {}
/// fn movement(time: Time, mut moving: Query<(&mut Position, &Velocity)>) {}
/// fn cheer(collected: EventReader<Collected>) {}
///
/// let systems = (steer, movement).chain(); // movement runs after steer
/// let systems = movement.after(steer).before("collect"); // by function or by name
/// let systems = cheer.on_event::<Collected>(); // only if there is something new to read
/// let systems = (|coins: Query<&Coin>| {}).named("count").every(30); // a closure needs a name
/// ```
pub trait IntoSystems<Marker>: Sized {
    /// The systems.
    fn into_systems(self) -> Systems;

    /// They run after that system of the same stage.
    fn after<N>(self, other: impl SystemName<N>) -> Systems {
        let other = other.system_name();
        self.into_systems().each(|system| system.after.push(other.clone()))
    }

    /// They run before that system of the same stage.
    fn before<N>(self, other: impl SystemName<N>) -> Systems {
        let other = other.system_name();
        self.into_systems().each(|system| system.before.push(other.clone()))
    }

    /// Higher runs first among systems that `after` and `before` leave open; 0 unless set.
    fn priority(self, priority: i32) -> Systems {
        self.into_systems().each(|system| system.priority = priority)
    }

    /// They run in every `ticks`th tick only: those whose number it divides.
    fn every(self, ticks: u64) -> Systems {
        self.into_systems().each(|system| system.every = ticks)
    }

    /// They run only if an event of this type was sent since they last ran. Several triggers: any
    /// of them suffices.
    fn on_event<E: Event>(self) -> Systems {
        self.trigger(|registry, access| {
            let index = registry.event::<E>(access);
            access.events.insert(index);
            Trigger::Event(index)
        })
    }

    /// They run only if some entity got this component since they last ran.
    fn on_add<T: Component>(self) -> Systems {
        self.trigger(|registry, access| Trigger::Added(registry.component::<T>(access)))
    }

    /// They run only if this component was added or changed somewhere since they last ran.
    fn on_change<T: Component>(self) -> Systems {
        self.trigger(|registry, access| Trigger::Changed(registry.component::<T>(access)))
    }

    /// They run only if some entity lost this component since they last ran.
    fn on_remove<T: Component>(self) -> Systems {
        self.trigger(|registry, access| {
            let index = registry.component::<T>(access);
            access.removals.insert(index);
            Trigger::Removed(index)
        })
    }

    /// They run only if the condition holds: a function with parameters of systems that only looks,
    /// and returns `bool`. It is asked when the system's turn comes and its triggers let it run;
    /// for its filters, "since" is when the system itself last ran. Of several all must hold.
    ///
    /// ```
    /// use rekindle_sim::doc_game::{Coin, Position, Score};
    /// use rekindle_sim::{IntoSystems as _, Query, Res};
    ///
    /// fn rich(score: Res<Score>) -> bool {
    ///     score.total > 10
    /// }
    /// fn drift(mut coins: Query<(&mut Position, &Coin)>) {}
    /// let system = drift.run_if(rich).run_if(|coins: Query<&Coin>| !coins.is_empty()).every(3);
    /// ```
    fn run_if<M>(self, condition: impl Condition<M>) -> Systems {
        self.into_systems().each(|system| {
            let condition = condition.clone();
            system
                .conditions
                .push(Box::new(move |registry, access| check(condition, registry, access)));
        })
    }

    /// The longest that a run of each should take. The simulation never looks at it: a node
    /// measures some of the ticks that it makes, counts the runs that took longer, and says so in
    /// its log (`RK-HOST-060`); `rekindle match profile` shows it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use rekindle_sim::doc_game::{Position, Velocity};
    /// use rekindle_sim::{IntoSystems as _, Query};
    ///
    /// fn movement(mut moving: Query<(&mut Position, &Velocity)>) {}
    /// let system = movement.budget(Duration::from_micros(50));
    /// ```
    fn budget(self, longest: Duration) -> Systems {
        self.into_systems().each(|system| system.budget = Some(longest))
    }

    /// They may run at the same time as their neighbours in the order that say so as well, if a
    /// node has threads for its matches: what a world computes is the same with any number of
    /// threads.
    /// For systems that take some hundred microseconds and more each; with less to do, waking a
    /// thread takes longer.
    ///
    /// Systems of a stage that follow one another run side by side as long as none changes what
    /// another one looks at, or sends events that another one sends or reads. Only one of them has
    /// [`Commands`](crate::Commands), [`Inputs`](crate::Inputs), a certain index, grid or relation,
    /// or components that data defines. Another system that asks for the same just waits. What
    /// several look at is copied for each but one: some microseconds for 10,000 entities.
    ///
    /// ```
    /// use rekindle_sim::doc_game::{Coin, Position, Runner, Velocity};
    /// use rekindle_sim::{IntoSystems as _, Query, With};
    ///
    /// fn age(mut coins: Query<&mut Coin>) {}
    /// fn think(places: Query<&Position>, mut runners: Query<&mut Velocity, With<Runner>>) {}
    /// let systems = (age, think).side_by_side();
    /// ```
    fn side_by_side(self) -> Systems {
        self.into_systems().each(|system| system.side_by_side = true)
    }

    /// Another name than the function's; closures need one.
    fn named(self, name: &str) -> Systems {
        self.into_systems().each(|system| name.clone_into(&mut system.name))
    }

    /// Each runs after the one before it.
    fn chain(self) -> Systems {
        let mut systems = self.into_systems();
        for index in 1..systems.list.len() {
            let before = systems.list[index - 1].name.clone();
            systems.list[index].after.push(before);
        }
        systems
    }

    #[doc(hidden)]
    fn trigger(self, trigger: fn(&Registry, &mut Access) -> Trigger) -> Systems {
        self.into_systems().each(|system| system.triggers.push(trigger))
    }
}

impl Systems {
    fn each(mut self, change: impl Fn(&mut Declared)) -> Self {
        self.list.iter_mut().for_each(change);
        self
    }
}

impl IntoSystems<()> for Systems {
    fn into_systems(self) -> Systems {
        self
    }
}

impl<F: SystemFunction<M>, M: 'static> IntoSystems<(M,)> for F {
    fn into_systems(self) -> Systems {
        let init: Init = Box::new(move |registry, access| {
            FunctionSystem::<F, F::State>::boxed::<M>(self, registry, access)
        });
        let name = name_of::<F>();
        Systems {
            list: vec![Declared {
                name,
                init,
                after: Vec::new(),
                before: Vec::new(),
                priority: 0,
                every: 1,
                triggers: Vec::new(),
                conditions: Vec::new(),
                budget: None,
                side_by_side: false,
            }],
        }
    }
}

macro_rules! system_tuples {
    ($($name:ident $marker:ident),+) => {
        #[expect(non_snake_case, reason = "the elements are named like their types")]
        impl<$($name, $marker),+> IntoSystems<((), $($marker),+)> for ($($name,)+)
        where
            $($name: IntoSystems<$marker>),+
        {
            fn into_systems(self) -> Systems {
                let ($($name,)+) = self;
                let mut list = Vec::new();
                $(list.extend($name.into_systems().list);)+
                Systems { list }
            }
        }
    };
}

system_tuples!(A MA);
system_tuples!(A MA, B MB);
system_tuples!(A MA, B MB, C MC);
system_tuples!(A MA, B MB, C MC, D MD);
system_tuples!(A MA, B MB, C MC, D MD, E ME);
system_tuples!(A MA, B MB, C MC, D MD, E ME, F MF);
system_tuples!(A MA, B MB, C MC, D MD, E ME, F MF, G MG);
system_tuples!(A MA, B MB, C MC, D MD, E ME, F MF, G MG, H MH);
system_tuples!(A MA, B MB, C MC, D MD, E ME, F MF, G MG, H MH, I MI);
system_tuples!(A MA, B MB, C MC, D MD, E ME, F MF, G MG, H MH, I MI, J MJ);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_named_like_its_function() {
        let paths = [
            "arena::systems::movement",
            "movement",
            "a::generic<b::Type<c::D>>",
            "<a::B as c::D<E>>::build::{{closure}}",
        ];
        assert_eq!(paths.map(last_segment), ["movement", "movement", "generic", "{{closure}}"]);
    }
}
