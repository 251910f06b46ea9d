//! The room of a node: how many entries its workers have, how much memory that takes, and in which pages it lies.

use ain_crypto::Backend;
use ain_dataplane::engine::Capacity;
use ain_dataplane::entry::{Flow, Tvt, Way};
use anyhow::bail;
use hugepages::{Kind, PlaceError};
use tracing::{info, warn};

use crate::config::{self, Hugepages, NodeConfig};

const MIB: usize = 1 << 20;
/// What the allocator adds to an entry.
const A_BLOCK: usize = 16;
/// Flow table (34), slots at the owner and those free at the control thread.
const A_HALF: usize = 34 + 8 + 4;
/// An AIVT at the control thread: `cargo bench -p ain-controlplane --bench churn`.
const CONTROL_OF_AN_AIVT: usize = 420;
/// A flow at the control thread, and its places in the maps of a worker.
const CONTROL_OF_A_FLOW: usize = 512;
/// Rings, reassembly, replay cache, message ids.
const FIXED: usize = 48 * MIB;

/// Room of each worker. An AIVT has two inbound halves at most, and each of them one owner, which may be the same for all.
pub fn of_each_worker(config: &NodeConfig) -> Capacity {
    Capacity {
        tvts: config.capacity.aivts.saturating_mul(2),
        tunnels: 1 << 12,
        flows: config.capacity.flows,
    }
}

/// Bytes of memory that a full node takes beside its packets.
pub fn bytes<C: Backend>(capacity: &config::Capacity, workers: usize) -> usize {
    let half = size_of::<Tvt<C>>() + A_BLOCK + A_HALF;
    let more_workers = (workers.max(1) - 1) * 2 * (8 + 4);
    let aivt = 2 * half + more_workers + CONTROL_OF_AN_AIVT;
    let flow = size_of::<Flow<C>>() + size_of::<Way<C>>() + 2 * A_BLOCK + CONTROL_OF_A_FLOW;
    capacity.aivts as usize * aivt + capacity.flows as usize * flow + FIXED
}

/// Puts the tables and keys to come where the configuration wants them. To be called before anything large is made.
///
/// # Errors
/// Pages that are required and not there, in figures.
pub fn place<C: Backend>(config: &NodeConfig) -> anyhow::Result<()> {
    let capacity = &config.capacity;
    let bytes = bytes::<C>(capacity, config.workers.cores.len());
    let kind = match capacity.hugepages {
        Hugepages::Never => return Ok(()),
        Hugepages::Prefer => Kind::Transparent,
        Hugepages::Require => Kind::Pool,
    };
    match hugepages::place(bytes, kind) {
        Ok(()) => info!(mib = bytes / MIB, ?kind, "memory of tables and keys"),
        Err(error @ PlaceError::Unsupported) if kind == Kind::Transparent => warn!("{error}"),
        Err(PlaceError::Pool { needed_mib, free_mib }) => bail!(
            "capacity of {} AIVTs and {} flows needs {needed_mib} MiB of hugepages, {free_mib} MiB are free; set vm.nr_hugepages \
             (each is 2 MiB, and packets need some too), lower [capacity], or set capacity.hugepages = \"prefer\"",
            capacity.aivts,
            capacity.flows
        ),
        Err(PlaceError::Memory { needed_mib }) => bail!(
            "capacity of {} AIVTs and {} flows needs {needed_mib} MiB of memory, which the kernel has not got; lower [capacity]",
            capacity.aivts,
            capacity.flows
        ),
        Err(error) => bail!("capacity.hugepages: {error}"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ain_crypto::Portable;

    use super::*;

    fn capacity(aivts: u32) -> config::Capacity {
        config::Capacity {
            aivts,
            flows: 1,
            hugepages: Hugepages::Prefer,
        }
    }

    #[test]
    fn room_grows_with_aivts_and_little_with_workers() {
        let (none, million) = (
            bytes::<Portable>(&capacity(1), 1),
            bytes::<Portable>(&capacity(1 << 20), 1),
        );
        let each = (million - none) / (1 << 20);
        assert!((1000..4096).contains(&each), "{each} bytes an AIVT");
        let shared = bytes::<Portable>(&capacity(1 << 20), 4);
        assert!(shared > million && shared < million + million / 10);
    }
}
