//! AES-128-GCM-16 and AES-256-GCM-16.

use super::mac::nonce;
use super::{Portable, check_key_length};
use crate::{Aead, AeadAlgorithm, AeadJob, KeyLengthError, TAG_BYTES};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, Error, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use std::fmt;
use zeroize::Zeroizing;

/// Expanded ESP key of [`Portable`].
pub struct PortableAeadKey {
    cipher: Cipher,
    /// Opens every nonce (RFC 4106 section 4).
    salt: Zeroizing<[u8; 4]>,
}

enum Cipher {
    Aes128(Aes128Gcm),
    Aes256(Aes256Gcm),
}

impl fmt::Debug for PortableAeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.cipher {
            Cipher::Aes128(_) => "PortableAeadKey(Aes128Gcm16, ..)",
            Cipher::Aes256(_) => "PortableAeadKey(Aes256Gcm16, ..)",
        })
    }
}

impl Aead for Portable {
    type AeadKey = PortableAeadKey;

    fn aead_key(algorithm: AeadAlgorithm, material: &[u8]) -> Result<PortableAeadKey, KeyLengthError> {
        check_key_length(material, algorithm.key_bytes())?;
        let (key, salt) = material.split_last_chunk::<4>().expect("length checked above");
        let cipher = match algorithm {
            AeadAlgorithm::Aes128Gcm16 => Cipher::Aes128(Aes128Gcm::new_from_slice(key).expect("length checked above")),
            AeadAlgorithm::Aes256Gcm16 => Cipher::Aes256(Aes256Gcm::new_from_slice(key).expect("length checked above")),
        };
        Ok(PortableAeadKey {
            cipher,
            salt: Zeroizing::new(*salt),
        })
    }

    fn seal(&mut self, jobs: &mut [AeadJob<'_, PortableAeadKey>]) {
        for job in jobs {
            job.tag = job.key.seal(&job.iv, job.aad, job.text);
        }
    }

    fn open(&mut self, jobs: &mut [AeadJob<'_, PortableAeadKey>]) {
        for job in jobs {
            job.authentic = job.key.open(&job.iv, job.aad, job.text, &job.tag).is_ok();
        }
    }
}

impl PortableAeadKey {
    fn seal(&self, iv: &[u8; 8], aad: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES] {
        let nonce = &nonce(&self.salt, iv).into();
        let text = InOutBuf::from(text);
        match &self.cipher {
            Cipher::Aes128(gcm) => gcm.encrypt_inout_detached(nonce, aad, text),
            Cipher::Aes256(gcm) => gcm.encrypt_inout_detached(nonce, aad, text),
        }
        .expect("GCM takes 64 GiB a message")
        .into()
    }

    /// Compares the tag in constant time before it decrypts.
    fn open(&self, iv: &[u8; 8], aad: &[u8], text: &mut [u8], tag: &[u8; TAG_BYTES]) -> Result<(), Error> {
        let nonce = &nonce(&self.salt, iv).into();
        let text = InOutBuf::from(text);
        match &self.cipher {
            Cipher::Aes128(gcm) => gcm.decrypt_inout_detached(nonce, aad, text, tag.into()),
            Cipher::Aes256(gcm) => gcm.decrypt_inout_detached(nonce, aad, text, tag.into()),
        }
    }
}
