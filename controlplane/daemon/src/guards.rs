//! The guards of the node on disk: a line each, node id and Unix time until which it is one, most wanted first.

use std::io;
use std::path::{Path, PathBuf};

use ain_controlplane::guard::Guard;
use thiserror::Error;

use crate::files;

/// File in the state directory.
const FILE: &str = "guards";

/// Why the guards of an earlier process are not known.
#[derive(Debug, Error)]
pub enum GuardsError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Something else is in it.
    #[error("{path}:{line}: not a node id and a time; remove the file to have new guards drawn")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
}

/// The guards kept in `state_dir`; none if there never were any.
///
/// # Errors
/// See [`GuardsError`].
pub fn load(state_dir: &Path) -> Result<Vec<Guard>, GuardsError> {
    let path = state_dir.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        outcome => outcome.map_err(|source| GuardsError::Io {
            path: path.clone(),
            source,
        })?,
    };
    let guards = text.lines().zip(1..).map(|(text, line)| {
        parse(text).ok_or_else(|| GuardsError::Damaged {
            path: path.clone(),
            line,
        })
    });
    guards.collect()
}

/// Keeps `guards` in `state_dir`, for the eyes of its owner alone.
///
/// # Errors
/// The file cannot be written; then the guards kept before are.
pub fn keep(state_dir: &Path, guards: &[Guard]) -> Result<(), GuardsError> {
    let path = state_dir.join(FILE);
    let lines = guards.iter().map(|guard| format!("{} {}\n", guard.node, guard.until));
    let text: String = lines.collect();
    files::replace(&path, text.as_bytes()).map_err(|source| GuardsError::Io { path, source })
}

fn parse(line: &str) -> Option<Guard> {
    let (node, until) = line.split_once(' ')?;
    Some(Guard {
        node: node.parse().ok()?,
        until: until.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use ain_controlplane::directory::NodeId;

    use super::*;

    #[test]
    fn line_8_guards_survive_a_restart_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()).unwrap(), []);
        let guards = [3, 1, 2].map(|number| Guard {
            node: NodeId([number; 32]),
            until: u64::from(number) << 32,
        });
        keep(dir.path(), &guards).unwrap();
        assert_eq!(load(dir.path()).unwrap(), guards);
        let path = dir.path().join(FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "zz 1\n").unwrap();
        assert!(matches!(load(dir.path()), Err(GuardsError::Damaged { line: 1, .. })));
    }
}
