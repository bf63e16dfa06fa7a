//! Prediction: a client applies its own inputs at once and, when the server's word comes, repeats
//! those that it does not cover.

use std::collections::VecDeque;

/// Most inputs that are repeated; the oldest are given up beyond that.
const MAX_PENDING: usize = 128;

/// Predicts a state `S` from the server's last word and the inputs `I` that it does not cover yet.
///
/// How an input changes the state is the game's: pass the same function to all methods.
#[derive(Debug, Clone)]
pub struct Predictor<S, I> {
    confirmed: S,
    predicted: S,
    pending: VecDeque<(u64, I)>,
}

impl<S: Clone, I> Predictor<S, I> {
    /// Starts at a state that the server told.
    pub fn new(state: S) -> Self {
        Self { predicted: state.clone(), confirmed: state, pending: VecDeque::new() }
    }

    /// Predicts what input number `seq` does. Numbers must rise.
    pub fn push(&mut self, seq: u64, input: I, apply: impl FnOnce(&mut S, &I)) -> &S {
        apply(&mut self.predicted, &input);
        if self.pending.len() == MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back((seq, input));
        &self.predicted
    }

    /// The server's state after it applied input `seq` (0: none yet). Later inputs are repeated on
    /// it. Returns what was predicted before, so that the caller can blend the difference away
    /// instead of showing it at once.
    pub fn reconcile(&mut self, state: S, seq: u64, mut apply: impl FnMut(&mut S, &I)) -> S {
        while self.pending.front().is_some_and(|&(first, _)| first <= seq) {
            self.pending.pop_front();
        }
        self.confirmed = state.clone();
        let before = std::mem::replace(&mut self.predicted, state);
        for (_, input) in &self.pending {
            apply(&mut self.predicted, input);
        }
        before
    }

    /// Starts anew at `state`: a rewind, a respawn. Pending inputs are dropped.
    pub fn reset(&mut self, state: S) {
        *self = Self::new(state);
    }

    /// The server's last word.
    pub fn confirmed(&self) -> &S {
        &self.confirmed
    }

    /// The state with all inputs made.
    pub fn predicted(&self) -> &S {
        &self.predicted
    }

    /// How many inputs wait for the server's word.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }
}
