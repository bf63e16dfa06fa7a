//! Reads the attributes of a derive and refuses wrong declarations with words that say what would
//! be right.

use proc_macro2::Span;
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, Expr, ExprRange, GenericArgument, Ident, LitInt, LitStr, Path, PathArguments,
    RangeLimits, Result, Token, Type, token,
};

/// Which derive runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Value,
    Component,
    Resource,
    Event,
}

impl Role {
    /// The attribute on the type.
    pub(crate) fn attribute(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Component => "component",
            Self::Resource => "resource",
            Self::Event => "event",
        }
    }
}

/// What stands on the type.
pub(crate) struct TypeAttributes {
    pub(crate) id: String,
    pub(crate) version: u16,
    pub(crate) migrate: Option<Migrate>,
    /// Components that an entity with this one has as well.
    pub(crate) requires: Vec<Path>,
    pub(crate) relation: Option<Relation>,
    /// Says whether a value is one that the component may have.
    pub(crate) validate: Option<Path>,
}

/// How values of older versions are brought up to date before their fields are matched by name.
pub(crate) enum Migrate {
    /// One function that is told the old version: `migrate = function`.
    Whole(Path),
    /// One function per version, run one after another: `migrate(1 => f, 2 => g)`.
    Steps(Vec<(u16, Path)>),
}

impl Migrate {
    /// Reads what stands in the parentheses of `migrate(1 => f, 2 => g)`.
    fn steps(meta: &ParseNestedMeta<'_>) -> Result<Self> {
        let content;
        syn::parenthesized!(content in meta.input);
        let mut steps: Vec<(u16, Path)> = Vec::new();
        while !content.is_empty() {
            let from: LitInt = content.parse()?;
            content.parse::<Token![=>]>()?;
            let number = from.base10_parse()?;
            if steps.last().is_some_and(|(last, _)| *last >= number) {
                return Err(Error::new(from.span(), "the versions of `migrate` ascend"));
            }
            steps.push((number, content.parse()?));
            if !content.is_empty() {
                content.parse::<Token![,]>()?;
            }
        }
        Ok(Self::Steps(steps))
    }

    /// Refuses steps from versions that are not older than the type's own.
    fn check(&self, version: u16, name: &Ident) -> Result<()> {
        let Self::Steps(steps) = self else { return Ok(()) };
        match steps.iter().find(|(from, _)| *from >= version) {
            Some((from, path)) => Err(Error::new(
                path.span(),
                format!(
                    "`{name}` has version {version}: a step from version {from} leads nowhere; \
                     raise `version` to {}",
                    from.saturating_add(1)
                ),
            )),
            None => Ok(()),
        }
    }
}

/// What happens to an entity when the one that its relation names is despawned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    Despawn,
    Remove,
    Keep,
}

impl Relation {
    fn read(text: &LitStr) -> Result<Self> {
        match text.value().as_str() {
            "despawn" => Ok(Self::Despawn),
            "remove" => Ok(Self::Remove),
            "keep" => Ok(Self::Keep),
            _ => Err(Error::new(
                text.span(),
                "a relation says what happens to its owner when the target is despawned: \
                 `\"despawn\"`, `\"remove\"` (the relation goes) or `\"keep\"`",
            )),
        }
    }
}

