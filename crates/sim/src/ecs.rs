//! The world, and what systems see of it: queries, parameters, and the order in which systems run.
//!
//! Called by [`crate::game`], which puts games together from it and makes ticks. Stands on
//! [`crate::storage`].

pub(crate) mod bundle;
pub(crate) mod commands;
pub(crate) mod events;
pub(crate) mod hooks;
pub(crate) mod index;
pub(crate) mod limit;
pub(crate) mod local;
pub(crate) mod output;
pub(crate) mod params;
pub(crate) mod query;
pub(crate) mod registry;
pub(crate) mod relations;
pub(crate) mod resources;
pub(crate) mod rng;
pub(crate) mod schedule;
pub(crate) mod settle;
pub(crate) mod states;
pub(crate) mod stats;
pub(crate) mod system;
pub(crate) mod template;
pub(crate) mod validation;
pub(crate) mod values;
pub(crate) mod watch;
pub(crate) mod workers;
pub(crate) mod world;
