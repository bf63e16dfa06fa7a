//! Black-box tests of the executable: what a user, an operator and a script meet. One binary, so
//! that it is linked once.

mod checker;
mod clock;
mod cluster;
mod cluster_demo;
mod cluster_drill;
mod cluster_faults;
mod cluster_load;
mod config;
mod demo;
mod edge;
mod failover;
mod fleet;
mod follow;
mod games;
mod history;
mod hostile;
mod identity;
mod jobs;
mod keys;
mod logging;
mod migrate;
mod node;
mod operators;
mod outage;
mod peers;
mod readme;
mod secrets;
mod standby;
mod standing;
mod store;
mod support;
mod surroundings;
mod verdicts;
mod verify;
mod witness;
