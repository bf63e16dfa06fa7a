//! What QUIC alone costs on this machine:
//! `floor quinn|node CLIENTS GROUP RATE UP_BYTES DOWN_BYTES SECONDS THREADS`: of a server on quinn,
//! or of one on the port of a node. Prints one line of JSON.
//!
//! The clients run in a process of their own at the lowest priority, as the bots of
//! `cargo xtask load` do.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rekindle_loadtest::floor::{Packets, Server, Stack, clients};

type Failure = Box<dyn std::error::Error>;

/// The first word with which it calls itself.
const JOIN: &str = "join";

const USAGE: &str = "usage: floor quinn|node CLIENTS GROUP RATE UP_BYTES DOWN_BYTES SECONDS \
    THREADS";

fn main() -> ExitCode {
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    // An error means that another provider is installed already, which then serves.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let done = match words.as_slice() {
        [stack, packets @ .., threads] if words.len() == 8 => serve(stack, packets, threads),
        // How it calls itself: the clients of a server with that certificate.
        [join_at, packets @ .., address, certificate] if join_at == JOIN => {
            join(packets, address, certificate)
        }
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The exit code says it, too.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn packets(words: &[String]) -> Result<Packets, Failure> {
    let [clients, group, rate, up, down, seconds] = words else { return Err(USAGE.into()) };
    Ok(Packets {
        clients: clients.parse()?,
        group: group.parse()?,
        rate: rate.parse()?,
        up: up.parse()?,
        down: down.parse()?,
        duration: Duration::from_secs(seconds.parse()?),
    })
}

fn runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    match threads {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        many => {
            tokio::runtime::Builder::new_multi_thread().worker_threads(many).enable_all().build()
        }
    }
}

fn serve(stack: &str, words: &[String], threads: &str) -> Result<(), Failure> {
    let stack = match stack {
        "quinn" => Stack::Quinn,
        "node" => Stack::Node,
        _ => return Err(USAGE.into()),
    };
    let packets = packets(words)?;
    let runtime = runtime(threads.parse()?)?;
    runtime.block_on(async {
        let server = Server::bind(stack)?;
        let certificate = server.certificate().iter().fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        let address = server.local_addr()?.to_string();
        let mut swarm = Command::new("nice")
            .args(["-n", "19"])
            .arg(std::env::current_exe()?)
            .arg(JOIN)
            .args(words)
            .args([address, certificate])
            .stdin(Stdio::null())
            .spawn()?;
        let mut marks = Vec::new();
        let passed = server.serve(packets, || marks.push(cpu_seconds())).await;
        swarm.kill()?;
        swarm.wait()?;
        let passed = passed?;
        let cpu: Vec<f64> = marks.into_iter().collect::<Result<_, _>>()?;
        let used =
            cpu.last().copied().unwrap_or_default() - cpu.first().copied().unwrap_or_default();
        let line = serde_json::json!({
            "clients": packets.clients,
            "sent": passed.sent,
            "received": passed.received,
            "cpu_us_per_client_tick": used * 1e6 / passed.sent as f64,
        });
        writeln!(std::io::stdout(), "{line}")?;
        Ok(())
    })
}

fn join(words: &[String], address: &str, certificate: &str) -> Result<(), Failure> {
    let packets = packets(words)?;
    let byte = |at: usize| u8::from_str_radix(certificate.get(at..at + 2).unwrap_or_default(), 16);
    let certificate =
        (0..certificate.len()).step_by(2).map(byte).collect::<Result<Vec<u8>, _>>()?;
    Ok(runtime(2)?.block_on(clients(address.parse()?, certificate, packets))?)
}

/// User and system time of this process, in seconds: fields 14 and 15 of `/proc/self/stat`, in
/// hundredths.
fn cpu_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| {
        fields.get(index).and_then(|field| field.parse::<f64>().ok()).ok_or("/proc/self/stat")
    };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