impl TypeAttributes {
    pub(crate) fn read(attributes: &[Attribute], name: &Ident, role: Role) -> Result<Self> {
        let own = role.attribute();
        let (mut id, mut version, mut migrate) = (None, None, None);
        let (mut requires, mut relation, mut validate) = (None, None, None);
        for attribute in attributes {
            if attribute.path().is_ident("net") {
                return Err(Error::new(
                    attribute.span(),
                    "`net` belongs on a field: it says how that field is quantised for snapshots",
                ));
            }
            if !attribute.path().is_ident(own) {
                continue;
            }
            if role == Role::Value {
                return Err(Error::new(
                    attribute.span(),
                    "`value` belongs on a field: `#[value(default = …, range = …)]`",
                ));
            }
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("id") {
                    let text: LitStr = meta.value()?.parse()?;
                    check_id(&text)?;
                    once(&mut id, text.value(), &meta)
                } else if meta.path.is_ident("version") {
                    let number: LitInt = meta.value()?.parse()?;
                    once(&mut version, number.base10_parse()?, &meta)
                } else if meta.path.is_ident("migrate") {
                    let read = if meta.input.peek(token::Paren) {
                        Migrate::steps(&meta)?
                    } else {
                        Migrate::Whole(meta.value()?.parse()?)
                    };
                    once(&mut migrate, read, &meta)
                } else if role == Role::Component && meta.path.is_ident("requires") {
                    let content;
                    syn::parenthesized!(content in meta.input);
                    let paths = content.parse_terminated(Path::parse_mod_style, Token![,])?;
                    once(&mut requires, paths.into_iter().collect(), &meta)
                } else if role == Role::Component && meta.path.is_ident("relation") {
                    once(&mut relation, Relation::read(&meta.value()?.parse()?)?, &meta)
                } else if role == Role::Component && meta.path.is_ident("validate") {
                    once(&mut validate, meta.value()?.parse()?, &meta)
                } else {
                    Err(meta.error(unknown(role)))
                }
            })?;
        }
        let id = match (id, role) {
            (Some(id), _) => id,
            (None, Role::Value) => String::new(),
            (None, _) => {
                return Err(Error::new(
                    name.span(),
                    format!(
                        "`{name}` needs a stable id: add `#[{own}(id = \"{}\")]`; it names the \
                         type in checkpoints, so the Rust type can be renamed",
                        name.to_string().to_lowercase()
                    ),
                ));
            }
        };
        let version = version.unwrap_or(1);
        if let Some(migrate) = &migrate {
            migrate.check(version, name)?;
        }
        let requires = requires.unwrap_or_default();
        Ok(Self { id, version, migrate, requires, relation, validate })
    }
}

/// What the attribute on a type takes.
fn unknown(role: Role) -> String {
    let own = role.attribute();
    let more = if role == Role::Component {
        ", `requires(Other, …)`, `relation = \"despawn\"`, `validate = function`"
    } else {
        ""
    };
    format!(
        "unknown key: `{own}` takes `id = \"…\"`, `version = 1`, `migrate = function` or \
         `migrate(1 => function, …)`{more}"
    )
}

fn check_id(text: &LitStr) -> Result<()> {
    let value = text.value();
    let good =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    if value.is_empty() || value.len() > 64 || !value.chars().all(good) {
        return Err(Error::new(
            text.span(),
            "an id is 1 to 64 characters of `a-z`, `0-9`, `-`, `_` and `.`",
        ));
    }
    Ok(())
}

fn once<T>(place: &mut Option<T>, value: T, meta: &ParseNestedMeta<'_>) -> Result<()> {
    if place.replace(value).is_some() { Err(meta.error("given twice")) } else { Ok(()) }
}

/// What stands on a field.
pub(crate) struct FieldAttributes {
    pub(crate) default: Option<Expr>,
    pub(crate) range: Option<(Expr, Expr)>,
    /// What a write must keep to, or it is rejected.
    pub(crate) within: Option<(Expr, Expr)>,
    /// Names that the field had in earlier builds.
    pub(crate) aliases: Vec<LitStr>,
    pub(crate) net: Option<Net>,
}

/// The quantisation of a field.
pub(crate) struct Net {
    pub(crate) span: Span,
    /// That of the field, or of each element of a list.
    pub(crate) kind: NetKind,
    /// Most elements that snapshots carry, if the field is a list.
    pub(crate) list: Option<u8>,
    pub(crate) rate: Option<String>,
    pub(crate) seen_by: SeenBy,
}

/// For whom a networked field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SeenBy {
    Everyone,
    Team,
    Owner,
}

