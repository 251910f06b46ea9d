//! Small files that are there whole or not at all, and secret ones that go for good.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

/// Replaces the file at `path`, for its owner's eyes alone: after a crash at any point there is the old one or the new one, whole.
///
/// # Errors
/// What the kernel refuses; then the old one is there.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = beside(path, "new");
    // One that a crash left, or that somebody put there, has a mode of its own.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    write_synced(&options, &new, bytes)?;
    fs::rename(&new, path)?;
    sync_folder(path)
}

/// Makes the file at `path`, for its owner's eyes alone, unless there is one. Whole, even if another process makes it too.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`]; what the kernel refuses.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = beside(path, &format!("{}.new", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    write_synced(&options, &new, bytes)?;
    // No second name of the same file at any time: whoever erases one would erase the other.
    if let Err(error) = renameat2(AT_FDCWD, &new, AT_FDCWD, path, RenameFlags::RENAME_NOREPLACE) {
        fs::remove_file(&new)?;
        return Err(error.into());
    }
    sync_folder(path)
}

/// Overwrites the file at `path` with zeros, then removes it. A disk that writes elsewhere than it is told to (an SSD, a file system
/// with snapshots) may keep the old bytes for a while: only encryption of the whole disk helps against who takes that away.
///
/// # Errors
/// What the kernel refuses; then the file may still be there.
pub fn erase(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&vec![0; length])?;
    file.sync_all()?;
    fs::remove_file(path)?;
    sync_folder(path)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(ending);
    name.into()
}

fn write_synced(options: &OpenOptions, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_whole_private_and_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        create(&path, b"one").unwrap();
        assert_eq!(create(&path, b"two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace(&path, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// Who had the file open before sees zeros where the secret was.
    #[test]
    fn what_is_erased_was_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        create(&path, b"secret").unwrap();
        let other_name = dir.path().join("b");
        fs::hard_link(&path, &other_name).unwrap();
        erase(&path).unwrap();
        assert!(!path.exists());
        assert_eq!(fs::read(&other_name).unwrap(), [0; 6]);
    }
}
