//! Keys that configurations of earlier builds had.
//!
//! Declared by games through [`crate::GameBuilder`]; applied by [`crate::game::config`] when a
//! configuration is read.

use serde::Serialize;
use serde_json::Value as Json;

/// Keys that configurations of earlier builds had, as dotted paths.
#[derive(Debug, Default)]
pub(crate) struct FormerKeys {
    /// Keys that mean nothing any more: what is given for them is left out.
    pub(crate) retired: Vec<&'static str>,
    /// They have another name or place now.
    pub(crate) renamed: Vec<(&'static str, &'static str)>,
}

impl FormerKeys {
    /// Takes former keys out of a configuration and puts what still counts where it belongs today.
    pub(crate) fn bring_up(&self, given: &mut Json) -> Result<(), String> {
        for key in &self.retired {
            take(given, key);
        }
        for (former, now) in &self.renamed {
            if let Some(value) = take(given, former) {
                put(given, now, value).map_err(|()| {
                    format!("`{former}` is called `{now}` now, and both are given")
                })?;
            }
        }
        Ok(())
    }
}

/// Takes out what stands at a dotted path.
fn take(json: &mut Json, path: &str) -> Option<Json> {
    match path.split_once('.') {
        Some((key, rest)) => take(json.as_object_mut()?.get_mut(key)?, rest),
        None => json.as_object_mut()?.remove(path),
    }
}

/// Puts a value at a dotted path where nothing stands yet.
fn put(json: &mut Json, path: &str, value: Json) -> Result<(), ()> {
    let place = json.as_object_mut().ok_or(())?;
    match path.split_once('.') {
        Some((key, rest)) => put(
            place.entry(key).or_insert_with(|| Json::Object(serde_json::Map::new())),
            rest,
            value,
        ),
        None if place.contains_key(path) => Err(()),
        None => {
            place.insert(path.to_owned(), value);
            Ok(())
        }
    }
}

fn get<'a>(json: &'a Json, path: &str) -> Option<&'a Json> {
    path.split('.').try_fold(json, |json, key| json.as_object()?.get(key))
}

/// What is wrong with the declared former keys: one that stands for a key of today would take it
/// away, a new name that is none would lose the value.
pub(crate) fn check_former(former: &FormerKeys, default: &impl Serialize) -> Vec<String> {
    let today = match serde_json::to_value(default) {
        Ok(today) => today,
        Err(error) => return vec![format!("the default configuration is no JSON: {error}")],
    };
    let olds = former.retired.iter().chain(former.renamed.iter().map(|(old, _)| old));
    let living = olds.filter(|old| get(&today, old).is_some());
    let mut problems: Vec<String> = living
        .map(|old| format!("`{old}` is a key of the configuration, and no former one"))
        .collect();
    let nowhere = former.renamed.iter().filter(|(_, now)| get(&today, now).is_none());
    problems.extend(nowhere.map(|(old, now)| {
        format!("`{old}` is said to be called `{now}` now, but there is no such key")
    }));
    problems
}
