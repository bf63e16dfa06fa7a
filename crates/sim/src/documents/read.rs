//! Questions to a collection, answered from its world, or from that of a checkpoint, without
//! changing it.

use serde_json::{Map, Value as Json, json};

use super::apply::Stage;
use super::collection::{Applied, ByKey, Counts, Declared, Entry, outcome_of, staged};
use super::declare::{Aggregate, Calculate, Declaration, Document, Together, attributes};
use super::select::{Select, inside, sorted};
use super::types::Field;
use super::wire::{
    Access, MAX_ANSWER, MAX_ROWS, Outcome, Plan, Query, Question, Refusal, Reply, Row,
};
use super::words;
use crate::ecs::world::World;
use crate::game::matches::guarded;
use crate::storage::column::bits;
use crate::value::component::Component;
use crate::value::entity::Entity;

/// Documents in an answer, if nobody says how many.
const USUAL_ROWS: usize = 100;

/// The answer to a question as JSON.
pub(crate) fn answer<D: Document>(world: &World, question: &[u8]) -> Reply {
    let question = match serde_json::from_slice(question) {
        Ok(question) => question,
        Err(error) => return refused(format!("this is no question: {}", words::of(&error))),
    };
    let declared = world.constant::<Declared<D>>();
    match question {
        Question::Get { key } => {
            Reply::Document(find(world, &key).and_then(|found| row::<D>(world, &declared.0, found)))
        }
        Question::Query(query) => {
            rows::<D>(world, &declared.0, &query).unwrap_or_else(Reply::Refused)
        }
        Question::Stats => Reply::Stats(stats::<D>(world, &declared.0)),
        Question::Can(order) => {
            if let Err(why) = order.check() {
                return Reply::Can(Outcome::Refused { at: 0, why });
            }
            let mut stage = Stage::<D>::new();
            for call in &order.calls {
                let entity = find(world, &call.key);
                stage.entry(call.key.clone()).or_insert_with(|| staged(world, entity));
            }
            Reply::Can(outcome_of(world, &order, &mut stage))
        }
        Question::Sources { idle } => {
            let mut found = Vec::new();
            each::<Applied>(world, |_, applied| {
                if found.len() < MAX_ROWS && world.tick().0.saturating_sub(applied.seen) >= idle {
                    found.push(applied.match_id);
                }
            });
            Reply::Sources(found)
        }
        Question::Plan(question) => Reply::Plan(plan(world, &question)),
    }
}

/// How a question is answered: one document by the index of keys, if that is made, the others by
/// going through all of them.
fn plan(world: &World, question: &Question) -> Plan {
    let documents = world.resource::<Counts>().documents;
    let scan = Plan { access: Access::Scan, scanned: documents };
    let by_key = |key: &str| indexed(world, key).is_some() || documents == 0;
    let of_keys = |scanned: usize| Plan { access: Access::KeyIndex, scanned: scanned as u64 };
    match question {
        Question::Get { key } if by_key(key) => of_keys(1),
        Question::Can(order) if order.calls.iter().all(|call| by_key(&call.key)) => {
            of_keys(order.calls.len())
        }
        Question::Plan(_) => of_keys(0),
        _ => scan,
    }
}

fn refused(problem: String) -> Reply {
    Reply::Refused(Refusal::Question { problem })
}

/// Calls `with` for every entity that has a `T`, ascending by slot.
fn each<T: Component>(world: &World, mut with: impl FnMut(Entity, &T)) {
    let column = world.registry.components.of::<T>().and_then(|index| world.column::<T>(index));
    let Some(column) = column else { return };
    for (page, present) in column.pages() {
        for bit in bits(present) {
            let slot = page * 64 + bit;
            column.with(slot, |value| with(world.entities().in_slot(slot), value));
        }
    }
}

/// The document with this key. The index of a world that has made no tick yet is empty: there all
/// documents are gone through.
fn find(world: &World, key: &str) -> Option<Entity> {
    indexed(world, key).or_else(|| {
        let mut found = None;
        each::<Entry>(world, |entity, entry| {
            if entry.key == key {
                found = Some(entity);
            }
        });
        found
    })
}

/// The document that the index has under this key.
fn indexed(world: &World, key: &str) -> Option<Entity> {
    let known = world.found_before::<ByKey>(&key.to_owned())?;
    let is = world.read::<Entry, _>(known, |entry| entry.key == key);
    is.unwrap_or(false).then_some(known)
}

fn row<D: Document>(world: &World, declared: &Declaration<D>, entity: Entity) -> Option<Row> {
    let entry = world.get::<Entry>(entity)?;
    world.read::<D, _>(entity, |document| row_of(declared, entry, document))
}

/// A document, as it is read.
pub(super) fn row_of<D>(declared: &Declaration<D>, entry: Entry, document: &D) -> Row
where
    D: Document,
{
    let Entry { key, version } = entry;
    let calculate = |(name, of): (&String, &Calculate<D>)| (name.clone(), of(document));
    let calculations: Map<_, _> = declared.calculations.iter().map(calculate).collect();
    let document = serde_json::to_value(document).unwrap_or_default();
    Row { key, version, document, calculations }
}

