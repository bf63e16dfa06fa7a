//! The page's files. They are part of the executable (`build.rs`): a node needs nothing beside it.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};

/// By path below the folder of the built page, ascending.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// What `/` is without a built page.
const NO_PAGE: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Rekindle</title>\
    <p>This executable was built without a page to play on. <a href=/edge.json>edge.json</a> says \
    how clients connect.</p></html>";

/// Scripts and styles of the page itself, connections to any node, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; font-src 'self'; connect-src 'self' http: https: ws: wss:; \
    manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The icon of a page that has none.
const NO_ICON: &str = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>\
    <circle cx='8' cy='8' r='7' fill='#d9480f'/></svg>";

/// The game that has a page of its own, `index.html`.
pub(crate) const OWN_PAGE: &str = "arena";

/// The page itself: that of [`OWN_PAGE`], or the one for any game.
pub(crate) fn index(own: bool) -> Response {
    let name = if own { "index.html" } else { "watch.html" };
    file(name).unwrap_or_else(|| answer("index.html", NO_PAGE.as_bytes()))
}

/// The icon.
pub(crate) fn icon() -> Response {
    file("favicon.ico").unwrap_or_else(|| answer("icon.svg", NO_ICON.as_bytes()))
}

/// One of its files.
pub(crate) fn file(name: &str) -> Option<Response> {
    let place = FILES.binary_search_by(|(file, _)| (*file).cmp(name)).ok()?;
    Some(answer(name, FILES[place].1))
}

fn answer(name: &str, bytes: &'static [u8]) -> Response {
    let headers = [
        (CONTENT_TYPE, media_type(name)),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // Another node, or the next release, has other files.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, bytes).into_response()
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_in_order_and_have_a_type() {
        assert!(FILES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (name, bytes) in FILES {
            assert!(!bytes.is_empty() && file(name).is_some(), "{name}");
        }
        assert!(file("../Cargo.toml").is_none() && file("").is_none());
        assert_eq!(media_type("a/b.min.js"), "text/javascript; charset=utf-8");
        assert_eq!(media_type("README"), "application/octet-stream");
    }
}
