//! The pages of `docs/book` that have examples in Rust: `cargo test --doc -p rekindle-sim` compiles
//! and runs them. This module is in no build. `tests/it/book.rs` says which page is missing here.

macro_rules! pages {
    ($($name:ident: $page:literal,)*) => {$(
        #[doc = include_str!(concat!("../../../docs/", $page))]
        mod $name {}
    )*};
}

pages! {
    bevy: "book/src/bevy.md",
    colyseus: "book/src/colyseus.md",
    components: "book/src/components.md",
    derives: "book/src/derives.md",
    developer: "book/src/developer.md",
    documents: "DOCUMENTS.md",
    error_codes: "book/src/error-codes.md",
    events: "book/src/events.md",
    extensions: "book/src/extensions.md",
    harness: "book/src/harness.md",
    nakama: "book/src/nakama.md",
    space: "book/src/space.md",
    states: "book/src/states.md",
    systems: "book/src/systems.md",
    upgrades: "UPGRADES.md",
    visibility: "book/src/visibility.md",
}
