//! Every game of this workspace is the same in every tick with one, two and eight threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rekindle_arena::Arena;
use rekindle_duel::Duel;
use rekindle_sim::{Game, Harness, Workers};
use rekindle_skirmish::Skirmish;
use rekindle_tictactoe::TicTacToe;
use rekindle_workers::{Pool, lend};
use template_arena::TemplateArena;
use template_strategy::TemplateStrategy;
use template_turns::TemplateTurns;

/// A pool for small worlds that counts how often it was asked.
struct Counted(Pool, AtomicUsize);

impl Workers for Counted {
    fn everywhere(&self, work: &(dyn Fn() + Sync)) {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.everywhere(work);
    }
    fn grain(&self) -> usize {
        self.0.grain()
    }
}

/// Plays a game with bots, once on one thread and once on 2 and 8. How often the threads were asked
/// for.
fn alike<G: Game>(config: &str, bots: usize, ticks: u64) -> usize {
    let played = |threads: usize| {
        let pool = Pool::new(threads).expect("threads start").with_grain(1);
        let counted = Arc::new(Counted(pool, AtomicUsize::new(0)));
        let harness = Harness::<G>::with_config(7, config).workers(Arc::clone(&counted) as _);
        let hashes = harness.bots(bots).run(ticks).hashes().to_vec();
        (hashes, counted.1.load(Ordering::Relaxed))
    };
    let alone = Harness::<G>::with_config(7, config).bots(bots).run(ticks);
    let (two, asked) = played(2);
    let (eight, asked_again) = played(8);
    assert_eq!(alone.hashes().len() as u64, ticks);
    for (tick, hash) in alone.hashes().iter().enumerate() {
        assert_eq!((two[tick], eight[tick]), (*hash, *hash), "{}, tick {}", G::NAME, tick + 1);
    }
    assert_eq!(asked, asked_again);
    asked
}

#[test]
fn all_games_are_the_same_with_any_number_of_threads() {
    assert!(alike::<TemplateStrategy>(r#"{"rematch": true}"#, 2, 400) >= 400, "units march");
    let battle = r#"{"sides": 4, "units": 400, "rematch": true}"#;
    assert!(alike::<Skirmish>(battle, 4, 300) >= 300, "units march and aim");
    alike::<Arena>(r#"{"endless": true}"#, 8, 300);
    alike::<Duel>("{}", 2, 200);
    alike::<TicTacToe>(r#"{"rematch": true}"#, 2, 200);
    alike::<TemplateArena>(r#"{"rematch": true}"#, 4, 300);
    alike::<TemplateTurns>(r#"{"rematch": true}"#, 2, 200);
}

#[test]
fn one_thread_is_no_help_and_more_are_kept() {
    assert!(lend(0).expect("none starts").is_none() && lend(1).expect("none starts").is_none());
    let workers = lend(3).expect("threads start").expect("a pool");
    for _ in 0..100 {
        let calls = AtomicUsize::new(0);
        workers.everywhere(&|| {
            calls.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    }
}