pub(crate) enum NetKind {
    Float {
        bounds: Box<(Expr, Expr)>,
        bits: u8,
    },
    Angle {
        bits: u8,
    },
    Unsigned {
        bits: u8,
    },
    /// A whole number of 33 to 64 bits.
    Wide {
        bits: u8,
    },
    Bool,
}

impl FieldAttributes {
    pub(crate) fn read(attributes: &[Attribute], ty: &Type, role: Role) -> Result<Self> {
        let mut read =
            Self { default: None, range: None, within: None, aliases: Vec::new(), net: None };
        for attribute in attributes {
            if attribute.path().is_ident("value") {
                attribute.parse_nested_meta(|meta| {
                    if meta.path.is_ident("default") {
                        once(&mut read.default, meta.value()?.parse()?, &meta)
                    } else if meta.path.is_ident("range") {
                        let range: ExprRange = meta.value()?.parse()?;
                        once(&mut read.range, bounds(range)?, &meta)
                    } else if meta.path.is_ident("within") {
                        if role != Role::Component {
                            return Err(meta.error(
                                "`within` rejects writes, and only those of a component can be: \
                                 use `range = low..=high`, which keeps the value in it",
                            ));
                        }
                        let range: ExprRange = meta.value()?.parse()?;
                        once(&mut read.within, bounds(range)?, &meta)
                    } else if meta.path.is_ident("alias") {
                        read.aliases.push(meta.value()?.parse()?);
                        Ok(())
                    } else {
                        Err(meta.error(
                            "unknown key: `value` takes `default = expression`, `range = \
                            low..=high`, `within = low..=high` and `alias = \"former-name\"`",
                        ))
                    }
                })?;
            } else if attribute.path().is_ident("net") {
                if read.net.is_some() {
                    return Err(Error::new(attribute.span(), "given twice"));
                }
                read.net = Some(Net::read(attribute, ty)?);
            } else if attribute.path().is_ident(role.attribute()) {
                let own = role.attribute();
                return Err(Error::new(
                    attribute.span(),
                    format!(
                        "`{own}` belongs on the type; a field takes `#[value(default = …, range = \
                         …)]` and `#[net(…)]`"
                    ),
                ));
            }
        }
        Ok(read)
    }
}

fn bounds(range: ExprRange) -> Result<(Expr, Expr)> {
    let span = range.span();
    match (range.start, range.limits, range.end) {
        (Some(low), RangeLimits::Closed(_), Some(high)) => Ok((*low, *high)),
        _ => Err(Error::new(span, "a range has both ends and includes them: `low..=high`")),
    }
}

const NET_HELP: &str = "`net` takes `min`, `max` and `bits` for an `f32`, `angle` and `bits` for \
                        an `f32` in radians, `bits` for unsigned integers and enums (33 to 64 \
                        for a `u64`, a `PlayerId` or a `Tick`), nothing for a `bool`; `list = 8` \
                        for the first so many elements of a `Vec` or an array; `rate = \
                        \"component-id.field\"`; and `owner` or `team`, if not everybody who \
                        sees the entity may see the field";

