//! `[ike]`, and the `ike` of a tunnel: keys that charon negotiates.

use std::collections::HashMap;
use std::fs::File;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;

use ain_crypto::MacAlgorithm;
use ipnet::IpNet;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use toml::Spanned;

use super::raw::unplaced;
use super::report::Checker;
use super::secret::{KeyMaterial, check_mode, read_sa_key};

/// Where charon's plugin looks for the node unless told.
const SOCKET: &str = "/run/ain/ike.sock";
/// Shortest pre-shared key, bytes: as strong as the ciphers it leads to (RFC 7296 section 2.15 wants no password).
const PSK_BYTES_MIN: usize = 16;
/// Longest identity, bytes.
const ID_BYTES_MAX: usize = 128;
/// Seconds after which successors are negotiated.
const REKEY_S: RangeInclusive<u32> = 2..=86_400;
/// Packets after which successors are negotiated, 0 besides: fewer would be all rekeying.
const REKEY_PACKETS_MIN: u64 = 1 << 16;
/// Octets after which successors are negotiated, 0 besides.
const REKEY_BYTES_MIN: u64 = 1 << 26;
/// Prefixes of an IKE-made tunnel: what one message to the node has room for.
const ADDRESSES_MAX: usize = 32;

/// `[ike]` as the file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawIke {
    /// Socket for charon's plugin.
    socket: PathBuf,
    /// What this node calls itself.
    id: Option<Spanned<String>>,
    /// Certificate of this node.
    cert_file: Option<Spanned<PathBuf>>,
    /// Its private key.
    key_file: Option<Spanned<PathBuf>>,
    /// Authorities whose certificates are believed.
    ca_files: Vec<Spanned<PathBuf>>,
    /// Seconds.
    rekey_s: Spanned<u32>,
    /// Packets; 0: any number.
    rekey_packets: Spanned<u64>,
    /// Octets; 0: any number.
    rekey_bytes: Spanned<u64>,
}

impl Default for RawIke {
    fn default() -> Self {
        Self {
            socket: SOCKET.into(),
            id: None,
            cert_file: None,
            key_file: None,
            ca_files: Vec::new(),
            rekey_s: unplaced(3600),
            rekey_packets: unplaced(1 << 31),
            rekey_bytes: unplaced(0),
        }
    }
}

/// `ike` of a tunnel as the file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawIkePeer {
    /// How the two ends prove who they are.
    auth: RawAuth,
    /// The key that both know.
    psk_file: Option<Spanned<PathBuf>>,
    /// What the other end calls itself.
    id: Option<Spanned<String>>,
}

/// How the two ends of a tunnel prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawAuth {
    Psk,
    Cert,
}

/// This node in IKE.
#[derive(Debug)]
pub struct Ike {
    /// Socket for charon's plugin.
    pub socket: PathBuf,
    /// What this node calls itself.
    pub id: String,
    /// How it proves that to those who do not know a key of it.
    pub credentials: Option<Credentials>,
    /// When successors of associations are negotiated.
    pub rekey: Rekey,
}

/// Files that prove who a node is: X.509, EdDSA or ECDSA.
#[derive(Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its certificate.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// Authorities whose certificates are believed.
    pub ca_files: Vec<PathBuf>,
}

/// When successors of associations are negotiated: whatever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rekey {
    /// Seconds.
    pub seconds: u32,
    /// Packets; 0: any number.
    pub packets: u64,
    /// Octets; 0: any number.
    pub octets: u64,
}

/// The other end of a tunnel in IKE.
#[derive(Debug)]
pub struct IkePeer {
    /// What it calls itself.
    pub id: String,
    /// How the two ends prove who they are.
    pub auth: Auth,
}

/// How the two ends of a tunnel prove who they are.
#[derive(Debug)]
pub enum Auth {
    /// By a key that nobody else knows.
    Psk(KeyMaterial),
    /// By certificates.
    Cert,
}

/// `[ike]`; `name`: the node's.
pub(super) fn check_ike(checker: &mut Checker, raw: RawIke, name: &str) -> Ike {
    let limits = [
        ("ike.rekey_packets", &raw.rekey_packets, REKEY_PACKETS_MIN),
        ("ike.rekey_bytes", &raw.rekey_bytes, REKEY_BYTES_MIN),
    ];
    for (field, limit, least) in limits {
        let given = *limit.get_ref();
        if given != 0 && given < least {
            checker.at(
                limit.span(),
                field,
                format_args!("{given} is neither 0 nor {least} and more"),
            );
        }
    }
    let seconds = *raw.rekey_s.get_ref();
    if !REKEY_S.contains(&seconds) {
        let problem = format_args!("{seconds} is not {} to {}", REKEY_S.start(), REKEY_S.end());
        checker.at(raw.rekey_s.span(), "ike.rekey_s", problem);
    }
    Ike {
        socket: checker.resolve(&raw.socket),
        id: check_id(checker, raw.id, "ike.id", name),
        credentials: check_credentials(checker, (raw.cert_file, raw.key_file), raw.ca_files),
        rekey: Rekey {
            seconds,
            packets: raw.rekey_packets.into_inner(),
            octets: raw.rekey_bytes.into_inner(),
        },
    }
}

/// Text that charon's configuration can have in quotes.
fn check_id(checker: &mut Checker, id: Option<Spanned<String>>, field: &str, or: &str) -> String {
    let Some(id) = id else {
        return or.to_owned();
    };
    let text = id.get_ref();
    let good = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\' || c == ' ';
    if text.is_empty() || text.len() > ID_BYTES_MAX || !text.chars().all(good) {
        checker.at(
            id.span(),
            field,
            format_args!("an identity is 1 to {ID_BYTES_MAX} printable characters of ASCII, no quotes, no backslash"),
        );
    }
    id.into_inner()
}

