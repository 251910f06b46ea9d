//! The folder that charon loads from: nothing in it is another user's to change, and no credential stays that the node has given up.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use zeroize::Zeroizing;

use super::{IkeConfigError, failed, swanctl};
use crate::config::Credentials;
use crate::files;

/// Longest file of a certificate or a key, bytes.
const CREDENTIAL_BYTES_MAX: u64 = 64 << 10;
/// Of credentials, below `swanctl`.
const FOLDERS: [&str; 3] = ["x509", "x509ca", "private"];

/// Makes `dir` and the folders below it. The latter are their owner's alone; of `dir`, which somebody may have made, it is enough that
/// nobody else writes there. Each is root's or this user's, and no link to elsewhere.
pub(super) fn make(dir: &Path) -> Result<(), IkeConfigError> {
    make_one(dir)?;
    let swanctl = dir.join("swanctl");
    let below = FOLDERS.map(|folder| swanctl.join(folder));
    [swanctl].iter().chain(&below).try_for_each(|folder| {
        make_one(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(|source| failed(folder, source))
    })
}

fn make_one(folder: &Path) -> Result<(), IkeConfigError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    let shown = made.and_then(|()| fs::symlink_metadata(folder));
    let shown = shown.map_err(|source| failed(folder, source))?;
    let is_ours = shown.is_dir() && [0, geteuid().as_raw()].contains(&shown.uid());
    if !is_ours || shown.mode() & 0o022 != 0 {
        return Err(IkeConfigError::Writable(folder.to_owned()));
    }
    Ok(())
}

/// Copies `credentials` to where charon looks for them, and erases those that were copied there before and are none of them,
/// nor what they are copied from. All are read first: one may stand where another comes.
pub(super) fn put(credentials: Option<&Credentials>, swanctl: &Path) -> Result<(), IkeConfigError> {
    let copies = credentials.map(|files| copies(files, swanctl)).unwrap_or_default();
    let contents: Vec<_> = copies.iter().map(|(from, _)| read(from)).collect::<Result<_, _>>()?;
    for ((_, to), bytes) in copies.iter().zip(&contents) {
        replace(to, bytes)?;
    }
    let current = copies.iter().flat_map(|(from, to)| [*from, to]);
    let current = current.map(|file| fs::canonicalize(file).map_err(|source| failed(file, source)));
    let current: Vec<PathBuf> = current.collect::<Result<_, _>>()?;
    FOLDERS.iter().try_for_each(|folder| {
        let folder = swanctl.join(folder);
        let is_current = |file: &Path| fs::canonicalize(file).is_ok_and(|file| current.contains(&file));
        erase_old(&folder, is_current).map_err(|source| failed(&folder, source))
    })
}

/// From where to where.
fn copies<'a>(credentials: &'a Credentials, swanctl: &Path) -> Vec<(&'a Path, PathBuf)> {
    let own = |from: &'a PathBuf, folder: &str| (from.as_path(), swanctl.join(folder).join(swanctl::OWN_FILE));
    let authorities = credentials.ca_files.iter().enumerate();
    let authorities =
        authorities.map(|(at, from)| (from.as_path(), swanctl.join("x509ca").join(swanctl::authority(at))));
    [
        own(&credentials.cert_file, "x509"),
        own(&credentials.key_file, "private"),
    ]
    .into_iter()
    .chain(authorities)
    .collect()
}

/// Files without the prefix are the operator's, and so is what is no file.
fn erase_old(folder: &Path, is_current: impl Fn(&Path) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_ours = entry.file_type()?.is_file()
            && entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(swanctl::PREFIX.as_bytes());
        if is_ours && !is_current(&entry.path()) {
            files::erase(&entry.path())?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, IkeConfigError> {
    let bytes = fs::metadata(path).map_err(|source| failed(path, source))?.len();
    if bytes > CREDENTIAL_BYTES_MAX {
        return Err(failed(path, io::ErrorKind::FileTooLarge.into()));
    }
    fs::read(path)
        .map(Zeroizing::new)
        .map_err(|source| failed(path, source))
}

/// As [`files::replace`] does.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), IkeConfigError> {
    files::replace(path, bytes).map_err(|source| failed(path, source))
}
