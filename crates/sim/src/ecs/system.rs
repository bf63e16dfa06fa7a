//! Systems: plain functions whose parameters say what they read and change.
#![expect(non_snake_case, reason = "in macros, parameters are named like their types")]
#![expect(clippy::too_many_arguments, reason = "in macros, as many as a system has")]

use crate::ecs::registry::{Access, Registry};
use crate::ecs::world::World;
use crate::storage::stamp::Run;

/// What a system can have as a parameter.
///
/// [`Query`](crate::Query), [`Res`](crate::Res), [`ResMut`](crate::ResMut),
/// [`Commands`](crate::Commands), [`EventReader`](crate::EventReader),
/// [`EventWriter`](crate::EventWriter), [`RemovedComponents`](crate::RemovedComponents),
/// [`Inputs`](crate::Inputs), [`Time`](crate::Time), [`Rng`](crate::Rng), [`Const`](crate::Const),
/// [`Output`](crate::Output).
pub trait SystemParam {
    /// What is resolved once, when the game is built.
    type State: Send + Sync + 'static;
    /// The parameter for one run.
    type Item<'w>: SystemParam<State = Self::State>;
    /// Resolves and declares what the parameter touches.
    fn init(registry: &Registry, access: &mut Access) -> Self::State;
    /// The parameter for one run; `None` if something is borrowed already, which building the game
    /// rules out. Of the world it looks at what `init` declared, and at nothing else: the rest is
    /// not there while the system runs side by side with others.
    fn get<'w>(state: &'w Self::State, world: &'w World, run: &Run) -> Option<Self::Item<'w>>;
}

/// A system that is ready to run.
pub(crate) trait System: Send + Sync {
    fn run(&self, world: &World, run: &Run);
}

/// A function that can be a system. Implemented for functions of up to twelve parameters.
pub trait SystemFunction<Marker>: Send + Sync + 'static {
    /// The states of the parameters.
    type State: Send + Sync + 'static;
    /// Resolves the parameters.
    fn init(registry: &Registry, access: &mut Access) -> Self::State;
    /// Calls the function.
    fn call(&self, state: &Self::State, world: &World, run: &Run);
}

/// A function that looks at a world and says something of it: whether a system runs
/// ([`Condition`]), or a value under a name ([`GameBuilder::calculation`](crate::GameBuilder)).
/// Implemented for functions of one to twelve parameters that change nothing.
pub trait Calculation<Marker>: Send + Sync + 'static {
    /// What it says.
    type Out: 'static;
    /// The states of the parameters.
    type State: Send + Sync + 'static;
    /// Resolves the parameters.
    fn init(registry: &Registry, access: &mut Access) -> Self::State;
    /// Calls the function.
    fn calculate(&self, state: &Self::State, world: &World, run: &Run) -> Self::Out;
}

/// A function that says whether a system runs: see [`IntoSystems::run_if`](crate::IntoSystems).
pub trait Condition<Marker>: Calculation<Marker, Out = bool> + Clone {}

impl<C: Calculation<M, Out = bool> + Clone, M> Condition<M> for C {}

/// A condition that is ready to be asked.
pub(crate) type Check = Box<dyn Fn(&World, &Run) -> bool + Send + Sync>;

/// Makes a condition ready.
pub(crate) fn check<C: Condition<M>, M>(
    condition: C,
    registry: &Registry,
    access: &mut Access,
) -> Check {
    let state = C::init(registry, access);
    Box::new(move |world, run| condition.calculate(&state, world, run))
}

pub(crate) struct FunctionSystem<F, S> {
    function: F,
    state: S,
}

impl<F, S> FunctionSystem<F, S> {
    pub(crate) fn boxed<M>(function: F, registry: &Registry, access: &mut Access) -> Box<dyn System>
    where
        F: SystemFunction<M, State = S>,
        S: Send + Sync + 'static,
        M: 'static,
    {
        Box::new(Typed::<F, M> {
            system: FunctionSystem { function, state: F::init(registry, access) },
        })
    }
}

struct Typed<F: SystemFunction<M>, M> {
    system: FunctionSystem<F, F::State>,
}

impl<F: SystemFunction<M>, M: 'static> System for Typed<F, M> {
    fn run(&self, world: &World, run: &Run) {
        self.system.function.call(&self.system.state, world, run);
    }
}

macro_rules! functions {
    ($($name:ident),*) => {
        impl<Func, $($name: SystemParam),*> SystemFunction<fn($($name),*)> for Func
        where
            Func: Send + Sync + 'static,
            for<'a> &'a Func: Fn($($name),*) + Fn($($name::Item<'_>),*),
        {
            type State = ($($name::State,)*);
            fn init(registry: &Registry, access: &mut Access) -> Self::State {
                ($($name::init(registry, access),)*)
            }
            fn call(&self, state: &Self::State, world: &World, run: &Run) {
                // Through a function of its own, so that the parameters' types are inferred from
                // one of the two bounds.
                fn inner<$($name),*>(function: impl Fn($($name),*), $($name: $name),*) {
                    function($($name),*);
                }
                let ($($name,)*) = state;
                $(
                    let Some($name) = $name::get($name, world, run) else {
                        panic!("a parameter of a system is in use: the schedule should have \
                            refused it");
                    };
                )*
                inner(self, $($name),*);
            }
        }

        impl<Func, Out, $($name: SystemParam),*> Calculation<fn($($name),*) -> Out> for Func
        where
            Out: 'static,
            Func: Send + Sync + 'static,
            for<'a> &'a Func: Fn($($name),*) -> Out + Fn($($name::Item<'_>),*) -> Out,
        {
            type Out = Out;
            type State = ($($name::State,)*);
            fn init(registry: &Registry, access: &mut Access) -> Self::State {
                ($($name::init(registry, access),)*)
            }
            fn calculate(&self, state: &Self::State, world: &World, run: &Run) -> Out {
                fn inner<Out, $($name),*>(
                    calculation: impl Fn($($name),*) -> Out,
                    $($name: $name),*
                ) -> Out {
                    calculation($($name),*)
                }
                let ($($name,)*) = state;
                $(
                    let Some($name) = $name::get($name, world, run) else {
                        panic!("a parameter of a condition or calculation is in use: ask for it \
                            while no system runs");
                    };
                )*
                inner(self, $($name),*)
            }
        }
    };
}

impl<Func: Fn() + Send + Sync + 'static> SystemFunction<fn()> for Func {
    type State = ();
    fn init(_registry: &Registry, _access: &mut Access) {}
    fn call(&self, _state: &(), _world: &World, _run: &Run) {
        self();
    }
}

functions!(A);
functions!(A, B);
functions!(A, B, C);
functions!(A, B, C, D);
functions!(A, B, C, D, E);
functions!(A, B, C, D, E, G);
functions!(A, B, C, D, E, G, H);
functions!(A, B, C, D, E, G, H, I);
functions!(A, B, C, D, E, G, H, I, J);
functions!(A, B, C, D, E, G, H, I, J, K);
functions!(A, B, C, D, E, G, H, I, J, K, L);
functions!(A, B, C, D, E, G, H, I, J, K, L, M);
