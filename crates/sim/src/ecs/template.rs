//! Templates: what entities of a kind are made of, by name, one built on another.
//!
//! Declared with [`GameBuilder::template`](crate::GameBuilder::template). When the game is built,
//! each template is resolved to a list of components with their values, so that spawning looks
//! nothing up but the name. A template is no state: an entity does not know which it was made of.

use std::any::Any;
use std::collections::BTreeMap;

use crate::ecs::bundle::Bundle;
use crate::ecs::index::{Group, Tags};
use crate::ecs::registry::{Access, Registry, did_you_mean};
use crate::ecs::world::World;
use crate::value::component::Component;
use crate::value::entity::Entity;

/// A component with a value, without its type.
trait Part: Send + Sync {
    fn copy(&self) -> Box<dyn Part>;
    fn insert(&self, world: &mut World, entity: Entity);
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

struct Of<T>(T);

impl<T: Component> Part for Of<T> {
    fn copy(&self) -> Box<dyn Part> {
        Box::new(Self(self.0.clone()))
    }
    fn insert(&self, world: &mut World, entity: Entity) {
        world.insert_one(entity, self.0.clone());
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        &mut self.0
    }
}

/// Changes a component, given as itself.
type Change = Box<dyn Fn(&mut dyn Any)>;

enum Operation {
    With(Box<dyn Part>),
    Change(Change),
    Without,
}

struct Line {
    find: fn(&Registry, &mut Access) -> usize,
    id: &'static str,
    operation: Operation,
}

/// What a template says, in the order in which it says it.
pub struct Template {
    name: String,
    extends: Vec<String>,
    lines: Vec<Line>,
}

impl Template {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), extends: Vec::new(), lines: Vec::new() }
    }

    fn line<T: Component>(&mut self, operation: Operation) -> &mut Self {
        self.lines.push(Line { find: Registry::component::<T>, id: T::ID, operation });
        self
    }

    /// It has everything that the other one has; what it says itself goes over it. Of several, the
    /// later one goes over the earlier one.
    pub fn extends(&mut self, other: &str) -> &mut Self {
        self.extends.push(other.to_owned());
        self
    }

    /// Its entities have this component, with this value.
    pub fn with<T: Component>(&mut self, value: T) -> &mut Self {
        self.line::<T>(Operation::With(Box::new(Of(value))))
    }

    /// Its entities have the component of what it extends with another value: `change` gets that
    /// value.
    pub fn change<T: Component>(&mut self, change: impl Fn(&mut T) + 'static) -> &mut Self {
        self.line::<T>(Operation::Change(Box::new(move |value| {
            if let Some(value) = value.downcast_mut() {
                change(value);
            }
        })))
    }

    /// Its entities have not this component of what it extends.
    pub fn without<T: Component>(&mut self) -> &mut Self {
        self.line::<T>(Operation::Without)
    }

    /// Its entities have these tags, and no others: see [`Tags`].
    pub fn tagged<N: Into<String>>(&mut self, tags: impl IntoIterator<Item = N>) -> &mut Self {
        self.with(Tags::new(tags))
    }

    /// Its entities are members of this group: see [`Group`].
    pub fn in_group(&mut self, name: &str) -> &mut Self {
        self.with(Group::new(name))
    }
}

/// A resolved template: components ascending by id, with their values.
type Parts = BTreeMap<usize, Box<dyn Part>>;

/// The templates of a game.
#[derive(Default)]
pub(crate) struct Templates {
    resolved: BTreeMap<String, Parts>,
}

impl Templates {
    /// Resolves templates; or says all that is wrong with them.
    pub(crate) fn resolve(declared: Vec<Template>, registry: &Registry) -> (Self, Vec<String>) {
        let mut errors = Vec::new();
        let mut known: BTreeMap<&str, &Template> = BTreeMap::new();
        for template in &declared {
            if known.contains_key(template.name.as_str()) {
                errors.push(format!(
                    "two templates are named `{}`: give one another name",
                    template.name
                ));
            } else {
                known.insert(&template.name, template);
            }
        }
        let mut resolving =
            Resolving { known, registry, done: BTreeMap::new(), path: Vec::new(), errors };
        for template in &declared {
            resolving.resolve(template);
        }
        let resolved = resolving.done.into_iter().map(|(name, parts)| (name.to_owned(), parts));
        (Self { resolved: resolved.collect() }, resolving.errors)
    }
}

