//! Sends garbage to a node's UDP port on loopback: `flood ADDR PACKETS_PER_SECOND CONNECTIONS_PER_SECOND SECONDS`. Prints one line of JSON.

use std::process::ExitCode;
use std::time::Duration;

use rekindle_loadtest::flood::{FloodConfig, flood};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(config) = read(&words) else {
        eprintln!("usage: flood ADDR PACKETS_PER_SECOND CONNECTIONS_PER_SECOND SECONDS");
        return ExitCode::from(2);
    };
    // An error means that another provider is installed already, which then serves.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let report = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(flood(&config)).map_err(|error| error.to_string()))
        .and_then(|report| serde_json::to_string(&report).map_err(|error| error.to_string()));
    match report {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn read(words: &[String]) -> Option<FloodConfig> {
    let [target, packets, connections, seconds] = words else { return None };
    Some(FloodConfig {
        target: target.parse().ok()?,
        packets_per_second: packets.parse().ok()?,
        connections_per_second: connections.parse().ok()?,
        duration: Duration::from_secs(seconds.parse().ok()?),
        seed: 1,
    })
}
