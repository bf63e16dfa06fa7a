//! `rekindle why`: the fewest inputs that cause an event, by the names of their fields. It reads
//! the store or a bug report, and writes nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use rekindle_schema::Tick;
use rekindle_sim::GameType;
use rekindle_store::history::End;
use serde_json::json;

use super::args::WhyArgs;
use super::context::{Context, block_on};
use super::journal::{Payloads, lines_of_step};
use super::offline::{find, progress_bar};
use crate::exit::{Exit, Failure};
use crate::inspect::reading::Reading;
use crate::inspect::story::Story;
use crate::inspect::why::{self, EventId, Found, WhyError};
use crate::output;
use crate::text::counted;

/// How far back inputs are looked at, unless told otherwise, in seconds of a match.
const FAR_S: u64 = 300;

pub(super) fn run(context: &Context, args: &WhyArgs) -> Result<Exit, Failure> {
    let id = event_id(&args.event)?;
    let file = Path::new(&args.of);
    if file.extension().is_some_and(|extension| extension == "rkbug") {
        let (story, _) = Story::of_file(file)?;
        let game = context.games.get(&story.lease.spec.game)?;
        let found = search(context, args, &*game, &story, id).map_err(failed)?;
        return tell(context, &*game, &story, &found);
    }
    of_store(context, args, id)
}

/// Without `--from` it begins as late as it must: what another build played, and this one computes
/// otherwise, is taken as given.
fn of_store(context: &Context, args: &WhyArgs, id: EventId) -> Result<Exit, Failure> {
    let reading = Reading::of(&context.config.store)?;
    let mut story = reading.named(block_on(async {
        let store = reading.store().await?;
        let lease = find(&store, &args.of).await?;
        let far = id.tick.0.saturating_sub(FAR_S * u64::from(lease.spec.tick_rate));
        let from = Tick(args.from.unwrap_or(far).max(1));
        Ok(Story::of_store(&store, lease, from, End::Tick(id.tick)).await?)
    }))?;
    let game = context.games.get(&story.lease.spec.game)?;
    let mut passed = None;
    loop {
        story.notes.iter().for_each(|note| output::note(&reading.real(note)));
        let error = match search(context, args, &*game, &story, id) {
            Ok(found) => {
                if let Some(tick) = passed {
                    output::note(&format!(
                        "this build computes tick {tick} otherwise than it was played, so another \
                         build played it: the state after tick {}, from which on this build makes \
                         everything equal, is the earliest that is taken as given (--from TICK)",
                        story.first_tick().0 - 1
                    ));
                }
                return tell(context, &*game, &story, &found);
            }
            Err(error) => error,
        };
        let differs = error.differs_at(story.first_tick()).filter(|_| args.from.is_none());
        let Some(differs) = differs else { return Err(failed(error)) };
        let later = reading.named(block_on(async {
            let store = reading.store().await?;
            Ok(Story::behind(&store, &story.lease, differs, id.tick).await?)
        }))?;
        let Some(later) = later else { return Err(failed(error)) };
        story = later;
        passed = Some(differs);
    }
}

fn event_id(text: &str) -> Result<EventId, Failure> {
    let read = || {
        let (tick, ordinal) = text.split_once('.')?;
        Some(EventId { tick: Tick(tick.parse().ok()?), ordinal: ordinal.parse().ok()? })
    };
    read().filter(|id| id.tick > Tick(0)).ok_or_else(|| {
        let message = format!(
            "RK-CLI-268: `{text}` is no id of an event: write TICK.ORDINAL, such as 1234.0, as \
             `rekindle events` prints it"
        );
        Failure::new(Exit::Usage, message)
    })
}

fn search(
    context: &Context,
    args: &WhyArgs,
    game: &dyn GameType,
    story: &Story,
    id: EventId,
) -> Result<Found, WhyError> {
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let bar = progress_bar(context.common.json);
    bar.set_message("inputs left out");
    let mut all = 0;
    let goes_on = |inputs: usize| {
        all = inputs.max(all);
        bar.set_length(all as u64);
        bar.set_position((all - inputs) as u64);
        Instant::now() < until
    };
    let found = why::find(game, story, id, args.from.map(Tick), goes_on);
    bar.finish_and_clear();
    found
}

fn failed(error: WhyError) -> Failure {
    let exit = match error {
        WhyError::NoEvent { .. } | WhyError::NoTick { .. } => Exit::NotFound,
        WhyError::Differs { .. } => Exit::OtherBuild,
        WhyError::Resim(_) | WhyError::Sim(_) => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

fn tell(
    context: &Context,
    game: &dyn GameType,
    story: &Story,
    found: &Found,
) -> Result<Exit, Failure> {
    let Found { event, given, of, steps, causes, complete, tries } = found;
    let payloads = Payloads::of(context, game.name());
    let lines: Vec<_> = steps.iter().flat_map(|step| lines_of_step(&payloads, step)).collect();
    // What sinks acknowledged is given, and no input.
    let lines: Vec<_> =
        lines.into_iter().filter(|(_, value, _)| value["kind"] != "effect_done").collect();
    let fields = game.payloads().event(&event.kind, &event.payload).ok();
    let value = json!({
        "match": story.lease.match_id.to_string(), "tick": event.tick, "ordinal": event.ordinal,
        "event": event.kind, "player": event.player, "fields": fields, "given": given, "of": of,
        "complete": complete, "simulations": tries,
        "causes": lines.iter().map(|(_, value, _)| value).collect::<Vec<_>>(),
    });
    context.answer(&value, || {
        let fields = fields.as_ref().map_or_else(String::new, |fields| format!(" {fields}"));
        let since = format!("of {of} inputs since tick {}", given.next());
        let mut words =
            vec![format!("event {}.{} {}{fields}", event.tick, event.ordinal, event.kind)];
        words.push(match causes {
            0 => format!("no input causes it: it comes of the state after tick {given} by itself"),
            1 if *complete => format!("{since}, 1 causes it; it cannot be left out:"),
            _ if *complete => format!("{since}, {causes} cause it; none of them can be left out:"),
            _ => format!(
                "{since}, {causes} are left, and time is up: perhaps fewer cause it (--seconds N):"
            ),
        });
        words.extend(lines.iter().map(|(tick, _, human)| format!("{tick:>8} {human}")));
        words.push(format!(
            "simulated {}; the state after tick {given} is taken as given (--from TICK)",
            counted(*tries, "time", "times")
        ));
        words
    })?;
    Ok(Exit::Done)
}
