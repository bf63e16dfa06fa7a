//! Enters a match over a new connection: the first message, the welcome.

use std::sync::Arc;

use rekindle_schema::Tick;
use rekindle_schema::wire::{
    Arrive, ClientMessage, Credential, Enter, Hello, PROTOCOL, PROTOCOL_2, PROTOCOL_3, PROTOCOL_6,
    RefuseCode, Role, Seek, ServerMessage, Welcome, encode_client,
};
use rekindle_transport::Connection;
use tokio::time::{Instant, timeout};

use super::state::{Driver, Way};
use super::stream::{Gone, Stream};
use crate::event::ClientEvent;
use crate::watch::dead;

impl Driver {
    /// Shows the credential and waits for the welcome.
    /// `stream`: that of the connection, if it is open already.
    pub(super) async fn enter(
        &mut self,
        connection: &Connection,
        stream: Option<Stream>,
    ) -> Result<Stream, Gone> {
        let patience = self.config.timing.welcome;
        let hello = self
            .first_message(connection)
            .map_err(|words| Gone::Refused(RefuseCode::Protocol, words))?;
        let mut redirected = None;
        let said = async {
            let mut stream = if let Some(stream) = stream {
                stream
            } else {
                let (reader, writer) = connection.open_stream().await?;
                Stream::new(reader, writer)
            };
            stream.writer.write(encode_client(&hello)).await?;
            let mut rewound = None;
            loop {
                match stream.next(connection).await? {
                    ServerMessage::Welcome(welcome) => return Ok((stream, *welcome, rewound)),
                    ServerMessage::Rewound { to, .. } => rewound = Some(to),
                    ServerMessage::Refused { code, message } => {
                        return Err(Gone::Refused(code, message));
                    }
                    ServerMessage::Redirect { addr } => {
                        redirected = Some(addr);
                        return Err(Gone::Redirected);
                    }
                    other => {
                        return Err(Gone::Lost(format!(
                            "RK-CLIENT-013: {other:?} where a welcome was expected"
                        )));
                    }
                }
            }
        };
        let lost = |words: &str| Gone::Lost(words.to_owned());
        let entered = tokio::select! {
            biased;
            said = timeout(patience, said) => match said {
                Ok(said) => said,
                Err(_) => Err(lost("no welcome came")),
            },
            () = dead(connection) => return Err(lost("the server fell silent before its welcome")),
        };
        match redirected.map(|addr| self.redirect(&addr)) {
            Some(Way::None) => {
                return Err(lost("RK-CLIENT-020: redirected to no usable address"));
            }
            Some(Way::Back) => {
                let words = "RK-CLIENT-022: sent back to the server that fell silent";
                return Err(Gone::Refused(RefuseCode::Unavailable, words.to_owned()));
            }
            Some(Way::On) | None => {}
        }
        let (stream, welcome, rewound) = entered?;
        self.welcomed(connection, welcome, rewound).await?;
        Ok(stream)
    }

    /// What to say first; why not, if the server does not understand what is wanted of it.
    fn first_message(&self, connection: &Connection) -> Result<ClientMessage, String> {
        let hello = |protocol| Hello {
            protocol,
            role: self.config.role,
            credential: self.credential.clone(),
            match_id: self.config.match_id,
        };
        let state = self.shared.state.lock();
        let enter = |protocol| Enter {
            hello: hello(protocol),
            game: self.config.game.clone(),
            stood: state.stood(),
        };
        let arrive = |version| Arrive {
            enter: enter(version),
            heard: state.heard(),
            redirects: self.redirects,
        };
        // Once it is in, it names the match.
        let lobby = self.config.lobby.as_ref().filter(|_| self.config.match_id.is_none());
        Ok(match (connection.protocol(), lobby) {
            (PROTOCOL_6, Some(lobby)) => ClientMessage::Seek(Seek {
                arrive: arrive(PROTOCOL_6),
                properties: lobby.properties.clone().into_iter().collect(),
                create: lobby.create,
            }),
            (version, Some(_)) => {
                return Err(format!(
                    "RK-CLIENT-023: the server speaks version {version} of the protocol, and looks \
                     for no match by its properties"
                ));
            }
            (version @ PROTOCOL_3..=PROTOCOL_6, None) => ClientMessage::Arrive(arrive(version)),
            (PROTOCOL_2, None) => ClientMessage::Enter(enter(PROTOCOL_2)),
            (_, None) => ClientMessage::Hello(hello(PROTOCOL)),
        })
    }

    /// Takes the session up.
    async fn welcomed(
        &mut self,
        connection: &Connection,
        welcome: Welcome,
        rewound: Option<Tick>,
    ) -> Result<(), Gone> {
        let welcome = Arc::new(welcome);
        let remote = connection.remote_address();
        let outage = Instant::now().saturating_duration_since(self.heard);
        let mut news = Vec::new();
        {
            let mut state = self.shared.state.lock();
            // An owner that does not know yet that it was replaced, or a store that was put back. A
            // server of a later version has made sure of it; of others each is passed over once, if
            // there is another to ask.
            let unsure = welcome.epoch < state.epoch && connection.protocol() == PROTOCOL;
            if unsure && self.dialer.knows_another(remote) && self.declined.insert(remote) {
                let words = format!(
                    "RK-CLIENT-015: a server of epoch {}, the match was in epoch {}",
                    welcome.epoch, state.epoch
                );
                return Err(Gone::Lost(words));
            }
            news.push(match &state.welcome {
                Some(_) => ClientEvent::Resumed { welcome: Arc::clone(&welcome), outage },
                None => ClientEvent::Welcome(Arc::clone(&welcome)),
            });
            let moved = std::mem::take(&mut self.moving);
            news.extend(state.take_up(connection, &welcome, rewound, moved));
            if let Some(from) = self.served_by.replace(remote).filter(|from| *from != remote) {
                state.counts.moves += 1;
                news.insert(1, ClientEvent::Moved { from, to: remote, gap: outage });
            }
        }
        self.redirects = 0;
        self.silent = None;
        if self.config.role == Role::Player {
            self.credential = Credential::Resume(welcome.resume_token.clone());
        }
        self.config.match_id = Some(welcome.match_id);
        self.heard = Instant::now();
        for event in news {
            let _ = self.events.send(event).await;
        }
        Ok(())
    }
}
