//! Numbers with a meaning.

use std::fmt;
use std::net::IpAddr;

/// An IPsec peer of this node: a neighbouring AIN or a host behind an ESP+AH tunnel. Index into the peers of the configuration,
/// neighbours and hosts in one space; stable while the process lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PeerId(pub u16);

impl PeerId {
    /// No peer at all: hosts of the Internet, beyond an open exit. No configuration has so many peers that one is called so.
    pub const INTERNET: Self = Self(u16::MAX);
    /// The same where the next router of IPv6 is meant, and not that of IPv4.
    pub const INTERNET_V6: Self = Self(u16::MAX - 1);
}

/// Security parameter index (RFC 4301 section 4.1). 0..=255 are reserved and never made here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Spi(u32);

impl Spi {
    /// Lowest value free for use; RFC 4302 section 2.4 reserves those below.
    pub const MIN: u32 = 256;
    /// The lowest one.
    pub const LOWEST: Self = Self(Self::MIN);
    /// The highest one.
    pub const HIGHEST: Self = Self(u32::MAX);

    /// The SPI, unless reserved.
    pub const fn new(value: u32) -> Option<Self> {
        if value < Self::MIN { None } else { Some(Self(value)) }
    }

    /// The number on the wire.
    pub const fn value(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spi(0x{:08x})", self.0)
    }
}

/// An AIVT as this node knows it; never on the wire, never reused while the process lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AivtId(pub u64);

/// An end-to-end flow at the entrance, (host tunnel, inner source, inner destination); outlives the AIVTs that carry it in turn.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FlowId(pub u64);

/// What the packet path knows a flow by at its exit, across the AIVTs that carry it in turn: a hash of its token, which it never sees.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowTag(pub [u8; 16]);

impl fmt::Debug for FlowTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlowTag(redacted)")
    }
}

/// A data worker.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct WorkerId(pub u8);

/// Monotonic time, nanoseconds since an arbitrary start. The pure crates never read a clock: `now` is an argument.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Now(pub u64);

impl Now {
    /// Nanoseconds in a second.
    pub const SECOND: u64 = 1_000_000_000;

    /// Nanoseconds since `earlier`, 0 if that lies ahead.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// `ns` nanoseconds later.
    pub const fn plus(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }
}

/// (source, destination) of an inner datagram.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Pair {
    /// Inner source.
    pub source: IpAddr,
    /// Inner destination.
    pub destination: IpAddr,
}

impl Pair {
    /// The pair of the answers.
    pub const fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
        }
    }
}

/// A network port of this node; index into the configured ports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PortId(pub u8);

/// An AH key schedule shared by a PVT and the TVTs copied from it; the same slot on every worker.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct KeySlot(pub u16);
