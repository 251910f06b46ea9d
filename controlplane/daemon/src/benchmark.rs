//! The `[benchmark]` section of a node's file: static AIVTs whose keys everybody knows, for packet generators that cannot signal.
//!
//! Such a node says so at its start, in `ain status` and in `ain_benchmark_aivts`, and takes on nothing that neighbours or hosts ask of
//! it. Its TVTs number their packets anew at each start under the keys of its PVTs, which must therefore never have been those of real
//! ones. Of that the state directory alone is checked: it is marked at the first start, one that a node without the section has used
//! is refused, and so is a marked one without the section. Keys that move to another directory are their owner's to watch.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use ain_controlplane::benchmark::{Benchmark, Part};
use ain_controlplane::table_writer::{TableError, TableWriter};
use ain_crypto::Backend;
use ain_dataplane::command::Event;
use ain_dataplane::id::PeerId;
use thiserror::Error;
use tracing::{debug, warn};

use crate::config::{BenchmarkConfig, NodeConfig};

/// What marks a state directory as a benchmark's.
const MARK: &str = "benchmark";

/// Why a node does not start on its state directory.
#[derive(Debug, Error)]
pub enum ClaimError {
    /// Its keys may protect somebody.
    #[error("{0}: a node without [benchmark] has used this state; give the benchmark a directory and keys of its own")]
    Real(PathBuf),
    /// Its keys protect nobody.
    #[error("{0}: the state of a benchmark; a real node needs a directory and keys of its own")]
    Benchmark(PathBuf),
    /// It cannot be read, or the mark not be written.
    #[error("{path}: {source}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

/// Makes sure that a state directory is used by benchmarks only, or by none. Call before the state is opened.
///
/// # Errors
/// See [`ClaimError`].
pub fn claim(state_dir: &Path, is_benchmark: bool) -> Result<(), ClaimError> {
    let failed = |source| ClaimError::Io {
        path: state_dir.into(),
        source,
    };
    let marked = state_dir.join(MARK).exists();
    match (is_benchmark, marked) {
        (false, true) => Err(ClaimError::Benchmark(state_dir.into())),
        (false, false) | (true, true) => Ok(()),
        (true, false) => {
            fs::create_dir_all(state_dir).map_err(failed)?;
            if fs::read_dir(state_dir).map_err(failed)?.next().is_some() {
                return Err(ClaimError::Real(state_dir.into()));
            }
            File::create(state_dir.join(MARK)).map(drop).map_err(failed)
        }
    }
}

/// The static AIVTs that a file asks for.
pub fn of(config: &NodeConfig, asked: &BenchmarkConfig) -> Benchmark {
    let ids = |from: usize, count: usize| (from..from + count).map(|id| PeerId(id as u16)).collect::<Vec<_>>();
    let (neighbours, hosts) = (config.neighbours.len(), config.hosts.len());
    let half = neighbours / 2;
    let (up, down) = match asked.part {
        Part::Entrance { .. } => (ids(neighbours, hosts), ids(0, neighbours)),
        Part::Intermediate => (ids(0, half), ids(half, neighbours - half)),
        Part::Exit => (ids(0, neighbours), ids(neighbours, hosts)),
    };
    Benchmark {
        part: asked.part,
        aivts: asked.aivts,
        up,
        down,
    }
}

/// Says what nobody must overlook.
pub fn warn_of(asked: &BenchmarkConfig) {
    let anti_replay = if asked.anti_replay { "on" } else { "OFF" };
    warn!(
        aivts = asked.aivts,
        anti_replay, "BENCHMARK: static AIVTs with keys that everybody knows; never let this node serve users"
    );
}

/// Takes the events that a control node would have had of the static AIVTs; gives back what else there is.
pub fn take<C: Backend, B>(
    benchmark: &Benchmark,
    writer: &mut TableWriter<C, B>,
    event: Event<C, B>,
) -> Option<Event<C, B>> {
    let done: Result<(), TableError> = match event {
        Event::NewFlow { flow, tunnel, pair } => benchmark.new_flow(writer, flow, (tunnel, pair)),
        Event::FirstDatagram(aivt, pair) => benchmark.first_datagram(writer, aivt, pair),
        other => return Some(other),
    };
    if let Err(error) = done {
        debug!(%error, "no static AIVT");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_is_a_benchmarks_or_a_real_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let (bench, real) = (dir.path().join("bench"), dir.path().join("real"));
        claim(&bench, true).unwrap();
        fs::write(bench.join("state"), "numbers").unwrap();
        claim(&bench, true).unwrap();
        assert!(matches!(claim(&bench, false), Err(ClaimError::Benchmark(_))));

        claim(&real, false).unwrap();
        fs::create_dir(&real).unwrap();
        fs::write(real.join("state"), "numbers").unwrap();
        claim(&real, false).unwrap();
        assert!(matches!(claim(&real, true), Err(ClaimError::Real(_))));
        assert!(!real.join(MARK).exists());
    }
}
