//! The unix socket of `ain status`, `ain reload` and `ain endpoint --close`: some words in, one answer out.
//!
//! `status` is answered with a [`Report`] in JSON, `reload` with what came of it. In a build with the feature `test-dump`, which is for
//! tests and says so at its start, `dump` is answered with all tables of the node.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use socket2::Type;
use thiserror::Error;
use tracing::debug;

use crate::listen::{ListenError, SocketFile, listen};
use crate::reload::{self, Reloader};
use crate::report::{Report, Source};

/// Time a client, or the node, may take for one step.
const STEP_TIME: Duration = Duration::from_secs(5);
/// Longest request, bytes.
const REQUEST_BYTES_MAX: u64 = 128;

/// Why there is no socket, or no answer.
#[derive(Debug, Error)]
pub enum AdminError {
    /// There can be no socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Nobody answers there.
    #[error("{path}: {source}; is the node running?")]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The kernel refuses.
    #[error("{path}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The node has no answer.
    #[error("the node says: {0}")]
    Refused(String),
}

/// Serves at `path` until the process ends. A socket that a crash left behind is replaced.
///
/// # Errors
/// See [`AdminError`].
pub fn serve(path: &Path, source: Arc<dyn Source>, reloader: Arc<Reloader>) -> Result<SocketFile, AdminError> {
    serve_words(path, move |words| match words {
        reload::REQUEST => reloader.reload(),
        _ => report_or_dump(words, &*source),
    })
}

/// As [`serve`], with whatever `answer` says to the words of a request.
///
/// # Errors
/// See [`AdminError`].
pub fn serve_words(
    path: &Path,
    answer: impl Fn(&str) -> Result<String, String> + Send + 'static,
) -> Result<SocketFile, AdminError> {
    let failed = |source| AdminError::Io {
        path: path.to_owned(),
        source,
    };
    let (listener, file) = listen(path, Type::STREAM)?;
    let listener = UnixListener::from(listener);
    let serve = move || {
        for connection in listener.incoming() {
            if let Err(error) = connection.and_then(|connection| converse(connection, &answer)) {
                debug!(%error, "an admin request came to nothing");
            }
        }
    };
    thread::Builder::new()
        .name("admin".into())
        .spawn(serve)
        .map_err(failed)?;
    Ok(file)
}

fn converse(mut connection: UnixStream, answer: &dyn Fn(&str) -> Result<String, String>) -> io::Result<()> {
    connection.set_read_timeout(Some(STEP_TIME))?;
    connection.set_write_timeout(Some(STEP_TIME))?;
    let mut request = String::new();
    (&connection).take(REQUEST_BYTES_MAX).read_to_string(&mut request)?;
    let outcome = answer(request.trim());
    let (mark, text) = match &outcome {
        Ok(text) => ("ok\n", text),
        Err(text) => ("error\n", text),
    };
    connection.write_all(mark.as_bytes())?;
    connection.write_all(text.as_bytes())
}

/// What the node answers to `words`.
fn report_or_dump(words: &str, source: &dyn Source) -> Result<String, String> {
    match words {
        "status" => source
            .report()
            .map_err(|error| error.to_string())
            .and_then(|report| serde_json::to_string(&report).map_err(|error| error.to_string())),
        #[cfg(feature = "test-dump")]
        "dump" => source.dump().map_err(|error| error.to_string()),
        _ => Err("no such request".to_owned()),
    }
}

/// Asks the process at `path`.
///
/// # Errors
/// See [`AdminError`].
pub(crate) fn ask(path: &Path, request: &str) -> Result<String, AdminError> {
    let failed = |source| AdminError::Io {
        path: path.to_owned(),
        source,
    };
    let mut connection = UnixStream::connect(path).map_err(|source| AdminError::NotRunning {
        path: path.to_owned(),
        source,
    })?;
    connection.set_read_timeout(Some(2 * STEP_TIME)).map_err(failed)?;
    connection.write_all(request.as_bytes()).map_err(failed)?;
    connection.shutdown(std::net::Shutdown::Write).map_err(failed)?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).map_err(failed)?;
    match answer.split_once('\n') {
        Some(("ok", text)) => Ok(text.to_owned()),
        Some(("error", text)) => Err(AdminError::Refused(text.to_owned())),
        _ => Err(failed(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// The report of the node at `path`.
///
/// # Errors
/// See [`AdminError`].
pub fn report(path: &Path) -> Result<Report, AdminError> {
    let text = ask(path, "status")?;
    serde_json::from_str(&text).map_err(|error| AdminError::Refused(format!("an answer of another version: {error}")))
}

/// All tables of the node at `path`.
///
/// # Errors
/// See [`AdminError`].
#[cfg(feature = "test-dump")]
pub fn dump(path: &Path) -> Result<String, AdminError> {
    ask(path, "dump")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::report::Stalled;
    use crate::report::tests::sample;

    struct Fixed(Result<Report, Stalled>);

    impl Source for Fixed {
        fn report(&self) -> Result<Report, Stalled> {
            self.0.clone()
        }

        #[cfg(feature = "test-dump")]
        fn dump(&self) -> Result<String, Stalled> {
            Ok("tables".into())
        }
    }

    fn start(path: &Path, report: Result<Report, Stalled>) -> Result<SocketFile, AdminError> {
        let source = Fixed(report);
        serve_words(path, move |words| report_or_dump(words, &source))
    }

    #[test]
    fn answers_with_the_report() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/ain.sock");
        let socket = start(&path, Ok(sample())).unwrap();
        assert_eq!(report(&path).unwrap(), sample());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(ask(&path, "nonsense"), Err(AdminError::Refused(_))));
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn tells_when_the_control_thread_stalls() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ain.sock");
        let _socket = start(&path, Err(Stalled)).unwrap();
        assert!(matches!(report(&path), Err(AdminError::Refused(why)) if why == Stalled.to_string()));
    }

    #[test]
    fn replaces_a_stale_socket_and_respects_a_live_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ain.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(matches!(report(&path), Err(AdminError::NotRunning { .. })));
        let _socket = start(&path, Ok(sample())).unwrap();
        assert!(matches!(
            start(&path, Ok(sample())),
            Err(AdminError::Listen(ListenError::InUse(_)))
        ));
        assert!(report(&path).is_ok());
    }

    #[test]
    fn a_file_in_its_place_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ain.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(start(&path, Ok(sample())).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    /// Only a build for tests gives its tables away.
    #[test]
    fn dump_is_there_in_test_builds_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ain.sock");
        let _socket = start(&path, Ok(sample())).unwrap();
        assert_eq!(ask(&path, "dump").is_ok(), cfg!(feature = "test-dump"));
    }
}
