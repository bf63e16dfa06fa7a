//! Values from JSON: the way back from what [`crate::persist::describe`] prints, so that a value
//! that a journal or a test shows can be written into a test.
//!
//! Called by [`crate::Payloads`].

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::value::shape::{Datum, Field, Shape};

/// The canonical bytes of the value of this shape, which must be one of the running build, that
/// `json` spells. Fields that are left out have their defaults; unknown ones are errors. Says where
/// it fails.
pub(crate) fn bytes(shape: &Shape, json: &Json) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    shape.convert(&datum(shape, json)?, &mut out)?;
    Ok(out)
}

fn datum(shape: &Shape, json: &Json) -> Result<Datum, String> {
    let wrong = || format!("{json} is no {}", name(shape));
    Ok(match (shape, json) {
        (Shape::Bool, Json::Bool(flag)) => Datum::Bool(*flag),
        (Shape::F32 | Shape::F64, json) => Datum::Float(float(json).ok_or_else(wrong)?),
        (Shape::Entity, Json::Null) => Datum::Entity(u32::MAX, 0),
        (Shape::Entity, Json::String(text)) => {
            let read = || {
                let (slot, generation) = text.split_once('v')?;
                Some(Datum::Entity(slot.parse().ok()?, generation.parse().ok()?))
            };
            read().ok_or_else(wrong)?
        }
        (Shape::String, Json::String(text)) => Datum::String(text.clone()),
        (Shape::Option(_), Json::Null) => Datum::Option(None),
        (Shape::Option(of), json) => Datum::Option(Some(Box::new(datum(of, json)?))),
        (Shape::Array(count, of), Json::Array(all)) if all.len() == *count as usize => {
            list(of, all)?
        }
        (Shape::List(of), Json::Array(all)) => list(of, all)?,
        (Shape::Tuple(of), Json::Array(all)) if all.len() == of.len() => {
            let data = of.iter().zip(all).map(|(shape, json)| datum(shape, json));
            Datum::List(data.collect::<Result<_, _>>()?)
        }
        (Shape::Map(key, value), Json::Array(all)) => {
            let pair = |json: &Json| match json.as_array().map(Vec::as_slice) {
                Some([a, b]) => Ok((datum(key, a)?, datum(value, b)?)),
                _ => Err(format!("{json} is no pair of key and value")),
            };
            Datum::Map(all.iter().map(pair).collect::<Result<_, _>>()?)
        }
        (Shape::Struct(of), Json::Bool(true)) if of.is_empty() => Datum::Struct(BTreeMap::new()),
        (Shape::Struct(of), json) => Datum::Struct(fields(of, json)?),
        (Shape::Enum(variants), json) => variant(variants, json)?,
        (_, Json::Number(number)) => {
            let whole = number.as_i64().map(i128::from);
            Datum::Int(whole.or_else(|| number.as_u64().map(i128::from)).ok_or_else(wrong)?)
        }
        _ => return Err(wrong()),
    })
}

/// JSON knows no NaN and no infinities: they are texts.
fn float(json: &Json) -> Option<f64> {
    match json {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => text.parse().ok().filter(|number: &f64| !number.is_finite()),
        _ => None,
    }
}

fn list(of: &Shape, all: &[Json]) -> Result<Datum, String> {
    Ok(Datum::List(all.iter().map(|json| datum(of, json)).collect::<Result<_, _>>()?))
}

fn fields(of: &[Field], json: &Json) -> Result<BTreeMap<String, Datum>, String> {
    let Some(given) = json.as_object() else {
        return Err(format!("{json} is no object of fields"));
    };
    let mut read = BTreeMap::new();
    for (name, json) in given {
        let field = of.iter().find(|field| field.name == *name).ok_or_else(|| {
            let known: Vec<_> = of.iter().map(|field| format!("`{}`", field.name)).collect();
            format!("there is no field `{name}`; there are {}", known.join(", "))
        })?;
        let value = datum(&field.shape, json).map_err(|why| format!("field `{name}`: {why}"))?;
        read.insert(name.clone(), value);
    }
    Ok(read)
}

fn variant(variants: &[(String, Vec<Field>)], json: &Json) -> Result<Datum, String> {
    let one = json.as_object().filter(|of| of.len() == 1).and_then(|of| of.iter().next());
    let (name, given) = match (json, one) {
        (Json::String(name), _) => (name, None),
        (_, Some((name, given))) => (name, Some(given)),
        _ => return Err(format!("{json} is no variant: write \"Name\" or {{\"Name\": {{..}}}}")),
    };
    let known = variants.iter().find(|(known, _)| known == name);
    let (_, of) = known.ok_or_else(|| {
        let names: Vec<_> = variants.iter().map(|(name, _)| format!("`{name}`")).collect();
        format!("there is no variant `{name}`; there are {}", names.join(", "))
    })?;
    let data = given.map(|json| fields(of, json)).transpose()?.unwrap_or_default();
    Ok(Datum::Enum(name.clone(), data))
}

/// For errors.
fn name(shape: &Shape) -> String {
    match shape {
        Shape::Entity => "entity (such as \"3v1\", or null)".to_owned(),
        Shape::Array(count, _) => format!("list of {count}"),
        Shape::Tuple(of) => format!("list of {}", of.len()),
        Shape::List(_) => "list".to_owned(),
        Shape::Map(..) => "list of pairs".to_owned(),
        primitive => format!("{primitive:?}").to_lowercase(),
    }
}
