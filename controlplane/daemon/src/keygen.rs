//! The identity key of a new node, and keys of hand-made tunnels.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ain_controlplane::directory::Entry;
use ain_crypto::{AeadAlgorithm, MacAlgorithm};
use rand::TryRng;
use rand::rngs::SysRng;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::config::secret::write_identity;
use crate::config::{entry, public_of};

/// File of the identity key, in the folder that is asked for.
pub const IDENTITY_FILE: &str = "identity.key";

/// Why no key was made.
#[derive(Debug, Error)]
pub enum KeygenError {
    /// The file cannot be made; it may be there already, and is never overwritten.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The operating system gives no random bytes.
    #[error("no random bytes from the operating system: {0}")]
    Random(String),
}

/// `N` bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, KeygenError> {
    let mut bytes = Zeroizing::new([0; N]);
    SysRng
        .try_fill_bytes(bytes.as_mut())
        .map_err(|error| KeygenError::Random(error.to_string()))?;
    Ok(bytes)
}

/// Makes the identity key in `directory` and returns the draft of the node's entry for the network's directory.
pub fn identity(directory: &Path, name: &str, address: IpAddr) -> Result<String, KeygenError> {
    let path = directory.join(IDENTITY_FILE);
    let secret = random::<32>()?;
    write_identity(&path, &secret).map_err(|source| KeygenError::File { path, source })?;
    Ok(entry::draft(&Entry::new(name, public_of(&secret), address)))
}

/// The lines of one hand-made tunnel, for the files of both its ends: what goes out at one comes in at the other. SPIs are
/// random from 2^16 up.
pub fn tunnel_keys(ah: MacAlgorithm, esp: AeadAlgorithm) -> Result<Zeroizing<String>, KeygenError> {
    let [to_second_ah, to_first_ah] = [sa_line(ah.key_bytes())?, sa_line(ah.key_bytes())?];
    let [to_second_esp, to_first_esp] = [sa_line(esp.key_bytes())?, sa_line(esp.key_bytes())?];
    let mut text = Zeroizing::new(String::with_capacity(2048));
    let mut end = |title: &str, ah_in: &str, ah_out: &str, esp_in: &str, esp_out: &str| {
        writeln!(
            text,
            "# {title}\nah      = \"{}\"\nesp     = \"{}\"\nah_in   = {ah_in}\nah_out  = {ah_out}\nesp_in  = {esp_in}\nesp_out = {esp_out}",
            ah_name(ah),
            esp_name(esp)
        )
    };
    end("one end", &to_first_ah, &to_second_ah, &to_first_esp, &to_second_esp).expect("a string takes all");
    end("other end", &to_second_ah, &to_first_ah, &to_second_esp, &to_first_esp).expect("a string takes all");
    Ok(text)
}

const fn ah_name(ah: MacAlgorithm) -> &'static str {
    match ah {
        MacAlgorithm::HmacSha256_128 => "hmac-sha2-256-128",
        MacAlgorithm::Aes128Gmac => "aes-128-gmac",
        MacAlgorithm::AesCmac96 => "aes-cmac-96",
    }
}

const fn esp_name(esp: AeadAlgorithm) -> &'static str {
    match esp {
        AeadAlgorithm::Aes128Gcm16 => "aes-128-gcm-16",
        AeadAlgorithm::Aes256Gcm16 => "aes-256-gcm-16",
    }
}

/// `{ spi = ..., key = "..." }` with `bytes` bytes of key.
fn sa_line(bytes: usize) -> Result<Zeroizing<String>, KeygenError> {
    let spi = u32::from_be_bytes(*random::<4>()?) | 0x1_0000;
    let key = random::<64>()?;
    let mut digits = Zeroizing::new([0; 128]);
    hex::encode_to_slice(key.as_slice(), digits.as_mut()).expect("128 digits hold 64 bytes");
    let digits = std::str::from_utf8(&digits[..2 * bytes]).expect("digits are ASCII");
    let mut line = Zeroizing::new(String::with_capacity(192));
    write!(line, "{{ spi = 0x{spi:08x}, key = \"{digits}\" }}").expect("a string takes all");
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::secret::read_identity;

    #[test]
    fn makes_a_private_file_and_never_overwrites_it() {
        let dir = tempfile::tempdir().unwrap();
        let draft = identity(dir.path(), "ain1", "192.0.2.1".parse().unwrap()).unwrap();
        let path = dir.path().join(IDENTITY_FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let secret = read_identity(&path).unwrap();
        assert!(draft.contains(&hex::encode(public_of(secret.expose_array().unwrap()))));
        assert!(!draft.contains(&hex::encode(secret.expose())));
        let before = std::fs::read(&path).unwrap();
        assert!(identity(dir.path(), "ain1", "192.0.2.1".parse().unwrap()).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