/// All three or none.
fn check_credentials(
    checker: &mut Checker,
    files: (Option<Spanned<PathBuf>>, Option<Spanned<PathBuf>>),
    ca_files: Vec<Spanned<PathBuf>>,
) -> Option<Credentials> {
    let (cert, key) = match files {
        (None, None) if ca_files.is_empty() => return None,
        (Some(cert), Some(key)) if !ca_files.is_empty() => (cert, key),
        (cert, key) => {
            let span = cert.or(key).map(|file| file.span());
            let span = span.or(ca_files.first().map(Spanned::span));
            let problem = "`cert_file`, `key_file` and `ca_files` go together";
            checker.at(span.unwrap_or_default(), "ike", problem);
            return None;
        }
    };
    let mut readable = |file: Spanned<PathBuf>, field: &str, private: bool| {
        let path = checker.resolve(file.get_ref());
        let outcome = File::open(&path)
            .map_err(|error| format!("{}: {error}", path.display()))
            .and_then(|open| match private {
                true => check_mode(&path, &open).map_err(|error| error.to_string()),
                false => Ok(()),
            });
        if let Err(problem) = outcome {
            checker.at(file.span(), field, problem);
        }
        path
    };
    Some(Credentials {
        cert_file: readable(cert, "ike.cert_file", false),
        key_file: readable(key, "ike.key_file", true),
        ca_files: ca_files
            .into_iter()
            .map(|file| readable(file, "ike.ca_files", false))
            .collect(),
    })
}

/// What the tunnels of a file have in common that are made by IKE.
#[derive(Default)]
pub(super) struct IkePeers {
    /// Hash of a pre-shared key -> field that has it.
    psks: HashMap<[u8; 32], String>,
    /// Identity -> field of the tunnel that has it.
    ids: HashMap<String, String>,
    /// Fields that want certificates.
    with_cert: Vec<(Range<usize>, String)>,
}

impl IkePeers {
    /// The `ike` of the tunnel written at `path`, with what it protects and how; `name`: what the peer calls itself unless told.
    pub(super) fn check(
        &mut self,
        checker: &mut Checker,
        path: &str,
        raw: Spanned<RawIkePeer>,
        (name, ah, addresses): (&str, MacAlgorithm, &[Spanned<IpNet>]),
    ) -> Option<IkePeer> {
        let whole = raw.span();
        let raw = raw.into_inner();
        if ah == MacAlgorithm::Aes128Gmac {
            let problem =
                "charon negotiates no AH with aes-128-gmac: `ah` has to be \"hmac-sha2-256-128\" or \"aes-cmac-96\"";
            checker.at(whole.clone(), format!("{path}ike"), problem);
        }
        if addresses.len() > ADDRESSES_MAX {
            let problem = format_args!("more than {ADDRESSES_MAX} addresses behind a tunnel that IKE makes");
            checker.at(whole.clone(), format!("{path}ike"), problem);
        }
        let id = check_id(checker, raw.id, &format!("{path}ike.id"), name);
        if id.contains(['%', '*']) {
            checker.at(
                whole.clone(),
                format!("{path}ike.id"),
                "charon would take `%` and `*` for any identity",
            );
        }
        if let Some(other) = self.ids.insert(id.clone(), format!("{path}ike")) {
            let problem = format_args!("`{id}` is the identity of {other} too: each peer could pass for the other");
            checker.at(whole.clone(), format!("{path}ike.id"), problem);
        }
        let auth = match (raw.auth, raw.psk_file) {
            (RawAuth::Psk, Some(file)) => Auth::Psk(self.check_psk(checker, &file, format!("{path}ike.psk_file"))?),
            (RawAuth::Cert, None) => {
                self.with_cert.push((whole, format!("{path}ike")));
                Auth::Cert
            }
            (RawAuth::Psk, None) => {
                checker.at(whole, format!("{path}ike"), "`auth = \"psk\"` needs `psk_file`");
                return None;
            }
            (RawAuth::Cert, Some(file)) => {
                checker.at(
                    file.span(),
                    format!("{path}ike.psk_file"),
                    "no part of `auth = \"cert\"`",
                );
                return None;
            }
        };
        Some(IkePeer { id, auth })
    }

    /// A key of its own: who shares one can pass for the other.
    fn check_psk(&mut self, checker: &mut Checker, file: &Spanned<PathBuf>, field: String) -> Option<KeyMaterial> {
        let psk = match read_sa_key(&checker.resolve(file.get_ref())) {
            Ok(psk) => psk,
            Err(error) => {
                checker.at(file.span(), field, error);
                return None;
            }
        };
        let bytes = psk.expose();
        if bytes.len() < PSK_BYTES_MIN {
            let problem = format_args!("{} bytes; {PSK_BYTES_MIN} at least, best 32 random ones", bytes.len());
            checker.at(file.span(), field, problem);
            return None;
        }
        if let Some(other) = self.psks.insert(Sha256::digest(bytes).into(), field.clone()) {
            let problem = format_args!("the same key as {other}: each peer could pass for the other");
            checker.at(file.span(), field, problem);
            return None;
        }
        Some(psk)
    }

    /// Who wants certificates has them.
    pub(super) fn check_credentials(&self, checker: &mut Checker, ike: &Ike) {
        for (span, field) in &self.with_cert {
            if ike.credentials.is_none() {
                let problem = "`auth = \"cert\"` needs `cert_file`, `key_file` and `ca_files` of [ike]";
                checker.at(span.clone(), field.as_str(), problem);
            }
        }
    }
}
