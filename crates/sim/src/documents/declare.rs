//! How a kind of document is declared: attributes, actions, policies, calculations, aggregates.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::wire::{ActionInfo, Call, Caller, CollectionInfo, Refusal};
use super::words;
use crate::value::component::Component;
use crate::value::shape::Shape;
use crate::{Tick, Value};

/// A kind of document: what outlives matches.
///
/// The attributes are the fields, with what components have: defaults, `within`, `validate`,
/// versions and migrations. Register it with `rekindle::Node::document`.
///
/// ```
/// use rekindle_sim::{Action, Calling, Component, Declaration, Denied, Document, Who};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Clone, PartialEq, Component, Serialize)]
/// #[component(id = "profile")]
/// pub struct Profile {
///     pub name: String,
///     #[value(default = 1000, within = 0..=4000)]
///     pub rating: i32,
///     #[value(within = 0..=1_000_000)]
///     pub credits: i64,
///     pub inventory: Vec<String>,
/// }
///
/// #[derive(Serialize, Deserialize)]
/// pub struct Amount {
///     pub amount: u32,
/// }
///
/// #[derive(Serialize, Deserialize)]
/// pub struct Purchase {
///     pub item: String,
///     pub price: u32,
/// }
///
/// pub const CREDIT: Action<Profile, Amount> = Action::new("credit");
/// pub const BUY: Action<Profile, Purchase> = Action::new("buy");
/// pub const CLOSE: Action<Profile> = Action::new("close");
///
/// impl Document for Profile {
///     const KIND: &'static str = "profile";
///
///     fn declare(profile: &mut Declaration<Self>) {
///         // Made with its defaults if there is none yet.
///         profile.upsert(CREDIT, Profile::credit).by([Who::Match, Who::Operator]);
///         profile.update(BUY, Profile::buy).by([Who::Owner]);
///         profile.destroy(CLOSE, |_, (), _| Ok(())).by([Who::Operator]);
///         profile
///             .calculation("worth", |profile| {
///                 profile.credits + 10 * profile.inventory.len() as i64
///             })
///             .sum("credits", |profile| profile.credits as f64)
///             .count("rich", |profile| profile.credits > 1000);
///     }
/// }
///
/// impl Profile {
///     fn credit(&mut self, Amount { amount }: Amount, _: &Calling<'_>) -> Result<i64, Denied> {
///         self.credits += i64::from(amount);
///         Ok(self.credits)
///     }
///
///     fn buy(&mut self, bought: Purchase, _: &Calling<'_>) -> Result<(), Denied> {
///         if self.credits < i64::from(bought.price) {
///             return Err(Denied::new("poor", format!("it has {} credits", self.credits)));
///         }
///         self.credits -= i64::from(bought.price);
///         self.inventory.push(bought.item);
///         Ok(())
///     }
/// }
/// ```
pub trait Document: Component + Serialize {
    /// The name of the kind: `a-z`, `0-9`, `-`. It is the name of the collection among the games of
    /// an executable, so no game has it.
    const KIND: &'static str;
    /// Most documents of the kind. All of them are in the memory of one node.
    const MOST: u64 = 100_000;

    /// Says what can be done to a document and what is known of it.
    fn declare(say: &mut Declaration<Self>);
}

/// An action of a kind of document: its name, and the type of its arguments. Made as a constant, so
/// that what is declared and what is called are the same.
pub struct Action<D, A = ()> {
    name: &'static str,
    of: PhantomData<fn(D, A)>,
}

impl<D, A> Action<D, A> {
    /// The action of this name.
    pub const fn new(name: &'static str) -> Self {
        Self { name, of: PhantomData }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<D, A: Serialize> Action<D, A> {
    /// The call of this action on the document with this key.
    ///
    /// # Panics
    /// If the arguments cannot be written as JSON (a map whose keys are no texts).
    pub fn on(self, key: impl fmt::Display, args: &A) -> Call {
        let args = serde_json::to_value(args).unwrap_or_else(|error| {
            panic!("the arguments of action `{}` are no JSON: {error}", self.name)
        });
        Call { action: self.name.to_owned(), key: key.to_string(), args, if_version: None }
    }
}

impl<D, A> Clone for Action<D, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D, A> Copy for Action<D, A> {}

/// An action refuses: nothing is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    code: String,
    words: String,
}

impl Denied {
    /// For programs a `code`, for people `words`.
    pub fn new(code: impl Into<String>, words: impl Into<String>) -> Self {
        Self { code: code.into(), words: words.into() }
    }
}

/// What an action and a policy know besides the document and the arguments.
#[derive(Debug, Clone, Copy)]
pub struct Calling<'a> {
    /// Who calls.
    pub caller: &'a Caller,
    /// The document's key.
    pub key: &'a str,
    /// The tick of the collection: its clock.
    pub tick: Tick,
    /// Ticks of the collection per second.
    pub tick_rate: u16,
}

