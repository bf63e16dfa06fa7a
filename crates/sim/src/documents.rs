//! Documents: what outlives matches, such as the profile of a player.
//!
//! A [`Document`](crate::Document) is a value with a key and a version. All documents of one kind
//! are a *collection*. It is changed by named [`Action`](crate::Action)s alone, which are declared
//! with the kind, and it is read by questions.
//!
//! A collection is a match: [`Collection`](crate::Collection) is a [`Game`](crate::Game) that is
//! made of the declaration. Its entities are the documents, its commands are orders, the answers
//! are events. So it is journaled, checkpointed, recovered, migrated and followed as every other
//! match, and an answer is told when it is durable.
//!
//! * [`wire`]: what is asked and answered, as JSON: calls, orders, questions, refusals.
//! * `declare`: how a kind is declared.
//! * `apply`: what an order does: a pure function over the documents that it names.
//! * `collection`: the game that keeps the documents, and remembers which effects it has applied.
//! * `filter`, `read`: questions, answered from a world without changing it. [`select`]: which rows
//!   are wanted, in which order; lists of matches are asked in the same words.
//! * `types`: refuses filters that compare a field with values that it never has.
//! * `words`: what is wrong with a JSON, for people.
//!
//! Called by the node (`src/node/documents`), which sends orders to where the collection runs, and
//! by games, which call actions as effects ([`Output::call`](crate::Output::call)).

pub(crate) mod apply;
pub(crate) mod collection;
pub(crate) mod declare;
pub(crate) mod filter;
pub(crate) mod read;
pub mod select;
pub(crate) mod types;
pub mod wire;
pub mod words;

pub use collection::{Answered, Submit};

/// The kind of effect that calls actions of documents.
pub const CALL_EFFECT: &str = "rekindle.call";
/// The kind of event with which a collection answers an order.
pub const ANSWER_EVENT: &str = <Answered as crate::value::component::Stored>::ID;
/// The player as whom a node brings orders to a collection: nobody has a ticket for it.
pub const CLERK: rekindle_schema::PlayerId = rekindle_schema::PlayerId((1 << 63) - 1);

/// The match that is the collection of this kind, in every store: every node finds it by its id,
/// and the directory takes one row of an id.
pub fn collection_id(kind: &str) -> rekindle_schema::MatchId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"rekindle.collection.").update(kind.as_bytes());
    let mut head = [0; 8];
    hasher.finalize_xof().fill(&mut head);
    rekindle_schema::MatchId(u64::from_le_bytes(head))
}
