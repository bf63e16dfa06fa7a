//! Writes the implementation of `Bundle`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Index, Member, Result};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let name = &input.ident;
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(name.span(), "a bundle is a struct of components and bundles"));
    };
    let parts = data.fields.iter().enumerate().map(|(index, field)| {
        let place = Member::Unnamed(Index::from(index));
        let member = field.ident.clone().map_or(place, Member::Named);
        quote_spanned! { field.ty.span() =>
            ::rekindle_sim::Bundle::insert(self.#member, world, entity);
        }
    });
    let (generics, arguments, conditions) = input.generics.split_for_impl();
    Ok(quote! {
        impl #generics ::rekindle_sim::Bundle for #name #arguments #conditions {
            fn insert(
                self,
                world: &mut ::rekindle_sim::World,
                entity: ::rekindle_sim::Entity,
            ) {
                let _ = (&world, entity);
                #(#parts)*
            }
        }
    })
}
