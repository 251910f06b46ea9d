//! An ESP+AH tunnel: made by IKE, or by hand with four SAs, checked one by one and against all others of the file.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;

use ain_controlplane::sa::SaProtocol;
use ain_controlplane::table_writer::TunnelShape;
use ain_crypto::{AeadAlgorithm, MacAlgorithm};
use ain_dataplane::id::Spi;
use sha2::{Digest, Sha256};
use toml::Spanned;

use super::ike::IkePeer;
use super::raw::{RawAh, RawEsp, RawSa};
use super::report::Checker;
use super::secret::{KeyMaterial, SecretError, read_sa_key};

/// Bytes of salt behind the key of GCM and GMAC (RFC 4106 section 8.1, RFC 4543 section 4).
const SALT_BYTES: usize = 4;

/// One SA.
#[derive(Debug)]
pub struct Sa {
    /// SPI.
    pub spi: Spi,
    /// Key, salt behind it.
    pub key: KeyMaterial,
}

/// The four SAs of a tunnel, with keys made by hand.
#[derive(Debug)]
pub struct HandMade {
    /// Inbound AH.
    pub ah_in: Sa,
    /// Outbound AH.
    pub ah_out: Sa,
    /// Inbound ESP.
    pub esp_in: Sa,
    /// Outbound ESP.
    pub esp_out: Sa,
}

impl HandMade {
    /// The inbound and the outbound SA of a protocol.
    pub const fn pair(&self, protocol: SaProtocol) -> [&Sa; 2] {
        match protocol {
            SaProtocol::Ah => [&self.ah_in, &self.ah_out],
            SaProtocol::Esp => [&self.esp_in, &self.esp_out],
        }
    }
}

/// Where the keys of a node's tunnel come from.
#[derive(Debug)]
pub enum Keys {
    /// The configuration.
    ByHand(Box<HandMade>),
    /// charon, as this tells it.
    ByIke(IkePeer),
}

/// An ESP+AH tunnel: ESP in tunnel mode inside AH in transport mode (protocol section 2).
#[derive(Debug)]
pub struct Tunnel<K = Keys> {
    /// This end's outer address.
    pub local: IpAddr,
    /// The other end's outer address.
    pub remote: IpAddr,
    /// Extended sequence numbers (RFC 4304).
    pub esn: bool,
    /// AH algorithm, both directions.
    pub ah: MacAlgorithm,
    /// ESP algorithm, both directions.
    pub esp: AeadAlgorithm,
    /// Keys.
    pub keys: K,
    /// What its packets show: nothing special until its owner's options say so.
    pub shape: TunnelShape,
}

impl Tunnel {
    /// The SAs, if they are made by hand.
    pub fn hand_made(&self) -> Option<&HandMade> {
        match &self.keys {
            Keys::ByHand(sas) => Some(sas),
            Keys::ByIke(_) => None,
        }
    }

    /// The same for good.
    pub fn into_hand_made(self) -> Option<Tunnel<HandMade>> {
        let Keys::ByHand(sas) = self.keys else { return None };
        Some(Tunnel {
            local: self.local,
            remote: self.remote,
            esn: self.esn,
            ah: self.ah,
            esp: self.esp,
            keys: *sas,
            shape: self.shape,
        })
    }

    /// The other end in IKE, if the SAs are made so.
    pub const fn ike(&self) -> Option<&IkePeer> {
        match &self.keys {
            Keys::ByHand(_) => None,
            Keys::ByIke(peer) => Some(peer),
        }
    }
}

/// The four SAs of a tunnel as a file has them.
pub struct RawHandMade {
    /// Inbound AH.
    pub ah_in: Spanned<RawSa>,
    /// Outbound AH.
    pub ah_out: Spanned<RawSa>,
    /// Inbound ESP.
    pub esp_in: Spanned<RawSa>,
    /// Outbound ESP.
    pub esp_out: Spanned<RawSa>,
}

/// What a file says of a tunnel besides its keys.
pub struct RawTunnelParts {
    /// This end's outer address.
    pub local: IpAddr,
    /// The other end's outer address.
    pub remote: IpAddr,
    /// Extended sequence numbers.
    pub esn: bool,
    /// AH algorithm.
    pub ah: RawAh,
    /// ESP algorithm.
    pub esp: RawEsp,
}

impl RawTunnelParts {
    /// The tunnel with these keys, and the shape of those whose owner wants none.
    pub fn with<K>(&self, keys: K) -> Tunnel<K> {
        Tunnel {
            local: self.local,
            remote: self.remote,
            esn: self.esn,
            ah: self.ah.algorithm(),
            esp: self.esp.algorithm(),
            keys,
            shape: TunnelShape::default(),
        }
    }
}

