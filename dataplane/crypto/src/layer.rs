//! Layers of the onion over cells: what a backend offers to wrap and peel a burst.

/// Which way along an AIVT a cell travels; part of the tweak of every onion layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Direction {
    /// From the entrance to the exit.
    Forward = 0,
    /// From the exit to the entrance.
    Backward = 1,
}

/// What one onion layer does to a cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum LayerOp {
    /// Adds a layer.
    Encrypt,
    /// Takes a layer off.
    Decrypt,
}

/// One layer over one cell, in place.
#[derive(Debug)]
pub struct LayerJob<'a, K> {
    /// Expanded hop key.
    pub key: &'a K,
    /// The tweak: direction, suite, 14 zero bytes.
    pub tweak: [u8; 16],
    /// Add or take off.
    pub op: LayerOp,
    /// The whole cell, at least 16 bytes.
    pub cell: &'a mut [u8],
}

/// The onion's layers in batches: HCTR2-AES-128, a length-preserving tweakable strong pseudorandom permutation.
pub trait Layer {
    /// Expanded hop key; zeroizes on drop and redacts itself in `Debug`.
    type LayerKey: Send + Sync;
    /// Expands a hop's data key.
    fn layer_key(key: &[u8; 16]) -> Self::LayerKey;
    /// Runs every job.
    fn apply(&mut self, jobs: &mut [LayerJob<'_, Self::LayerKey>]);
}
