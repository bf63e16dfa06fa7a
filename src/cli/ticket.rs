//! `rekindle ticket issue`: signs with the key of the cluster, so no node need run. The audit log
//! of the store has it, if there is a store.

use rekindle_gateway::keys::Keys;
use rekindle_schema::{Incarnation, MatchId};
use rekindle_store::Store;
use rekindle_store_open::address::StoreAddress;

use super::args::TicketCommand;
use super::context::{Context, block_on};
use crate::control::{ticket_wanted, ticket_words};
use crate::exit::{Exit, Failure};
use crate::node::keyring;
use crate::node::operator::Operators;
use crate::node::tickets;
use rekindle_admin::{api, client};

pub(super) fn run(context: &Context, command: &TicketCommand) -> Result<Exit, Failure> {
    let TicketCommand::Issue { player, name, spectator, match_id, ttl } = command;
    if let Some(text) = match_id {
        text.parse::<MatchId>()
            .map_err(|error| Failure::new(Exit::Usage, format!("RK-CLI-004: --match: {error}")))?;
    }
    let wanted = api::IssueTicket {
        player: *player,
        name: name.clone(),
        spectator: *spectator,
        match_id: match_id.clone(),
        ttl_s: *ttl,
    };
    let issue = |keys: &Keys| {
        tickets::issue(keys, &ticket_wanted(&wanted))
            .map(|ticket| api::Ticket { ticket, certificates: tickets::fingerprints(keys) })
            .map_err(|error| Failure::new(Exit::Usage, error.to_string()))
    };
    let ticket = block_on(async {
        let keys = keyring::of_host(&context.config).await?;
        let Some(store) = store(context).await? else { return issue(&keys) };
        let (target, detail) = ticket_words(&wanted);
        let operators = Operators::new(store, Incarnation::default());
        let action = operators.begin(&client::agent(), "ticket.issue", &target, &detail).await?;
        let ticket = issue(&keys);
        action.end(None, ticket.as_ref().err().map(|failure| failure.message.clone())).await;
        ticket
    })?;
    context.answer(&ticket, || vec![ticket.ticket.clone()])?;
    Ok(Exit::Done)
}

/// The store in whose audit log it is written, if there is one already.
async fn store(context: &Context) -> Result<Option<Store>, Failure> {
    match keyring::store_of_host(&context.config) {
        StoreAddress::Memory => Ok(None),
        StoreAddress::Local(dir) if !dir.join("format").exists() => Ok(None),
        address => Ok(Some(address.open().await?)),
    }
}
