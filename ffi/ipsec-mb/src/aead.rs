//! AES-128-GCM-16 and AES-256-GCM-16.

use std::fmt;

use ain_crypto::{Aead, AeadAlgorithm, AeadJob, KeyLengthError};
use subtle::ConstantTimeEq;

use crate::gcm::{GcmKey, KeySize, Op};
use crate::{IpsecMb, check_key_length};

/// Expanded ESP key of [`IpsecMb`].
pub struct AeadKey(GcmKey);

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.size() {
            KeySize::Aes128 => "AeadKey(Aes128Gcm16, ..)",
            KeySize::Aes256 => "AeadKey(Aes256Gcm16, ..)",
        })
    }
}

impl Aead for IpsecMb {
    type AeadKey = AeadKey;

    /// # Panics
    /// Where there is no [`IpsecMb`] to use the key with.
    fn aead_key(algorithm: AeadAlgorithm, material: &[u8]) -> Result<AeadKey, KeyLengthError> {
        check_key_length(material, algorithm.key_bytes())?;
        let size = match algorithm {
            AeadAlgorithm::Aes128Gcm16 => KeySize::Aes128,
            AeadAlgorithm::Aes256Gcm16 => KeySize::Aes256,
        };
        Ok(AeadKey(GcmKey::expand(size, material)))
    }

    fn seal(&mut self, jobs: &mut [AeadJob<'_, AeadKey>]) {
        for job in jobs {
            job.tag = job.key.0.run(self.library, Op::Seal, &job.iv, job.aad, job.text);
        }
    }

    fn open(&mut self, jobs: &mut [AeadJob<'_, AeadKey>]) {
        for job in jobs {
            let tag = job.key.0.run(self.library, Op::Open, &job.iv, job.aad, job.text);
            job.authentic = tag.ct_eq(&job.tag).into();
        }
    }
}
