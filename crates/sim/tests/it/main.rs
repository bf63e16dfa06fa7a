//! Tests of the world through its public doors.
#![expect(unreachable_pub, reason = "the games in here are read by these tests alone")]

mod beside;
mod blame;
mod bodies;
mod book;
mod columns;
mod decode;
mod documents;
mod entity_states;
mod extensions;
mod family;
mod game;
mod golden;
mod lanes;
mod life;
mod migrate;
mod property;
mod queries;
mod rules;
mod schedule;
mod shadow;
mod states;
mod stats;
mod swarm;
mod threads;

mod values;
mod visibility;
mod world;
mod zoo;
