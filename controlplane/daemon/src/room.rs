//! The room of a node: how many entries its workers have, how much memory that takes, and in which pages it lies.
//!
//! ```text
//!   an AIVT    two halves or a half and an edge, slots, its state at the control thread
//!   a flow     entry, way, layers of the longest path, its state at the control thread, its places in every worker
//!   a worker   reassembly, rings, slots of tunnels and keys
//!   once       replay cache
//! ```
//! Not counted is what goes with traffic and not with size: flows that an entrance remembers beyond those with an AIVT (up to three for
//! each, some 400 bytes), an open exit's mappings (some 200 bytes each), and the message ids of a minute (up to 75 MiB for a neighbour that sends all it may). The heap grows by
//! ordinary pages for these, as it does for whatever is beyond.

use ain_controlplane::limits::REPLAY_TAGS;
use ain_crypto::Backend;
use ain_dataplane::engine::Capacity;
use ain_dataplane::entry::{Edge, Flow, Tvt, Way};
use ain_dataplane::id::{Pair, PeerId};
use ain_dataplane::limits::EDGES;
use anyhow::bail;
use hugepages::{Kind, PlaceError};
use tracing::{info, warn};

use crate::config::{Hugepages, NodeConfig};
use crate::translate;

const MIB: usize = 1 << 20;
/// What the allocator adds to an entry.
const A_BLOCK: usize = 16;
/// The same for one with layer keys, which begin a cache line: glibc looks for them in 64 + 32 bytes more.
const A_WIDE_BLOCK: usize = 16 + 64 + 32;
/// Flow table (34), slots at the owner and those free at the control thread.
const A_HALF: usize = 34 + A_SLOT;
/// A slot at a worker, and its number among the free ones.
const A_SLOT: usize = 8 + 4;
/// An AIVT at the control thread: 514 at the node (`ain-bench memory`), the table writer's note, the cell of its activity.
const CONTROL_OF_AN_AIVT: usize = 520 + 72 + 48;
/// A flow at the control thread.
const CONTROL_OF_A_FLOW: usize = 512;
/// A flow's places in the map of a worker: made of powers of two, at most seven eighths full.
const PLACES_OF_A_FLOW: usize = 16 * (size_of::<(PeerId, Pair)>() + size_of::<[Option<u32>; 2]>() + 1) / 7;
/// A tag of the replay cache: in a set that is twice as large, and in a list.
const A_TAG: usize = 56;
/// Rings, slots of tunnels and of keys.
const A_WORKER: usize = 2 * MIB;
/// Directory, peers, threads.
const FIXED: usize = 8 * MIB;

/// What decides how much memory a node takes.
#[derive(Clone, Copy)]
struct Size {
    aivts: usize,
    flows: usize,
    workers: usize,
    /// AINs behind an entrance at most.
    hops: usize,
    /// Bytes of a cell behind its header.
    cell_data: usize,
}

impl Size {
    fn of(config: &NodeConfig) -> Self {
        Self {
            aivts: config.capacity.aivts as usize,
            flows: config.capacity.flows as usize,
            workers: config.workers.cores.len().max(1),
            hops: usize::from(config.network.max_path_nodes).saturating_sub(1).max(1),
            cell_data: translate::profile(config.network.cell_profile).data_len(),
        }
    }
}

/// Room of each worker. An AIVT has two inbound halves at most, and each of them one owner, which may be the same for all.
pub fn of_each_worker(config: &NodeConfig) -> Capacity {
    Capacity {
        tvts: config.capacity.aivts.saturating_mul(2),
        tunnels: 1 << 12,
        flows: config.capacity.flows,
    }
}

/// Bytes of an entry in a box.
const fn block<T>() -> usize {
    size_of::<T>()
        + if align_of::<T>() > A_BLOCK {
            A_WIDE_BLOCK
        } else {
            A_BLOCK
        }
}

/// Bytes of memory that a full node takes beside its packets.
fn bytes<C: Backend>(size: Size) -> usize {
    let half = block::<Tvt<C>>() + A_HALF;
    let other_half = half.max(block::<Edge>());
    let aivt = half + other_half + (size.workers - 1) * 2 * A_SLOT + CONTROL_OF_AN_AIVT;
    // At the entrance both ways have a layer for each AIN; the first lies in the entry.
    let more_layers = 2 * ((size.hops - 1) * size_of::<C::LayerKey>() + A_WIDE_BLOCK);
    let entries = block::<Flow<C>>() + block::<Way<C>>() + more_layers;
    let flow = entries + size.workers * (A_SLOT + PLACES_OF_A_FLOW) + CONTROL_OF_A_FLOW;
    let worker = EDGES * size.cell_data + A_WORKER;
    size.aivts * aivt + size.flows * flow + size.workers * worker + REPLAY_TAGS * A_TAG + FIXED
}

/// Puts the tables and keys to come where the configuration wants them. To be called before anything large is made.
///
/// # Errors
/// Pages that are required and not there, in figures.
pub fn place<C: Backend>(config: &NodeConfig) -> anyhow::Result<()> {
    let capacity = &config.capacity;
    let bytes = bytes::<C>(Size::of(config));
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

    const SMALL: Size = Size {
        aivts: 1,
        flows: 1,
        workers: 1,
        hops: 2,
        cell_data: 1384,
    };

    #[test]
    fn room_grows_with_aivts_and_little_with_workers() {
        let million = Size {
            aivts: 1 << 20,
            ..SMALL
        };
        let each = (bytes::<Portable>(million) - bytes::<Portable>(SMALL)) / (1 << 20);
        // Measured: 2198 at an intermediate AIN (docs/performance.md).
        assert!((2198..2400).contains(&each), "{each} bytes an AIVT");
        let shared = bytes::<Portable>(Size { workers: 4, ..million });
        assert!(shared > bytes::<Portable>(million) && shared < bytes::<Portable>(million) * 11 / 10);
    }

    #[test]
    fn room_grows_with_flows_by_path_and_workers() {
        let each = |size: Size| (bytes::<Portable>(Size { flows: 1001, ..size }) - bytes::<Portable>(size)) / 1000;
        let longer = each(Size { hops: 5, ..SMALL }) - each(SMALL);
        assert_eq!(longer, 2 * 3 * size_of::<<Portable as ain_crypto::Layer>::LayerKey>());
        assert!(each(Size { workers: 2, ..SMALL }) >= each(SMALL) + A_SLOT + PLACES_OF_A_FLOW);
    }
}