/// A field of a row: an attribute, a calculation, `key`, `version`, or what is inside of one.
pub(super) fn field(row: &Row, path: &str) -> Json {
    let mut parts = path.split('.');
    let first = match parts.next().unwrap_or_default() {
        "key" => Json::String(row.key.clone()),
        "version" => json!(row.version),
        name => match row.document.get(name).or_else(|| row.calculations.get(name)) {
            Some(found) => found.clone(),
            None => return Json::Null,
        },
    };
    parts.fold(first, |of, part| inside(&of, part).cloned().unwrap_or_default())
}

/// The filter and the order of a query, if they fit the documents of the kind.
fn select<D: Document>(
    world: &World,
    declared: &Declaration<D>,
    query: &Query,
) -> Result<Select, String> {
    let mut names = attributes::<D>();
    names.extend(declared.calculations.keys().cloned());
    names.extend(["key".to_owned(), "version".to_owned()]);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let sort = query.sort.as_deref().or(Some("key"));
    let select = Select::new(query.filter.as_deref(), sort, &names)?;
    // Calculations are the game's; of one that panics on a new document nothing is known.
    let entry = Entry { key: String::new(), version: 0 };
    let usual = guarded(|| row_of(declared, entry, &D::initial())).ok();
    let usual = usual.as_ref().map(|row| move |path: &str| field(row, path));
    select.check(usual.as_ref().map(|field| field as Field<'_>), &|with| {
        each::<Entry>(world, |entity, _| {
            if let Some(row) = row::<D>(world, declared, entity) {
                with(&|path| field(&row, path));
            }
        });
    })?;
    Ok(select)
}

fn rows<D: Document>(
    world: &World,
    declared: &Declaration<D>,
    query: &Query,
) -> Result<Reply, Refusal> {
    let select = select(world, declared, query).map_err(|problem| Refusal::Question { problem })?;
    let (by, descending) = select.order().unwrap_or(("key", false));
    let limit = query.limit.unwrap_or(USUAL_ROWS);
    if limit > MAX_ROWS {
        let problem = format!(
            "a limit of {limit}: at most {MAX_ROWS} documents are in an answer; ask for those \
             behind them with a greater `skip`"
        );
        return Err(Refusal::Question { problem });
    }
    let mut found = Vec::new();
    each::<Entry>(world, |entity, _| {
        let Some(row) = row::<D>(world, declared, entity) else { return };
        if select.holds(&|path| field(&row, path)) {
            found.push((field(&row, by), row));
        }
    });
    found.sort_by(|(a, x), (b, y)| {
        let order = sorted(a, b);
        let order = if descending { order.reverse() } else { order };
        order.then_with(|| x.key.cmp(&y.key))
    });
    let matching = found.len();
    let mut size = 0;
    let rows: Vec<Row> = found
        .into_iter()
        .skip(query.skip)
        .take(limit)
        .map(|(_, row)| row)
        .take_while(|row| {
            size += serde_json::to_vec(row).map_or(0, |bytes| bytes.len() + 1);
            size < MAX_ANSWER - 1024
        })
        .collect();
    let more = query.skip.saturating_add(rows.len()) < matching;
    Ok(Reply::Rows { rows, matching, more })
}

fn stats<D: Document>(world: &World, declared: &Declaration<D>) -> Map<String, Json> {
    let mut totals: Vec<Option<f64>> = vec![None; declared.aggregates.len()];
    each::<D>(world, |_, document| {
        for (total, aggregate) in totals.iter_mut().zip(declared.aggregates.values()) {
            *total = match aggregate {
                Aggregate::Count(is) => Some(total.unwrap_or(0.0) + f64::from(is(document))),
                Aggregate::Of(together, of) => {
                    let number = of(document);
                    Some(total.map_or(number, |total| match together {
                        Together::Sum => total + number,
                        Together::Min => total.min(number),
                        Together::Max => total.max(number),
                    }))
                }
            };
        }
    });
    let mut stats = Map::new();
    for ((name, aggregate), total) in declared.aggregates.iter().zip(totals) {
        // Of no documents: a count and a sum are 0, and there is no least and no greatest.
        let total = match aggregate {
            Aggregate::Of(Together::Min | Together::Max, _) => total,
            _ => Some(total.unwrap_or(0.0)),
        };
        stats.insert(name.clone(), total.map_or(Json::Null, number));
    }
    stats.insert("documents".to_owned(), json!(world.resource::<Counts>().documents));
    stats
}

/// A number without a needless `.0`.
fn number(value: f64) -> Json {
    // Whole numbers up to 2^53 are exact in an `f64`.
    if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
        json!(value as i64)
    } else {
        json!(value)
    }
}
