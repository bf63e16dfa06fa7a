//! What a command needs to play or watch: an address, whom to trust, tickets.
//!
//! On the node's host all of it lies in the data directory. With `--admin` the node is asked over
//! HTTP instead, which it answers in dev mode or with its token.

use std::iter;
use std::net::SocketAddr;

use rekindle_client::{ClientConfig, Trust};
use rekindle_gateway::keys::Keys;
use rekindle_schema::wire::Role;
use rekindle_schema::{MatchId, PlayerId};

use super::context::Context;
use super::matches;
use crate::exit::{Exit, Failure};
use crate::node::keyring;
use crate::node::tickets::{self, Wanted};
use crate::{dial, hex};
use rekindle_admin::api::{IssueTicket, NodeView, Ticket};
use rekindle_admin::client::AdminClient;

/// For how many seconds tickets of commands are valid.
const TICKET_S: u64 = 600;

/// The way into a node.
pub(super) struct Access {
    /// UDP address for players, as it is dialled from here.
    pub(super) addr: SocketAddr,
    /// Its certificate.
    pub(super) trust: Trust,
    /// Its admin listener.
    pub(super) node: AdminClient,
    keys: Option<Keys>,
}

impl Access {
    /// To the node that the command line names, else to the one of the data directory. `connect`
    /// overrides where players connect.
    pub(super) async fn find(
        context: &Context,
        connect: Option<SocketAddr>,
    ) -> Result<Self, Failure> {
        let node = context.node()?;
        if context.common.admin.is_some() {
            let view: NodeView = node.get("/v1/node").await.map_err(matches::explain)?;
            let strange = || {
                Failure::new(
                    Exit::Failed,
                    format!(
                        "RK-CLI-005: http://{} names no usable address or certificate",
                        node.addr()
                    ),
                )
            };
            let certificates = iter::once(&view.certificate).chain(&view.certificates);
            let certificates =
                certificates.map(|text| hex::decode(text)).collect::<Option<Vec<_>>>();
            let trust = Trust::certificates(certificates.ok_or_else(strange)?);
            let told = match &view.public {
                Some(public) => public.parse().ok(),
                None => {
                    view.listen.parse().ok().map(|bound| dial::from_afar(bound, node.addr().ip()))
                }
            };
            let addr = connect.map(dial::from_here).or(told).ok_or_else(strange)?;
            return Ok(Self { addr, trust, node, keys: None });
        }
        let keys = keyring::of_host(&context.config).await?;
        let card = context.card()?;
        let addr = dial::from_here(connect.unwrap_or(card.listen));
        Ok(Self {
            addr,
            // The one that the node shows, if it has not read the keys again, or is of a release
            // that reads them at its start.
            trust: Trust::certificates(
                keys.certificates_der()
                    .iter()
                    .map(|der| der.to_vec())
                    .chain([std::fs::read(&card.certificate)?]),
            ),
            node,
            keys: Some(keys),
        })
    }

    /// A ticket for a player, or for a spectator.
    pub(super) async fn ticket(
        &self,
        player: u64,
        name: String,
        role: Role,
    ) -> Result<String, Failure> {
        if let Some(keys) = &self.keys {
            let (player, name) = (PlayerId(player), Some(name));
            let wanted = Wanted { player, name, role, match_id: None, ttl_s: TICKET_S };
            return Ok(tickets::issue(keys, &wanted)?);
        }
        let wanted = IssueTicket {
            player,
            name: Some(name),
            spectator: role == Role::Spectator,
            match_id: None,
            ttl_s: TICKET_S,
        };
        let Ticket { ticket, .. } =
            self.node.post("/v1/tickets", &wanted).await.map_err(matches::explain)?;
        Ok(ticket)
    }

    /// A client's configuration to watch a match.
    pub(super) async fn spectator(&self, match_id: MatchId) -> Result<ClientConfig, Failure> {
        let ticket = self
            .ticket(crate::clock::random() >> 2, "spectator".to_owned(), Role::Spectator)
            .await?;
        let mut config = ClientConfig::new(vec![self.addr], self.trust.clone(), ticket);
        config.role = Role::Spectator;
        config.match_id = Some(match_id);
        Ok(config)
    }
}