/// SAs met in a file, to find those that clash.
#[derive(Default)]
pub struct Register {
    /// Hash of the key without salt -> field that has it.
    keys: HashMap<[u8; 32], String>,
    /// What a receiver looks an SA up by -> field that has it.
    spis: HashMap<(Way, Protocol, IpAddr, u32), String>,
    /// Whether a key stands in the file itself.
    pub inline_keys: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Way {
    In,
    Out,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Protocol {
    Ah,
    Esp,
}

/// How long an SA's key has to be, and how to say so.
struct KeyShape {
    algorithm: &'static str,
    bytes: usize,
    salt: usize,
}

impl KeyShape {
    fn of_ah(algorithm: MacAlgorithm) -> Self {
        let (name, salt) = match algorithm {
            MacAlgorithm::HmacSha256_128 => ("hmac-sha2-256-128", 0),
            MacAlgorithm::Aes128Gmac => ("aes-128-gmac", SALT_BYTES),
            MacAlgorithm::AesCmac96 => ("aes-cmac-96", 0),
        };
        Self {
            algorithm: name,
            bytes: algorithm.key_bytes(),
            salt,
        }
    }

    fn of_esp(algorithm: AeadAlgorithm) -> Self {
        let name = match algorithm {
            AeadAlgorithm::Aes128Gcm16 => "aes-128-gcm-16",
            AeadAlgorithm::Aes256Gcm16 => "aes-256-gcm-16",
        };
        Self {
            algorithm: name,
            bytes: algorithm.key_bytes(),
            salt: SALT_BYTES,
        }
    }

    fn wrong(&self, given: usize) -> String {
        let (name, wanted, salt) = (self.algorithm, self.bytes, self.salt);
        match salt {
            0 => format!("{given} bytes where {name} takes {wanted}"),
            _ => format!(
                "{given} bytes where {name} takes {wanted} ({} of key, {salt} of salt)",
                wanted - salt
            ),
        }
    }
}

/// Checks the SAs written at `path`, `""` or `"hosts[3]."`.
pub fn check_hand_made(
    checker: &mut Checker,
    register: &mut Register,
    path: &str,
    parts: &RawTunnelParts,
    raw: RawHandMade,
) -> Option<HandMade> {
    let (ah, esp) = (parts.ah.algorithm(), parts.esp.algorithm());
    let mut sa = |name: &str, way, protocol, raw| {
        let shape = match protocol {
            Protocol::Ah => KeyShape::of_ah(ah),
            Protocol::Esp => KeyShape::of_esp(esp),
        };
        let receiver = if way == Way::In { parts.local } else { parts.remote };
        let place = Place {
            field: format!("{path}{name}"),
            way,
            protocol,
            receiver,
        };
        check_sa(checker, register, &place, &shape, raw)
    };
    let ah_in = sa("ah_in", Way::In, Protocol::Ah, raw.ah_in);
    let ah_out = sa("ah_out", Way::Out, Protocol::Ah, raw.ah_out);
    let esp_in = sa("esp_in", Way::In, Protocol::Esp, raw.esp_in);
    let esp_out = sa("esp_out", Way::Out, Protocol::Esp, raw.esp_out);
    Some(HandMade {
        ah_in: ah_in?,
        ah_out: ah_out?,
        esp_in: esp_in?,
        esp_out: esp_out?,
    })
}

/// Which SA of the file is meant.
struct Place {
    field: String,
    way: Way,
    protocol: Protocol,
    receiver: IpAddr,
}

fn check_sa(
    checker: &mut Checker,
    register: &mut Register,
    place: &Place,
    shape: &KeyShape,
    raw: Spanned<RawSa>,
) -> Option<Sa> {
    let whole = raw.span();
    let raw = raw.into_inner();
    let spi = check_spi(checker, register, place, &raw.spi);
    let key = check_key(checker, register, place, shape, whole, raw);
    Some(Sa { spi: spi?, key: key? })
}

fn check_spi(checker: &mut Checker, register: &mut Register, place: &Place, raw: &Spanned<u32>) -> Option<Spi> {
    let field = format!("{}.spi", place.field);
    let value = *raw.get_ref();
    let Some(spi) = Spi::new(value) else {
        checker.at(
            raw.span(),
            field,
            format_args!("{value} is reserved; the lowest SPI is {}", Spi::MIN),
        );
        return None;
    };
    let lookup = (place.way, place.protocol, place.receiver, value);
    if let Some(other) = register.spis.get(&lookup) {
        checker.at(
            raw.span(),
            field,
            format_args!("{other} has the same SPI, protocol and receiver"),
        );
        return None;
    }
    register.spis.insert(lookup, field);
    Some(spi)
}

fn check_key(
    checker: &mut Checker,
    register: &mut Register,
    place: &Place,
    shape: &KeyShape,
    whole: Range<usize>,
    raw: RawSa,
) -> Option<KeyMaterial> {
    let (span, field, key) = match (raw.key, raw.key_file) {
        (Some(key), None) => {
            register.inline_keys = true;
            (
                key.span(),
                format!("{}.key", place.field),
                KeyMaterial::from_hex(&key.get_ref().0),
            )
        }
        (None, Some(file)) => (
            file.span(),
            format!("{}.key_file", place.field),
            read_sa_key(&checker.resolve(file.get_ref())),
        ),
        (given, _) => {
            let message = if given.is_some() {
                "both `key` and `key_file`"
            } else {
                "neither `key` nor `key_file`"
            };
            checker.at(whole, place.field.as_str(), message);
            return None;
        }
    };
    match usable(register, &field, shape, key) {
        Ok(key) => Some(key),
        Err(message) => {
            checker.at(span, field, message);
            None
        }
    }
}

/// A key of the right length that no other SA has.
fn usable(
    register: &mut Register,
    field: &str,
    shape: &KeyShape,
    key: Result<KeyMaterial, SecretError>,
) -> Result<KeyMaterial, String> {
    let key = key.map_err(|error| error.to_string())?;
    let bytes = key.expose();
    if bytes.len() != shape.bytes {
        return Err(shape.wrong(bytes.len()));
    }
    let without_salt = &bytes[..shape.bytes - shape.salt];
    if without_salt.iter().all(|byte| *byte == without_salt[0]) {
        return Err("every byte is the same: not a key".into());
    }
    // A repeated key repeats nonces, which gives it away (RFC 8221 section 4); the salt does not help AH against ESP.
    if let Some(other) = register
        .keys
        .insert(Sha256::digest(without_salt).into(), field.to_owned())
    {
        return Err(format!("the same key as {other}; every SA needs its own"));
    }
    Ok(key)
}
