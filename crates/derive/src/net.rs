//! The networked part of a component: which columns of a snapshot its fields have, and how they are
//! written and read.
//!
//! Most fields have one column. A whole number of more than 32 bits has two, `name` with its low
//! half and `name.high`; a list has `name.len` and one for each element, `name.0` and so on. So a
//! snapshot is made of columns of up to 32 bits, whatever the fields are.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

use crate::attributes::{Net, NetKind, SeenBy};
use crate::expand::Field;

/// A field and its first column.
struct Placed<'f> {
    field: &'f Field,
    net: &'f Net,
    first: usize,
}

/// The columns that a field has.
fn columns(net: &Net) -> usize {
    match (net.list, &net.kind) {
        (Some(most), _) => 1 + usize::from(most),
        (None, NetKind::Wide { .. }) => 2,
        (None, _) => 1,
    }
}

fn placed(fields: &[Field]) -> Vec<Placed<'_>> {
    let mut next = 0;
    let mut all = Vec::new();
    for field in fields {
        let Some(net) = &field.attributes.net else { continue };
        all.push(Placed { field, net, first: next });
        next += columns(net);
    }
    all
}

/// Wrong ranges and widths are compile errors, at their place.
pub(crate) fn checks(fields: &[Field]) -> TokenStream {
    // Of the expansion, so that lints about constant comparisons leave it alone.
    let at = |bound: Span| Span::call_site().located_at(bound);
    let checks = fields.iter().filter_map(|field| {
        let net = field.attributes.net.as_ref()?;
        let (name, ty) = (&field.name, &field.ty);
        match &net.kind {
            NetKind::Float { bounds, .. } => {
                let (min, max) = &**bounds;
                let message = format!("field `{name}`: `min` must be less than `max`, both finite");
                Some(quote_spanned! { at(min.span()) =>
                    const _: () = {
                        const MIN: f32 = #min;
                        const MAX: f32 = #max;
                        assert!(MIN < MAX && MAX - MIN < f32::INFINITY, #message);
                    };
                })
            }
            NetKind::Unsigned { bits } => {
                let message =
                    format!("field `{name}`: `bits` is too small for the variants of its type");
                let of = quote! { ::rekindle_sim::value::component };
                let least = if net.list.is_some() {
                    quote! { <<#ty as #of::Listed>::Element as #of::Quantised>::MIN_BITS }
                } else {
                    quote! { <#ty as #of::Quantised>::MIN_BITS }
                };
                Some(quote_spanned! { at(net.span) =>
                    const _: () = assert!(#bits >= #least, #message);
                })
            }
            NetKind::Angle { .. } | NetKind::Wide { .. } | NetKind::Bool => None,
        }
    });
    quote! { #(#checks)* }
}

/// One column as it is declared.
fn definition(name: &str, kind: &TokenStream, net: &Net) -> TokenStream {
    let rate = net.rate.as_ref().map_or_else(|| quote! { None }, |rate| quote! { Some(#rate) });
    let seen_by = match net.seen_by {
        SeenBy::Everyone => quote! { Everyone },
        SeenBy::Team => quote! { Team },
        SeenBy::Owner => quote! { Owner },
    };
    quote_spanned! { net.span =>
        ::rekindle_sim::value::component::NetFieldDef {
            name: #name,
            kind: #kind,
            rate: #rate,
            seen_by: ::rekindle_sim::SeenBy::#seen_by,
        }
    }
}

/// The columns of a field as they are declared.
fn definitions(Placed { field, net, .. }: &Placed<'_>) -> Vec<TokenStream> {
    let of = quote! { ::rekindle_sim::net::FieldKind };
    let name = &field.name;
    let kind = match &net.kind {
        NetKind::Float { bounds, bits } => {
            let (min, max) = &**bounds;
            quote! { #of::Float { min: #min, max: #max, bits: #bits } }
        }
        NetKind::Angle { bits } => quote! { #of::Angle { bits: #bits } },
        NetKind::Unsigned { bits } => quote! { #of::Unsigned { bits: #bits } },
        NetKind::Bool => quote! { #of::Bool },
        NetKind::Wide { bits } => {
            let high = bits - 32;
            return vec![
                definition(name, &quote! { #of::Unsigned { bits: 32 } }, net),
                definition(&format!("{name}.high"), &quote! { #of::Unsigned { bits: #high } }, net),
            ];
        }
    };
    let Some(most) = net.list else { return vec![definition(name, &kind, net)] };
    let bits = (8 - most.leading_zeros()) as u8;
    let len = definition(&format!("{name}.len"), &quote! { #of::Unsigned { bits: #bits } }, net);
    let elements = (0..most).map(|at| definition(&format!("{name}.{at}"), &kind, net));
    std::iter::once(len).chain(elements).collect()
}

/// Writes the columns of a field into `quanta`.
fn write(Placed { field, net, first }: &Placed<'_>) -> TokenStream {
    let (member, ty) = (&field.member, &field.ty);
    let of = quote! { ::rekindle_sim::value::component };
    let (second, end) = (first + 1, first + columns(net));
    match (net.list, &net.kind) {
        (Some(_), _) => quote_spanned! { ty.span() =>
            #of::list_to_quanta(
                &self.#member,
                Self::NET[#second].kind,
                &mut quanta[#first..#end],
            );
        },
        (None, NetKind::Wide { .. }) => quote_spanned! { ty.span() =>
            let [low, high] = #of::wide_to_quanta(&self.#member, Self::NET[#second].kind);
            quanta[#first] = low;
            quanta[#second] = high;
        },
        (None, _) => quote_spanned! { ty.span() =>
            quanta[#first] = <#ty as #of::Quantised>::to_quantum(
                &self.#member,
                Self::NET[#first].kind,
            );
        },
    }
}

/// Reads a field from its columns in `quanta`.
fn read(Placed { field, net, first }: &Placed<'_>) -> TokenStream {
    let (member, ty) = (&field.member, &field.ty);
    let of = quote! { ::rekindle_sim::value::component };
    let (second, end) = (first + 1, first + columns(net));
    let value = match (net.list, &net.kind) {
        (Some(_), _) => quote! {
            #of::list_from_quanta(Self::NET[#second].kind, &quanta[#first..#end])
        },
        (None, NetKind::Wide { .. }) => quote! {
            <#ty as #of::Wide>::from_wide(
                u64::from(quanta[#first]) | u64::from(quanta[#second]) << 32,
            )
        },
        (None, _) => quote! {
            <#ty as #of::Quantised>::from_quantum(quanta[#first], Self::NET[#first].kind)
        },
    };
    quote! { value.#member = #value; }
}

/// What the trait `Component` asks for about snapshots.
pub(crate) fn implementation(fields: &[Field]) -> TokenStream {
    let placed = placed(fields);
    let count: usize = placed.iter().map(|placed| columns(placed.net)).sum();
    let definitions = placed.iter().flat_map(definitions);
    let (to, from) = (placed.iter().map(write), placed.iter().map(read));
    let from = if placed.is_empty() {
        quote! { <Self as ::rekindle_sim::value::Value>::initial() }
    } else {
        quote! {
            let mut value = <Self as ::rekindle_sim::value::Value>::initial();
            if let Some(quanta) = quanta.first_chunk::<#count>() {
                #(#from)*
            }
            value
        }
    };
    quote! {
        const NET: &'static [::rekindle_sim::value::component::NetFieldDef] = &[#(#definitions),*];
        #[inline]
        fn to_quanta(&self, quanta: &mut [u32]) {
            if let Some(quanta) = quanta.first_chunk_mut::<#count>() {
                let _ = &quanta;
                #(#to)*
            }
        }
        fn from_quanta(quanta: &[u32]) -> Self {
            let _ = quanta;
            #from
        }
    }
}
