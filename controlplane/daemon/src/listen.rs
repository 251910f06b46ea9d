//! Unix sockets that this process serves at: its owner's alone from their first moment, and gone when it ends.

use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

/// Connections that wait to be taken.
const BACKLOG: i32 = 16;

/// Why there is no socket.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Another process answers there.
    #[error("{0}: another process is running with this socket")]
    InUse(PathBuf),
    /// The kernel refuses.
    #[error("{path}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

/// The file of a socket, removed when dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Listens at `path`, in a folder that is made if it is not there. A socket that a crash left behind is replaced.
///
/// # Errors
/// See [`ListenError`].
pub fn listen(path: &Path, kind: Type) -> Result<(Socket, SocketFile), ListenError> {
    let failed = |source| ListenError::Io {
        path: path.to_owned(),
        source,
    };
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(failed)?;
    }
    let listener = match bind(path, kind) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path, kind)?;
            bind(path, kind).map_err(failed)?
        }
        other => other.map_err(failed)?,
    };
    Ok((listener, SocketFile(path.to_owned())))
}

/// A listening socket that only its owner may connect to from its first moment.
fn bind(path: &Path, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, kind, None)?;
    // The file that bind makes takes over the mode of the socket (unix(7) on Linux).
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Removes a socket that nobody listens to.
fn remove_stale(path: &Path, kind: Type) -> Result<(), ListenError> {
    let failed = |source| ListenError::Io {
        path: path.to_owned(),
        source,
    };
    let in_the_way = |metadata: std::fs::Metadata| !metadata.file_type().is_socket();
    if std::fs::symlink_metadata(path).is_ok_and(in_the_way) {
        return Err(failed(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there, and no socket",
        )));
    }
    let connected = Socket::new(Domain::UNIX, kind, None).and_then(|socket| socket.connect(&SockAddr::unix(path)?));
    match connected {
        Ok(()) => Err(ListenError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(failed),
        Err(source) => Err(failed(source)),
    }
}
