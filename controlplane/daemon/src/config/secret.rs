//! Key material and the files it comes from. It redacts itself, is wiped when dropped, and can neither be copied nor printed.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::files;

/// Longest key file, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 4096;

/// Secret bytes.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct KeyMaterial(Box<[u8]>);

impl KeyMaterial {
    /// Takes over `bytes`.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes.into_boxed_slice())
    }

    /// From hex digits, white space around them allowed.
    pub fn from_hex(text: &str) -> Result<Self, SecretError> {
        hex::decode(text.trim()).map(Self::new).map_err(|_| SecretError::NotHex)
    }

    /// The bytes, for the code that makes a key schedule of them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, if they are `N`.
    pub fn expose_array<const N: usize>(&self) -> Option<&[u8; N]> {
        self.0.as_ref().try_into().ok()
    }
}

impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyMaterial({} bytes)", self.0.len())
    }
}

/// Why a key could not be had.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The text is not pairs of hex digits.
    #[error("not an even number of hex digits")]
    NotHex,
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// Cause.
        source: std::io::Error,
    },
    /// Others may read the file.
    #[error(
        "{path}: mode {mode:03o} lets others than its owner at it; `chmod 600` it and make a new key if others could"
    )]
    Exposed {
        /// The file.
        path: String,
        /// Permission bits.
        mode: u32,
    },
    /// Not a plain file of a sensible size.
    #[error("{path}: not a plain file of at most 4096 bytes")]
    NotAKeyFile {
        /// The file.
        path: String,
    },
    /// The file has another kind of key.
    #[error("{path}: does not start with `{tag}`")]
    WrongKind {
        /// The file.
        path: String,
        /// What it should start with.
        tag: String,
    },
    /// The file has a key of another length.
    #[error("{path}: {given} bytes of key where {wanted} are due")]
    WrongLength {
        /// The file.
        path: String,
        /// Bytes it has.
        given: usize,
        /// Bytes it should have.
        wanted: usize,
    },
}

/// Refuses permission bits that give group or world any access.
pub fn check_mode(path: &Path, file: &File) -> Result<(), SecretError> {
    let metadata = file.metadata().map_err(|source| SecretError::Unreadable {
        path: path.display().to_string(),
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed {
            path: path.display().to_string(),
            mode,
        });
    }
    Ok(())
}

/// Reads a file that only its owner may read.
fn read_private(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    // A key in place of its file's name is not repeated.
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let looks_like_a_key = name.len() >= 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let shown = || {
        if looks_like_a_key {
            "(hex digits where a path is due)".into()
        } else {
            path.display().to_string()
        }
    };
    let unreadable = |source| SecretError::Unreadable { path: shown(), source };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > KEY_FILE_BYTES_MAX {
        return Err(SecretError::NotAKeyFile { path: shown() });
    }
    check_mode(path, &file)?;
    // Room from the start: a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(KEY_FILE_BYTES_MAX as usize + 1));
    file.take(KEY_FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    Ok(text)
}

/// Key material of an SA: a file of hex digits.
pub fn read_sa_key(path: &Path) -> Result<KeyMaterial, SecretError> {
    KeyMaterial::from_hex(&read_private(path)?)
}

/// What the file of an identity key starts with.
const IDENTITY_TAG: &str = "ed25519-secret:";
/// Bytes of an Ed25519 secret key.
const IDENTITY_BYTES: usize = 32;

/// Reads an identity key, Ed25519.
pub fn read_identity(path: &Path) -> Result<KeyMaterial, SecretError> {
    let key = read_tagged(path, IDENTITY_TAG)?;
    match key.expose().len() {
        IDENTITY_BYTES => Ok(key),
        given => Err(SecretError::WrongLength {
            path: path.display().to_string(),
            given,
            wanted: IDENTITY_BYTES,
        }),
    }
}

/// Reads a key whose file starts with `tag`, so that no two kinds can be taken for each other.
pub fn read_tagged(path: &Path, tag: &str) -> Result<KeyMaterial, SecretError> {
    let text = read_private(path)?;
    let Some(digits) = text.strip_prefix(tag) else {
        return Err(SecretError::WrongKind {
            path: path.display().to_string(),
            tag: tag.to_owned(),
        });
    };
    KeyMaterial::from_hex(digits)
}

/// Makes the file of an identity key; one that is there is never overwritten.
///
/// # Errors
/// It is there; what the kernel refuses.
pub fn write_identity(path: &Path, secret: &[u8; IDENTITY_BYTES]) -> std::io::Result<()> {
    write_tagged(path, IDENTITY_TAG, secret)
}

/// Makes the file that [`read_tagged`] reads; one that is there is never overwritten.
///
/// # Errors
/// It is there; what the kernel refuses.
pub fn write_tagged(path: &Path, tag: &str, secret: &[u8]) -> std::io::Result<()> {
    // Room from the start: a text that grows leaves copies behind.
    let mut text = Zeroizing::new(vec![0; tag.len() + 2 * secret.len() + 1]);
    let (start, digits) = text.split_at_mut(tag.len());
    start.copy_from_slice(tag.as_bytes());
    let (digits, end) = digits.split_at_mut(2 * secret.len());
    hex::encode_to_slice(secret, digits).expect("two digits a byte");
    end[0] = b'\n';
    files::create(path, &text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(dir: &Path, name: &str, text: &str, mode: u32) -> std::path::PathBuf {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn refuses_files_that_others_may_read_or_write() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o640, 0o604, 0o660, 0o620, 0o602] {
            let path = write(dir.path(), "k", "00112233\n", mode);
            assert!(matches!(read_sa_key(&path), Err(SecretError::Exposed { mode: m, .. }) if m == mode));
        }
        let path = write(dir.path(), "k", "00112233\n", 0o600);
        assert_eq!(read_sa_key(&path).unwrap().expose(), [0, 0x11, 0x22, 0x33]);
    }

    #[test]
    fn tells_kinds_of_keys_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        write_tagged(&path, "other:", &[7; 32]).unwrap();
        assert_eq!(read_tagged(&path, "other:").unwrap().expose(), [7; 32]);
        assert!(matches!(read_identity(&path), Err(SecretError::WrongKind { .. })));
        assert!(write_identity(&path, &[8; 32]).is_err());
        fs::remove_file(&path).unwrap();
        write_identity(&path, &[8; 32]).unwrap();
        assert_eq!(read_identity(&path).unwrap().expose(), [8; 32]);
    }

    #[test]
    fn refuses_what_is_no_key_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read_sa_key(dir.path()), Err(SecretError::NotAKeyFile { .. })));
        assert!(matches!(
            read_sa_key(&dir.path().join("none")),
            Err(SecretError::Unreadable { .. })
        ));
        let long = write(dir.path(), "long", &"0".repeat(4097), 0o600);
        assert!(matches!(read_sa_key(&long), Err(SecretError::NotAKeyFile { .. })));
        let odd = write(dir.path(), "odd", "012", 0o600);
        assert!(matches!(read_sa_key(&odd), Err(SecretError::NotHex)));
        let short = write(dir.path(), "short", "ed25519-secret:0011", 0o600);
        assert!(matches!(
            read_identity(&short),
            Err(SecretError::WrongLength { given: 2, .. })
        ));
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(
            format!("{:?}", KeyMaterial::new(vec![0xab; 20])),
            "KeyMaterial(20 bytes)"
        );
    }
}
