//! What an order does: a pure function over the documents that it names. Nothing is written before
//! every call of the order has succeeded.

use std::collections::BTreeMap;

use rekindle_schema::Tick;

use super::declare::{Calling, Declaration, Document};
use super::wire::{Call, Done, MAX_ANSWER, MAX_DOCUMENT, Order, Outcome, Refusal};
use crate::game::matches::guarded;
use crate::value::entity::Entity;
use crate::value::to_bytes;

/// A document as an order finds it and leaves it.
pub(crate) struct Staged<D> {
    /// Where it stands; none if it is new.
    pub(crate) entity: Option<Entity>,
    /// Its version; 0 if there is none.
    pub(crate) version: u64,
    /// What it is now.
    pub(crate) now: Option<D>,
    /// A call of the order has changed it.
    pub(crate) changed: bool,
}

/// The documents that an order names, by key.
pub(crate) type Stage<D> = BTreeMap<String, Staged<D>>;

/// What is known of the collection when an order is applied.
pub(crate) struct Setting<'a, D> {
    /// What is declared of the kind.
    pub(crate) declared: &'a Declaration<D>,
    /// The collection's clock.
    pub(crate) tick: Tick,
    /// Its ticks per second.
    pub(crate) tick_rate: u16,
    /// How often a document was changed so far: a change counts on, and is the version.
    pub(crate) changes: u64,
    /// How many documents there are.
    pub(crate) documents: u64,
}

/// Applies the calls of an order, one after the other, to what it names. After a refusal the stage
/// is of no use.
pub(crate) fn apply<D: Document>(
    setting: &Setting<'_, D>,
    order: &Order,
    stage: &mut Stage<D>,
) -> Outcome {
    let (mut done, mut size) = (Vec::with_capacity(order.calls.len()), 0);
    let (mut changes, mut documents) = (setting.changes, setting.documents);
    for (at, call) in order.calls.iter().enumerate() {
        let Some(staged) = stage.get_mut(&call.key) else {
            let why = Refusal::NoDocument { key: call.key.clone() };
            return Outcome::Refused { at, why };
        };
        let was = staged.now.is_some();
        changes += 1;
        let one = match one(setting, order, call, staged, changes) {
            Ok(one) => one,
            Err(why) => return Outcome::Refused { at, why },
        };
        match (was, staged.now.is_some()) {
            (false, true) => documents += 1,
            (true, false) => documents -= 1,
            _ => {}
        }
        if documents > D::MOST {
            return Outcome::Refused { at, why: Refusal::Full { most: D::MOST } };
        }
        size += serde_json::to_vec(&one).map_or(MAX_ANSWER, |bytes| bytes.len());
        if size > MAX_ANSWER - 1024 {
            let problem = format!("the answers of the order take more than {MAX_ANSWER} bytes");
            return Outcome::Refused { at, why: Refusal::TooLarge { problem } };
        }
        done.push(one);
    }
    Outcome::Done(done)
}

/// One call, on what the calls before it have left.
fn one<D: Document>(
    setting: &Setting<'_, D>,
    order: &Order,
    call: &Call,
    staged: &mut Staged<D>,
    version: u64,
) -> Result<Done, Refusal> {
    let Call { action, key, args, if_version } = call;
    let Some(rule) = setting.declared.actions.get(action) else {
        let known = setting.declared.actions.keys().map(String::as_str).collect::<Vec<_>>();
        return Err(Refusal::NoAction { action: action.clone(), known: known.join(", ") });
    };
    let calling =
        Calling { caller: &order.caller, key, tick: setting.tick, tick_rate: setting.tick_rate };
    let panicked = |message| Refusal::Panicked { action: action.clone(), message };
    let forbids = guarded(|| rule.forbids(&calling, staged.now.as_ref())).map_err(panicked)?;
    if let Some(policy) = forbids {
        return Err(Refusal::Forbidden {
            action: action.clone(),
            key: key.clone(),
            caller: order.caller.to_string(),
            policy,
        });
    }
    if let Some(wanted) = *if_version
        && wanted != staged.version
    {
        return Err(Refusal::Stale { key: key.clone(), wanted, found: staged.version });
    }
    let returned =
        guarded(|| (rule.run)(&mut staged.now, args.clone(), &calling)).map_err(panicked)?;
    let out = returned.map_err(|stop| stop.refusal(action, key, staged.version))?;
    if let Some(document) = &mut staged.now {
        let checked = guarded(|| {
            document.canonicalise();
            document.validate()
        });
        checked.map_err(panicked)?.map_err(|problem| Refusal::Invalid {
            action: action.clone(),
            key: key.clone(),
            problem,
        })?;
        let size = to_bytes(document).len();
        if size > MAX_DOCUMENT {
            let problem =
                format!("document `{key}` would take {size} bytes: at most {MAX_DOCUMENT} do");
            return Err(Refusal::TooLarge { problem });
        }
    }
    staged.changed = true;
    // Whoever calls it next finds no document, which is version 0; the change itself has a number.
    staged.version = if staged.now.is_some() { version } else { 0 };
    Ok(Done { key: key.clone(), version, out })
}
