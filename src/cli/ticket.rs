//! `rekindle ticket issue`: signs with the key of the cluster, so no node need run. The audit log
//! of the store has it, if there is a store.

use rekindle_gateway::keys::Keys;
use rekindle_schema::Incarnation;
use rekindle_store::Store;
use rekindle_store_open::address::StoreAddress;

use super::args::TicketCommand;
use super::context::{Context, block_on};
use super::{matches, offline};
use crate::control::{ticket_wanted, ticket_words};
use crate::exit::{Exit, Failure};
use crate::node::keyring;
use crate::node::operator::Operators;
use crate::node::tickets;
use rekindle_admin::{api, client};

pub(super) fn run(context: &Context, command: &TicketCommand) -> Result<Exit, Failure> {
    let TicketCommand::Issue { player, name, spectator, match_id, ttl } = command;
    let issue = |keys: &Keys, wanted: &api::IssueTicket| {
        tickets::issue(keys, &ticket_wanted(wanted))
            .map(|ticket| api::Ticket { ticket, certificates: tickets::fingerprints(keys) })
            .map_err(|error| Failure::new(Exit::Usage, error.to_string()))
    };
    let ticket = block_on(async {
        let store = store(context).await?;
        let only = match match_id {
            Some(prefix) => Some(the_match(context, store.as_ref(), prefix).await?),
            None => None,
        };
        let wanted = api::IssueTicket {
            player: *player,
            name: name.clone(),
            spectator: *spectator,
            match_id: only,
            ttl_s: *ttl,
        };
        let keys = keyring::of_host(&context.config).await?;
        let Some(store) = store else { return issue(&keys, &wanted) };
        let (target, detail) = ticket_words(&wanted);
        let operators = Operators::new(store, Incarnation::default());
        let action = operators.begin(&client::agent(), "ticket.issue", &target, &detail).await?;
        let ticket = issue(&keys, &wanted);
        action.end(None, ticket.as_ref().err().map(|failure| failure.message.clone())).await;
        ticket
    })?;
    context.answer(&ticket, || vec![ticket.ticket.clone()])?;
    Ok(Exit::Done)
}

/// The id of the one match that begins so: of the store, or of the node that runs where there is
/// no store to be read. A ticket for a match that nobody has opens nothing.
async fn the_match(
    context: &Context,
    store: Option<&Store>,
    prefix: &str,
) -> Result<String, Failure> {
    Ok(match store {
        Some(store) => offline::find(store, prefix).await?.match_id.to_string(),
        None => matches::find(&context.node()?, Some(prefix)).await?.id,
    })
}

/// The store in whose audit log it is written, if there is one already.
async fn store(context: &Context) -> Result<Option<Store>, Failure> {
    match keyring::store_of_host(&context.config) {
        StoreAddress::Memory => Ok(None),
        StoreAddress::Local(dir) if !dir.join("format").exists() => Ok(None),
        address => Ok(Some(address.open().await?)),
    }
}
