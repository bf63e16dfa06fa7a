//! Refuses filters that compare a field with values of a type that it never has: they would find
//! nothing, or everything, and not say why. Called by [`super::select`].
//!
//! What types a field has is read off rows as they are shown, for that is what a filter compares:
//! of a usual one, and, if that does not settle it, of all that there are.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::filter::Operator;

/// What a filter compares: field, how, and with what.
type Comparison<'a> = (&'a str, Operator, &'a Json);

/// What is at a path of a row.
pub(crate) type Field<'a> = &'a dyn Fn(&str) -> Json;

/// Calls what it is given for each row that there is.
pub(crate) type Rows<'a> = &'a dyn Fn(&mut dyn FnMut(Field<'_>));

/// Refuses a comparison that holds for no row, or for all, by the types alone. `usual` is a row of
/// which the types are known before any is there.
pub(super) fn check(
    comparisons: &[Comparison<'_>],
    usual: Option<Field<'_>>,
    rows: Rows<'_>,
) -> Result<(), String> {
    if let Some((path, ..)) =
        comparisons.iter().find(|(_, how, with)| how.orders() && with.is_null())
    {
        return Err(format!("the filter orders `{path}` by null: with null only = and != compare"));
    }
    for comparison in comparisons.iter().filter(|(.., with)| !with.is_null()) {
        let mut types = Types::default();
        if let Some(field) = usual {
            types.add(field, comparison.0);
        }
        if types.fit(comparison.2) {
            continue;
        }
        rows(&mut |field| types.add(field, comparison.0));
        if let Some(problem) = types.refuse(comparison) {
            return Err(problem);
        }
    }
    Ok(())
}

/// The types that a field was seen to have, and those of what it is a part of.
#[derive(Default)]
struct Types {
    own: BTreeSet<&'static str>,
    whole: BTreeSet<&'static str>,
}

impl Types {
    fn add(&mut self, field: Field<'_>, path: &str) {
        self.own.extend(type_of(&field(path)));
        if let Some((whole, _)) = path.rsplit_once('.') {
            self.whole.extend(type_of(&field(whole)));
        }
    }

    /// Whether the field was seen to have the type of this value.
    fn fit(&self, with: &Json) -> bool {
        type_of(with).is_some_and(|wanted| self.own.contains(wanted))
    }

    /// What is wrong with a comparison, as far as it is known. A field that was seen to be nothing
    /// but null may have any type, unless what it is a part of has no parts.
    fn refuse(&self, (path, _, with): &Comparison<'_>) -> Option<String> {
        let wanted = type_of(with)?;
        if self.own.is_empty() {
            let (whole, _) = path.rsplit_once('.')?;
            let has_parts =
                self.whole.is_empty() || self.whole.contains(LIST) || self.whole.contains(OBJECT);
            let problem = || {
                format!(
                    "`{whole}` has no parts, so there is no `{path}`: it is {}",
                    all(&self.whole)
                )
            };
            return (!has_parts).then(problem);
        }
        if self.own.contains(wanted) {
            return None;
        }
        let quotes = if self.own.contains(TEXT) {
            format!("; a text stands in quotes: \"{with}\"")
        } else {
            String::new()
        };
        let is = all(&self.own);
        Some(format!(
            "the filter compares `{path}`, which is {is}, with {with}, which is {wanted}{quotes}"
        ))
    }
}

const TEXT: &str = "a text";
const LIST: &str = "a list";
const OBJECT: &str = "an object";

/// The type of a value; none of null, which stands for any.
fn type_of(value: &Json) -> Option<&'static str> {
    match value {
        Json::Null => None,
        Json::Bool(_) => Some("a truth value"),
        Json::Number(_) => Some("a number"),
        Json::String(_) => Some(TEXT),
        Json::Array(_) => Some(LIST),
        Json::Object(_) => Some(OBJECT),
    }
}

fn all(types: &BTreeSet<&'static str>) -> String {
    types.iter().copied().collect::<Vec<_>>().join(" or ")
}
