//! One request to a receiver: what is sent, how it is signed, and what the answer means.
//!
//! A connection for each request: a receiver that hangs holds nothing else up. Redirects are not
//! followed: what is signed for one address goes to no other.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::hmac;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rekindle_schema::posting::{Posted, Posting};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Webhook;
use crate::hex;

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answered {
    /// The receiver has it.
    Taken,
    /// It may work later: why it did not.
    Failed(String),
    /// The receiver will never want it: its words.
    Unwanted(String),
}

/// The id of an effect, the same in every attempt.
pub(super) fn key(place: &Posted) -> String {
    format!("{}/{}.{}", place.match_id, place.id.tick, place.id.ordinal)
}

/// The body, the same in every attempt.
pub(super) fn body(place: &Posted, entry: &Posting) -> Vec<u8> {
    let payload: Option<Json> = serde_json::from_slice(&entry.effect.payload).ok();
    let hex = payload.is_none().then(|| hex::encode(&entry.effect.payload));
    let body = json!({
        "id": key(place),
        "match": place.match_id.to_string(),
        "tick": place.id.tick,
        "ordinal": place.id.ordinal,
        "kind": entry.effect.kind,
        "payload": payload,
        "payload_hex": hex,
    });
    body.to_string().into_bytes()
}

/// The value of `Rekindle-Signature` for an attempt at this time, in seconds since 1970.
pub(super) fn signature(secret: &str, seconds: u64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut signed = hmac::Context::with_key(&key);
    signed.update(format!("{seconds}.").as_bytes());
    signed.update(body);
    format!("t={seconds},v1={}", hex::encode(signed.sign().as_ref()))
}

/// Posts an effect once.
pub(super) async fn post(
    webhook: &Webhook,
    place: &Posted,
    entry: &Posting,
    now_ms: u64,
) -> Answered {
    match timeout(webhook.timeout, exchange(webhook, place, entry, now_ms / 1_000)).await {
        Ok(Ok(status)) if status.is_success() => Answered::Taken,
        Ok(Ok(StatusCode::GONE)) => Answered::Unwanted("410 Gone".to_owned()),
        Ok(Ok(status)) if status.is_redirection() => {
            Answered::Failed(format!("{status}: redirects are not followed"))
        }
        Ok(Ok(status)) => Answered::Failed(status.to_string()),
        Ok(Err(problem)) => Answered::Failed(problem),
        Err(_) => Answered::Failed(format!("no answer within {} ms", webhook.timeout.as_millis())),
    }
}

async fn exchange(
    webhook: &Webhook,
    place: &Posted,
    entry: &Posting,
    seconds: u64,
) -> Result<StatusCode, String> {
    let url = &webhook.url;
    let host = url.host_str().ok_or("the address has no host")?;
    let port = url.port_or_known_default().ok_or("the address has no port")?;
    let body = body(place, entry);
    let target = url
        .query()
        .map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let request = Request::builder()
        .method(Method::POST)
        .uri(target)
        .header(HOST, authority)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("rekindle/", env!("CARGO_PKG_VERSION")))
        .header("idempotency-key", key(place))
        .header("rekindle-signature", signature(webhook.secret.reveal(), seconds, &body))
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    // Brackets of an IPv6 address belong to the URL, not to the address.
    let plain = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let stream = TcpStream::connect((plain.as_str(), port)).await;
    let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
    if url.scheme() == "http" {
        return send(stream, request).await;
    }
    let name = ServerName::try_from(plain).map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(tls()?).connect(name, stream).await;
    send(stream.map_err(|error| format!("TLS: {error}"))?, request).await
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<StatusCode, String> {
    let words = |error: hyper::Error| error.to_string();
    let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(words)?;
    let answer = sender.send_request(request);
    tokio::pin!(answer);
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        // It brought the answer, or closes it.
        _ended = connection => answer.await,
    };
    answer.map(|answer| answer.status()).map_err(words)
}

/// TLS with the certificates that this host trusts.
fn tls() -> Result<Arc<ClientConfig>, String> {
    static TLS: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(known) = TLS.get() {
        return Ok(Arc::clone(known));
    }
    let mut roots = RootCertStore::empty();
    let (trusted, _) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if trusted == 0 {
        return Err("this host trusts no certificates: install ca-certificates".to_owned());
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::clone(TLS.get_or_init(|| Arc::new(config))))
}
