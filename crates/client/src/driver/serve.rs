//! Serves a connection that carries the session: takes in what comes, sends commands, watches
//! whether the server lives.

use std::time::Duration;

use bytes::Bytes;
use rekindle_schema::wire::{ClientMessage, Hello, PROTOCOL_4, ServerMessage, encode_client};
use rekindle_transport::Connection;
use tokio::time::{Instant, sleep_until};

use super::state::{Driver, Way, reached};
use super::stream::{Gone, Stream, next};
use crate::dial::usable;
use crate::event::ClientEvent;
use crate::warm::{Warm, goes_on};
use crate::watch::{Line, Watch};

impl Driver {
    /// Serves the connection until it, or the session, ends.
    pub(super) async fn serve(&mut self, connection: &Connection, mut stream: Stream) -> Gone {
        let tick = Duration::from_secs(1) / u32::from(self.tick_rate());
        let mut watch = Watch::new(&self.config.timing, tick, connection);
        let mut sent_command = 0;
        loop {
            if stream.writer.is_idle()
                && let Some(message) = self.to_say(&mut sent_command)
            {
                stream.writer.queue(encode_client(&message));
            }
            let Stream { reader, writer } = &mut stream;
            tokio::select! {
                biased;
                () = self.shared.leave.notified() => {
                    stream.say_goodbye(connection).await;
                    return Gone::Left;
                }
                datagram = connection.read_datagram() => match datagram {
                    Ok(datagram) => {
                        watch.heard(connection);
                        self.take_in(&datagram).await;
                    }
                    Err(_) if self.moving => return Gone::Redirected,
                    Err(closed) => return closed.into(),
                },
                message = next(reader, connection) => {
                    if let Err(gone) = self.told(connection, message).await {
                        return gone;
                    }
                }
                flushed = writer.flush(), if !writer.is_idle() => {
                    if let Err(error) = flushed {
                        return error.into();
                    }
                }
                () = self.shared.wishes.notified() => {}
                warmed = goes_on(&mut self.warm) => return Gone::GoesOn(warmed),
                fresh = reached(&mut self.searching) => return Gone::Replaced(fresh),
                () = sleep_until(watch.next) => {
                    let line = watch.look(connection);
                    self.react(line);
                }
            }
        }
    }

    /// What to say next on the stream: a command behind `sent_command`, or a question to documents.
    fn to_say(&self, sent_command: &mut u64) -> Option<ClientMessage> {
        let mut state = self.shared.state.lock();
        if let Some((seq, payload)) = state.command_behind(*sent_command) {
            *sent_command = seq;
            return Some(ClientMessage::Command { seq, payload });
        }
        state.questions.next().map(ClientMessage::Documents)
    }

    /// Ticks per second of the match.
    fn tick_rate(&self) -> u16 {
        let state = self.shared.state.lock();
        state.welcome.as_ref().map_or(30, |welcome| welcome.tick_rate.max(1))
    }

    async fn take_in(&mut self, datagram: &Bytes) {
        self.heard = Instant::now();
        if !self.moving {
            self.searching = None;
        }
        let news = self.shared.state.lock().received(datagram, self.shared.now_ms());
        if let Some(snapshot) = news.snapshot {
            // A game that does not keep up wants the newer one that comes anyway.
            let _ = self.events.try_send(ClientEvent::Snapshot(snapshot));
        }
        for event in news.lapsed {
            let _ = self.events.send(event).await;
        }
    }

    /// Takes in a message of the stream. An error ends the connection.
    async fn told(
        &mut self,
        connection: &Connection,
        message: Result<ServerMessage, Gone>,
    ) -> Result<(), Gone> {
        let message = match message {
            // It has said where the match goes on; how it closes says nothing more.
            Err(_) | Ok(ServerMessage::Refused { .. }) if self.moving => {
                return Err(Gone::Redirected);
            }
            other => other?,
        };
        match message {
            ServerMessage::Refused { code, message } => return Err(Gone::Refused(code, message)),
            // One is enough: whoever sends more of them has lost its way.
            ServerMessage::Redirect { .. } if self.moving => {}
            ServerMessage::Redirect { addr } => {
                if self.redirect(&addr) == Way::On {
                    self.moving = true;
                    self.search();
                }
            }
            ServerMessage::Nodes { addrs } => {
                self.dialer.learn(&addrs, connection.remote_address());
            }
            ServerMessage::Standby { addr } => self.keep_warm(addr.as_deref(), connection),
            message => {
                let event = self.shared.state.lock().told(message);
                if let Some(event) = event {
                    let _ = self.events.send(event).await;
                }
            }
        }
        Ok(())
    }

    /// Asks a server that is quiet; looks for another when it is silent.
    fn react(&mut self, line: Line) {
        if line != Line::Fine {
            // A living server acknowledges what we send; one that was started anew answers with a
            // reset, which is the fastest way to learn of it.
            let now_ms = self.shared.now_ms();
            let mut state = self.shared.state.lock();
            if now_ms >= state.sent_ms + state.clock.period_ms() as u64 {
                state.send_packet(now_ms);
            }
        }
        if line == Line::Silent && self.searching.is_none() {
            tracing::debug!(
                code = "RK-CLIENT-016",
                "the server is silent: looking for one that is not"
            );
            self.search();
        }
    }

    /// The match's standby is at `addr`, says its owner: keeps a connection to it, if there is one.
    fn keep_warm(&mut self, addr: Option<&str>, connection: &Connection) {
        let addr = addr.and_then(usable).filter(|addr| *addr != connection.remote_address());
        if self.warm.as_ref().map(Warm::addr) == addr {
            return;
        }
        let Some(match_id) = self.config.match_id else { return };
        let hello = Hello {
            protocol: PROTOCOL_4,
            role: self.config.role,
            credential: self.credential.clone(),
            match_id: Some(match_id),
        };
        self.warm = addr.map(|addr| Warm::begin(self.dialer.clone(), addr, hello));
    }

    /// Looks for a server beside the one that is still served.
    fn search(&mut self) {
        let mut dialer = self.dialer.clone();
        self.searching = Some(Box::pin(async move { dialer.dial().await }));
    }
}