struct Resolving<'t> {
    known: BTreeMap<&'t str, &'t Template>,
    registry: &'t Registry,
    done: BTreeMap<&'t str, Parts>,
    /// What is being resolved, the outermost first.
    path: Vec<&'t str>,
    errors: Vec<String>,
}

impl<'t> Resolving<'t> {
    /// The parts of a template; without those that are wrong, which are said once.
    fn resolve(&mut self, template: &'t Template) -> Parts {
        if let Some(parts) = self.done.get(template.name.as_str()) {
            return copy(parts);
        }
        if let Some(start) = self.path.iter().position(|name| *name == template.name) {
            let circle = self.path[start..].iter().copied().chain([template.name.as_str()]);
            let circle: Vec<_> = circle.map(|name| format!("`{name}`")).collect();
            self.errors.push(format!(
                "templates extend each other in a circle: {}: take one `extends` out",
                circle.join(" extends ")
            ));
            return Parts::new();
        }
        self.path.push(&template.name);
        let mut parts = Parts::new();
        for other in &template.extends {
            match self.known.get(other.as_str()).copied() {
                Some(other) => parts.extend(self.resolve(other)),
                None => self.errors.push(format!(
                    "template `{}` extends `{other}`, which is not declared{}: add \
                     `game.template(\"{other}\", …)` in `Game::build`",
                    template.name,
                    did_you_mean(other, self.known.keys().copied()),
                )),
            }
        }
        for line in &template.lines {
            self.apply(&template.name, line, &mut parts);
        }
        self.path.pop();
        self.done.insert(&template.name, copy(&parts));
        parts
    }

    fn apply(&mut self, template: &str, line: &Line, parts: &mut Parts) {
        let mut access = Access::default();
        let index = (line.find)(self.registry, &mut access);
        if !access.errors.is_empty() {
            let errors = access.errors.into_iter();
            self.errors.extend(errors.map(|error| format!("template `{template}`: {error}")));
            return;
        }
        let missing = |what: &str, instead: &str| {
            format!(
                "template `{template}` {what} `{}`, which nothing that it extends has: {instead}",
                line.id
            )
        };
        match &line.operation {
            Operation::With(part) => drop(parts.insert(index, part.copy())),
            Operation::Change(change) => match parts.get_mut(&index) {
                Some(part) => change(part.as_any_mut()),
                None => self.errors.push(missing("changes", "use `with`")),
            },
            Operation::Without if parts.remove(&index).is_none() => {
                self.errors.push(missing("leaves out", "take `without` away"));
            }
            Operation::Without => {}
        }
    }
}

fn copy(parts: &Parts) -> Parts {
    parts.iter().map(|(index, part)| (*index, part.copy())).collect()
}

impl World {
    /// A new entity as a template says, with these components over it (`()` for none).
    ///
    /// # Panics
    /// If there is no such template.
    pub fn spawn_template(&mut self, template: &str, over: impl Bundle) -> Entity {
        let entity = self.spawn(());
        self.insert_template(entity, template);
        self.insert(entity, over);
        entity
    }

    /// Gives an entity what a template says, replacing what it has; whether it was alive.
    ///
    /// # Panics
    /// If there is no such template.
    pub fn insert_template(&mut self, entity: Entity, template: &str) -> bool {
        let registry = std::sync::Arc::clone(&self.registry);
        let Some(parts) = registry.templates.resolved.get(template) else {
            let known = registry.templates.resolved.keys().map(String::as_str);
            panic!("there is no template `{template}`{}", did_you_mean(template, known));
        };
        let alive = self.entities.contains(entity);
        if alive {
            for part in parts.values() {
                part.insert(self, entity);
            }
            self.end_orphans();
        }
        alive
    }
}
