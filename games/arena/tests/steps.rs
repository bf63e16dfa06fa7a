//! Recorded steps of fighters, for clients in other languages that predict their own: each line of
//! `schema/golden/arena-steps.json` is a map, a start, inputs, and place and velocity after each,
//! as the bits of the `f32`. `clients/typescript` computes the same.
//!
//! `REKINDLE_GOLDEN=new` writes the file if it is missing; one that is there is never changed.

use std::path::PathBuf;

use rekindle_arena::geometry::{Vec2, vec2};
use rekindle_arena::input::Input;
use rekindle_arena::map::{Map, NAMES, Spawns};
use rekindle_arena::movement::{
    FIGHTER_ACCELERATION, FIGHTER_RADIUS, FIGHTER_SPEED, accelerate, advance,
};

/// `SplitMix64`, by its state.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn part(&mut self) -> i8 {
        [-127, -90, 0, 64, 127][self.below(5) as usize]
    }
}

fn bits(v: Vec2) -> String {
    format!("{},{}", v.x.to_bits(), v.y.to_bits())
}

fn walk(rng: &mut Rng, name: &str, (width, height): (f32, f32)) -> String {
    let map = Map::named(name, width, height).unwrap();
    let spawns = Spawns::of(&map).points;
    let mut at = spawns[rng.below(spawns.len() as u64) as usize];
    // A push of a burst, now and then.
    let mut velocity = vec2(rng.below(9) as f32 - 4.0, rng.below(9) as f32 - 4.0);
    let start = format!("[{},{}]", bits(at), bits(velocity));
    let mut steps = Vec::new();
    for _ in 0..6 {
        let (right, up) = (rng.part(), rng.part());
        let wanted = Input { right, up, aim: 0, fire: false }.direction() * FIGHTER_SPEED;
        for _ in 0..8 {
            let speed = accelerate(velocity, wanted, FIGHTER_ACCELERATION);
            (at, velocity) = advance(&map, at, speed, FIGHTER_RADIUS);
            steps.push(format!("[{right},{up},{},{}]", bits(at), bits(velocity)));
        }
    }
    format!(
        "{{\"map\":\"{name}\",\"width\":{width},\"height\":{height},\"start\":{start},\
         \"steps\":[{}]}}",
        steps.join(",")
    )
}

#[test]
fn fighters_move_as_recorded() {
    let mut rng = Rng(2026);
    let sizes = [(48.0, 32.0), (24.0, 24.0), (101.5, 77.25)];
    let lines: Vec<String> = (0..24)
        .map(|index| walk(&mut rng, NAMES[index % NAMES.len()], sizes[index / NAMES.len() % 3]))
        .collect();
    let made = format!("[\n{}\n]\n", lines.join(",\n"));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = path.join("../../schema/golden/arena-steps.json");
    if !path.exists() && std::env::var("REKINDLE_GOLDEN").is_ok_and(|value| value == "new") {
        std::fs::write(&path, &made).unwrap();
    }
    let golden = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(made, golden);
}
