//! What outlives a build: the key file, the certificate that clients pin, tickets and resume tokens
//! that players hold.

use rekindle_gateway::keys::{CERTIFICATE_FILE, KEY_FILE};
use rekindle_gateway::ticket::Resume;
use rekindle_gateway::{Keys, Ticket};
use rekindle_schema::wire::Role;
use rekindle_schema::{MatchId, PlayerId, SessionId};

const KEY_FILE_V1: &str = r#"{
  "version": 1,
  "signing": "0101010101010101010101010101010101010101010101010101010101010101",
  "tls": "0202020202020202020202020202020202020202020202020202020202020202",
  "reset": "0303030303030303030303030303030303030303030303030303030303030303"
}"#;
const TICKET_V1: &str = concat!(
    "v4.public.eyJwbGF5ZXIiOjcsIm5hbWUiOiJBZGEiLCJtYXRjaCI6IjdmM2E5MWMyMDAwMDAwMDEiLCJyb2xlIjoicGxheWVyIiwiZXhwaXJl",
    "c19tcyI6MjAwMDAwMDAwMDAwMCwibm9uY2UiOjl9dilLX1zddrz9BKG7XGUSKiJKZHcWs9vhKak3xhTHhVX4DmB205viALx9QiBAo3dWPynDaK",
    "s6xiJLgX_FgFyNCQ",
);
const RESUME_V1: &str = concat!(
    "v4.public.eyJtYXRjaCI6IjdmM2E5MWMyMDAwMDAwMDEiLCJwbGF5ZXIiOjcsInNlc3Npb24iOiIwMDAwMDAwMDAwMDBhYmNkIn0YKHodpxv7",
    "2S8snadrQWDpXTcrDd4RLdJSwX6bfdYHuKjTfC-Km7D_K8X2Jt6WOn9VBw7f80tjZt78h_W_ll4I",
);

fn keys() -> Keys {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(KEY_FILE), KEY_FILE_V1).unwrap();
    Keys::load_or_create(dir.path()).unwrap()
}

fn ticket() -> Ticket {
    let match_id = Some(MatchId(0x7f3a_91c2_0000_0001));
    Ticket {
        player: PlayerId(7),
        name: "Ada".to_owned(),
        match_id,
        role: Role::Player,
        expires_ms: 2_000_000_000_000,
        nonce: 9,
    }
}

fn resume() -> Resume {
    Resume {
        match_id: MatchId(0x7f3a_91c2_0000_0001),
        player: PlayerId(7),
        session: SessionId(0xabcd),
    }
}

#[test]
fn a_certificate_that_clients_have_pinned_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(KEY_FILE), KEY_FILE_V1).unwrap();
    // As another version of the library could have made it: same key, other contents.
    let seed = [
        &[
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22,
            0x04, 0x20,
        ][..],
        &[2; 32],
    ]
    .concat();
    let key =
        rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&seed.into(), &rcgen::PKCS_ED25519).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["elsewhere".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let path = dir.path().join(CERTIFICATE_FILE);
    std::fs::write(&path, certificate.der()).unwrap();
    assert_eq!(Keys::load_or_create(dir.path()).unwrap().certificate_der(), &certificate.der()[..]);
    // One of another key is of no use.
    std::fs::write(&path, Keys::ephemeral([5; 32]).unwrap().certificate_der()).unwrap();
    let keys = Keys::load_or_create(dir.path()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), keys.certificate_der());
    assert_eq!(keys.certificate_der(), self::keys().certificate_der());
}

#[test]
fn tokens_that_players_hold_stay_good() {
    let keys = keys();
    assert_eq!(keys.verify_ticket(TICKET_V1, 0).unwrap(), ticket());
    assert_eq!(keys.verify_resume(RESUME_V1, 0).unwrap(), resume());
    assert_eq!(keys.issue_ticket(&ticket()).unwrap(), TICKET_V1);
    assert_eq!(keys.issue_resume(&resume()).unwrap(), RESUME_V1);
}
