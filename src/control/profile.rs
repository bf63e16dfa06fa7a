//! What a match's ticks take, in the types of the HTTP interface. Pure.

use std::time::Duration;

use rekindle_actors::{Figures, PartProfile, StageProfile};
use rekindle_admin::profile::{PartView, ProfileView, StageView, TimesView};

use crate::node::matches::Profiled;

fn us(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

fn times(figures: &Figures) -> TimesView {
    TimesView {
        runs: figures.count,
        p50_us: us(figures.p50_ns),
        p99_us: us(figures.p99_ns),
        max_us: us(figures.max_ns),
    }
}

fn part(part: PartProfile) -> PartView {
    PartView {
        times: times(&part.figures),
        name: part.name,
        system: part.system,
        share: part.share,
        budget_us: part.budget.map(|budget| us(budget.as_nanos() as u64)),
        over_budget: part.over,
    }
}

fn stage(stage: StageProfile) -> StageView {
    StageView {
        times: times(&stage.figures),
        name: stage.name,
        share: stage.share,
        parts: stage.parts.into_iter().map(part).collect(),
    }
}

/// What a profile says.
pub(super) fn of(profiled: Profiled, span: Duration) -> ProfileView {
    let Profiled { match_id, game, tick_rate, profile } = profiled;
    ProfileView {
        id: match_id.to_string(),
        game,
        tick_rate,
        seconds: span.as_secs(),
        load: profile.tick.total_ns as f64 / span.as_nanos().max(1) as f64,
        tick: times(&profile.tick),
        stages: profile.stages.into_iter().map(stage).collect(),
    }
}