impl Net {
    fn read(attribute: &Attribute, ty: &Type) -> Result<Self> {
        let (mut min, mut max, mut bits, mut angle, mut rate) =
            (None::<Expr>, None::<Expr>, None::<LitInt>, None::<()>, None::<String>);
        let (mut seen_by, mut list) = (None, None::<LitInt>);
        if !matches!(attribute.meta, syn::Meta::Path(_)) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("min") {
                    once(&mut min, meta.value()?.parse()?, &meta)
                } else if meta.path.is_ident("max") {
                    once(&mut max, meta.value()?.parse()?, &meta)
                } else if meta.path.is_ident("bits") {
                    once(&mut bits, meta.value()?.parse()?, &meta)
                } else if meta.path.is_ident("angle") {
                    once(&mut angle, (), &meta)
                } else if meta.path.is_ident("list") {
                    once(&mut list, meta.value()?.parse()?, &meta)
                } else if meta.path.is_ident("owner") {
                    once(&mut seen_by, SeenBy::Owner, &meta)
                } else if meta.path.is_ident("team") {
                    once(&mut seen_by, SeenBy::Team, &meta)
                } else if meta.path.is_ident("rate") {
                    once(&mut rate, field_of(&meta.value()?.parse()?)?, &meta)
                } else {
                    Err(meta.error(format!("unknown key: {NET_HELP}")))
                }
            })?;
        }
        let span = attribute.span();
        let fail = |problem: &str| Err(Error::new(span, format!("{problem}: {NET_HELP}")));
        let list = list.map(|most| longest(&most)).transpose()?;
        let ty = match (list, element(ty)) {
            (Some(_), Some(element)) => element,
            (Some(_), None) => return fail("`list` is for a `Vec`, a `VecDeque` or an array"),
            (None, _) => ty,
        };
        let is = |name: &str| matches!(ty, Type::Path(path) if path.path.is_ident(name));
        let width = |most: u8| match &bits {
            None => {
                Err(Error::new(span, format!("`bits` is missing: give 1 to {most}; {NET_HELP}")))
            }
            Some(bits) => match bits.base10_parse::<u8>() {
                Ok(value) if (1..=most).contains(&value) => Ok(value),
                _ => Err(Error::new(bits.span(), format!("`bits` must be 1 to {most} here"))),
            },
        };
        let kind = match (is("f32"), is("bool"), min, max, angle) {
            (true, _, None, None, Some(())) => NetKind::Angle { bits: width(24)? },
            (true, _, Some(min), Some(max), None) => {
                NetKind::Float { bounds: Box::new((min, max)), bits: width(24)? }
            }
            (true, ..) => return fail("an `f32` needs either `min` and `max`, or `angle`"),
            (_, _, None, None, None) if rate.is_some() => {
                return fail("only an `f32` has a `rate`");
            }
            (_, true, None, None, None) if bits.is_none() => NetKind::Bool,
            (_, true, ..) => return fail("a `bool` takes one bit and nothing to declare"),
            (_, _, None, None, None) => match width(64)? {
                bits @ 1..=32 => NetKind::Unsigned { bits },
                bits if list.is_none() => NetKind::Wide { bits },
                _ => return fail("an element of a list has at most 32 bits"),
            },
            _ => return fail("`min`, `max` and `angle` are for an `f32`"),
        };
        if list.is_some() && rate.is_some() {
            return fail("the elements of a list have no `rate`");
        }
        Ok(Self { span, kind, list, rate, seen_by: seen_by.unwrap_or(SeenBy::Everyone) })
    }
}

/// `component-id.field`, as `rate` names it.
fn field_of(text: &LitStr) -> Result<String> {
    match text.value().rsplit_once('.') {
        Some((id, field)) if !id.is_empty() && !field.is_empty() => Ok(text.value()),
        _ => Err(Error::new(
            text.span(),
            "`rate` names a field as `component-id.field`, for example `rate = \"velocity.x\"`",
        )),
    }
}

/// Most elements that a snapshot carries of a list.
const LONGEST: u8 = 32;

fn longest(most: &LitInt) -> Result<u8> {
    match most.base10_parse::<u8>() {
        Ok(most) if (1..=LONGEST).contains(&most) => Ok(most),
        _ => Err(Error::new(
            most.span(),
            format!("`list` is 1 to {LONGEST}: the elements that snapshots carry"),
        )),
    }
}

/// What a list or an array is of.
fn element(ty: &Type) -> Option<&Type> {
    match ty {
        Type::Array(array) => Some(&array.elem),
        Type::Path(path) => {
            let last = path.path.segments.last()?;
            let PathArguments::AngleBracketed(of) = &last.arguments else { return None };
            match of.args.first() {
                Some(GenericArgument::Type(element)) => Some(element),
                _ => None,
            }
        }
        _ => None,
    }
}
