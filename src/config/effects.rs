//! The keys under `effects`.

use std::time::Duration;

use super::{ConfigError, Settings, at_least_one, millis, text};
use crate::node::webhook::{CONFIGURED, Webhook};

/// The longest time that one request may take.
const LONGEST: Duration = Duration::from_mins(1);

/// The webhook of the configuration, if it has one.
pub(super) fn webhook(settings: &Settings) -> Result<Option<Webhook>, ConfigError> {
    let kinds = text(settings, "effects.webhook.kinds");
    let kinds = kinds.split(',').map(str::trim).filter(|kind| !kind.is_empty());
    let timeout = millis(settings, "effects.webhook.timeout_ms")?;
    if timeout.is_zero() || timeout > LONGEST {
        let expected = "milliseconds, from 1 to 60000";
        return Err(super::bad(settings, "effects.webhook.timeout_ms", expected));
    }
    let attempts = at_least_one(settings, "effects.webhook.attempts")?;
    let url = text(settings, "effects.webhook.url");
    if url.is_empty() {
        return Ok(None);
    }
    let webhook = Webhook::new(CONFIGURED, &url, &text(settings, "effects.webhook.secret"))
        .map_err(|why| ConfigError::Conflict(format!("effects.webhook: {why}")))?;
    Ok(Some(webhook.kinds(kinds).timeout(timeout).attempts(attempts)))
}
