//! Sends garbage to a node's port on loopback:
//! `flood ADDR PACKETS_PER_SECOND CONNECTIONS_PER_SECOND SECONDS [CARRIER]`. Packets go to the UDP
//! port; connections come over `quic` (the default), `webtransport` or `websocket`. Prints one line
//! of JSON.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use rekindle_loadtest::flood::{Carrier, FloodConfig, flood};

fn main() -> ExitCode {
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let Some(config) = read(&words) else {
        complain(
            "usage: flood ADDR PACKETS_PER_SECOND CONNECTIONS_PER_SECOND SECONDS \
             [quic|webtransport|websocket]",
        );
        return ExitCode::from(2);
    };
    // An error means that another provider is installed already, which then serves.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let report = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(flood(&config)).map_err(|error| error.to_string()))
        .and_then(|report| serde_json::to_string(&report).map_err(|error| error.to_string()))
        .and_then(|line| {
            writeln!(std::io::stdout(), "{line}")
                .map_err(|error| format!("standard output: {error}"))
        });
    match report {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The exit code says it, too, so it is no matter if nobody reads this.
fn complain(words: &str) {
    let _ = writeln!(std::io::stderr(), "{words}");
}

fn read(words: &[String]) -> Option<FloodConfig> {
    let (words, carrier) = match words {
        [words @ .., carrier] if words.len() == 4 => (words, carrier.parse().ok()?),
        words => (words, Carrier::default()),
    };
    let [target, packets, connections, seconds] = words else { return None };
    Some(FloodConfig {
        target: target.parse().ok()?,
        packets_per_second: packets.parse().ok()?,
        connections_per_second: connections.parse().ok()?,
        carrier,
        duration: Duration::from_secs(seconds.parse().ok()?),
        seed: 1,
    })
}
