//! The roles of a node: what comes in, and what the bare primitives of that are.
//!
//! ```text
//!                      forward                                                backward
//!   entrance      ESP+AH in, k layers on, TVT out                        TVT in, k layers off, ESP+AH out
//!   intermediate  TVT in, a layer off, TVT out                           TVT in, a layer on, TVT out
//!   exit          TVT in, a layer off, ESP+AH out                        ESP+AH in, a layer on, TVT out
//! ```
//! Every node here has eight peers on the entrance's side and eight on the exit's; AIVTs are spread over them. Which AIVT comes next
//! is drawn at random, so that its entries are as cold as their number makes them.

mod contest;
mod scene;

use ain_controlplane::benchmark;
pub use ain_controlplane::benchmark::hop_keys;
use ain_crypto::{Direction, MacAlgorithm};
use ain_dataplane::id::{Pair, PeerId, Spi};
use ain_dataplane::limits::MAX_HOPS;
use ain_dataplane::wire::cell::CellProfile;
use ain_dataplane::wire::{ah, esp, ethernet, ipv4};

pub use contest::Measured;
pub use scene::{ESP, Scene, shape};

/// Peers on each side of the node.
pub const SIDE: u16 = 8;

/// A node's part in its AIVTs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Role {
    /// First AIN.
    Entrance,
    /// Between.
    Intermediate,
    /// Last AIN.
    Exit,
}

/// Which way packets go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Ways {
    /// From entrances to exits.
    Forward,
    /// From exits to entrances.
    Backward,
    /// Half and half.
    Both,
}

/// One line of the table.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Case {
    /// The node's part.
    pub role: Role,
    /// Directions.
    pub ways: Ways,
    /// AH algorithm.
    pub ah: MacAlgorithm,
    /// Cell length.
    pub profile: CellProfile,
    /// AINs behind the entrance, each of which has a layer.
    pub hops: usize,
    /// AIVTs.
    pub aivts: u32,
    /// Packets of a burst.
    pub burst: usize,
    /// Bytes of an inner datagram; one that fills a cell by default.
    pub datagram: Option<usize>,
    /// Packets made beforehand for a turn.
    pub chunk: usize,
}

impl Case {
    /// The headline: an intermediate AIN, GMAC, standard cells, bursts of 32, 1000 AIVTs.
    pub const HEADLINE: Self = Self {
        role: Role::Intermediate,
        ways: Ways::Both,
        ah: MacAlgorithm::Aes128Gmac,
        profile: CellProfile::Standard,
        hops: 3,
        aivts: 1000,
        burst: 32,
        datagram: None,
        chunk: 4096,
    };

    /// Layers that this node puts on or takes off.
    pub fn layers(&self) -> usize {
        match self.role {
            Role::Entrance => self.hops.min(MAX_HOPS),
            Role::Intermediate | Role::Exit => 1,
        }
    }

    /// Bytes of an inner datagram.
    pub fn datagram(&self) -> usize {
        self.datagram.unwrap_or(self.profile.data_len())
    }

    /// Whole datagrams in a cell that comes in.
    pub fn datagrams_in_cell(&self) -> usize {
        (self.profile.data_len() / self.datagram()).max(1)
    }

    /// Whether packets of a direction come from hosts.
    pub fn from_host(&self, forward: bool) -> bool {
        matches!((self.role, forward), (Role::Entrance, true) | (Role::Exit, false))
    }

    /// Whether packets of a direction go to hosts.
    pub fn to_host(&self, forward: bool) -> bool {
        matches!((self.role, forward), (Role::Entrance, false) | (Role::Exit, true))
    }

    /// Bytes of IPv4 and AH.
    pub fn outer_len(&self) -> usize {
        ipv4::HEADER_LEN + ah::ah_len(self.ah, ah::Family::V4)
    }

    /// Bytes of a TVT packet from its IP header on.
    pub fn tvt_len(&self) -> usize {
        self.outer_len() + self.profile.cell_len()
    }

    /// Bytes of a host's packet from its IP header on.
    pub fn host_len(&self) -> usize {
        self.outer_len() + esp::packet_len(self.datagram())
    }

    /// Bytes of a received frame.
    pub fn frame_len(&self) -> usize {
        let packet = if self.from_host(self.ways != Ways::Backward) {
            self.host_len()
        } else {
            self.tvt_len()
        };
        ethernet::HEADER_LEN + packet
    }

