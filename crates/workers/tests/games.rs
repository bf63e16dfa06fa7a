//! Every game of this workspace is the same in every tick with one, two and eight threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rekindle_arena::Arena;
use rekindle_duel::Duel;
use rekindle_royale::Royale;
use rekindle_sim::{Game, Harness, Workers};
use rekindle_skirmish::Skirmish;
use rekindle_tictactoe::TicTacToe;
use rekindle_workers::{Pool, lend};
use template_arena::TemplateArena;
use template_strategy::TemplateStrategy;
use template_turns::TemplateTurns;

/// A pool for small worlds that counts how often it was asked.
struct Counted {
    pool: Pool,
    asked: AtomicUsize,
    /// All systems that can run side by side do so.
    beside: bool,
}

impl Workers for Counted {
    fn everywhere(&self, work: &(dyn Fn() + Sync)) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.pool.everywhere(work);
    }
    fn grain(&self) -> usize {
        self.pool.grain()
    }
    fn all_side_by_side(&self) -> bool {
        self.beside
    }
}

/// How often threads were asked for by a game.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Asked {
    /// By its queries.
    queries: usize,
    /// By those, and by all systems that can run side by side.
    beside: usize,
}

/// Plays a game with bots on one thread, on 2 and on 8, as it says and with all systems side by
/// side that can be.
fn alike<G: Game>(config: &str, bots: usize, ticks: u64) -> Asked {
    let played = |threads: usize, beside: bool| {
        let pool = Pool::new(threads).expect("threads start").with_grain(1);
        let counted = Arc::new(Counted { pool, asked: AtomicUsize::new(0), beside });
        let harness = Harness::<G>::with_config(7, config).workers(Arc::clone(&counted) as _);
        let hashes = harness.bots(bots).run(ticks).hashes().to_vec();
        (hashes, counted.asked.load(Ordering::Relaxed))
    };
    let alone = Harness::<G>::with_config(7, config).bots(bots).run(ticks);
    assert_eq!(alone.hashes().len() as u64, ticks);
    let [queries, beside] = [false, true].map(|beside| {
        let (two, asked) = played(2, beside);
        let (eight, asked_again) = played(8, beside);
        for (tick, hash) in alone.hashes().iter().enumerate() {
            let tick_of = format!("{}, side by side: {beside}, tick {}", G::NAME, tick + 1);
            assert_eq!((two[tick], eight[tick]), (*hash, *hash), "{tick_of}");
        }
        assert_eq!(asked, asked_again, "{}", G::NAME);
        asked
    });
    Asked { queries, beside }
}

#[test]
fn all_games_are_the_same_with_any_number_of_threads() {
    let strategy = alike::<TemplateStrategy>(r#"{"rematch": true}"#, 2, 400);
    assert!(strategy.queries >= 400, "units march: {strategy:?}");
    let battle = r#"{"sides": 4, "units": 400, "rematch": true}"#;
    let skirmish = alike::<Skirmish>(battle, 4, 300);
    assert!(skirmish.queries >= 300, "units march and aim: {skirmish:?}");
    let others = [
        alike::<Arena>(r#"{"endless": true}"#, 8, 300),
        alike::<Duel>("{}", 2, 200),
        alike::<Royale>(r#"{"gather_s": 1, "rematch": true}"#, 8, 600),
        alike::<TicTacToe>(r#"{"rematch": true}"#, 2, 200),
        alike::<TemplateArena>(r#"{"rematch": true}"#, 4, 300),
        alike::<TemplateTurns>(r#"{"rematch": true}"#, 2, 200),
    ];
    println!("asked: {strategy:?} {skirmish:?} {others:?}");
    assert!(others.iter().all(|asked| asked.queries == 0), "{others:?}");
    let beside: usize = others.iter().map(|asked| asked.beside).sum();
    assert!(beside > 300, "systems run side by side: {others:?}");
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
