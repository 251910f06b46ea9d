//! Static AIVTs for benchmarks: a packet generator cannot signal, so the node under test makes them without.
//!
//! ```text
//!    up[0], up[1] ...     this node      down[0], down[1] ...        peers on the entrance's side, on the exit's
//!    AIVT n: up[n % ups] ───────────► down[n / ups % downs]          SPI, layer keys and datagrams follow from n
//! ```
//! The generator and the node agree without a word, and so does everybody who reads this: such AIVTs protect nobody.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ain_crypto::Backend;
use ain_dataplane::id::{AivtId, FlowId, FlowTag, Pair, PeerId, Spi};

use crate::action::{HopKeys, KeyedLink, Link, Route};
use crate::sa::Generation;
use crate::table_writer::{TableError, TableWriter};

/// SPIs of the AIVTs begin here; those of tunnels in a benchmark lie below.
pub const FIRST_SPI: u32 = 0x1_0000;
/// AIVTs at most: their initiators have one address each in 10.128.0.0/9.
pub const AIVTS_MAX: u32 = 1 << 23;
/// Initiators' addresses begin here.
const FIRST_SOURCE: u32 = 0x0a80_0000;
/// The responder of all.
const RESPONDER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
/// Suite of the layers.
const SUITE: u8 = 3;

/// A node's part in all its static AIVTs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// First AIN; so many AINs follow.
    Entrance {
        /// Layers that are put on.
        hops: usize,
    },
    /// Between two others.
    Intermediate,
    /// Last AIN.
    Exit,
}

/// The static AIVTs of one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Benchmark {
    /// Its part in them.
    pub part: Part,
    /// How many, up to [`AIVTS_MAX`].
    pub aivts: u32,
    /// Peers on the entrance's side; not empty. Hosts at an entrance.
    pub up: Vec<PeerId>,
    /// Peers on the exit's side; not empty. Hosts at an exit.
    pub down: Vec<PeerId>,
}

/// SPI of an AIVT's TVTs, on both sides.
pub fn spi(aivt: u32) -> Spi {
    Spi::new(FIRST_SPI + aivt % AIVTS_MAX).expect("far above the reserved ones")
}

/// Keys of an AIVT at the `hop`-th AIN behind the entrance.
pub fn hop_keys(aivt: u32, hop: usize) -> HopKeys {
    let key = |forward: bool| {
        let mut key = [u8::from(forward); 16];
        key[..4].copy_from_slice(&aivt.to_be_bytes());
        key[4] = hop as u8;
        key
    };
    HopKeys {
        suite: SUITE,
        forward: key(true),
        backward: key(false),
    }
}

/// The datagrams that an AIVT carries towards its exit.
pub fn pair(aivt: u32) -> Pair {
    Pair {
        source: IpAddr::V4(Ipv4Addr::from_bits(FIRST_SOURCE + aivt % AIVTS_MAX)),
        destination: IpAddr::V4(RESPONDER),
    }
}

/// Which of `ups` and which of `downs` peers an AIVT runs between.
pub fn sides(aivt: u32, ups: u16, downs: u16) -> (u16, u16) {
    let (ups, downs) = (u32::from(ups.max(1)), u32::from(downs.max(1)));
    ((aivt % ups) as u16, (aivt / ups % downs) as u16)
}

impl Benchmark {
    fn links(&self, aivt: u32) -> (KeyedLink, KeyedLink) {
        let count = |peers: &[PeerId]| u16::try_from(peers.len()).unwrap_or(u16::MAX);
        let (up, down) = sides(aivt, count(&self.up), count(&self.down));
        let link = |peer| Link { peer, spi: spi(aivt) }.under(Generation::HAND_MADE);
        (link(self.up[usize::from(up)]), link(self.down[usize::from(down)]))
    }

    /// Installs every AIVT that needs no datagram first: all but an entrance's.
    ///
    /// # Errors
    /// [`TableError`] where there is no room.
    pub fn install<C: Backend, B>(&self, writer: &mut TableWriter<C, B>) -> Result<(), TableError> {
        for aivt in 0..self.aivts {
            let (upstream, downstream) = self.links(aivt);
            let keys = hop_keys(aivt, 0);
            let route = match self.part {
                Part::Entrance { .. } => return Ok(()),
                Part::Intermediate => Route::Intermediate {
                    upstream,
                    downstream,
                    keys,
                },
                Part::Exit => Route::Exit {
                    upstream,
                    keys,
                    flow: FlowTag([0; 16]),
                },
            };
            writer.install(AivtId(aivt.into()), route, &Arc::default())?;
        }
        Ok(())
    }

    /// An entrance's flow has begun: if it is an AIVT's, it gets it.
    ///
    /// # Errors
    /// [`TableError`] where there is no room, or no AIVT for it.
    pub fn new_flow<C: Backend, B>(
        &self,
        writer: &mut TableWriter<C, B>,
        flow: FlowId,
        (tunnel, of): (PeerId, Pair),
    ) -> Result<(), TableError> {
        let IpAddr::V4(source) = of.source else {
            return Err(TableError::Unknown("flow"));
        };
        let aivt = source.to_bits().wrapping_sub(FIRST_SOURCE);
        let (Part::Entrance { hops }, true) = (self.part, aivt < self.aivts && of == pair(aivt)) else {
            return Err(TableError::Unknown("flow"));
        };
        let (upstream, downstream) = self.links(aivt);
        if upstream.link.peer != tunnel {
            return Err(TableError::Unknown("flow"));
        }
        writer.note_flow(flow, tunnel, of);
        let keys = (0..hops).map(|hop| hop_keys(aivt, hop)).collect();
        let route = Route::Entrance { flow, downstream, keys };
        writer.install(AivtId(aivt.into()), route, &Arc::default())
    }

    /// The first datagram at an exit: bound to the AIVT's host.
    ///
    /// # Errors
    /// [`TableError::Unknown`].
    pub fn first_datagram<C: Backend, B>(
        &self,
        writer: &mut TableWriter<C, B>,
        aivt: AivtId,
        pair: Pair,
    ) -> Result<(), TableError> {
        let number = u32::try_from(aivt.0).map_err(|_| TableError::Unknown("AIVT"))?;
        writer.bind(aivt, pair, self.links(number).1.link.peer)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn aivts_differ_in_all_that_names_them() {
        let names: BTreeSet<_> = (0..100)
            .map(|n| (spi(n).value(), pair(n).source, hop_keys(n, 0).forward))
            .collect();
        assert_eq!(names.len(), 100);
        assert_ne!(hop_keys(1, 0).forward, hop_keys(1, 0).backward);
        assert_ne!(hop_keys(1, 0).forward, hop_keys(1, 1).forward);
    }

    #[test]
    fn every_pair_of_sides_is_used_in_turn() {
        let used: Vec<_> = (0..6).map(|n| sides(n, 2, 3)).collect();
        assert_eq!(used, [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]);
        assert_eq!(sides(6, 2, 3), (0, 0));
    }
}
