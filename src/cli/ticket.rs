//! `rekindle ticket issue`: signs with the key in the data directory, so no node need run.

use rekindle_gateway::keys::Keys;
use rekindle_schema::MatchId;

use super::Context;
use super::args::TicketCommand;
use super::exit::{Exit, Failure};
use crate::admin::api;
use crate::node::tickets;

pub(super) fn run(context: &Context, command: &TicketCommand) -> Result<Exit, Failure> {
    let TicketCommand::Issue { player, name, spectator, match_id, ttl } = command;
    if let Some(text) = match_id {
        text.parse::<MatchId>().map_err(|error| Failure::new(Exit::Usage, format!("RK-CLI-004: --match: {error}")))?;
    }
    let keys = Keys::load_or_create(&context.config.data_dir)?;
    let wanted = api::IssueTicket { player: *player, name: name.clone(), spectator: *spectator, match_id: match_id.clone(), ttl_s: *ttl };
    let ticket = tickets::issue(&keys, &wanted).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    context.answer(&ticket, || ticket.ticket.clone())?;
    Ok(Exit::Done)
}
