//! Which of many rows are wanted, and in which order: the questions that documents and matches are
//! asked alike. A row is whatever has fields that are JSON.
//!
//! Called by `super::read` for documents and by the node for lists of matches.

use std::cmp::Ordering;

use serde_json::Value as Json;

use super::filter::{self, Filter};
use super::types::{self, Field, Rows};
use crate::ecs::registry::did_you_mean;

/// A filter and an order that fit the fields of some rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Select {
    filter: Option<Filter>,
    sort: Option<String>,
}

impl Select {
    /// Reads a filter and the field to sort by, `-` before it for descending. `fields` are the
    /// names that a path may begin with.
    ///
    /// ```
    /// use rekindle_sim::documents::select::{Select, part};
    /// use serde_json::{Value, json};
    ///
    /// let fields = ["game", "players"];
    /// let (arena, duel) =
    ///     (json!({"game": "arena", "players": 5}), json!({"game": "duel", "players": 9}));
    /// let rows = || vec![arena.clone(), duel.clone()];
    /// let at = |row: &Value, path: &str| part(row, path);
    /// let crowded = Select::new(Some("players > 4"), Some("-players"), &fields)?;
    /// assert_eq!(crowded.of(rows(), at)?, [duel.clone(), arena.clone()]);
    /// // A text does not compare with a number, and a name that nobody has is no field.
    /// let text = Select::new(Some("players > \"4\""), None, &fields)?;
    /// assert!(text.of(rows(), at).unwrap_err().contains("which is a number"));
    /// let unknown = Select::new(Some("player > 4"), None, &fields);
    /// assert!(unknown.unwrap_err().contains("did you mean `players`?"));
    /// # Ok::<(), String>(())
    /// ```
    ///
    /// # Errors
    /// What is wrong with the filter, with the place; a field that no row has.
    pub fn new(filter: Option<&str>, sort: Option<&str>, fields: &[&str]) -> Result<Self, String> {
        let read =
            |text| filter::parse(text).map_err(|problem| format!("the filter `{text}`, {problem}"));
        let filter = filter.map(read).transpose()?;
        let comparisons = filter.as_ref().map(Filter::comparisons).unwrap_or_default();
        let by = sort.map(|sort| sort.strip_prefix('-').unwrap_or(sort));
        for path in comparisons.iter().map(|(path, ..)| *path).chain(by) {
            let name = path.split('.').next().unwrap_or_default();
            if !fields.contains(&name) {
                return Err(format!(
                    "no field `{name}`{}; there are: {}",
                    did_you_mean(name, fields.iter().copied()),
                    fields.join(", ")
                ));
            }
        }
        Ok(Self { filter, sort: sort.map(str::to_owned) })
    }

    /// Refuses a filter that compares a field with values of a type that it never has. `usual` is
    /// what the fields of a row usually are, if that is known; `rows` goes through all of them.
    pub(crate) fn check(&self, usual: Option<Field<'_>>, rows: Rows<'_>) -> Result<(), String> {
        let comparisons = self.filter.as_ref().map(Filter::comparisons).unwrap_or_default();
        types::check(&comparisons, usual, rows)
    }

    /// Whether a row with these fields is wanted.
    pub(crate) fn holds(&self, field: Field<'_>) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.holds(&field))
    }

    /// The field that rows are sorted by, and whether the greatest comes first.
    pub(crate) fn order(&self) -> Option<(&str, bool)> {
        let sort = self.sort.as_deref()?;
        Some((sort.strip_prefix('-').unwrap_or(sort), sort.starts_with('-')))
    }

    /// Those of the rows that are wanted, in the wanted order; rows that are alike in it stay in
    /// theirs. `field` finds what is at a path of a row.
    ///
    /// # Errors
    /// If the filter compares a field with values of a type that it never has.
    pub fn of<R>(&self, rows: Vec<R>, field: impl Fn(&R, &str) -> Json) -> Result<Vec<R>, String> {
        self.check(None, &|with| rows.iter().for_each(|row| with(&|path| field(row, path))))?;
        let wanted = rows.into_iter().filter(|row| self.holds(&|path| field(row, path)));
        let mut found: Vec<R> = wanted.collect();
        if let Some((by, descending)) = self.order() {
            found.sort_by(|a, b| {
                let order = sorted(&field(a, by), &field(b, by));
                if descending { order.reverse() } else { order }
            });
        }
        Ok(found)
    }
}

/// What is at a path of a JSON: `properties.mode`, `followers.0.node`; null if there is nothing.
pub fn part(of: &Json, path: &str) -> Json {
    path.split('.').try_fold(of, |of, part| inside(of, part)).cloned().unwrap_or_default()
}

/// What a list has at a place, or an object under a key.
pub(crate) fn inside<'j>(of: &'j Json, part: &str) -> Option<&'j Json> {
    match part.parse::<usize>() {
        Ok(place) if of.is_array() => of.get(place),
        _ => of.get(part),
    }
}

/// An order of all values: numbers, texts and truth values as they are, others before.
pub(crate) fn sorted(a: &Json, b: &Json) -> Ordering {
    let rank = |value: &Json| match value {
        Json::Bool(_) => 1,
        Json::Number(_) => 2,
        Json::String(_) => 3,
        _ => 0,
    };
    filter::order(a, b).unwrap_or_else(|| rank(a).cmp(&rank(b)))
}
