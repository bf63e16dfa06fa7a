//! `rekindle keys ls|rotate`: the keys with which the cluster signs tickets and resume tokens. They
//! work on the store itself; nodes that run read what is there each second.

use rekindle_schema::Incarnation;
use rekindle_schema::keyring::{KeySet, Keyring};
use serde::Serialize;

use super::args::KeysCommand;
use super::context::{Context, block_on};
use crate::config::retention::duration;
use crate::exit::{Exit, Failure};
use crate::node::keyring::{self, KeyringError};
use crate::node::operator::Operators;
use crate::{clock, hex, moment};
use rekindle_admin::client;

/// One set of keys, without its secrets.
#[derive(Serialize)]
struct Row {
    id: String,
    /// It signs now.
    signs: bool,
    /// What it signed is accepted now.
    accepted: bool,
    made: String,
    signs_from: String,
    /// `None`: for good.
    accepted_until: Option<String>,
    /// SHA-256 of the certificate.
    certificate: String,
}

fn row(set: &KeySet, ring: &Keyring, now_ms: u64) -> Row {
    Row {
        id: format!("{:016x}", set.id),
        signs: ring.signer(now_ms).id == set.id,
        accepted: set.is_accepted(now_ms),
        made: moment::show(set.made_ms),
        signs_from: moment::show(set.signs_from_ms.max(set.made_ms)),
        accepted_until: set.accepted_until_ms.map(moment::show),
        certificate: hex::encode(&rekindle_gateway::keys::fingerprint(&set.certificate)),
    }
}

fn line(row: &Row) -> String {
    let Row { id, signs, accepted, made, signs_from, accepted_until, certificate } = row;
    let signing = if *signs { "signs".to_owned() } else { format!("signs from {signs_from}") };
    let until = match (accepted, accepted_until) {
        (false, _) => "no longer accepted".to_owned(),
        (true, None) => "accepted for good".to_owned(),
        (true, Some(until)) => format!("accepted until {until}"),
    };
    let signing = if accepted_until.is_some() && !signs { String::new() } else { signing + ", " };
    format!("{id}: made {made}, {signing}{until}, certificate {}", &certificate[..16])
}

fn answer(context: &Context, ring: &Keyring) -> Result<Exit, Failure> {
    let now_ms = clock::now_ms();
    let rows: Vec<Row> = ring.sets().iter().map(|set| row(set, ring, now_ms)).collect();
    context.answer(&rows, || rows.iter().map(line).collect())?;
    Ok(Exit::Done)
}

fn millis(overlap: &str) -> Result<u64, Failure> {
    if overlap == "0s" {
        return Ok(0);
    }
    let parsed = duration(overlap).and_then(|overlap| u64::try_from(overlap.as_millis()).ok());
    parsed.ok_or_else(|| {
        let message =
            format!("RK-CLI-160: --overlap {overlap} is no duration: expected 24h, 7d, 0s");
        Failure::new(Exit::Usage, message)
    })
}

pub(super) fn run(context: &Context, command: &KeysCommand) -> Result<Exit, Failure> {
    let secret = context.config.cluster_secret.as_ref();
    let ring = match command {
        KeysCommand::Ls => block_on(async {
            let store = keyring::opened(&context.config.store).await?;
            Ok(keyring::read(&store, secret).await?.ok_or(KeyringError::None)?)
        })?,
        KeysCommand::Rotate { overlap, tls } => {
            let overlap_ms = millis(overlap)?;
            block_on(async {
                let store = keyring::opened(&context.config.store).await?;
                let operators = Operators::new(store.clone(), Incarnation::default());
                let detail = format!("overlap={overlap} tls={tls}");
                let action =
                    operators.begin(&client::agent(), "keys.rotate", "keys", &detail).await?;
                let rotated = keyring::rotate(&store, secret, overlap_ms, *tls).await;
                action.end(None, rotated.as_ref().err().map(ToString::to_string)).await;
                Ok(rotated?)
            })?
        }
    };
    answer(context, &ring)
}
