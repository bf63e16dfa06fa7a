//! Root and shard supervisors.

use std::sync::{Arc, Weak};

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::journal::Halt;
use crate::services::Services;

/// Supervisors get no messages, only events.
pub(crate) enum SupervisorMsg {}

impl ractor::Message for SupervisorMsg {}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Role {
    /// Of the journal, the checkpointer and the shards.
    Root,
    /// Of the matches of one shard.
    Shard(usize),
}

pub(crate) struct Supervisor {
    pub(crate) host: Weak<Services>,
    pub(crate) role: Role,
}

impl Actor for Supervisor {
    type Msg = SupervisorMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<SupervisorMsg>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    /// The default would stop the supervisor, and with it every other match, whenever one child
    /// exits.
    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<SupervisorMsg>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let Some(host) = self.host.upgrade().filter(|host| !host.is_aborted()) else {
            return Ok(());
        };
        match (self.role, event) {
            (Role::Shard(shard), SupervisionEvent::ActorFailed(who, error)) => {
                let failed = host
                    .matches
                    .lock()
                    .values()
                    .find(|cell| cell.supervision.is_actor(who.get_id()))
                    .cloned();
                if let Some(cell) = failed {
                    tracing::error!(
                        code = "RK-HOST-025", match_id = %cell.match_id, shard, %error,
                        "match actor failed"
                    );
                    host.restart(Arc::clone(&cell), error.to_string());
                }
            }
            (Role::Root, SupervisionEvent::ActorFailed(_, error)) => {
                host.journal.halt(Halt::Actor("journal, checkpoint or shard", error.to_string()));
            }
            (Role::Root, SupervisionEvent::ActorTerminated(_, _, reason)) => {
                host.journal.halt(Halt::Actor(
                    "journal, checkpoint or shard",
                    reason.unwrap_or_else(|| "it stopped".to_owned()),
                ));
            }
            _ => {}
        }
        Ok(())
    }
}
