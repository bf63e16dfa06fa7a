//! House bots: players that the node itself plays, through the same door as everybody. One task per
//! match.

use std::sync::Arc;
use std::time::Duration;

use rekindle_actors::MatchHandle;
use rekindle_door::{Admission, MatchDoor as _, RawInput, Refusal, TickFrame};
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{PlayerId, SessionId};
use rekindle_sim::GameType;

/// Players from here on are house bots. Tickets are issued for lower ones.
pub const FIRST_HOUSE_PLAYER: u64 = 1 << 62;
/// How long to wait before asking a match again that cannot let a bot in now.
const RETRY: Duration = Duration::from_millis(250);

struct Bot {
    player: PlayerId,
    session: SessionId,
    next_input: u64,
    next_command: u64,
    /// What the game's bot remembers. Lost with the process: a bot that forgets is still a bot.
    memory: Vec<u8>,
}

/// Plays `count` bots in a match until it ends or stops here.
pub async fn play(handle: MatchHandle, game: Arc<dyn GameType>, count: u16) {
    let info = handle.info();
    let mut bots = Vec::with_capacity(usize::from(count));
    for number in 0..u64::from(count) {
        match enter(&handle, number).await {
            Ok(bot) => bots.push(bot),
            Err(Refusal { code, words: reason }) => {
                tracing::warn!(
                    code = "RK-NODE-040", match_id = %info.match_id, refusal = ?code, %reason,
                    "house bot not let in"
                );
                return;
            }
        }
    }
    loop {
        let mut frames = handle.subscribe();
        let mut lagged = false;
        while let Some(frame) = frames.recv().await {
            lagged = true;
            if frame.ended.is_some() {
                return;
            }
            step(&handle, &*game, &info.config, &mut bots, &frame);
        }
        // Without a single frame the match no longer runs here; otherwise this task was too slow
        // and listens again.
        if !lagged {
            return;
        }
    }
}

async fn enter(handle: &MatchHandle, number: u64) -> Result<Bot, Refusal> {
    let player = PlayerId(FIRST_HOUSE_PLAYER + number);
    loop {
        match handle.open(player, format!("bot-{}", number + 1), None).await {
            Ok(opened) => {
                handle.back(opened.session);
                return Ok(Bot {
                    player,
                    session: opened.session,
                    next_input: opened.next_input,
                    next_command: opened.next_command,
                    memory: Vec::new(),
                });
            }
            Err(refusal)
                if matches!(refusal.code, RefuseCode::Unavailable | RefuseCode::Overloaded) =>
            {
                tokio::time::sleep(RETRY).await;
            }
            Err(refusal) => return Err(refusal),
        }
    }
}

/// Each bot looks at what its player sees of the tick, and answers with an input, a command, or
/// both.
fn step(
    handle: &MatchHandle,
    game: &dyn GameType,
    config: &[u8],
    bots: &mut [Bot],
    frame: &TickFrame,
) {
    for bot in bots {
        let seen = frame.view.seen_by(bot.player);
        if let Some(payload) = game.bot(bot.player, &seen, config, &mut bot.memory) {
            handle.input(RawInput {
                session: bot.session,
                seq: bot.next_input,
                target: frame.tick.next(),
                view: frame.tick,
                payload,
            });
            bot.next_input += 1;
        }
        let before = bot.memory.clone();
        let command = game.bot_command(bot.player, &seen, config, &mut bot.memory);
        let Some(payload) = command else { continue };
        if handle.command(bot.session, bot.next_command, payload) == Admission::Queued {
            bot.next_command += 1;
        } else {
            // The bot must not remember as asked for what the match did not take.
            bot.memory = before;
        }
    }
}
