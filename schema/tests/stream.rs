//! The stream of the client protocol: however its bytes are cut, the same messages come out;
//! garbage is refused and never read as something.

use bytes::Bytes;
use proptest::prelude::*;
use rekindle_schema::MatchId;
use rekindle_schema::wire::{
    ClientMessage, Credential, Hello, RefuseCode, Role, ServerMessage, StreamDecoder, StreamError,
    encode_client, encode_server,
};

fn messages() -> impl Strategy<Value = Vec<ClientMessage>> {
    let command = (any::<u64>(), proptest::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(seq, payload)| ClientMessage::Command { seq, payload: Bytes::from(payload) });
    let hello =
        (any::<u16>(), ".{0,40}", any::<Option<u64>>()).prop_map(|(protocol, token, wanted)| {
            let credential = Credential::Ticket(token);
            ClientMessage::Hello(Hello {
                protocol,
                role: Role::Spectator,
                credential,
                match_id: wanted.map(MatchId),
            })
        });
    proptest::collection::vec(prop_oneof![command, hello, Just(ClientMessage::Bye)], 0..20)
}

fn read_all(
    decoder: &mut StreamDecoder,
    chunks: impl Iterator<Item = Vec<u8>>,
) -> Result<Vec<ClientMessage>, StreamError> {
    let mut out = Vec::new();
    for chunk in chunks {
        decoder.push(&chunk);
        while let Some(message) = decoder.next_message()? {
            out.push(message);
        }
    }
    Ok(out)
}

fn encoded(messages: &[ClientMessage]) -> Vec<u8> {
    messages.iter().flat_map(|message| encode_client(message).to_vec()).collect()
}

proptest! {
    #[test]
    fn however_the_bytes_are_cut_the_same_messages_come_out(
        sent in messages(),
        cut in 1..700usize,
    ) {
        let bytes = encoded(&sent);
        let mut decoder = StreamDecoder::of_client(64 << 10);
        let read = read_all(&mut decoder, bytes.chunks(cut).map(<[u8]>::to_vec));
        prop_assert_eq!(read.unwrap(), sent);
    }

    #[test]
    fn garbage_is_an_error_or_the_beginning_of_something(
        garbage in proptest::collection::vec(any::<u8>(), 0..2000),
        limit in 0..4096usize,
    ) {
        let mut decoder = StreamDecoder::of_client(limit);
        // What comes out of it does not matter, only that something does.
        let _ = read_all(&mut decoder, garbage.chunks(64).map(<[u8]>::to_vec));
    }

    #[test]
    fn a_flipped_bit_never_makes_a_message_longer_than_the_limit(
        sent in messages(),
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let mut bytes = encoded(&sent);
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let mut decoder = StreamDecoder::of_client(1000);
        if let Ok(read) = read_all(&mut decoder, std::iter::once(bytes)) {
            prop_assert!(read.iter().all(|message| encode_client(message).len() <= 1004));
        }
    }
}

#[test]
fn a_length_above_the_limit_is_refused_before_its_bytes_arrive() {
    let mut decoder = StreamDecoder::of_client(100);
    decoder.push(&101u32.to_le_bytes());
    let error = decoder.next_message::<ClientMessage>().unwrap_err();
    assert_eq!(error, StreamError::TooLong { len: 101, limit: 100 });
}

#[test]
fn the_two_directions_do_not_read_each_other() {
    let message = ServerMessage::Redirect { addr: "10.0.0.1:7777".to_owned() };
    let mut decoder = StreamDecoder::of_client(1000);
    decoder.push(&encode_server(&message));
    assert!(matches!(decoder.next_message::<ClientMessage>(), Err(StreamError::Codec(_))));
}

#[test]
fn close_codes_are_told_apart_and_stay_what_they_are() {
    let codes: Vec<u32> = RefuseCode::ALL.iter().map(|code| code.close_code()).collect();
    assert_eq!(codes, (0x100..0x10c).collect::<Vec<_>>());
    for code in RefuseCode::ALL {
        assert_eq!(RefuseCode::from_close_code(u64::from(code.close_code())), Some(code));
    }
    assert_eq!(RefuseCode::from_close_code(0), None);
}
