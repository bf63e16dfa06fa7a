//! Clients that write down what a node tells them, with the time of day:
//! `witness ADDR CERTIFICATE_FILE ROLE PAYLOAD_HEX (TICKET MATCH)...`.
//!
//! `cargo xtask cuts` and `cargo xtask attack` start it and compare its notes with what is left of
//! the store. ROLE is `player` or `spectator`, MATCH the id of a match or `-` for any. Players send
//! the payload thirty times a second. It ends when its standard input is closed. One line for each
//! fact, times in microseconds since 1970:
//!
//! ```text
//! welcome US CLIENT MATCH SESSION EPOCH TICK
//! resumed US CLIENT MATCH SESSION EPOCH TICK
//! seen US CLIENT EPOCH TICK DURABLE SEQ:TICK,...
//! rewound US CLIENT EPOCH TICK
//! gone US CLIENT REASON
//! closed US CLIENT REASON
//! ```

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rekindle_client::{Client, ClientConfig, ClientEvent, Trust};
use rekindle_schema::wire::Role;
use tokio::sync::{mpsc, oneshot};

type Failure = Box<dyn std::error::Error>;

const USAGE: &str =
    "usage: witness ADDR CERTIFICATE_FILE player|spectator PAYLOAD_HEX (TICKET MATCH|-)...";
/// Between two inputs of a player.
const PERIOD: Duration = Duration::from_nanos(1_000_000_000 / 30);
/// Lines that may wait to be written; a client that finds no room waits.
const LINES: usize = 4_096;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // An error means that another provider is installed already, which then serves.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be there to read it; the exit code says it too.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<(), Failure> {
    let [addr, certificate, role, payload, clients @ ..] = words else { return Err(USAGE.into()) };
    let role = match role.as_str() {
        "player" => Role::Player,
        "spectator" => Role::Spectator,
        _ => return Err(USAGE.into()),
    };
    let byte = |at: usize| u8::from_str_radix(payload.get(at..at + 2).unwrap_or_default(), 16);
    let payload: Bytes =
        (0..payload.len()).step_by(2).map(byte).collect::<Result<Vec<u8>, _>>()?.into();
    let trust = Trust::Certificate(std::fs::read(certificate)?);
    let addr = addr.parse()?;
    let mut configs = Vec::new();
    for pair in clients.chunks(2) {
        let [ticket, match_id] = pair else { return Err(USAGE.into()) };
        let mut config = ClientConfig::new(vec![addr], trust.clone(), ticket);
        config.role = role;
        config.match_id = if match_id == "-" { None } else { Some(match_id.parse()?) };
        configs.push(config);
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(witness(configs, payload))
}

async fn witness(configs: Vec<ClientConfig>, payload: Bytes) -> Result<(), Failure> {
    let (lines, mut written) = mpsc::channel::<String>(LINES);
    for (number, config) in configs.into_iter().enumerate() {
        tokio::spawn(play(number, config, payload.clone(), lines.clone()));
    }
    drop(lines);
    let (closed, mut end) = oneshot::channel();
    std::thread::spawn(move || {
        // An error is an end as well; whoever waits for it may have ended.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = closed.send(());
    });
    loop {
        tokio::select! {
            biased;
            _ = &mut end => return Ok(()),
            line = written.recv() => {
                let Some(line) = line else { return Ok(()) };
                let mut out = std::io::stdout().lock();
                out.write_all(line.as_bytes()).and_then(|()| out.flush())?;
            }
        }
    }
}

/// One client, until it is closed.
async fn play(number: usize, config: ClientConfig, payload: Bytes, lines: mpsc::Sender<String>) {
    let player = config.role == Role::Player;
    let mut client = match Client::connect(config) {
        Ok(client) => client,
        Err(error) => {
            let _ = lines.send(format!("closed {} {number} {error}\n", now_us())).await;
            return;
        }
    };
    let mut due = tokio::time::interval(PERIOD);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        let event = tokio::select! {
            biased;
            event = client.event() => event,
            _ = due.tick(), if player => {
                // Without a session there is nowhere to send to.
                let _ = client.input(payload.clone());
                continue;
            }
        };
        let Some(event) = event else { return };
        if let Some(line) = line(number, event)
            && lines.send(line).await.is_err()
        {
            return;
        }
    }
}

/// What is written of an event.
fn line(number: usize, event: ClientEvent) -> Option<String> {
    let now = now_us();
    Some(match event {
        ClientEvent::Welcome(welcome) => {
            format!(
                "welcome {now} {number} {} {} {} {}\n",
                welcome.match_id, welcome.session, welcome.epoch, welcome.tick
            )
        }
        ClientEvent::Resumed { welcome, .. } => {
            format!(
                "resumed {now} {number} {} {} {} {}\n",
                welcome.match_id, welcome.session, welcome.epoch, welcome.tick
            )
        }
        ClientEvent::Snapshot(snapshot) => {
            let header = &snapshot.header;
            let mut line =
                format!("seen {now} {number} {} {} {} ", header.epoch, header.tick, header.durable);
            for (seq, tick) in &header.applied {
                // Writing to a string cannot fail.
                let _ = write!(line, "{seq}:{tick},");
            }
            line.push('\n');
            line
        }
        ClientEvent::Rewound { epoch, to, .. } => format!("rewound {now} {number} {epoch} {to}\n"),
        ClientEvent::Disconnected { reason } => format!("gone {now} {number} {reason}\n"),
        ClientEvent::Closed { message, .. } => format!("closed {now} {number} {message}\n"),
        _ => return None,
    })
}

/// Microseconds since 1970: the clock that `strace -ttt` has too.
fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
