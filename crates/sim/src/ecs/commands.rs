//! Changes that wait for the end of the stage, in the order in which they were asked for.
//!
//! Each type of change has a list of its own, which keeps its memory from tick to tick: a box for
//! each would be an allocation for each. Filled by [`Commands`](crate::Commands), carried out by
//! [`World::flush`].

use std::any::{Any, TypeId};
use std::collections::VecDeque;

use crate::ecs::world::World;

/// What waits.
#[derive(Default)]
pub(crate) struct CommandQueue {
    lists: Vec<(TypeId, Box<dyn AnyList>)>,
    /// Of each change, in order: the list that has it in front.
    order: Vec<u32>,
}

/// Changes of one type, in order.
struct List<C>(VecDeque<C>);

trait AnyList: Send {
    fn as_any_mut(&mut self) -> &mut dyn Any;
    /// Carries out the first one.
    fn apply(&mut self, world: &mut World);
}

impl<C: FnOnce(&mut World) + Send + 'static> AnyList for List<C> {
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn apply(&mut self, world: &mut World) {
        if let Some(change) = self.0.pop_front() {
            change(world);
        }
    }
}

impl CommandQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Adds a change behind all that wait.
    pub(crate) fn push<C: FnOnce(&mut World) + Send + 'static>(&mut self, change: C) {
        let id = TypeId::of::<C>();
        let place = self.lists.iter().position(|(known, _)| *known == id).unwrap_or_else(|| {
            self.lists.push((id, Box::new(List::<C>(VecDeque::new()))));
            self.lists.len() - 1
        });
        if let Some(List(changes)) = self.lists[place].1.as_any_mut().downcast_mut::<List<C>>() {
            changes.push_back(change);
            self.order.push(place as u32);
        }
    }

    /// Carries out all that wait, in order.
    pub(crate) fn apply(&mut self, world: &mut World) {
        for place in self.order.drain(..) {
            self.lists[place as usize].1.apply(world);
        }
    }
}
