//! In what the schemas of two builds differ, in words: what `rekindle preflight` shows of a new
//! build before it is deployed. Called by [`crate::Typed`].

use std::collections::BTreeMap;

use crate::persist::checkpoint::{Entry, Schema};
use crate::value::shape::{Field, Shape};

/// What `new` has otherwise than `old`, part by part.
pub(crate) fn between(old: &Schema, new: &Schema) -> Vec<String> {
    let mut found = Vec::new();
    parts("component", &old.components, &new.components, &mut found);
    parts("resource", &old.resources, &new.resources, &mut found);
    parts("event", &old.events, &new.events, &mut found);
    systems(&old.systems, &new.systems, &mut found);
    found
}

fn parts(what: &str, old: &[Entry], new: &[Entry], found: &mut Vec<String>) {
    let by_id = |list| -> BTreeMap<&str, &Entry> {
        let list: &[Entry] = list;
        list.iter().map(|entry| (entry.id.as_str(), entry)).collect()
    };
    let (before, after) = (by_id(old), by_id(new));
    for (id, entry) in &before {
        let Some(now) = after.get(id) else {
            found.push(format!("{what} `{id}` is gone"));
            continue;
        };
        if entry.version != now.version {
            found.push(format!("{what} `{id}`: version {} -> {}", entry.version, now.version));
        }
        match (&entry.shape, &now.shape) {
            (Shape::Struct(had), Shape::Struct(has)) => {
                fields(&format!("{what} `{id}`"), had, has, found);
            }
            (had, has) if had != has => found.push(format!("{what} `{id}` has another form")),
            _ => {}
        }
    }
    let added = after.keys().filter(|id| !before.contains_key(*id));
    found.extend(added.map(|id| format!("{what} `{id}` is new")));
}

fn fields(part: &str, had: &[Field], has: &[Field], found: &mut Vec<String>) {
    let find = |list: &[Field], name: &str| list.iter().position(|field| field.name == name);
    for field in had {
        match find(has, &field.name) {
            None => found.push(format!("{part}: field `{}` is gone", field.name)),
            Some(at) if has[at].shape != field.shape => {
                found.push(format!("{part}: field `{}` has another form", field.name));
            }
            Some(_) => {}
        }
    }
    let added = has.iter().filter(|field| find(had, &field.name).is_none());
    found.extend(added.map(|field| format!("{part}: field `{}` is new", field.name)));
    let kept = |list: &[Field], other: &[Field]| -> Vec<String> {
        let names = list.iter().map(|field| field.name.clone());
        names.filter(|name| find(other, name).is_some()).collect()
    };
    if kept(had, has) != kept(has, had) {
        found.push(format!("{part}: its fields stand in another order"));
    }
}

fn systems(old: &[String], new: &[String], found: &mut Vec<String>) {
    found.extend(
        old.iter()
            .filter(|name| !new.contains(name))
            .map(|name| format!("system `{name}` is gone")),
    );
    found.extend(
        new.iter().filter(|name| !old.contains(name)).map(|name| format!("system `{name}` is new")),
    );
    let kept = |list: &[String], other: &[String]| -> Vec<String> {
        list.iter().filter(|name| other.contains(name)).cloned().collect()
    };
    if kept(old, new) != kept(new, old) {
        found.push("systems run in another order".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, version: u16, fields: &[(&str, Shape)]) -> Entry {
        let field = |(name, shape): &(&str, Shape)| Field {
            name: (*name).to_owned(),
            shape: shape.clone(),
            default: Vec::new(),
            former: Vec::new(),
            player: false,
        };
        let shape = Shape::Struct(fields.iter().map(field).collect());
        Entry { id: id.to_owned(), version, shape }
    }

    fn schema(components: Vec<Entry>, systems: &[&str]) -> Schema {
        let systems = systems.iter().map(|&name| name.to_owned()).collect();
        Schema { components, resources: Vec::new(), events: Vec::new(), systems }
    }

    #[test]
    fn each_change_of_a_schema_has_words() {
        let old = schema(
            vec![
                entry("fuel", 1, &[("left", Shape::U32), ("max", Shape::U32)]),
                entry("smoke", 1, &[]),
            ],
            &["burn", "move", "score"],
        );
        let new = schema(
            vec![
                entry("fuel", 2, &[("left", Shape::U64), ("kind", Shape::U8)]),
                entry("wind", 1, &[]),
            ],
            &["move", "burn", "blow"],
        );
        assert_eq!(
            between(&old, &new),
            [
                "component `fuel`: version 1 -> 2",
                "component `fuel`: field `left` has another form",
                "component `fuel`: field `max` is gone",
                "component `fuel`: field `kind` is new",
                "component `smoke` is gone",
                "component `wind` is new",
                "system `score` is gone",
                "system `blow` is new",
                "systems run in another order",
            ]
        );
        assert!(between(&old, &old).is_empty());
    }
}
