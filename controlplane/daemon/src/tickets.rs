//! The secret that the keys of tickets come from, on disk: `state_dir/tickets.seed`, 32 random bytes, made once, readable by the node
//! alone.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ain_controlplane::config::Tickets;
use ain_controlplane::directory::TicketKey;
use ain_controlplane::ticket::{Past, Slice, TicketSeed};
use anyhow::Context;
use ed25519_dalek::SigningKey;
use rand::TryRng;
use rand::rngs::SysRng;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::config::NodeConfig;
use crate::files;

const SEED_FILE: &str = "tickets.seed";

/// Why the seed cannot be had.
#[derive(Debug, Error)]
pub enum SeedError {
    /// A file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Not 32 bytes.
    #[error("{0}: not the 32 bytes that the node wrote; remove it, and sign a new directory entry")]
    Seed(PathBuf),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> SeedError + use<> {
    let path = path.to_owned();
    move |source| SeedError::Io { path, source }
}

/// The node's seed in `state_dir`, made at the first call.
///
/// # Errors
/// See [`SeedError`].
pub fn seed(state_dir: &Path) -> Result<TicketSeed, SeedError> {
    let path = state_dir.join(SEED_FILE);
    let mut bytes = Zeroizing::new([0; 32]);
    let opened = File::open(&path);
    if opened
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    {
        SysRng.try_fill_bytes(&mut *bytes).map_err(|_| SeedError::Random)?;
        files::replace(&path, &*bytes).map_err(failed(&path))?;
        return Ok(TicketSeed::from_bytes(*bytes));
    }
    let mut file = opened.map_err(failed(&path))?;
    if file.metadata().map_err(failed(&path))?.len() != bytes.len() as u64 {
        return Err(SeedError::Seed(path));
    }
    file.read_exact(&mut *bytes).map_err(failed(&path))?;
    Ok(TicketSeed::from_bytes(*bytes))
}

/// What the control node of `config` needs for tickets, after `past`.
///
/// # Errors
/// The identity key is not 32 bytes long; [`SeedError`].
pub fn of(config: &NodeConfig, past: Past) -> anyhow::Result<Tickets> {
    let identity = config.identity_key.expose_array();
    Ok(Tickets {
        identity: SigningKey::from_bytes(identity.context("the identity key is not 32 bytes long")?),
        seed: seed(&config.state_dir)?,
        slice_s: config.network.ticket_slice_s,
        demand: config.tickets.demand,
        quota: config.tickets.quota,
        wallet: config.tickets.wallet,
        past,
    })
}

/// The public halves of `count` slices from the one that is before `wall`, for the node's directory entry.
pub fn public_keys(seed: &TicketSeed, wall: u64, slice_s: u32, count: u32) -> Vec<TicketKey> {
    let first = Slice::at(wall, slice_s).previous().0;
    (first..first.saturating_add(count))
        .map(|slice| seed.key(Slice(slice)).entry())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn line_7_the_seed_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = seed(dir.path()).unwrap().key(Slice(7)).entry();
        assert_eq!(seed(dir.path()).unwrap().key(Slice(7)).entry(), first);
        let path = dir.path().join(SEED_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, [1; 31]).unwrap();
        assert!(matches!(seed(dir.path()), Err(SeedError::Seed(_))));
    }
}
