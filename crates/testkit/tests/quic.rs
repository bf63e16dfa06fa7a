//! QUIC runs under the virtual network, and one seed decides all of it: also what TLS does with
//! keys that no seed decides.

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rekindle_testkit::quic;
use rekindle_testkit::seed::Dice;
use rekindle_testkit::trace::{Trace, first_difference};

const ALPN: &[u8] = b"echo";
const PORT: u16 = 4433;
/// Set in a child process: print the trace of this seed and nothing else.
const CHILD: &str = "REKINDLE_ECHO_TRACE_OF";

struct Tls {
    server: quinn::ServerConfig,
    client: quinn::ClientConfig,
}

/// Fresh keys each time: what is random here must not show in a trace.
fn tls() -> Tls {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let identity =
        rcgen::generate_simple_self_signed(vec!["node".to_owned()]).expect("a certificate");
    let key =
        rustls::pki_types::PrivatePkcs8KeyDer::from(identity.signing_key.serialize_der()).into();
    let mut server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![identity.cert.der().clone()], key)
        .expect("the key fits the certificate");
    server.alpn_protocols = vec![ALPN.to_vec()];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(identity.cert.der().clone()).expect("a root");
    let mut client =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = vec![ALPN.to_vec()];
    // A handshake that loses packets starts with quinn's guess of the round trip and backs off from
    // there: 333 ms would be long here.
    let mut transport = quinn::TransportConfig::default();
    transport.initial_rtt(Duration::from_millis(40));
    let transport = Arc::new(transport);
    let mut tls = Tls {
        server: quinn::ServerConfig::with_crypto(Arc::new(
            QuicServerConfig::try_from(server).expect("TLS 1.3"),
        )),
        client: quinn::ClientConfig::new(Arc::new(
            QuicClientConfig::try_from(client).expect("TLS 1.3"),
        )),
    };
    tls.server.transport_config(transport.clone());
    tls.client.transport_config(transport);
    tls
}

async fn serve(server: quinn::ServerConfig, mut dice: Dice, trace: Trace) -> turmoil::Result {
    let endpoint = quic::endpoint(PORT, Some(server), &mut dice).await?;
    while let Some(incoming) = endpoint.accept().await {
        let trace = trace.clone();
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            trace.log("server", format_args!("accepted {}", connection.remote_address()));
            let datagrams = connection.clone();
            tokio::spawn(async move {
                while let Ok(datagram) = datagrams.read_datagram().await {
                    let _ = datagrams.send_datagram(datagram);
                }
            });
            while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                let Ok(text) = receive.read_to_end(1024).await else { return };
                trace.log("server", format_args!("got {}", String::from_utf8_lossy(&text)));
                let _ = send.write_all(&text).await;
                let _ = send.finish();
            }
            trace.log("server", format_args!("lost {}", connection.remote_address()));
        });
    }
    Ok(())
}

async fn play(
    name: String,
    client: quinn::ClientConfig,
    server: IpAddr,
    mut dice: Dice,
    trace: Trace,
) -> turmoil::Result {
    let endpoint = quic::endpoint(0, None, &mut dice).await?;
    let connection = endpoint.connect_with(client, (server, PORT).into(), "node")?.await?;
    trace.log(&name, "connected");
    let (listener, listening, who) = (connection.clone(), trace.clone(), name.clone());
    tokio::spawn(async move {
        while let Ok(datagram) = listener.read_datagram().await {
            listening.log(&who, format_args!("datagram {}", String::from_utf8_lossy(&datagram)));
        }
    });
    for number in 0..40 {
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(
            format!("{name} {number} {}", "x".repeat(dice.between(0, 900) as usize)).as_bytes(),
        )
        .await?;
        send.finish()?;
        let echo = receive.read_to_end(1024).await?;
        trace.log(&name, format_args!("echo {} of {} bytes", number, echo.len()));
        for burst in 0..4 {
            connection.send_datagram(Bytes::from(format!("{number}.{burst}")))?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    Ok(())
}

fn run(seed: u64) -> Vec<String> {
    let tls = tls();
    let trace = Trace::default();
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(Duration::from_mins(1))
        .min_message_latency(Duration::from_millis(2))
        .max_message_latency(Duration::from_millis(30))
        .fail_rate(0.05)
        .udp_capacity(1024)
        .build();
    let (server, log) = (tls.server, trace.clone());
    sim.host("node", move || serve(server.clone(), Dice::new(seed, "node"), log.clone()));
    let node = sim.lookup("node");
    for name in ["ada", "bob"] {
        sim.client(
            name,
            play(name.to_owned(), tls.client.clone(), node, Dice::new(seed, name), trace.clone()),
        );
    }
    sim.run().expect("every message comes back in spite of the loss");
    trace.lines()
}

#[test]
fn a_seed_decides_the_trace_within_a_process_and_across_processes() {
    if let Ok(seed) = std::env::var(CHILD) {
        for line in run(seed.parse().expect("a seed")) {
            println!("TRACE {line}");
        }
        return;
    }
    for seed in 1..=6 {
        let first = run(seed);
        assert_eq!(
            first.iter().filter(|line| line.contains(" echo ")).count(),
            80,
            "all streams are echoed: {first:#?}"
        );
        let datagrams = first.iter().filter(|line| line.contains(" datagram ")).count();
        assert!(
            (160..320).contains(&datagrams),
            "some of 320 datagrams are lost, most arrive: {datagrams}"
        );
        assert_eq!(first_difference(&first, &run(seed)), None, "seed {seed}, same process");
    }
    let child = Command::new(std::env::current_exe().expect("the test binary"))
        .args([
            "--exact",
            "a_seed_decides_the_trace_within_a_process_and_across_processes",
            "--nocapture",
        ])
        .env(CHILD, "3")
        .output()
        .expect("the test binary starts");
    let printed = String::from_utf8(child.stdout).expect("text");
    let lines: Vec<String> = printed
        .lines()
        .filter_map(|line| line.split_once("TRACE "))
        .map(|(_, line)| line.to_owned())
        .collect();
    assert_eq!(first_difference(&run(3), &lines), None, "seed 3, another process");
}

#[test]
fn another_seed_makes_another_trace() {
    assert!(first_difference(&run(1), &run(2)).is_some());
}
