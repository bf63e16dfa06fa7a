//! Derive macros of the Rekindle world: `Value`, `Component`, `Resource`, `Event`, `Bundle`.
//!
//! Called by games through `rekindle_sim`, which documents each macro where it exports it.
//! `attributes` reads declarations and refuses wrong ones, `expand` writes the implementations of
//! the traits in `rekindle_sim`.

mod attributes;
mod bundle;
mod expand;
mod net;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

use crate::attributes::Role;

/// Makes a struct or enum a canonical value: a field of a component, an input, a command.
#[proc_macro_derive(Value, attributes(value))]
pub fn value(input: TokenStream) -> TokenStream {
    run(input, Role::Value)
}

/// Makes a type data of an entity: `#[component(id = "…")]` is required.
#[proc_macro_derive(Component, attributes(component, value, net))]
pub fn component(input: TokenStream) -> TokenStream {
    run(input, Role::Component)
}

/// Makes a type data that the world has once: `#[resource(id = "…")]` is required.
#[proc_macro_derive(Resource, attributes(resource, value, net))]
pub fn resource(input: TokenStream) -> TokenStream {
    run(input, Role::Resource)
}

/// Makes a type something that systems tell each other: `#[event(id = "…")]` is required.
#[proc_macro_derive(Event, attributes(event, value))]
pub fn event(input: TokenStream) -> TokenStream {
    run(input, Role::Event)
}

/// Makes a struct of components (or bundles) a bundle: they are put on an entity together.
#[proc_macro_derive(Bundle)]
pub fn derive_bundle(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    bundle::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

fn run(input: TokenStream, role: Role) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::expand(&input, role).unwrap_or_else(syn::Error::into_compile_error).into()
}
