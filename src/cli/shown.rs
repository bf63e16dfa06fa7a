//! What `rekindle replay` shows of the world that it comes to: in short, or with every value. Used
//! by `offline.rs`.

use std::collections::BTreeMap;

use rekindle_admin::values::{ValidationStands, ValueStands};
use rekindle_schema::{PlayerId, Tick};
use rekindle_sim::Simulation;
use serde_json::Value as Json;

use crate::control::NamedViews;
use crate::inspect::resim::Moment;
use crate::text::counted;

/// Most players that are named.
const NAMED: usize = 16;

/// A world at a tick, as it is shown.
pub(super) struct Shown {
    /// The tick.
    pub(super) tick: Tick,
    /// Of the canonical bytes.
    pub(super) hash: String,
    /// Every value: see [`Simulation::describe`].
    pub(super) state: Json,
    /// What the game declares under names.
    pub(super) values: Vec<ValueStands>,
    /// What must hold, and whether it does.
    pub(super) validations: Vec<ValidationStands>,
    players: Vec<PlayerId>,
    /// How many events of each type came behind the tick at which the replay began, and that tick.
    events: (BTreeMap<String, usize>, Tick),
}

impl Shown {
    fn of(sim: &dyn Simulation, events: (BTreeMap<String, usize>, Tick)) -> Self {
        let players = sim.sessions().iter().map(|session| session.player).collect();
        let (tick, hash, state) = (sim.tick(), sim.state_hash().to_string(), sim.describe());
        let (values, validations) = NamedViews::of(sim).stand();
        Self { tick, hash, state, values, validations, players, events }
    }

    /// The world in a few lines: players, entities by component, resources, events.
    pub(super) fn summary(&self) -> Vec<String> {
        let entities = self.state["entities"].as_array().map_or(&[][..], Vec::as_slice);
        let mut components: BTreeMap<&str, usize> = BTreeMap::new();
        for entity in entities {
            for (name, _) in entity["components"].as_object().into_iter().flatten() {
                *components.entry(name).or_default() += 1;
            }
        }
        let resources = self.state["resources"].as_object();
        let resources: Vec<&str> = resources.into_iter().flatten().map(|(id, _)| &id[..]).collect();
        let mut lines = vec![
            format!("players    {}", self.named()),
            format!("entities   {}{}", entities.len(), by_name(&components)),
        ];
        if !resources.is_empty() {
            lines.push(format!("resources  {}", resources.join(", ")));
        }
        let (events, begun) = &self.events;
        let events: BTreeMap<&str, usize> =
            events.iter().map(|(kind, count)| (&kind[..], *count)).collect();
        let all: usize = events.values().sum();
        lines.push(format!("events     {all} since tick {begun}{}", by_name(&events)));
        lines
    }

    /// How many players, and their numbers.
    fn named(&self) -> String {
        let named: Vec<String> = self.players.iter().take(NAMED).map(ToString::to_string).collect();
        let more = self.players.len() - named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        match self.players.len() {
            0 => "none".to_owned(),
            count => format!("{count}: {}{more}", named.join(", ")),
        }
    }
}

/// `: Body 12, Shot 3`, ascending by name; nothing if there is none.
fn by_name(counts: &BTreeMap<&str, usize>) -> String {
    let each: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    if each.is_empty() { String::new() } else { format!(": {}", each.join(", ")) }
}

/// What a replay has come to on the way to its goal.
pub(super) struct Way {
    goal: Tick,
    events: (BTreeMap<String, usize>, Tick),
    /// The world at the goal, once it is there.
    pub(super) reached: Option<Shown>,
}

impl Way {
    /// Begins at this world.
    pub(super) fn begin(sim: &dyn Simulation, goal: Tick) -> Self {
        let none = || (BTreeMap::new(), sim.tick());
        let reached = (sim.tick() == goal).then(|| Shown::of(sim, none()));
        Self { goal, events: none(), reached }
    }

    /// A tick was made again. Whether the goal is still ahead.
    pub(super) fn sees(&mut self, moment: &Moment<'_>) -> bool {
        let tick = moment.sim.tick();
        if tick <= self.goal {
            for event in &moment.output.events {
                *self.events.0.entry(event.kind.clone()).or_default() += 1;
            }
        }
        if tick == self.goal {
            self.reached = Some(Shown::of(moment.sim, self.events.clone()));
        }
        tick < self.goal
    }
}

/// What is printed below a summary.
pub(super) fn hint(state: &Json) -> String {
    let bytes = state.to_string().len();
    format!("--state prints every value ({} of JSON)", counted(bytes, "byte", "bytes"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_world_is_shown_in_a_few_lines() {
        let entity = |components: Json| json!({"slot": 1, "components": components});
        let mut shown = Shown {
            tick: Tick(9),
            hash: "ab".to_owned(),
            state: json!({
                "resources": {"Score": {"total": 3}, "Rules": {}},
                "entities": [
                    entity(json!({"Body": {}, "Name": {}})), entity(json!({"Body": {}})),
                ],
            }),
            values: Vec::new(),
            validations: Vec::new(),
            players: (1..=18).map(PlayerId).collect(),
            events: (BTreeMap::from([("kill".to_owned(), 2), ("hit".to_owned(), 5)]), Tick(3)),
        };
        let lines = shown.summary();
        assert!(lines[0].starts_with("players    18: 1, 2, ") && lines[0].ends_with("and 2 more"));
        assert_eq!(
            lines[1..],
            [
                "entities   2: Body 2, Name 1",
                "resources  Rules, Score",
                "events     7 since tick 3: hit 5, kill 2",
            ]
        );
        (shown.players, shown.state) = (Vec::new(), json!({}));
        shown.events.0.clear();
        assert_eq!(
            shown.summary(),
            ["players    none", "entities   0", "events     0 since tick 3"]
        );
    }
}
