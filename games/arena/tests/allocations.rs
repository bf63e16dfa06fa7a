//! What the world of a fight allocates in a tick, once it is warm: nothing in two ticks of three.
//! In the others what the game itself makes: each thing that players are told (its bytes, its name,
//! the list of a tick), and a list of targets while rockets fly or somebody comes back. The number
//! is that of `Simulation::step`: records, frames and checkpoints are made after it.

use rekindle_allocations::count;
use rekindle_arena::Arena;
use rekindle_arena::config::Config;
use rekindle_sim::{Harness, Simulation, Typed};

#[global_allocator]
static ALLOCATOR: rekindle_allocations::Counting = rekindle_allocations::Counting;

#[test]
fn most_ticks_of_a_fight_allocate_nothing() {
    let config =
        Config { movers: 84, endless: true, lobby_s: 0, countdown_s: 0, ..Config::default() };
    let config = serde_json::to_string(&config).unwrap();
    let fight = Harness::<Arena>::with_config(5, &config).bots(16).run(900);
    let game = Typed::<Arena>::new().unwrap();
    let mut running = game.create(config.as_bytes(), 5).unwrap();
    let mut found = std::collections::BTreeMap::<u64, u64>::new();
    let (mut told, mut sum) = (0, 0);
    for (tick, step) in fight.steps().iter().enumerate() {
        let (output, count) = count(|| running.step(step).unwrap());
        if tick >= 600 {
            *found.entry(count).or_default() += 1;
            sum += count;
            told += output.events.len() + output.effects.len();
        }
    }
    let nothing = found.get(&0).copied().unwrap_or(0);
    assert!(told > 20, "a fight of which nothing is told");
    assert!(nothing >= 150 && sum <= 750, "{sum} in 300 ticks, {told} told: {found:?}");
}
