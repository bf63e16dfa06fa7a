//! Enters a match over a new connection: the first message, the welcome.

use std::sync::Arc;

use rekindle_schema::Tick;
use rekindle_schema::wire::{
    ClientMessage, Credential, Enter, Hello, PROTOCOL, PROTOCOL_2, Role, ServerMessage, Welcome,
    encode_client,
};
use rekindle_transport::Connection;
use tokio::time::{Instant, timeout};

use super::state::{Driver, redirect};
use super::stream::{Gone, Stream};
use crate::event::ClientEvent;
use crate::watch::dead;

impl Driver {
    /// Shows the credential and waits for the welcome.
    pub(super) async fn enter(&mut self, connection: &Connection) -> Result<Stream, Gone> {
        let patience = self.config.timing.welcome;
        let hello = self.first_message(connection);
        let dialer = &mut self.dialer;
        let said = async {
            let (reader, writer) = connection.open_stream().await?;
            let mut stream = Stream { reader, writer };
            stream.writer.write(encode_client(&hello)).await?;
            let mut rewound = None;
            loop {
                match stream.next(connection).await? {
                    ServerMessage::Welcome(welcome) => return Ok((stream, *welcome, rewound)),
                    ServerMessage::Rewound { to, .. } => rewound = Some(to),
                    ServerMessage::Refused { code, message } => {
                        return Err(Gone::Refused(code, message));
                    }
                    ServerMessage::Redirect { addr } => redirect(dialer, &addr),
                    other => {
                        return Err(Gone::Lost(format!(
                            "RK-CLIENT-013: {other:?} where a welcome was expected"
                        )));
                    }
                }
            }
        };
        let lost = |words: &str| Gone::Lost(words.to_owned());
        let (stream, welcome, rewound) = tokio::select! {
            biased;
            said = timeout(patience, said) => {
                said.unwrap_or_else(|_| Err(lost("no welcome came")))?
            }
            () = dead(connection) => return Err(lost("the server fell silent before its welcome")),
        };
        self.welcomed(connection, welcome, rewound).await?;
        Ok(stream)
    }

    /// What to say first.
    fn first_message(&self, connection: &Connection) -> ClientMessage {
        let hello = |protocol| Hello {
            protocol,
            role: self.config.role,
            credential: self.credential.clone(),
            match_id: self.config.match_id,
        };
        if connection.protocol() == PROTOCOL_2 {
            let stood = self.shared.state.lock().stood();
            ClientMessage::Enter(Enter {
                hello: hello(PROTOCOL_2),
                game: self.config.game.clone(),
                stood,
            })
        } else {
            ClientMessage::Hello(hello(PROTOCOL))
        }
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
            // server of version 2 has made sure of it; of others each is passed over once, if there
            // is another to ask.
            let unsure = welcome.epoch < state.epoch && connection.protocol() != PROTOCOL_2;
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
            news.extend(state.take_up(connection, &welcome, rewound));
        }
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
