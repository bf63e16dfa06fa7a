//! Writes the implementations.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Fields, Ident, Index, Member, Result, Type};

use crate::attributes::{FieldAttributes, Migrate, Relation, Role, TypeAttributes};
use crate::net;

pub(crate) struct Field {
    pub(crate) member: Member,
    /// A local variable for it.
    local: Ident,
    pub(crate) name: String,
    pub(crate) ty: Type,
    pub(crate) attributes: FieldAttributes,
}

pub(crate) fn expand(input: &DeriveInput, role: Role) -> Result<TokenStream> {
    if let Some(parameter) = input.generics.params.first() {
        return Err(Error::new(
            parameter.span(),
            "a stored type has no parameters: its shape stands in checkpoints",
        ));
    }
    let name = &input.ident;
    let attributes = TypeAttributes::read(&input.attrs, name, role)?;
    let mut networked = false;
    let (value, net) = match &input.data {
        Data::Struct(data) => {
            let fields = fields(&data.fields, role)?;
            check_aliases(&fields)?;
            networked = fields.iter().any(|field| field.attributes.net.is_some());
            let (net, ties) = (net::implementation(&fields), ties(&attributes, &fields)?);
            (struct_value(name, &fields), quote! { #net #ties })
        }
        Data::Enum(data) => {
            let variants = data
                .variants
                .iter()
                .map(|variant| Ok((variant.ident.clone(), fields(&variant.fields, role)?)));
            let variants = variants.collect::<Result<Vec<_>>>()?;
            if variants.is_empty() || variants.len() > 256 {
                return Err(Error::new(name.span(), "a stored enum has 1 to 256 variants"));
            }
            if let Some(net) = variants
                .iter()
                .flat_map(|(_, fields)| fields)
                .find_map(|field| field.attributes.net.as_ref())
            {
                return Err(Error::new(
                    net.span,
                    "fields of an enum are not networked: put them into a struct",
                ));
            }
            for (_, fields) in &variants {
                check_aliases(fields)?;
            }
            let (net, ties) = (net::implementation(&[]), ties(&attributes, &[])?);
            (enum_value(name, &variants), quote! { #net #ties })
        }
        Data::Union(_) => {
            return Err(Error::new(
                name.span(),
                "a union cannot be stored: its bytes have no canonical form",
            ));
        }
    };
    let stored = (role != Role::Value).then(|| stored(name, &attributes));
    let marker = match role {
        Role::Value => None,
        Role::Component => {
            Some(quote! { impl ::rekindle_sim::value::component::Component for #name { #net } })
        }
        // One with networked fields is a component as well: `GameBuilder::shows`.
        Role::Resource => {
            let shown = networked.then(|| {
                quote! { impl ::rekindle_sim::value::component::Component for #name { #net } }
            });
            Some(quote! {
                impl ::rekindle_sim::value::component::Resource for #name {}
                #shown
            })
        }
        Role::Event => Some(quote! { impl ::rekindle_sim::value::component::Event for #name {} }),
    };
    Ok(quote! { #value #stored #marker })
}

fn fields(fields: &Fields, role: Role) -> Result<Vec<Field>> {
    let read = fields.iter().enumerate().map(|(index, field)| {
        let attributes = FieldAttributes::read(&field.attrs, &field.ty, role)?;
        let member =
            field.ident.clone().map_or_else(|| Member::Unnamed(Index::from(index)), Member::Named);
        let name = field.ident.as_ref().map_or_else(|| index.to_string(), ToString::to_string);
        let name = name.trim_start_matches("r#").to_owned();
        Ok(Field {
            member,
            local: format_ident!("field_{index}"),
            name,
            ty: field.ty.clone(),
            attributes,
        })
    });
    read.collect()
}

/// A former name is the name of nothing else.
fn check_aliases(fields: &[Field]) -> Result<()> {
    let aliases = fields.iter().flat_map(|field| &field.attributes.aliases);
    let mut seen: Vec<String> = fields.iter().map(|field| field.name.clone()).collect();
    for alias in aliases {
        if seen.contains(&alias.value()) {
            return Err(Error::new(
                alias.span(),
                format!("`{}` is a field, or the former name of another one", alias.value()),
            ));
        }
        seen.push(alias.value());
    }
    Ok(())
}

fn stored(name: &Ident, attributes: &TypeAttributes) -> TokenStream {
    let TypeAttributes { id, version, migrate, .. } = attributes;
    let body = migrate.as_ref().map(|migrate| match migrate {
        Migrate::Whole(function) => quote! { #function(from_version, fields) },
        Migrate::Steps(steps) => {
            let steps = steps.iter().map(|(from, function)| {
                quote! {
                    if from_version <= #from {
                        ::rekindle_sim::value::component::migrate_step(#from, fields, #function)?;
                    }
                }
            });
            quote! {
                #(#steps)*
                Ok(())
            }
        }
    });
    let migrate = body.map(|body| {
        quote! {
            fn migrate(
                from_version: u16,
                fields: &mut ::rekindle_sim::value::shape::Datum,
            ) -> ::core::result::Result<(), ::std::string::String> {
                #body
            }
        }
    });
    quote! {
        impl ::rekindle_sim::value::component::Stored for #name {
            const ID: &'static str = #id;
            const VERSION: u16 = #version;
            #migrate
        }
    }
}

/// Which values of a component are accepted, if not all are.
fn validates(attributes: &TypeAttributes, fields: &[Field]) -> Option<TokenStream> {
    let bounded: Vec<_> = fields
        .iter()
        .filter_map(|field| Some((field, field.attributes.within.as_ref()?)))
        .collect();
    if bounded.is_empty() && attributes.validate.is_none() {
        return None;
    }
    let checks = bounded.iter().map(|(Field { member, name, ty, .. }, (low, high))| {
        quote! {
            ::rekindle_sim::value::component::within::<#ty>(#name, &self.#member, #low, #high)?;
        }
    });
    let own = attributes.validate.as_ref().map(|function| quote! { #function(self)?; });
    Some(quote! {
        const VALIDATES: bool = true;
        fn validate(&self) -> ::core::result::Result<(), ::std::string::String> {
            #(#checks)*
            #own
            Ok(())
        }
    })
}

/// What a component says besides its fields: which others it needs, and whom it names.
fn ties(attributes: &TypeAttributes, fields: &[Field]) -> Result<TokenStream> {
    let requires = &attributes.requires;
    let requires = (!requires.is_empty()).then(|| {
        let ids = requires.iter().map(|other| {
            quote_spanned! { other.span() =>
                <#other as ::rekindle_sim::value::component::Stored>::ID
            }
        });
        quote! { const REQUIRES: &'static [&'static str] = &[#(#ids),*]; }
    });
    let validates = validates(attributes, fields);
    let requires = quote! { #requires #validates };
    let Some(relation) = attributes.relation else { return Ok(requires) };
    let is_entity = |field: &&Field| {
        matches!(&field.ty, Type::Path(path)
            if path.path.segments.last().is_some_and(|segment| segment.ident == "Entity"))
    };
    let targets: Vec<_> = fields.iter().filter(is_entity).collect();
    let [target] = targets[..] else {
        return Err(Error::new(
            Span::call_site(),
            "a relation is a struct with one field of type `Entity`: whom it names",
        ));
    };
    let member = &target.member;
    let policy = match relation {
        Relation::Despawn => quote! { Despawn },
        Relation::Remove => quote! { Remove },
        Relation::Keep => quote! { Keep },
    };
    Ok(quote! {
        #requires
        const RELATION: ::core::option::Option<::rekindle_sim::OnDespawn> =
            Some(::rekindle_sim::OnDespawn::#policy);
        fn target(&self) -> ::core::option::Option<::rekindle_sim::Entity> {
            Some(self.#member)
        }
    })
}

/// `{ member: expression, … }`, which is right for named, unnamed and no fields alike.
fn build(fields: &[Field], expression: impl Fn(&Field) -> TokenStream) -> TokenStream {
    let parts = fields.iter().map(|field| {
        let (member, expression) = (&field.member, expression(field));
        quote! { #member: #expression }
    });
    quote! { { #(#parts),* } }
}

fn initial(field: &Field) -> TokenStream {
    let ty = &field.ty;
    if let Some(default) = &field.attributes.default {
        quote! { { let default: #ty = #default; default } }
    } else {
        quote_spanned! { ty.span() => <#ty as ::rekindle_sim::value::Value>::initial() }
    }
}

fn decode(field: &Field) -> TokenStream {
    let ty = &field.ty;
    let decode =
        quote_spanned! { ty.span() => <#ty as ::rekindle_sim::value::Value>::decode(input)? };
    match &field.attributes.range {
        Some((low, high)) => {
            quote! { {
                let mut value: #ty = #decode;
                ::rekindle_sim::value::clamp(&mut value, #low, #high);
                value
            } }
        }
        None => decode,
    }
}

/// Brings `place` into canonical form, an expression of type `&mut` field.
fn canonicalise(field: &Field, place: &TokenStream) -> TokenStream {
    let ty = &field.ty;
    if let Some((low, high)) = &field.attributes.range {
        quote! { ::rekindle_sim::value::clamp::<#ty>(#place, #low, #high); }
    } else {
        quote! { ::rekindle_sim::value::Value::canonicalise(#place); }
    }
}

/// Whether `place` has canonical form, an expression of type `&` field.
fn is_canonical(field: &Field, place: &TokenStream) -> TokenStream {
    let ty = &field.ty;
    if let Some((low, high)) = &field.attributes.range {
        quote! { ::rekindle_sim::value::within::<#ty>(#place, #low, #high) }
    } else {
        quote! { ::rekindle_sim::value::Value::is_canonical(#place) }
    }
}

fn shapes(fields: &[Field]) -> TokenStream {
    let parts = fields.iter().map(|field| {
        let (name, ty, initial) = (&field.name, &field.ty, initial(field));
        let aliases = &field.attributes.aliases;
        let aliases = (!aliases.is_empty()).then(|| quote! { .formerly(&[#(#aliases),*]) });
        quote_spanned! { ty.span() =>
            ::rekindle_sim::value::shape::Field::new::<#ty>(#name, &#initial) #aliases
        }
    });
    quote! { ::std::vec![#(#parts),*] }
}

/// The smallest size of all fields together, and whether one of them has other forms than the
/// canonical one.
fn constants(fields: &[Field]) -> (TokenStream, TokenStream) {
    let sizes = fields
        .iter()
        .map(|Field { ty, .. }| quote! { + <#ty as ::rekindle_sim::value::Value>::MIN_SIZE });
    let canonicalises = fields.iter().map(|Field { ty, attributes, .. }| {
        if attributes.range.is_some() {
            quote! { || true }
        } else {
            quote! { || <#ty as ::rekindle_sim::value::Value>::CANONICALISES }
        }
    });
    (quote! { 0 #(#sizes)* }, quote! { false #(#canonicalises)* })
}

/// Wrong ranges are compile errors, at the place of the range.
fn range_checks(fields: &[Field]) -> TokenStream {
    // Of the expansion, so that lints about constant comparisons leave it alone.
    let at = |bound: &syn::Expr| Span::call_site().located_at(bound.span());
    let nets = net::checks(fields);
    let ranges = fields.iter().filter_map(|field| {
        let (low, high) = field.attributes.range.as_ref()?;
        let (ty, message) = (&field.ty, format!("the range of field `{}` is empty", field.name));
        Some(quote_spanned! { at(low) =>
            const _: () = {
                const LOW: #ty = #low;
                const HIGH: #ty = #high;
                assert!(LOW <= HIGH, #message);
            };
        })
    });
    quote! { #nets #(#ranges)* }
}

fn struct_value(name: &Ident, fields: &[Field]) -> TokenStream {
    let (min_size, canonicalises) = constants(fields);
    let (initial, decode, shapes, checks) =
        (build(fields, initial), build(fields, decode), shapes(fields), range_checks(fields));
    let encode = fields.iter().map(
        |Field { member, .. }| quote! { ::rekindle_sim::value::Value::encode(&self.#member, out); },
    );
    let canonicalise = fields.iter().map(|field| {
        let member = &field.member;
        canonicalise(field, &quote! { &mut self.#member })
    });
    let is_canonical = fields.iter().map(|field| {
        let member = &field.member;
        is_canonical(field, &quote! { &self.#member })
    });
    quote! {
        #checks
        impl ::rekindle_sim::value::Value for #name {
            const MIN_SIZE: usize = #min_size;
            const CANONICALISES: bool = #canonicalises;
            fn initial() -> Self {
                Self #initial
            }
            fn shape() -> ::rekindle_sim::value::shape::Shape {
                ::rekindle_sim::value::shape::Shape::Struct(#shapes)
            }
            #[inline]
            fn encode(&self, out: &mut ::std::vec::Vec<u8>) {
                let _ = &out;
                #(#encode)*
            }
            #[inline]
            fn decode(
                input: &mut ::rekindle_sim::value::Reader<'_>,
            ) -> ::core::result::Result<Self, ::rekindle_sim::value::DecodeError> {
                let _ = &input;
                Ok(Self #decode)
            }
            #[inline]
            fn canonicalise(&mut self) {
                #(#canonicalise)*
            }
            #[inline]
            fn is_canonical(&self) -> bool {
                true #(& #is_canonical)*
            }
        }
    }
}

fn enum_value(name: &Ident, variants: &[(Ident, Vec<Field>)]) -> TokenStream {
    let (first, first_fields) = &variants[0];
    let initial = build(first_fields, initial);
    let first = quote! { Self::#first #initial };
    let canonicalises = variants.iter().map(|(_, fields)| constants(fields).1);
    let shapes = variants.iter().map(|(variant, fields)| {
        let (variant, shapes) = (variant.to_string(), shapes(fields));
        quote! { (#variant.to_owned(), #shapes) }
    });
    let pattern = |fields: &[Field]| build(fields, |Field { local, .. }| quote! { #local });
    let encode = variants.iter().enumerate().map(|(index, (variant, fields))| {
        let (index, pattern) = (index as u8, pattern(fields));
        let parts = fields.iter().map(
            |Field { local, .. }| quote! { ::rekindle_sim::value::Value::encode(#local, out); },
        );
        quote! { Self::#variant #pattern => { out.push(#index); #(#parts)* } }
    });
    let canonicalise = variants.iter().map(|(variant, fields)| {
        let pattern = pattern(fields);
        let parts = fields.iter().map(|field| {
            let local = &field.local;
            canonicalise(field, &quote! { #local })
        });
        quote! { Self::#variant #pattern => { #(#parts)* } }
    });
    let decode = variants.iter().enumerate().map(|(index, (variant, fields))| {
        let (index, fields) = (index as u8, build(fields, decode));
        quote! { #index => Self::#variant #fields }
    });
    let checks = variants.iter().map(|(_, fields)| range_checks(fields));
    let quantised = variants
        .iter()
        .all(|(_, fields)| fields.is_empty())
        .then(|| enum_quantised(name, variants));
    quote! {
        #(#checks)*
        impl ::rekindle_sim::value::Value for #name {
            const MIN_SIZE: usize = 1;
            const CANONICALISES: bool = false #(|| #canonicalises)*;
            fn initial() -> Self {
                #first
            }
            fn shape() -> ::rekindle_sim::value::shape::Shape {
                ::rekindle_sim::value::shape::Shape::Enum(::std::vec![#(#shapes),*])
            }
            #[inline]
            fn encode(&self, out: &mut ::std::vec::Vec<u8>) {
                match self { #(#encode)* }
            }
            #[inline]
            fn decode(
                input: &mut ::rekindle_sim::value::Reader<'_>,
            ) -> ::core::result::Result<Self, ::rekindle_sim::value::DecodeError> {
                let [variant] = input.array::<1>()?;
                Ok(match variant {
                    #(#decode,)*
                    #[expect(unreachable_patterns, reason = "unless the enum has 256 variants")]
                    _ => return Err(::rekindle_sim::value::DecodeError::Invalid("an enum has no \
                        such variant")),
                })
            }
            #[inline]
            fn canonicalise(&mut self) {
                match self { #(#canonicalise)* }
            }
        }
        #quantised
    }
}

/// An enum without fields can be networked: its quantum is the variant's place.
fn enum_quantised(name: &Ident, variants: &[(Ident, Vec<Field>)]) -> TokenStream {
    let first = &variants[0].0;
    let bits = usize::BITS as u8 - ((variants.len() - 1).max(1)).leading_zeros() as u8;
    let to = variants.iter().enumerate().map(|(index, (variant, _))| {
        let index = index as u64;
        quote! { Self::#variant { .. } => #index }
    });
    let from = variants.iter().enumerate().map(|(index, (variant, _))| {
        let index = index as u32;
        quote! { #index => Self::#variant {} }
    });
    quote! {
        impl ::rekindle_sim::value::component::Quantised for #name {
            const MIN_BITS: u8 = #bits;
            fn to_quantum(&self, kind: ::rekindle_sim::net::FieldKind) -> u32 {
                kind.clamp_unsigned(match self { #(#to),* })
            }
            fn from_quantum(quantum: u32, _kind: ::rekindle_sim::net::FieldKind) -> Self {
                match quantum { #(#from,)* _ => Self::#first {} }
            }
        }
    }
}
