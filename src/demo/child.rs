//! The node process of a demo: started, listened to through its log events, killed without warning,
//! started again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rekindle_store_open::address::StoreAddress;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::exit::{Exit, Failure};
use crate::files::About as _;
use crate::node::card::NodeCard;

/// A node that is not ready by then is given up.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// The same for a clean stop.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

/// One log event of the node.
#[derive(Debug, Clone)]
pub struct NodeEvent {
    /// When this process read it.
    pub at: Instant,
    /// Its stable code.
    pub code: String,
    /// The whole event.
    pub fields: Value,
}

/// How the node is to be started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// What is started.
    pub executable: PathBuf,
    /// Where it keeps its keys, and everything else unless `store` says otherwise.
    pub data_dir: PathBuf,
    /// Where matches are stored.
    pub store: StoreAddress,
    /// UDP address; with port 0 the first start chooses one.
    pub listen: SocketAddr,
    /// TCP address for operators; with port 0 each start chooses one.
    pub admin: SocketAddr,
    /// More settings, as KEY=VALUE.
    pub settings: Vec<String>,
}

/// A running node process. Dropping it kills the process.
pub struct NodeProcess {
    child: Child,
    /// The node ends when this is closed, so it cannot outlive this process.
    _stdin: Option<ChildStdin>,
    events: mpsc::Receiver<NodeEvent>,
}

impl NodeProcess {
    /// Starts the executable as a node.
    pub fn start(launch: &Launch) -> Result<Self, Failure> {
        let executable = &launch.executable;
        let mut command = Command::new(executable);
        command.args(["start", "--dev", "--until-stdin-closes", "--log", "json"]);
        command
            .arg("--admin")
            .arg(launch.admin.to_string())
            .arg("--listen")
            .arg(launch.listen.to_string())
            .arg("--data-dir")
            .arg(&launch.data_dir);
        // The demo decides alone: neither a file in the working directory nor the environment
        // changes it.
        command.args(["--config", "/dev/null"]);
        for (name, _) in std::env::vars_os()
            .filter(|(name, _)| name.as_encoded_bytes().starts_with(b"REKINDLE_"))
        {
            command.env_remove(name);
        }
        // Not as a flag: it may hold a password, and everybody sees the flags of a process.
        command.env("REKINDLE_STORE", launch.store.reveal());
        for setting in &launch.settings {
            command.arg("--set").arg(setting);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C in the terminal is for its parent alone: a node takes the second signal that
            // reaches it for an order to stop at once.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().about("start", executable)?;
        let (sender, events) = mpsc::channel(1024);
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(async move {
                let mut lines = BufReader::new(stderr).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    // The node must never wait for its listener: what finds no room is dropped.
                    let _ = sender.try_send(event(&line));
                }
            });
        }
        Ok(Self { _stdin: child.stdin.take(), child, events })
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for the event with this code; earlier ones are handed to `seen`, and so is it. `None`
    /// after `within`, or when the process has ended.
    pub async fn wait_for(
        &mut self,
        code: &str,
        within: Duration,
        seen: &mut impl FnMut(&NodeEvent),
    ) -> Option<NodeEvent> {
        let deadline = Instant::now() + within;
        while let Ok(Some(event)) = timeout_at(deadline, self.events.recv()).await {
            seen(&event);
            if event.code == code {
                return Some(event);
            }
        }
        None
    }

    /// Hands over what has arrived since, without waiting.
    pub fn drain_events(&mut self, seen: &mut impl FnMut(&NodeEvent)) {
        while let Ok(event) = self.events.try_recv() {
            seen(&event);
        }
    }

    /// Waits until the node is ready and returns its card.
    pub async fn ready(
        &mut self,
        launch: &Launch,
        seen: &mut impl FnMut(&NodeEvent),
    ) -> Result<NodeCard, Failure> {
        let mut last = String::new();
        let ready = self
            .wait_for(super::READY, READY_WITHIN, &mut |event| {
                last = event.fields.to_string();
                seen(event);
            })
            .await;
        match ready.and_then(|_| NodeCard::read(&launch.data_dir)) {
            Some(card) => Ok(card),
            None => Err(Failure::new(
                Exit::Failed,
                format!("RK-DEMO-001: the node did not become ready; the last it said: {last}"),
            )),
        }
    }

    /// SIGKILL, and waits until the process is gone. Returns the moment of the signal.
    pub async fn kill(&mut self) -> Result<Instant, Failure> {
        let at = Instant::now();
        self.child.start_kill()?;
        self.child.wait().await?;
        Ok(at)
    }

    /// SIGSTOP: the process stands still with all that it holds.
    pub fn freeze(&self) -> Result<(), Failure> {
        self.signal(rustix::process::Signal::STOP)
    }

    /// SIGCONT, if the process is still there.
    pub fn wake(&self) -> Result<(), Failure> {
        self.signal(rustix::process::Signal::CONT)
    }

    /// Whether the process ends by itself within that time.
    pub async fn ends(&mut self, within: Duration) -> bool {
        tokio::time::timeout(within, self.child.wait()).await.is_ok_and(|ended| ended.is_ok())
    }

    /// How the process ended, if it has.
    pub fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    fn signal(&self, signal: rustix::process::Signal) -> Result<(), Failure> {
        let pid = self.child.id().and_then(|pid| rustix::process::Pid::from_raw(pid as i32));
        if let Some(pid) = pid {
            rustix::process::kill_process(pid, signal)?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for the clean end.
    pub async fn stop(&mut self) -> Result<(), Failure> {
        self.signal(rustix::process::Signal::TERM)?;
        match tokio::time::timeout(STOPPED_WITHIN, self.child.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(std::process::ExitStatus::success) => Ok(()),
            Ok(status) => Err(Failure::new(
                Exit::Failed,
                format!("RK-DEMO-002: the node did not stop cleanly: {status:?}"),
            )),
            Err(_) => Err(Failure::new(
                Exit::Failed,
                "RK-DEMO-003: the node did not stop within 30 s of SIGTERM",
            )),
        }
    }
}

/// A line that is no JSON (a panic, a message of the system) becomes an event without a code.
fn event(line: &str) -> NodeEvent {
    let fields: Value =
        serde_json::from_str(line).unwrap_or_else(|_| Value::String(line.to_owned()));
    let code = fields.get("code").and_then(Value::as_str).unwrap_or_default().to_owned();
    NodeEvent { at: Instant::now(), code, fields }
}
