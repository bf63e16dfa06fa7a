//! Who asks: what an audit entry says about the sender of a request.
//!
//! The address is that of the connection. The name in front is the request's `User-Agent` (the
//! commands put `rekindle-cli` and their user there): it is what the sender says of itself, and no
//! proof.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header;
use axum::http::request::Parts;

/// The longest name that is taken over, in characters.
const LONGEST: usize = 100;

/// The sender of a request in words: `rekindle-cli (alice) from 127.0.0.1:50312, with a token`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let agent: String = header(header::USER_AGENT)
            .unwrap_or("http")
            .chars()
            .filter(|c| !c.is_control())
            .take(LONGEST)
            .collect();
        let from = parts
            .extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map_or_else(|| "nowhere".to_owned(), |info| info.0.to_string());
        // Who got this far with a token has shown the right one.
        let token = if header(header::AUTHORIZATION).is_some() { ", with a token" } else { "" };
        Ok(Self(format!("{agent} from {from}{token}")))
    }
}
