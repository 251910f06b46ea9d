//! The AH algorithms: sorts a burst by algorithm and hands each part to its own code.

use std::fmt;

use ain_crypto::{KeyLengthError, Mac, MacAlgorithm, MacJob, prefetch};
use arrayvec::ArrayVec;

use crate::cmac::{self, CmacKey, CmacLane};
use crate::gcm::{GcmKey, KeySize, Op};
use crate::hmac::{HmacKey, HmacLane};
use crate::manager::{BURST, Library};
use crate::{IpsecMb, check_key_length};

/// How many messages ahead of the one in work the next is asked for: packets come from the third-level cache or memory.
const AHEAD: usize = 2;

/// Expanded AH key of [`IpsecMb`].
pub struct MacKey(Expanded);

#[expect(
    clippy::large_enum_variant,
    reason = "one key an SA; a pointer more on the packet path costs more than the bytes"
)]
enum Expanded {
    Hmac(HmacKey),
    Gmac(GcmKey),
    Cmac(CmacKey),
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Expanded::Hmac(_) => "MacKey(HmacSha256_128, ..)",
            Expanded::Gmac(_) => "MacKey(Aes128Gmac, ..)",
            Expanded::Cmac(_) => "MacKey(AesCmac96, ..)",
        })
    }
}

impl Mac for IpsecMb {
    type MacKey = MacKey;

    /// # Panics
    /// Where there is no [`IpsecMb`] to use the key with.
    fn mac_key(algorithm: MacAlgorithm, material: &[u8]) -> Result<MacKey, KeyLengthError> {
        check_key_length(material, algorithm.key_bytes())?;
        Ok(MacKey(match algorithm {
            MacAlgorithm::HmacSha256_128 => Expanded::Hmac(HmacKey::expand(Library::of_a_backend(), material)),
            MacAlgorithm::Aes128Gmac => Expanded::Gmac(GcmKey::expand(KeySize::Aes128, material)),
            MacAlgorithm::AesCmac96 => {
                let key = material.try_into().expect("length checked above");
                Expanded::Cmac(CmacKey::expand(Library::of_a_backend(), key))
            }
        }))
    }

    fn compute(&mut self, jobs: &mut [MacJob<'_, MacKey>]) {
        for jobs in jobs.chunks_mut(BURST) {
            let mut hmac: ArrayVec<HmacLane<'_>, BURST> = ArrayVec::new();
            let mut cmac: ArrayVec<CmacLane<'_>, BURST> = ArrayVec::new();
            let messages: ArrayVec<&[u8], BURST> = jobs.iter().map(|job| job.message).collect();
            for (at, MacJob { key, iv, message, tag }) in jobs.iter_mut().enumerate() {
                if let Some(ahead) = messages.get(at + AHEAD) {
                    prefetch(*ahead);
                }
                match &key.0 {
                    // GCM over no plaintext, the message being additional data (RFC 4543 section 3.3).
                    Expanded::Gmac(key) => *tag = key.run(self.library, Op::Seal, iv, message, &mut []),
                    Expanded::Hmac(key) => hmac.push(HmacLane { key, message, tag }),
                    Expanded::Cmac(key) => cmac.push(CmacLane { key, message, tag }),
                }
            }
            self.hmac.run(&mut self.manager, &mut hmac);
            cmac::run(&mut self.manager, &mut cmac);
        }
    }
}
