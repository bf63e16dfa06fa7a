//! What must hold in every state, judged by what a reader of the store would find.

use rekindle_store::history::in_lineage;

use super::state::{Content, Id, Record, Rule, Run, Standing, State};

/// The history of a match as whoever takes it over reads it: from its newest checkpoint, then along
/// its lineage, each log up to its seal.
pub(crate) fn recover(state: &State, of: Id, heed_seals: bool) -> Result<Content, Rule> {
    let row = &state.rows[usize::from(of)];
    let checkpoints = &state.checkpoints[usize::from(of)];
    let usable = checkpoints.iter().rev().find(|found| in_lineage(&row.lease(of), &found.meta(of)));
    let mut content = usable.map(|found| found.content.clone()).unwrap_or_default();
    let covered = content.len();
    for (index, stretch) in row.lineage.iter().enumerate() {
        if usable.is_some_and(|found| stretch.epoch < found.epoch) {
            continue;
        }
        let limit = row.lineage.get(index + 1).map_or(u8::MAX, |next| next.first_seq);
        let log = &state.logs[usize::from(stretch.log)];
        let seal = state.leases[usize::from(stretch.log)].seal.filter(|_| heed_seals);
        for (number, batch) in (log.trimmed + 1..).zip(&log.batches) {
            if number < stretch.first_batch || seal.is_some_and(|seal| number > seal) {
                continue;
            }
            for frame in &batch.frames {
                if (frame.of, frame.epoch) != (of, stretch.epoch) || frame.seq >= limit {
                    continue;
                }
                let seq = usize::from(frame.seq);
                if seq <= covered {
                    continue;
                }
                match seq.cmp(&(content.len() + 1)) {
                    std::cmp::Ordering::Less => return Err(Rule::Once),
                    std::cmp::Ordering::Greater => return Err(Rule::NoGap),
                    std::cmp::Ordering::Equal => {
                        content.push(Record { epoch: frame.epoch, by: stretch.log });
                    }
                }
            }
        }
        if limit != u8::MAX && content.len() + 1 < usize::from(limit) {
            return Err(Rule::NoGap);
        }
    }
    Ok(content)
}

/// A run has acknowledged its history up to this record: it is compared with what was acknowledged
/// before.
pub(crate) fn acknowledge(state: &mut State, of: Id, run: &Run, seq: u8) {
    let now = &run.content[..usize::from(seq)];
    let shown = &mut state.shown[usize::from(of)];
    if shown.iter().zip(now).any(|(before, now)| before != now) {
        state.broken = Some(Rule::OneOwner);
    } else if now.len() > shown.len() {
        *shown = now.to_vec();
    }
}

/// What is wrong with a state.
pub(crate) fn judge(state: &State, matches: usize) -> Option<Rule> {
    for of in 0..matches {
        let row = &state.rows[of];
        if !row.lineage.is_sorted_by(|one, next| one.epoch < next.epoch) {
            return Some(Rule::EpochsGrow);
        }
        match recover(state, of as Id, true) {
            Err(rule) => return Some(rule),
            Ok(found) if !found.starts_with(&state.shown[of]) => return Some(Rule::NothingUndone),
            Ok(_) => {}
        }
    }
    None
}

/// A live node runs every match that the directory gives to it, and every match is given to a live
/// node.
pub(crate) fn is_served(state: &State, matches: usize) -> bool {
    (0..matches).all(|of| {
        let owner = usize::from(state.rows[of].owner);
        let node = &state.nodes[owner];
        node.up
            && state.leases[owner].standing == Standing::Live
            && node.runs[of].as_ref().is_some_and(|run| {
                run.moving.is_none()
                    && run.epoch == state.rows[of].epoch
                    && run.content.starts_with(&state.shown[of])
            })
    })
}
