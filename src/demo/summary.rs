//! What a demo says at its end, for people and for scripts. Made by `judge`, printed by `perform`.

use rekindle_store_open::address::StoreAddress;

use super::outage;
use super::verdict::Verdict;

/// The figures besides the verdict.
pub(super) struct Summary {
    /// SIGKILLs.
    pub(super) kills: usize,
    /// How many of them hit what they were aimed at.
    pub(super) hits: usize,
    /// Matches in the store.
    pub(super) matches: usize,
    /// Bots.
    pub(super) players: usize,
    /// What decided when.
    pub(super) seed: u64,
    /// How long the bots played.
    pub(super) seconds: f64,
    /// From a kill to the next tick at a client: half are faster.
    pub(super) p50_ms: f64,
    /// As above, the slowest.
    pub(super) max_ms: f64,
    /// Of several nodes: what each thing that was done to them cost.
    pub(super) costs: Option<outage::Costs>,
}

impl Summary {
    /// One object, with the verdict.
    pub(super) fn json(&self, verdict: &Verdict, kept: Option<&StoreAddress>) -> serde_json::Value {
        let mut all = serde_json::json!({
            "kills": self.kills,
            "kills_aimed": self.hits,
            "matches": self.matches,
            "players": self.players,
            "inputs_durable": verdict.inputs_durable,
            "durable_inputs_lost": verdict.lost,
            "duplicate_inputs": verdict.duplicates,
            "commands_answered": verdict.commands_answered,
            "answered_commands_lost": verdict.commands_lost,
            "duplicate_commands": verdict.commands_twice,
            "beats_checked": verdict.beats_checked,
            "beats_distinct": verdict.beats_distinct,
            "hash_mismatches": verdict.mismatches,
            "matches_ended": verdict.ends_checked,
            "sessions_resumed": verdict.sessions_resumed,
            "joins_after_kill": verdict.joins_after_kill,
            "ticks_rolled_back_max": verdict.rolled_back_max,
            "results": verdict.results,
            "results_wrong": verdict.results_wrong,
            "kill_to_tick_ms_p50": self.p50_ms,
            "kill_to_tick_ms_max": self.max_ms,
            "seed": self.seed,
            "seconds": (self.seconds * 10.0).round() / 10.0,
            "holds": verdict.holds(),
            "faults": verdict.faults,
            "store": kept.map(ToString::to_string),
        });
        if let (Some(costs), Some(all)) = (&self.costs, all.as_object_mut()) {
            all.extend(costs.json(verdict.rolled_back_max));
        }
        all
    }

    /// Lines for people.
    pub(super) fn words(&self, verdict: &Verdict, kept: Option<&StoreAddress>) -> Vec<String> {
        let mut lines = self.costs.as_ref().map_or_else(Vec::new, outage::Costs::words);
        lines.extend([
            String::new(),
            format!(
                "{} SIGKILLs ({} of them hit a recovery or a checkpoint), {} matches, {} players, \
                 {:.0} s",
                self.kills, self.hits, self.matches, self.players, self.seconds
            ),
        ]);
        if verdict.inputs_durable > 0 || verdict.commands_answered == 0 {
            lines.extend([
                format!("durable inputs seen on the wire   {:>8}", verdict.inputs_durable),
                format!("  of them lost                    {:>8}", verdict.lost),
                format!("  inputs applied twice            {:>8}", verdict.duplicates),
            ]);
        }
        if verdict.commands_answered > 0 {
            lines.extend([
                format!("commands answered on the wire     {:>8}", verdict.commands_answered),
                format!("  of them lost                    {:>8}", verdict.commands_lost),
                format!("  commands applied twice          {:>8}", verdict.commands_twice),
            ]);
        }
        lines.extend([
            format!("state hashes compared             {:>8}", verdict.beats_checked),
            format!("  of them different               {:>8}", verdict.mismatches),
            format!("matches that ended                {:>8}", verdict.ends_checked),
            format!(
                "sessions that went on             {:>8} of {}",
                verdict.sessions_resumed, self.players
            ),
            format!("ticks rolled back, at most        {:>8}", verdict.rolled_back_max),
            format!("results of finished rounds        {:>8}", verdict.results),
            format!("  of them missing or invented     {:>8}", verdict.results_wrong),
            format!(
                "kill to next tick at a client     {:>8.0} ms p50, {:.0} ms max",
                self.p50_ms, self.max_ms
            ),
            String::new(),
        ]);
        lines.extend(verdict.faults.iter().map(|fault| format!("BROKEN: {fault}")));
        lines.push(if verdict.holds() {
            "every promise held".to_owned()
        } else {
            "a promise was broken".to_owned()
        });
        match kept {
            Some(StoreAddress::Local(dir)) => {
                lines.push(format!("the journal is kept: `rekindle verify {}`", dir.display()));
            }
            Some(store) => lines
                .push(format!("the journal is kept: `rekindle store verify --store '{store}'`")),
            None => {}
        }
        lines
    }
}
