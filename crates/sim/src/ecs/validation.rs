//! Values that components do not accept: `#[value(within = …)]`, `#[component(validate = …)]`.
//!
//! At the end of each stage, what was changed in it is checked. A value that is not accepted
//! becomes again what it was at the end of the stage before; a component that is new goes. Each is
//! told as an event. A world without such components checks nothing.

use std::sync::Arc;

use crate::Event;
use crate::ecs::world::World;
use crate::storage::stamp::{Stamp, position};
use crate::value::entity::Entity;

/// A write was rejected: the component has its former value again, or, if it was new, is gone.
///
/// Every game with a component that does not accept all values has this event.
///
/// ```
/// use rekindle_sim::{Component, EventReader, IntoSystems as _, Output, Rejected};
///
/// fn reachable(door: &Door) -> Result<(), String> {
///     let fine = door.open || door.keys > 0;
///     if fine { Ok(()) } else { Err("a closed door without keys".to_owned()) }
/// }
///
/// #[derive(Clone, Component)]
/// #[component(id = "door", validate = reachable)]
/// struct Door {
///     open: bool,
///     #[value(within = 0..=3)] // a write outside is rejected; `range` would bring it inside
///     keys: u8,
/// }
///
/// fn complain(rejected: EventReader<Rejected>, mut output: Output) {
///     for write in rejected.read() {
///         output.announce("rejected", write); // "`keys` is 9, outside of 0..=3", by "unlock"
///     }
/// }
/// let system = complain.on_event::<Rejected>();
/// ```
#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "rejected")]
pub struct Rejected {
    /// Whose component it was.
    pub entity: Entity,
    /// The component's id.
    pub component: String,
    /// The system that wrote the value; `commands` for what was asked for through `Commands`, and
    /// for what `setup`, `join`, `leave` and `command` wrote.
    pub system: String,
    /// What is wrong with it.
    pub problem: String,
}

impl World {
    /// Checks what was changed since the last check. `system` names the system with a place in the
    /// tick.
    pub(crate) fn validate<'n>(&mut self, system: impl Fn(u32) -> Option<&'n str>) {
        let since = std::mem::replace(&mut self.checked, self.now.stamp);
        if self.registry.validated.is_empty() {
            return;
        }
        let registry = Arc::clone(&self.registry);
        for &index in &registry.validated {
            for refused in self.columns[index].validate(since) {
                let entity = self.entities.in_slot(refused.slot);
                if !refused.kept {
                    self.remove_index(entity, index);
                }
                self.send(Rejected {
                    entity,
                    component: registry.components.list[index].id.to_owned(),
                    system: system(position(refused.stamp)).unwrap_or("commands").to_owned(),
                    problem: refused.problem,
                });
            }
        }
    }

    /// Checks everything at the end of the next stage: the world was changed from outside.
    pub(crate) fn validate_all(&mut self) {
        self.checked = Stamp::MIN;
    }
}
