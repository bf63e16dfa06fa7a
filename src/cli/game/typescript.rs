//! A game's networked components as TypeScript, for clients that read snapshots with
//! `@rekindle/client`. Pure.

use rekindle_schema::net::{FieldKind, NetComponent, NetField, NetSchema};

/// A module with an interface for each networked component of `game`, one for an entity that has
/// some of them, and the function that reads entities of a scene. `from` is where the client is
/// imported from.
pub(super) fn module(game: &str, schema: &NetSchema, from: &str) -> String {
    let (entity, reader) = (type_name(&format!("{game}.entity")), member_name(game));
    let mut lines = vec![
        "/**".to_owned(),
        format!(" * What snapshots of `{game}` carry. Made by `rekindle game schema {game} --ts`:"),
        " * make it anew when the components of the game change.".to_owned(),
        " */".to_owned(),
        format!("import {{ entityReader, type Schema, type Thing }} from {};", quoted(from)),
    ];
    lines.extend(schema.components.iter().flat_map(interface));
    lines.push(String::new());
    lines.push("/** An entity, with those of the components that it has. */".to_owned());
    lines.push(format!("export interface {entity} {{"));
    lines.push("  readonly slot: number;".to_owned());
    lines.extend(schema.components.iter().map(|component| {
        let name = &component.name;
        format!("  readonly {}?: {};", quoted(name), type_name(name))
    }));
    lines.extend(["}", "", "const PARTS = {"].map(str::to_owned));
    lines.extend(schema.components.iter().map(part));
    let doc = " * Reads the things of a scene. Throws if the schema of a welcome lacks a field.";
    lines.extend(["} as const;", "", "/**", doc, " */"].map(str::to_owned));
    lines.extend([
        format!("export function {reader}Entities(schema: Schema): (thing: Thing) => {entity} {{"),
        format!("  return entityReader<{entity}>(schema, PARTS);"),
        "}".to_owned(),
        String::new(),
    ]);
    lines.join("\n")
}

/// A field as the game's code has it: in one column of a snapshot or in several.
enum Member<'s> {
    One(&'s NetField),
    /// A whole number: its low half, and how many bits it has.
    Wide(&'s NetField, u8),
    /// Its name, the first element, and how many there can be.
    List(&'s str, &'s NetField, usize),
}

/// The fields of a component. Columns with a point in their name belong to the field before it.
fn members(component: &NetComponent) -> Vec<Member<'_>> {
    let mut members = Vec::new();
    let mut fields = component.fields.iter().peekable();
    while let Some(field) = fields.next() {
        let name = field.name.strip_suffix(".len").unwrap_or(&field.name);
        let part = |next: &&NetField| {
            next.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'))
        };
        let first = fields.peek().copied();
        let more = std::iter::from_fn(|| fields.next_if(part)).count();
        members.push(match first.filter(|_| more > 0) {
            None => Member::One(field),
            Some(first) if name != field.name => Member::List(name, first, more),
            Some(high) => Member::Wide(field, field.kind.bits() + high.kind.bits()),
        });
    }
    members
}

/// A component's fields and what they hold.
fn interface(component: &NetComponent) -> Vec<String> {
    let holds = |field: &NetField| match field.kind {
        FieldKind::Bool => "boolean",
        _ => "number",
    };
    let fields = members(component).into_iter().flat_map(|member| {
        let (name, holds, about) = match member {
            Member::One(field) => (field.name.as_str(), holds(field).to_owned(), about(field)),
            Member::Wide(field, bits) => {
                let about = format!("A whole number of {bits} bits.");
                (field.name.as_str(), "bigint".to_owned(), about)
            }
            Member::List(name, first, most) => {
                let about = format!("At most {most}. Each: {}", self::about(first));
                (name, format!("readonly {}[]", holds(first)), about)
            }
        };
        [format!("  /** {about} */"), format!("  readonly {}: {holds};", property(name))]
    });
    let head = [String::new(), format!("export interface {} {{", type_name(&component.name))];
    head.into_iter().chain(fields).chain(["}".to_owned()]).collect()
}

