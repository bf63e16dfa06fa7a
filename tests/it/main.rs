//! Black-box tests of the executable: what a user, an operator and a script meet. One binary, so
//! that it is linked once.

mod clock;
mod config;
mod demo;
mod edge;
mod failover;
mod history;
mod hostile;
mod identity;
mod jobs;
mod logging;
mod node;
mod outage;
mod readme;
mod secrets;
mod standing;
mod store;
mod support;
mod surroundings;
mod verdicts;
mod verify;
mod witness;
