//! `rekindle ca`: a private authority and the certificates of nodes, for `cluster.tls.*`. P-256;
//! each certificate is for the node's name, and for the one that is common to all nodes.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rekindle_cluster::bus::tls::PEER_NAME;
use serde::Serialize;
use time::OffsetDateTime;

use super::args::CaCommand;
use super::context::Context;
use crate::exit::{Exit, Failure};
use crate::files::About as _;

/// The authority's certificate, in its directory and beside the certificates of nodes.
const CA_CERTIFICATE: &str = "ca.pem";
/// The authority's key.
const CA_KEY: &str = "ca.key";
/// How long certificates of nodes are valid, in days.
const NODE_DAYS: u64 = 5 * 365;
/// How long the authority's is.
const CA_DAYS: u64 = 20 * 365;
/// Clocks of nodes may be behind by so much, in days.
const CLOCKS_DAYS: u64 = 1;

/// What a command made.
#[derive(Serialize)]
struct Made {
    files: Vec<PathBuf>,
    days: u64,
}

pub(super) fn run(context: &Context, command: &CaCommand) -> Result<Exit, Failure> {
    let (made, next) = match command {
        CaCommand::Init { dir } => {
            let next = format!("rekindle ca issue NAME --ca {} --out DIR", dir.display());
            (init(dir)?, vec![format!("next, for each node: {next}")])
        }
        CaCommand::Issue { name, ca, out } => {
            let made = issue(name, ca, out)?;
            let keys = ["ca", "cert", "key"].iter().zip(&made.files);
            let lines =
                keys.map(|(key, file)| format!("cluster.tls.{key} = \"{}\"", file.display()));
            let next = std::iter::once("for the configuration of that node:".to_owned());
            let lines = next.chain(lines).collect();
            (made, lines)
        }
    };
    context.answer(&made, || {
        let files = made.files.iter().map(|file| format!("written: {}", file.display()));
        files.chain([format!("valid for {} days", made.days)]).chain(next).collect()
    })?;
    Ok(Exit::Done)
}

/// Makes an authority in `dir`. An authority that is there already is left alone.
fn init(dir: &Path) -> Result<Made, Failure> {
    std::fs::create_dir_all(dir).about("create", dir)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = authority().self_signed(&key)?;
    let key_file = write(dir, CA_KEY, key.serialize_pem().as_bytes(), 0o600)?;
    let certificate = write(dir, CA_CERTIFICATE, certificate.pem().as_bytes(), 0o644)?;
    Ok(Made { files: vec![certificate, key_file], days: CA_DAYS })
}

/// What an authority's certificate says: the same of each, so that certificates are signed with its
/// key alone. Authorities are told apart by their keys.
fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = called("Rekindle cluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, CA_DAYS);
    params
}

/// Makes the certificate of a node.
fn issue(name: &str, ca: &Path, out: &Path) -> Result<Made, Failure> {
    let fits = (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && name.parse::<std::net::IpAddr>().is_err();
    if !fits {
        return Err(Failure::new(
            Exit::Usage,
            "RK-CLI-165: a node's name has 1 to 63 letters, digits, `-`, `_` or `.`, as in \
             node.name",
        ));
    }
    let key_file = ca.join(CA_KEY);
    let key = std::fs::read_to_string(&key_file).about("read", &key_file)?;
    let key = KeyPair::from_pem(&key).map_err(|error| {
        let path = key_file.display();
        Failure::new(
            Exit::Failed,
            format!(
                "RK-CLI-166: {path} is no key of an authority ({error}); `rekindle ca init` \
                makes one"
            ),
        )
    })?;
    let certificate_file = ca.join(CA_CERTIFICATE);
    let authority_pem = std::fs::read(&certificate_file).about("read", &certificate_file)?;

    let mut params = CertificateParams::new(vec![name.to_owned(), PEER_NAME.to_owned()])?;
    params.distinguished_name = called(name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    valid_for(&mut params, NODE_DAYS);
    let node_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.signed_by(&node_key, &Issuer::new(authority(), key))?;

    std::fs::create_dir_all(out).about("create", out)?;
    let key = write(out, "node.key", node_key.serialize_pem().as_bytes(), 0o600)?;
    let certificate = write(out, "node.pem", certificate.pem().as_bytes(), 0o644)?;
    let authority = out.join(CA_CERTIFICATE);
    // The directory of the authority may be that of the node, in a trial on one host.
    if std::fs::read(&authority).ok().as_ref() != Some(&authority_pem) {
        write(out, CA_CERTIFICATE, &authority_pem, 0o644)?;
    }
    Ok(Made { files: vec![authority, certificate, key], days: NODE_DAYS })
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

fn valid_for(params: &mut CertificateParams, days: u64) {
    let day = Duration::from_hours(24);
    let now = OffsetDateTime::now_utc();
    params.not_before = now - day * CLOCKS_DAYS as u32;
    params.not_after = now + day * days as u32;
}

/// Writes a file that must not be there yet.
fn write(dir: &Path, name: &str, bytes: &[u8], mode: u32) -> Result<PathBuf, Failure> {
    let path = dir.join(name);
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
    let written = opened.and_then(|mut file: File| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.about("write", &path)?;
    Ok(path)
}
