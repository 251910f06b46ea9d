//! HMAC-SHA2-256-128, AES-128-GMAC and AES-CMAC-96.

use super::{Portable, check_key_length};
use crate::{KeyLengthError, Mac, MacAlgorithm, MacJob, TAG_BYTES};
use aes::Aes128;
use aes_gcm::Aes128Gcm;
use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::inout::InOutBuf;
use cmac::Cmac;
use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;
use std::fmt;
use zeroize::Zeroizing;

/// Expanded AH key of [`Portable`].
pub struct PortableMacKey(Expanded);

enum Expanded {
    /// SHA-256 after the inner and after the outer key block.
    Hmac(Hmac<Sha256>),
    /// AES schedule, GHASH key, and the salt that opens every nonce (RFC 4543 section 3.2).
    Gmac {
        cipher: Aes128Gcm,
        salt: Zeroizing<[u8; 4]>,
    },
    /// AES schedule and the two subkeys.
    Cmac(Cmac<Aes128>),
}

impl fmt::Debug for PortableMacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Expanded::Hmac(_) => "PortableMacKey(HmacSha256_128, ..)",
            Expanded::Gmac { .. } => "PortableMacKey(Aes128Gmac, ..)",
            Expanded::Cmac(_) => "PortableMacKey(AesCmac96, ..)",
        })
    }
}

impl Mac for Portable {
    type MacKey = PortableMacKey;

    fn mac_key(algorithm: MacAlgorithm, material: &[u8]) -> Result<PortableMacKey, KeyLengthError> {
        check_key_length(material, algorithm.key_bytes())?;
        Ok(PortableMacKey(match algorithm {
            MacAlgorithm::HmacSha256_128 => {
                Expanded::Hmac(Hmac::new_from_slice(material).expect("HMAC takes a key of any length"))
            }
            MacAlgorithm::Aes128Gmac => {
                let (key, salt) = material.split_first_chunk::<16>().expect("length checked above");
                Expanded::Gmac {
                    cipher: Aes128Gcm::new(key.into()),
                    salt: Zeroizing::new(salt.try_into().expect("length checked above")),
                }
            }
            MacAlgorithm::AesCmac96 => Expanded::Cmac(Cmac::new_from_slice(material).expect("length checked above")),
        }))
    }

    fn compute(&mut self, jobs: &mut [MacJob<'_, PortableMacKey>]) {
        for job in jobs {
            job.tag = match &job.key.0 {
                Expanded::Hmac(keyed) => hmac_tag(keyed, job.message),
                Expanded::Gmac { cipher, salt } => gmac_tag(cipher, &nonce(salt, &job.iv), job.message),
                Expanded::Cmac(keyed) => cmac_tag(keyed, job.message),
            };
        }
    }
}

/// The nonce of RFC 4543 section 3.2 and RFC 4106 section 4: salt, then IV.
pub(super) fn nonce(salt: &[u8; 4], iv: &[u8; 8]) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(salt);
    nonce[4..].copy_from_slice(iv);
    nonce
}

/// RFC 4868 section 2.3: the first 128 bits.
fn hmac_tag(keyed: &Hmac<Sha256>, message: &[u8]) -> [u8; TAG_BYTES] {
    let mut state = keyed.clone();
    state.update(message);
    let full = state.finalize().into_bytes();
    full[..TAG_BYTES].try_into().expect("SHA-256 yields 32 bytes")
}

/// RFC 4494 section 2: the first 96 bits.
fn cmac_tag(keyed: &Cmac<Aes128>, message: &[u8]) -> [u8; TAG_BYTES] {
    const BYTES: usize = MacAlgorithm::AesCmac96.tag_bytes();
    let mut state = keyed.clone();
    state.update(message);
    let mut tag: [u8; TAG_BYTES] = state.finalize().into_bytes().into();
    tag[BYTES..].fill(0);
    tag
}

/// GCM over no plaintext, the message being additional data (RFC 4543 section 3.3).
fn gmac_tag(cipher: &Aes128Gcm, nonce: &[u8; 12], message: &[u8]) -> [u8; TAG_BYTES] {
    let nothing = InOutBuf::from(&mut [][..]);
    cipher
        .encrypt_inout_detached(nonce.into(), message, nothing)
        .expect("GCM takes 2^61 bytes of additional data")
        .into()
}
