//! `rekindle events`: what players were told, by type and by the names of its fields. It reads the
//! store, log and archive as one history, whether or not a node runs on it, and follows what comes
//! from all nodes.

use rekindle_admin::events::{EventNews, EventView};
use rekindle_schema::lease::MatchLease;
use rekindle_schema::{PlayerId, Tick};
use rekindle_store::Store;
use rekindle_store::history::End;
use rekindle_store_open::address::StoreAddress;

use super::args::EventsArgs;
use super::context::{Context, block_on};
use super::offline::{find, when};
use crate::exit::{Exit, Failure};
use crate::inspect::events::{self, EventsError, Follow, NoSuch, Span, Wanted};
use crate::inspect::reading::Reading;
use crate::inspect::tail::Which;
use crate::node::card::NodeCard;
use crate::output;
use crate::text::counted;

pub(super) fn run(context: &Context, args: &EventsArgs) -> Result<Exit, Failure> {
    let reading = if args.follow { in_use(context)? } else { context.reading()? };
    reading.named(block_on(async {
        let store = reading.store().await?;
        let (wanted, rows) = wanted(context, args, &store).await?;
        if args.follow {
            follow(context, args, store, wanted).await
        } else {
            stored(context, args, &reading, &store, (&wanted, rows)).await
        }
    }))
}

/// The store, if nodes may be at work on it.
fn in_use(context: &Context) -> Result<Reading, Failure> {
    context.says_that_no_node_is_asked();
    let address = &context.config.store;
    let (dir, own) = match address {
        StoreAddress::Local(dir) => (dir, &context.config.data_dir),
        _ => return Reading::of(address),
    };
    if NodeCard::running(dir).is_none() && NodeCard::running(own).is_none() {
        let message = format!(
            "RK-CLI-232: no node runs on {}: there is nothing to follow; without --follow what is \
             stored is printed",
            dir.display()
        );
        return Err(Failure::new(Exit::NoNode, message));
    }
    Ok(Reading::beside_nodes(address))
}

/// What is asked for, and the matches that have it now.
async fn wanted(
    context: &Context,
    args: &EventsArgs,
    store: &Store,
) -> Result<(Wanted, Vec<MatchLease>), Failure> {
    let (which, rows) = match (&args.prefix, &args.game) {
        (Some(prefix), _) => {
            let row = find(store, prefix).await?;
            (Which::One(row.match_id), vec![row])
        }
        (None, Some(game)) => (Which::Game(game.clone()), store.leases.matches().await?),
        (None, None) => (Which::All, store.leases.matches().await?),
    };
    let kinds = args.kind.iter().cloned().collect();
    let wanted = Wanted { which, kinds, player: args.player.map(PlayerId) };
    let game = args.prefix.as_ref().and_then(|_| rows.first()).map(|row| row.spec.game.as_str());
    wanted.check(&context.games, game).map_err(|error| {
        let exit = match error {
            NoSuch::Kind { .. } => Exit::Usage,
            NoSuch::Game { .. } => Exit::NotFound,
        };
        Failure::new(exit, error.to_string())
    })?;
    let rows = rows.into_iter().filter(|row| wanted.which.has(row.match_id, &row.spec.game));
    let rows = rows.collect();
    Ok((wanted, rows))
}

/// Prints what is stored, match by match.
async fn stored(
    context: &Context,
    args: &EventsArgs,
    reading: &Reading,
    store: &Store,
    (wanted, rows): (&Wanted, Vec<MatchLease>),
) -> Result<Exit, Failure> {
    let since = args.since.as_deref().map(when).transpose()?;
    let until = args.until.as_deref().map(when).transpose()?;
    let end = match (until, args.to) {
        (Some(ms), _) => End::Time(ms),
        (None, Some(tick)) => End::Tick(Tick(tick)),
        (None, None) => End::Newest,
    };
    let (from, to) = (Tick(args.from.unwrap_or(0)), Tick(args.to.unwrap_or(u64::MAX)));
    let several = rows.len() > 1;
    let searched = counted(rows.len(), "match", "matches");
    let mut found = false;
    let mut exit = Exit::Done;
    for row in rows {
        let span = Span { from, to, since, end };
        match events::read(store, &context.games, wanted, &row, span).await {
            Ok(told) => {
                told.notes.iter().for_each(|note| output::note(&reading.real(note)));
                found |= !told.events.is_empty();
                for event in told.events {
                    print(context, &event, several)?;
                }
            }
            // Of many matches one that cannot be read hides no other.
            Err(error) if several && !is_transient(&error) => {
                output::note(&reading.real(&format!("match {}: {error}", row.match_id)));
                exit = Exit::Broken;
            }
            Err(error) => return Err(failed(error)),
        }
    }
    if !found && exit == Exit::Done {
        output::note(&format!("no such event is recorded in {searched}"));
    }
    Ok(exit)
}

fn is_transient(error: &EventsError) -> bool {
    matches!(error, EventsError::Store(error) if error.is_transient())
}

fn failed(error: EventsError) -> Failure {
    match error {
        EventsError::Store(error) => error.into(),
        EventsError::History(error) => error.into(),
        EventsError::Record(error) => error.into(),
    }
}

fn print(context: &Context, event: &EventView, with_match: bool) -> Result<(), Failure> {
    context.answer(event, || {
        vec![if with_match { format!("{} {event}", event.match_id) } else { event.to_string() }]
    })
}

/// Prints what comes, until the one match is over or nobody reads any more.
async fn follow(
    context: &Context,
    args: &EventsArgs,
    store: Store,
    wanted: Wanted,
) -> Result<Exit, Failure> {
    let since = args.since.as_deref().map(when).transpose()?;
    let several = !matches!(wanted.which, Which::One(_));
    let mut follow = Follow::begin(store, context.games.clone(), wanted, since).await?;
    while let Some(news) = follow.next().await {
        match &news {
            EventNews::Event(event) => print(context, event, several)?,
            other => context.answer(other, || vec![other.to_string()])?,
        }
    }
    Ok(Exit::Done)
}
