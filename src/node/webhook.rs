//! Webhooks: effects of games that are posted to an address of the studio's, signed.
//!
//! A match must not wait for somebody else's server. So an effect is entered into an *outbox* in
//! the store before the match is told that it is delivered (`outbox`), and posted from there
//! (`pump`): at least once, in the order of each match, by the node that entered it or, when
//! that is gone, by another one. `post` is one HTTP request.
//!
//! # Metrics
//!
//! * `rekindle_webhook_posts_total{webhook,outcome}`: requests of this node, by `delivered`,
//!   `failed`, `given_up`.
//! * `rekindle_webhook_waiting{webhook}`: effects of all nodes that are still to be posted.
//! * `rekindle_webhook_given_up{webhook}`: effects of all nodes that are not posted any more.
//!
//! Called by [`super::lifecycle`]; webhooks come from the configuration (`effects.webhook.*`) and
//! from the executable (`Node::webhook`).

pub mod outbox;
mod post;
mod pump;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use rekindle_schema::Incarnation;
use rekindle_schema::MatchId;
use rekindle_schema::record::Effect;
use rekindle_store::{EffectSink, Store, StoreResult};
use url::{Host, Url};

use crate::clock;
use crate::config::Secret;
use pump::Pump;

/// The name of the webhook that the configuration has.
pub const CONFIGURED: &str = "configured";
/// Effects of these kinds are the engine's own business: only who names them gets them.
const OWN_KINDS: &str = "rekindle.";
/// The fewest characters of a secret.
const MIN_SECRET: usize = 16;
/// How long one request may take, unless said otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// The pause behind the first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How often an effect is posted before it is given up, unless said otherwise: with the pauses
/// between, about two and a half hours.
pub const ATTEMPTS: u32 = 40;

/// Effects of some kinds, posted to an address. Register it with
/// [`Node::webhook`](crate::Node::webhook).
///
/// Each request is `POST` with a JSON body: `id`, `match`, `tick`, `ordinal`, `kind`, `payload`
/// (the effect's JSON, or null) and `payload_hex` (its bytes, if they are no JSON). These headers
/// go with it:
///
/// * `Idempotency-Key`: the id. It is the same in every attempt: what comes twice is one effect.
/// * `Rekindle-Signature`: `t=SECONDS,v1=HEX`, where HEX is the HMAC-SHA256 of
///   `SECONDS.BODY` under the secret. SECONDS is the time of the attempt since 1970: a receiver
///   that refuses old ones cannot be fooled by a repetition.
///
/// An answer of 200 to 299 means that the receiver has it; 410 means that it never wants it. After
/// anything else, redirects included, it is posted again, with pauses that double up to five
/// minutes.
#[derive(Debug, Clone)]
pub struct Webhook {
    pub(crate) name: String,
    pub(crate) url: Url,
    pub(crate) secret: Secret,
    pub(crate) kinds: Vec<String>,
    pub(crate) timeout: Duration,
    pub(crate) attempts: u32,
    /// The pause behind the first failure; each further one is twice as long.
    first_pause: Duration,
}

impl Webhook {
    /// All effects but the engine's own, posted to `url`: `https`, or `http` on loopback. The name
    /// tells it from others: letters `a-z`, digits, `-`. The secret, of 16 characters at least,
    /// signs. An error says what is wrong.
    pub fn new(name: &str, url: &str, secret: &str) -> Result<Self, String> {
        let of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 32 || !name.chars().all(of_name) {
            return Err(format!(
                "the name `{}` of a webhook: expected 1 to 32 letters a-z, digits, -",
                name.escape_debug()
            ));
        }
        if secret.chars().count() < MIN_SECRET {
            return Err(format!(
                "the secret of webhook `{name}` has fewer than {MIN_SECRET} characters: take a \
                 random one, as `openssl rand -hex 32` prints it"
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            url: address(url).map_err(|why| format!("the address of webhook `{name}`: {why}"))?,
            secret: Secret::new(secret),
            kinds: Vec::new(),
            timeout: TIMEOUT,
            attempts: ATTEMPTS,
            first_pause: FIRST_PAUSE,
        })
    }

    /// Effects of these kinds alone.
    #[must_use]
    pub fn kinds<I: IntoIterator<Item: Into<String>>>(self, kinds: I) -> Self {
        Self { kinds: kinds.into_iter().map(Into::into).collect(), ..self }
    }

    /// How long one request may take; five seconds otherwise.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// How often an effect is posted before it is given up; 40 times otherwise.
    #[must_use]
    pub fn attempts(self, attempts: u32) -> Self {
        Self { attempts: attempts.max(1), ..self }
    }

    /// Whether effects of this kind are posted.
    fn wants(&self, kind: &str) -> bool {
        if self.kinds.is_empty() {
            !kind.starts_with(OWN_KINDS)
        } else {
            self.kinds.iter().any(|wanted| wanted == kind)
        }
    }
}

/// An address to which effects may be sent.
fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("it is no URL: {error}"))?;
    let loopback = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => return Err("it names no host".to_owned()),
    };
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        "http" => {
            return Err("http is for loopback alone, others could read along: use https".to_owned());
        }
        other => return Err(format!("`{other}` is neither https nor http")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it has a user in it: requests are signed with the secret".to_owned());
    }
    Ok(url)
}

/// The store, with effects entered into the outbox before it takes them; and starts to post them.
/// Without webhooks it is the store itself.
pub fn before(store: &Store, webhooks: Vec<Webhook>, me: Incarnation) -> Store {
    if webhooks.is_empty() {
        return store.clone();
    }
    let webhooks: Vec<Arc<Webhook>> = webhooks.into_iter().map(Arc::new).collect();
    let pump = Pump::start(store.clone(), me, webhooks.clone());
    let mut hooked = store.clone();
    let behind = Arc::clone(&store.effects);
    hooked.effects = Arc::new(Hooked { store: store.clone(), me, webhooks, pump, behind });
    hooked
}

/// Enters effects into the outbox, and the sink that remembers them.
struct Hooked {
    store: Store,
    me: Incarnation,
    webhooks: Vec<Arc<Webhook>>,
    pump: Arc<Pump>,
    behind: Arc<dyn EffectSink>,
}

impl EffectSink for Hooked {
    fn deliver(&self, match_id: MatchId, effect: Effect) -> StoreResult<'_, bool> {
        Box::pin(async move {
            let wanted = self.webhooks.iter().filter(|webhook| webhook.wants(&effect.kind));
            let mut entered = false;
            for webhook in wanted {
                let by = (self.me, clock::now_ms());
                outbox::enter(&self.store, &webhook.name, match_id, &effect, by).await?;
                entered = true;
            }
            let new = self.behind.deliver(match_id, effect).await?;
            if entered {
                self.pump.nudge();
            }
            Ok(new)
        })
    }

    fn delivered(&self) -> StoreResult<'_, Vec<(MatchId, Effect)>> {
        self.behind.delivered()
    }
}
