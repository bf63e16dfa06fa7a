//! What players ask of documents: handed on to the node, answered in order, and bounded.

mod support;

use std::time::Duration;

use bytes::Bytes;
use rekindle_client::{Client, ClientError, ClientEvent, DocumentsAnswer};
use rekindle_gateway::{Gateway, Limits};
use rekindle_schema::wire::{
    Arrive, ClientMessage, Credential, DocumentsAsked, Enter, Hello, PROTOCOL_5, PROTOCOL_6,
    RefuseCode, Role, ServerMessage,
};
use support::*;
use tokio::time::timeout;

/// The answer to a question, whatever comes before it.
async fn answer(client: &mut Client, number: u64) -> DocumentsAnswer {
    let answered = async {
        loop {
            match client.event().await.expect("the client goes on") {
                ClientEvent::DocumentsDone { id, answer } if id == number => break answer,
                _ => {}
            }
        }
    };
    timeout(Duration::from_secs(20), answered).await.expect("an answer")
}

#[tokio::test]
async fn a_player_is_answered_and_the_node_knows_who_asks() {
    let game = FakeMatch::start(60);
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let mut client = Client::connect(client_config(gateway.local_addr(), 7)).unwrap();
    let early = client.ask_documents("echo", String::new()).unwrap_err();
    assert!(matches!(early, ClientError::NoSession), "{early}");
    snapshot(&mut client, |_| true).await;
    let first = client.ask_documents("echo", "a".to_owned()).unwrap();
    let second = client.ask_documents("purse", "b".to_owned()).unwrap();
    let third = client.ask_documents("long", String::new()).unwrap();
    assert_eq!(answer(&mut client, first).await, DocumentsAnswer::Done("7 a".to_owned()));
    let DocumentsAnswer::Refused(json) = answer(&mut client, second).await else { panic!("done") };
    assert!(json.contains("RK-DOC-120"), "{json}");
    let DocumentsAnswer::Refused(json) = answer(&mut client, third).await else { panic!("done") };
    assert!(json.contains("RK-GATE-170"), "{json}");
    let long = client.ask_documents(&"k".repeat(65), String::new()).unwrap();
    let DocumentsAnswer::Refused(json) = answer(&mut client, long).await else { panic!("done") };
    assert!(json.contains("RK-GATE-169"), "{json}");
}

#[tokio::test]
async fn documents_that_are_silent_hold_up_no_command_and_four_wait_for_them() {
    let game = FakeMatch::start(60);
    let node = FakeNode::with(&game);
    node.silent.send_replace(true);
    let gateway = start(Limits::default(), &node);
    let mut client = Client::connect(client_config(gateway.local_addr(), 7)).unwrap();
    snapshot(&mut client, |_| true).await;
    let asked: Vec<u64> =
        (0..6).map(|number| client.ask_documents("echo", number.to_string()).unwrap()).collect();
    let command = client.command(Bytes::from_static(b"go")).unwrap();
    let done = async {
        loop {
            match client.event().await.expect("the client goes on") {
                ClientEvent::CommandDone { seq, .. } if seq == command => break,
                ClientEvent::DocumentsDone { id, .. } => panic!("{id} is answered"),
                _ => {}
            }
        }
    };
    timeout(Duration::from_secs(20), done).await.expect("the command is done");
    node.silent.send_replace(false);
    for (number, id) in asked.into_iter().enumerate() {
        let echo = DocumentsAnswer::Done(format!("7 {number}"));
        assert_eq!(answer(&mut client, id).await, echo);
    }
}

/// A client made by hand that is in, and what it says next.
async fn entered(gateway: &Gateway, protocol: u16, role: Role) -> Raw {
    let credential = Credential::Ticket(ticket(7, role));
    let hello = Hello { protocol, role, credential, match_id: None };
    let enter = Enter { hello, game: None, stood: None };
    let mut raw = Raw::open(gateway.local_addr()).await;
    raw.say(&ClientMessage::Arrive(Arrive { enter, heard: None, redirects: 0 })).await;
    while !matches!(raw.hear().await, ServerMessage::Welcome(_)) {}
    raw
}

fn question(id: u64) -> ClientMessage {
    ClientMessage::Documents(DocumentsAsked { id, kind: "echo".to_owned(), json: String::new() })
}

#[tokio::test]
async fn a_client_that_does_not_wait_for_answers_is_told_so() {
    let game = FakeMatch::start(60);
    let node = FakeNode::with(&game);
    node.silent.send_replace(true);
    let gateway = start(Limits::default(), &node);
    let mut raw = entered(&gateway, PROTOCOL_6, Role::Player).await;
    for id in 1..=8 {
        raw.say(&question(id)).await;
    }
    // Four fit, and a fifth while the first one is being asked.
    let (mut answered, mut refused) = (Vec::new(), Vec::new());
    while refused.len() + answered.len() < 8 {
        match raw.hear().await {
            ServerMessage::Documents { id, done: true, .. } => answered.push(id),
            ServerMessage::Documents { id, json, .. } => {
                assert!(json.contains("RK-GATE-168"), "{id}: {json}");
                refused.push(id);
                // Those that were taken are answered once the documents speak.
                node.silent.send_replace(refused.len() < 3);
            }
            _ => {}
        }
    }
    let taken = answered.len() as u64;
    assert!(taken == 4 || taken == 5, "{answered:?} of 8 are answered");
    assert_eq!(answered, (1..=taken).collect::<Vec<_>>());
    assert_eq!(refused, (taken + 1..=8).collect::<Vec<_>>());
}

#[tokio::test]
async fn spectators_and_clients_of_earlier_versions_ask_nothing() {
    let game = FakeMatch::start(60);
    let gateway = start(Limits::default(), &FakeNode::with(&game));
    let mut config = client_config(gateway.local_addr(), 3);
    config.role = Role::Spectator;
    let mut watching = Client::connect(config).unwrap();
    snapshot(&mut watching, |_| true).await;
    let refused = watching.ask_documents("echo", String::new()).unwrap_err();
    assert!(matches!(refused, ClientError::Spectator), "{refused}");
    for (protocol, role, code) in
        [(PROTOCOL_6, Role::Spectator, "RK-GATE-046"), (PROTOCOL_5, Role::Player, "RK-GATE-171")]
    {
        let mut raw = entered(&gateway, protocol, role).await;
        raw.say(&question(1)).await;
        let (said, words) = loop {
            match raw.hear().await {
                ServerMessage::Refused { code, message } => break (code, message),
                ServerMessage::Documents { .. } => panic!("{code}: it is answered"),
                _ => {}
            }
        };
        assert!(said == RefuseCode::Malformed && words.starts_with(code), "{said:?} {words}");
    }
}
