//! The tunnels of a differential run: their associations, and the primitives under them, straight from their crates.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit as _};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use ain_crypto::{AeadAlgorithm, MacAlgorithm};
use cmac::Cmac;
use hmac::{Hmac, Mac as _};
use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use sha2::Sha256;

/// Addresses and associations of one tunnel towards the node.
pub struct Tunnel {
    /// IPv6 outside, else IPv4.
    pub v6: bool,
    /// AH algorithm.
    pub ah: MacAlgorithm,
    /// ESP algorithm.
    pub esp: AeadAlgorithm,
    /// Extended sequence numbers.
    pub esn: bool,
    /// Number up to which all numbers of both associations count as seen at the start.
    pub start: u64,
    /// SPI of the AH association.
    pub ah_spi: u32,
    /// SPI of the ESP association.
    pub esp_spi: u32,
    /// Outer source, 4 or 16 bytes.
    pub source: Vec<u8>,
    /// Outer destination, as long.
    pub destination: Vec<u8>,
    /// Key material of the AH association, a salt last.
    pub ah_key: Vec<u8>,
    /// Key material of the ESP association, a salt last.
    pub esp_key: Vec<u8>,
    mac: Keyed,
    aead: Keyed,
}

enum Keyed {
    Hmac(Hmac<Sha256>),
    Cmac(Cmac<aes::Aes128>),
    Gcm128(Aes128Gcm),
    Gcm256(Aes256Gcm),
}

impl Keyed {
    fn gcm(key: &[u8]) -> Self {
        match key.len() {
            16 => Self::Gcm128(Aes128Gcm::new_from_slice(key).expect("16 bytes")),
            _ => Self::Gcm256(Aes256Gcm::new_from_slice(key).expect("32 bytes")),
        }
    }
}

/// Bytes of the salts of RFC 4106 and RFC 4543.
const SALT: usize = 4;

/// What tells the tunnels of a run apart.
#[derive(Clone, Copy)]
pub struct Kind {
    /// IPv6 outside, else IPv4.
    pub v6: bool,
    /// AH algorithm.
    pub ah: MacAlgorithm,
    /// ESP algorithm.
    pub esp: AeadAlgorithm,
    /// Extended sequence numbers.
    pub esn: bool,
}

impl Kind {
    /// Every combination of family, algorithms and numbering.
    pub fn all() -> Vec<Self> {
        let macs = [
            MacAlgorithm::HmacSha256_128,
            MacAlgorithm::AesCmac96,
            MacAlgorithm::Aes128Gmac,
        ];
        let mut all = Vec::new();
        for ah in macs {
            for esp in [AeadAlgorithm::Aes128Gcm16, AeadAlgorithm::Aes256Gcm16] {
                for (v6, esn) in [(false, true), (false, false), (true, true), (true, false)] {
                    all.push(Self { v6, ah, esp, esn });
                }
            }
        }
        all
    }
}

impl Tunnel {
    /// The tunnel of a number below 100: keys are drawn, and with ESN every other one is about to pass 2^32.
    pub fn new(kind: Kind, number: u8, rng: &mut ChaCha12Rng) -> Self {
        let mut draw = |bytes: usize| -> Vec<u8> { (0..bytes).map(|_| rng.random()).collect() };
        let (ah_key, esp_key) = (draw(kind.ah.key_bytes()), draw(kind.esp.key_bytes()));
        let address = |last: u8| match kind.v6 {
            false => vec![192, 0, 2, last],
            true => [&[0x20, 1, 0x0d, 0xb8, 0, 0xa1][..], &[0; 9], &[last]].concat(),
        };
        let mac = match kind.ah {
            MacAlgorithm::HmacSha256_128 => Keyed::Hmac(Hmac::new_from_slice(&ah_key).expect("any length")),
            MacAlgorithm::AesCmac96 => Keyed::Cmac(Cmac::new_from_slice(&ah_key).expect("16 bytes")),
            MacAlgorithm::Aes128Gmac => Keyed::gcm(&ah_key[..ah_key.len() - SALT]),
        };
        Self {
            v6: kind.v6,
            ah: kind.ah,
            esp: kind.esp,
            esn: kind.esn,
            start: if kind.esn && number % 4 < 2 { (1 << 32) - 40 } else { 0 },
            ah_spi: 0x0a00 + 2 * u32::from(number),
            esp_spi: 0x0a01 + 2 * u32::from(number),
            source: address(100 + number),
            destination: address(1),
            mac,
            aead: Keyed::gcm(&esp_key[..esp_key.len() - SALT]),
            ah_key,
            esp_key,
        }
    }

    /// Bytes of the IV in front of the AH's tag, and of the tag.
    pub fn icv_parts(&self) -> (usize, usize) {
        match self.ah {
            MacAlgorithm::HmacSha256_128 => (0, 16),
            MacAlgorithm::AesCmac96 => (0, 12),
            MacAlgorithm::Aes128Gmac => (8, 16),
        }
    }

    /// The AH's tag over `message`; `iv` is empty where the algorithm has none.
    pub fn tag(&self, message: &[u8], iv: &[u8]) -> Vec<u8> {
        let full: Vec<u8> = match &self.mac {
            Keyed::Hmac(keyed) => keyed.clone().chain_update(message).finalize().into_bytes().to_vec(),
            Keyed::Cmac(keyed) => keyed.clone().chain_update(message).finalize().into_bytes().to_vec(),
            gcm => seal(gcm, &nonce(&self.ah_key, iv), message, &mut []),
        };
        full[..self.icv_parts().1].to_vec()
    }

    /// Encrypts an ESP text in place; its ICV.
    pub fn seal(&self, iv: &[u8], additional: &[u8], text: &mut [u8]) -> Vec<u8> {
        seal(&self.aead, &nonce(&self.esp_key, iv), additional, text)
    }

    /// Decrypts an ESP text in place, if it is authentic.
    pub fn open(&self, iv: &[u8], additional: &[u8], text: &mut [u8], icv: &[u8]) -> bool {
        let nonce = nonce(&self.esp_key, iv);
        let (text, icv) = (InOutBuf::from(text), icv.try_into().expect("16 bytes"));
        match &self.aead {
            Keyed::Gcm128(gcm) => gcm.decrypt_inout_detached(&nonce.into(), additional, text, icv).is_ok(),
            Keyed::Gcm256(gcm) => gcm.decrypt_inout_detached(&nonce.into(), additional, text, icv).is_ok(),
            Keyed::Hmac(_) | Keyed::Cmac(_) => false,
        }
    }
}

/// The salt at the end of the key material, then the IV (RFC 4106 section 4, RFC 4543 section 3.2).
fn nonce(material: &[u8], iv: &[u8]) -> [u8; 12] {
    let salt = &material[material.len() - SALT..];
    [salt, iv].concat().try_into().expect("an IV of 8 bytes")
}

fn seal(keyed: &Keyed, nonce: &[u8; 12], additional: &[u8], text: &mut [u8]) -> Vec<u8> {
    let text = InOutBuf::from(text);
    match keyed {
        Keyed::Gcm128(gcm) => gcm
            .encrypt_inout_detached(nonce.into(), additional, text)
            .map(|tag| tag.to_vec()),
        Keyed::Gcm256(gcm) => gcm
            .encrypt_inout_detached(nonce.into(), additional, text)
            .map(|tag| tag.to_vec()),
        Keyed::Hmac(_) | Keyed::Cmac(_) => Ok(Vec::new()),
    }
    .expect("a short message")
}
