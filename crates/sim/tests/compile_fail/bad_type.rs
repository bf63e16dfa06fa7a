use rekindle_sim::Value;

use std::collections::HashMap;

#[derive(Clone, Value)]
struct Generic<T> {
    value: T,
}

#[derive(Clone, Value)]
struct Hashed {
    map: HashMap<u8, u8>,
}

fn main() {}