    /// Bytes of the longest frame.
    pub fn longest_frame(&self) -> usize {
        ethernet::HEADER_LEN + self.tvt_len().max(self.host_len())
    }

    /// Bytes that a chunk of packets takes in memory, headers of buffers left out.
    pub fn working_set(&self) -> usize {
        self.chunk * self.frame_len()
    }

    /// Its name in `summary.json`: role, way unless both, hops where they matter, algorithm, AIVTs, what is not as usual.
    pub fn name(&self) -> String {
        let mut name = match self.role {
            Role::Entrance => "entrance",
            Role::Intermediate => "intermediate",
            Role::Exit => "exit",
        }
        .to_owned();
        match self.ways {
            Ways::Forward => name += ".forward",
            Ways::Backward => name += ".backward",
            Ways::Both => {}
        }
        if self.role == Role::Entrance {
            name += &format!(".hops{}", self.hops);
        }
        name += &format!(".{}.{}", mac_name(self.ah), count_name(self.aivts));
        if self.profile == CellProfile::Jumbo {
            name += ".jumbo";
        }
        if self.burst != Self::HEADLINE.burst {
            name += &format!(".burst{}", self.burst);
        }
        if let Some(bytes) = self.datagram {
            name += &format!(".datagram{bytes}");
        }
        name
    }
}

/// An AH algorithm as tables name it.
pub const fn mac_name(ah: MacAlgorithm) -> &'static str {
    match ah {
        MacAlgorithm::Aes128Gmac => "gmac",
        MacAlgorithm::HmacSha256_128 => "hmac",
        MacAlgorithm::AesCmac96 => "cmac",
    }
}

/// A round number as tables name it: `1k` for 1000.
pub fn count_name(count: u32) -> String {
    match count {
        n if n >= 1_000_000 && n.is_multiple_of(1_000_000) => format!("{}M", n / 1_000_000),
        n if n >= 1000 && n.is_multiple_of(1000) => format!("{}k", n / 1000),
        n => n.to_string(),
    }
}

/// One direction of an AIVT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Half(pub u32);

impl Half {
    /// Of an AIVT.
    pub fn of(aivt: u32, forward: bool) -> Self {
        Self(2 * aivt + u32::from(!forward))
    }

    /// The AIVT.
    pub fn aivt(self) -> u32 {
        self.0 / 2
    }

    /// Whether towards the exit.
    pub fn forward(self) -> bool {
        self.0.is_multiple_of(2)
    }

    /// Its direction.
    pub fn direction(self) -> Direction {
        if self.forward() {
            Direction::Forward
        } else {
            Direction::Backward
        }
    }

    /// The peer on the entrance's side, then that on the exit's.
    pub fn sides(self) -> (PeerId, PeerId) {
        let (up, down) = benchmark::sides(self.aivt(), SIDE, SIDE);
        (PeerId(up), PeerId(SIDE + down))
    }

    /// Where packets come from, and where they go.
    pub fn ends(self) -> (PeerId, PeerId) {
        let (up, down) = self.sides();
        if self.forward() { (up, down) } else { (down, up) }
    }

    /// SPI of the AIVT's TVTs, on both sides.
    pub fn spi(self) -> Spi {
        benchmark::spi(self.aivt())
    }

    /// The datagrams of this direction.
    pub fn pair(self) -> Pair {
        let pair = benchmark::pair(self.aivt());
        if self.forward() { pair } else { pair.reversed() }
    }
}

/// The data key of a half at a hop.
pub fn layer_key(half: Half, hop: usize) -> [u8; 16] {
    let keys = hop_keys(half.aivt(), hop);
    if half.forward() { keys.forward } else { keys.backward }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_named_as_the_summary_wants() {
        let headline = Case::HEADLINE;
        assert_eq!(headline.name(), "intermediate.gmac.1k");
        let entrance = Case {
            role: Role::Entrance,
            ways: Ways::Forward,
            aivts: 1_000_000,
            burst: 1,
            ..headline
        };
        assert_eq!(entrance.name(), "entrance.forward.hops3.gmac.1M.burst1");
    }

    #[test]
    fn halves_of_an_aivt_face_each_other() {
        let (there, back) = (Half::of(77, true), Half::of(77, false));
        assert_eq!((there.ends().0, there.ends().1), (back.ends().1, back.ends().0));
        assert_eq!(there.pair(), back.pair().reversed());
        assert_ne!(layer_key(there, 0), layer_key(back, 0));
    }
}