/// Who may call an action, or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// The player whose number the document's key is.
    Owner,
    /// Every player.
    Player,
    /// Matches, by their effects.
    Match,
    /// Operators and backends of the studio's.
    Operator,
}

impl Who {
    fn is(self, calling: &Calling<'_>) -> bool {
        match (self, calling.caller) {
            (Self::Owner, Caller::Player(player)) => player.to_string() == calling.key,
            (Self::Player, Caller::Player(_))
            | (Self::Match, Caller::Match(_))
            | (Self::Operator, Caller::Operator) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Owner => "its own player",
            Self::Player => "players",
            Self::Match => "matches",
            Self::Operator => "operators",
        })
    }
}

/// Who may, in words.
pub(super) fn only(who: &[Who]) -> String {
    let names: Vec<_> = who.iter().map(Who::to_string).collect();
    match names.split_last() {
        None => "nobody may".to_owned(),
        Some((only, [])) => format!("only {only} may"),
        Some((last, before)) => format!("only {} and {last} may", before.join(", ")),
    }
}

type Run<D> = Box<dyn Fn(&mut Option<D>, Json, &Calling<'_>) -> Result<Json, Stop> + Send + Sync>;
type Policy<D> = Box<dyn Fn(&Calling<'_>, Option<&D>) -> bool + Send + Sync>;
pub(crate) type Calculate<D> = Box<dyn Fn(&D) -> Json + Send + Sync>;

/// Why an action did not come to its end.
pub(crate) enum Stop {
    /// The document is there and should not be.
    Exists,
    /// It is not there.
    Missing,
    /// The arguments are others.
    Arguments(String),
    /// The action refuses.
    Denied(Denied),
}

impl Stop {
    /// In the words of a refusal.
    pub(crate) fn refusal(self, action: &str, key: &str, version: u64) -> Refusal {
        let (action, key) = (action.to_owned(), key.to_owned());
        match self {
            Self::Exists => Refusal::Exists { key, version },
            Self::Missing => Refusal::NoDocument { key },
            Self::Arguments(problem) => Refusal::Arguments { action, problem },
            Self::Denied(Denied { code, words }) => Refusal::Denied { action, code, words },
        }
    }
}

/// What an action does and who may call it.
pub struct Rule<D> {
    does: &'static str,
    pub(crate) run: Run<D>,
    by: Vec<Who>,
    only: Vec<(String, Policy<D>)>,
}

impl<D> Rule<D> {
    /// Those may call it. Without this matches and operators may.
    pub fn by(&mut self, who: impl IntoIterator<Item = Who>) -> &mut Self {
        self.by = who.into_iter().collect();
        self
    }

    /// It may be called only if `holds` says so too, of who calls and of the document as it is
    /// before. `words` say what that is, for those who are refused.
    pub fn only_if(
        &mut self,
        words: &str,
        holds: impl Fn(&Calling<'_>, Option<&D>) -> bool + Send + Sync + 'static,
    ) -> &mut Self {
        self.only.push((words.to_owned(), Box::new(holds)));
        self
    }

    /// Who may call it, in words, if this caller may not.
    pub(crate) fn forbids(&self, calling: &Calling<'_>, now: Option<&D>) -> Option<String> {
        if !self.by.iter().any(|who| who.is(calling)) {
            return Some(self.callers());
        }
        let broken = self.only.iter().find(|(_, holds)| !holds(calling, now));
        broken.map(|(words, _)| format!("only if {words}"))
    }

    fn callers(&self) -> String {
        only(&self.by)
    }

    fn policy(&self) -> String {
        let only = self.only.iter().map(|(words, _)| format!("only if {words}"));
        std::iter::once(self.callers()).chain(only).collect::<Vec<_>>().join("; ")
    }
}

/// One number about all documents.
pub(crate) enum Aggregate<D> {
    /// How many are so.
    Count(Box<dyn Fn(&D) -> bool + Send + Sync>),
    /// A number of each, put together.
    Of(Together, Box<dyn Fn(&D) -> f64 + Send + Sync>),
}

/// How numbers are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Together {
    /// Their sum.
    Sum,
    /// The least.
    Min,
    /// The greatest.
    Max,
}

/// Collects what is declared of a kind. Mistakes are collected too, and said together at start-up.
pub struct Declaration<D> {
    pub(crate) actions: BTreeMap<String, Rule<D>>,
    pub(crate) calculations: BTreeMap<String, Calculate<D>>,
    pub(crate) aggregates: BTreeMap<String, Aggregate<D>>,
    readers: Vec<Who>,
    problems: Vec<String>,
}

impl<D: Document> Declaration<D> {
    /// What the kind says of itself, and what is wrong with that.
    pub(crate) fn of_kind() -> (Self, Vec<String>) {
        let mut made = Self {
            actions: BTreeMap::new(),
            calculations: BTreeMap::new(),
            aggregates: BTreeMap::new(),
            readers: Vec::new(),
            problems: Vec::new(),
        };
        D::declare(&mut made);
        let mut problems = std::mem::take(&mut made.problems);
        if made.actions.is_empty() {
            problems.push(format!(
                "the kind `{}` has no action: nothing could change its documents",
                D::KIND
            ));
        }
        let attributes = attributes::<D>();
        if attributes.is_empty() {
            problems.push(format!("the kind `{}` is no struct with named fields", D::KIND));
        }
        for reserved in ["key", "version"] {
            if attributes.iter().any(|attribute| attribute == reserved) {
                problems.push(format!(
                    "attribute `{reserved}` of the kind `{}`: every document has a {reserved}; \
                     call it otherwise",
                    D::KIND
                ));
            }
        }
        let taken = made.calculations.keys().filter(|name| {
            attributes.contains(name) || ["key", "version"].contains(&name.as_str())
        });
        problems.extend(taken.map(|name| {
            format!("calculation `{name}` of the kind `{}` is called as an attribute", D::KIND)
        }));
        if made.aggregates.contains_key("documents") {
            problems.push(format!(
                "aggregate `documents` of the kind `{}`: every collection has it",
                D::KIND
            ));
        }
        (made, problems)
    }

    fn action<A>(&mut self, action: Action<D, A>, does: &'static str, run: Run<D>) -> &mut Rule<D> {
        self.name("action", action.name);
        let by = vec![Who::Match, Who::Operator];
        let rule = Rule { does, run, by, only: Vec::new() };
        if self.actions.contains_key(action.name) {
            self.problems.push(format!(
                "action `{}` of the kind `{}` is declared twice",
                action.name,
                D::KIND
            ));
        }
        let entry = self.actions.entry(action.name.to_owned());
        entry.insert_entry(rule).into_mut()
    }

    fn name(&mut self, what: &str, name: &str) {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if name.is_empty() || name.len() > 64 || !name.chars().all(good) {
            self.problems.push(format!(
                "{what} `{name}` of the kind `{}`: names have 1 to 64 of `a-z`, `0-9`, `_`, `-`",
                D::KIND
            ));
        }
    }

    /// Makes a document; refused if there is one with this key.
    pub fn create<A: DeserializeOwned + 'static>(
        &mut self,
        action: Action<D, A>,
        make: impl Fn(A, &Calling<'_>) -> Result<D, Denied> + Send + Sync + 'static,
    ) -> &mut Rule<D> {
        let run: Run<D> = Box::new(move |now, given, calling| {
            if now.is_some() {
                return Err(Stop::Exists);
            }
            *now = Some(make(arguments(given)?, calling).map_err(Stop::Denied)?);
            Ok(Json::Null)
        });
        self.action(action, "create", run)
    }

    /// Changes a document; refused if there is none with this key.
    pub fn update<A: DeserializeOwned + 'static, O: Serialize>(
        &mut self,
        action: Action<D, A>,
        change: impl Fn(&mut D, A, &Calling<'_>) -> Result<O, Denied> + Send + Sync + 'static,
    ) -> &mut Rule<D> {
        let run: Run<D> = Box::new(move |now, given, calling| {
            let document = now.as_mut().ok_or(Stop::Missing)?;
            answer(change(document, arguments(given)?, calling))
        });
        self.action(action, "update", run)
    }

    /// Changes a document; if there is none with this key, one with its defaults is made before.
    pub fn upsert<A: DeserializeOwned + 'static, O: Serialize>(
        &mut self,
        action: Action<D, A>,
        change: impl Fn(&mut D, A, &Calling<'_>) -> Result<O, Denied> + Send + Sync + 'static,
    ) -> &mut Rule<D> {
        let run: Run<D> = Box::new(move |now, given, calling| {
            let document = now.get_or_insert_with(D::initial);
            answer(change(document, arguments(given)?, calling))
        });
        self.action(action, "upsert", run)
    }

    /// Ends a document; refused if there is none with this key. `last` sees it before.
    pub fn destroy<A: DeserializeOwned + 'static, O: Serialize>(
        &mut self,
        action: Action<D, A>,
        last: impl Fn(&D, A, &Calling<'_>) -> Result<O, Denied> + Send + Sync + 'static,
    ) -> &mut Rule<D> {
        let run: Run<D> = Box::new(move |now, given, calling| {
            let document = now.as_ref().ok_or(Stop::Missing)?;
            let out = answer(last(document, arguments(given)?, calling))?;
            *now = None;
            Ok(out)
        });
        self.action(action, "destroy", run)
    }

    /// Which players' clients may read: with [`Who::Owner`] each the document whose key is its
    /// number, with [`Who::Player`] all documents, lists and aggregates. Without this, none.
    /// Matches read nothing, operators and backends everything.
    pub fn read_by(&mut self, who: impl IntoIterator<Item = Who>) -> &mut Self {
        self.readers = who.into_iter().collect();
        if let Some(other) =
            self.readers.iter().find(|who| !matches!(who, Who::Owner | Who::Player))
        {
            self.problems.push(format!(
                "read_by of the kind `{}` names {other}: it is about players (Who::Owner, \
                 Who::Player); operators read in any case, matches never",
                D::KIND
            ));
        }
        self
    }

    /// A value that follows from the attributes: it is read and filtered by as they are.
    pub fn calculation<T: Serialize>(
        &mut self,
        name: &str,
        of: impl Fn(&D) -> T + Send + Sync + 'static,
    ) -> &mut Self {
        self.name("calculation", name);
        let calculate = move |document: &D| serde_json::to_value(of(document)).unwrap_or_default();
        if self.calculations.insert(name.to_owned(), Box::new(calculate)).is_some() {
            self.twice("calculation", name);
        }
        self
    }

    /// How many documents are so.
    pub fn count(
        &mut self,
        name: &str,
        is: impl Fn(&D) -> bool + Send + Sync + 'static,
    ) -> &mut Self {
        self.aggregate(name, Aggregate::Count(Box::new(is)))
    }

    /// The sum of a number of all documents.
    pub fn sum(&mut self, name: &str, of: impl Fn(&D) -> f64 + Send + Sync + 'static) -> &mut Self {
        self.aggregate(name, Aggregate::Of(Together::Sum, Box::new(of)))
    }

    /// The least of a number of all documents.
    pub fn min(&mut self, name: &str, of: impl Fn(&D) -> f64 + Send + Sync + 'static) -> &mut Self {
        self.aggregate(name, Aggregate::Of(Together::Min, Box::new(of)))
    }

    /// The greatest of a number of all documents.
    pub fn max(&mut self, name: &str, of: impl Fn(&D) -> f64 + Send + Sync + 'static) -> &mut Self {
        self.aggregate(name, Aggregate::Of(Together::Max, Box::new(of)))
    }

    fn aggregate(&mut self, name: &str, aggregate: Aggregate<D>) -> &mut Self {
        self.name("aggregate", name);
        if self.aggregates.insert(name.to_owned(), aggregate).is_some() {
            self.twice("aggregate", name);
        }
        self
    }

    fn twice(&mut self, what: &str, name: &str) {
        self.problems.push(format!("{what} `{name}` of the kind `{}` is declared twice", D::KIND));
    }

    /// What the collection says of itself.
    pub(crate) fn info(&self) -> CollectionInfo {
        let action = |(name, rule): (&String, &Rule<D>)| ActionInfo {
            name: name.clone(),
            does: rule.does.to_owned(),
            policy: rule.policy(),
        };
        CollectionInfo {
            kind: D::KIND.to_owned(),
            attributes: attributes::<D>(),
            actions: self.actions.iter().map(action).collect(),
            calculations: self.calculations.keys().cloned().collect(),
            aggregates: self.aggregates.keys().cloned().collect(),
            readers: self.readers.clone(),
            most: D::MOST,
        }
    }
}

/// The names of the attributes.
pub(crate) fn attributes<D: Value>() -> Vec<String> {
    match D::shape() {
        Shape::Struct(fields) => fields.into_iter().map(|field| field.name).collect(),
        _ => Vec::new(),
    }
}

/// Reads arguments. Those of an action that takes none may be absent, or an object without keys.
fn arguments<A: DeserializeOwned>(given: Json) -> Result<A, Stop> {
    let empty = given.as_object().is_some_and(serde_json::Map::is_empty);
    let read = serde_json::from_value(given);
    read.or_else(|error| {
        let none = if empty { serde_json::from_value(Json::Null).ok() } else { None };
        none.ok_or_else(|| Stop::Arguments(words::of(&error)))
    })
}

fn answer<O: Serialize>(returned: Result<O, Denied>) -> Result<Json, Stop> {
    let out = returned.map_err(Stop::Denied)?;
    serde_json::to_value(out).map_err(|error| {
        Stop::Denied(Denied::new("answer", format!("what it returns is no JSON: {error}")))
    })
}