/// A component's fields and their kinds, as the client looks them up in a schema.
fn part(component: &NetComponent) -> String {
    let fields = members(component).into_iter().map(|member| match member {
        Member::One(field) => {
            format!("{}: {}", property(&field.name), quoted(kind(field.kind)))
        }
        Member::Wide(field, _) => format!("{}: \"wide\"", property(&field.name)),
        Member::List(name, first, most) => {
            format!("{}: [{}, {most}]", property(name), quoted(kind(first.kind)))
        }
    });
    let fields: Vec<String> = fields.collect();
    format!("  {}: {{ {} }},", quoted(&component.name), fields.join(", "))
}

fn kind(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Float { .. } => "float",
        FieldKind::Angle { .. } => "angle",
        FieldKind::Unsigned { .. } => "unsigned",
        FieldKind::Bool => "bool",
    }
}

/// Range and precision of a field, for people.
fn about(field: &NetField) -> String {
    match field.kind {
        FieldKind::Float { min, max, bits } => {
            format!(
                "{min} to {max}, in steps of {:.2e}.",
                (max - min) / ((1u64 << bits) - 1) as f32
            )
        }
        FieldKind::Angle { bits } => format!("Radians, {bits} bits of a turn."),
        FieldKind::Unsigned { bits } => format!("A whole number of {bits} bits."),
        FieldKind::Bool => "Yes or no.".to_owned(),
    }
}

/// `arena.two_words` as `ArenaTwoWords`.
fn type_name(name: &str) -> String {
    words(name).map(capital).collect()
}

/// `two-words` as `twoWords`.
fn member_name(name: &str) -> String {
    let mut words = words(name);
    let first = words.next().unwrap_or_default().to_owned();
    first + &words.map(capital).collect::<String>()
}

fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

/// A field's name where TypeScript wants a property.
fn property(name: &str) -> String {
    let plain = !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain && !name.is_empty() { name.to_owned() } else { quoted(name) }
}

/// A string literal: names of components may have any characters.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use rekindle_arena::Arena;
    use rekindle_sim::{GameType as _, Typed};

    use super::*;

    #[test]
    fn the_types_of_the_arena_are_those_that_the_typescript_client_has() {
        let game = Typed::<Arena>::new().unwrap();
        let made = module("arena", game.net_schema(), "../index.js");
        let kept = include_str!("../../../clients/typescript/src/games/arena.schema.ts");
        assert!(
            made == kept,
            "make it anew: rekindle game schema arena --ts --from ../index.js > \
             clients/typescript/src/games/arena.schema.ts\n{made}"
        );
    }

    #[test]
    fn a_field_of_several_columns_is_one_member() {
        let field = |name: &str, bits| NetField {
            name: name.to_owned(),
            kind: FieldKind::Unsigned { bits },
            rate: None,
        };
        let fields = vec![
            field("owner", 32),
            field("owner.high", 32),
            field("hand.len", 2),
            field("hand.0", 6),
            field("hand.1", 6),
            field("trump", 6),
        ];
        let component = NetComponent { name: "seat".to_owned(), fields };
        let schema = NetSchema { components: vec![component], position: None };
        let made = module("cards", &schema, "@rekindle/client");
        for expected in [
            "  /** A whole number of 64 bits. */\n  readonly owner: bigint;",
            "  /** At most 2. Each: A whole number of 6 bits. */\n",
            "  readonly hand: readonly number[];",
            "  readonly trump: number;",
            r#"  "seat": { owner: "wide", hand: ["unsigned", 2], trump: "unsigned" },"#,
        ] {
            assert!(made.contains(expected), "{expected} is not in\n{made}");
        }
    }

    #[test]
    fn odd_names_are_quoted() {
        let field =
            |name: &str| NetField { name: name.to_owned(), kind: FieldKind::Bool, rate: None };
        let fields = vec![field("a-b"), field("2x"), field("plain_one")];
        let component = NetComponent { name: "my game.the-\"part\"".to_owned(), fields };
        let schema = NetSchema { components: vec![component], position: None };
        let made = module("my-game", &schema, "@rekindle/client");
        for expected in [
            "export interface MyGameThePart {",
            "readonly \"a-b\": boolean;",
            "readonly \"2x\": boolean;",
            "readonly plain_one: boolean;",
            "readonly \"my game.the-\\\"part\\\"\"?: MyGameThePart;",
            "export function myGameEntities(schema: Schema): (thing: Thing) => MyGameEntity {",
        ] {
            assert!(made.contains(expected), "{expected} is not in\n{made}");
        }
    }
}
