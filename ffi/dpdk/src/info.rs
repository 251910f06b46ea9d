//! What a port is and can do.

use std::ffi::c_char;
use std::fmt;
use std::ops::BitOr;

use crate::sys;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! flags {
    ($(#[$doc:meta])* $name:ident { $($(#[$flag_doc:meta])* $flag:ident = $value:expr;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name(u64);

        impl $name {
            /// None of them.
            pub const NONE: Self = Self(0);
            $($(#[$flag_doc])* pub const $flag: Self = Self($value);)*

            /// All of `other` are among these.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// None is set.
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// Those in both.
            pub const fn and(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }

            /// DPDK's bits.
            pub const fn bits(self) -> u64 {
                self.0
            }

            pub(crate) const fn from_bits(bits: u64) -> Self {
                Self(bits)
            }
        }

        impl BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "(0x{:x})"), self.0)
            }
        }
    };
}

flags! {
    /// Header fields over which a port spreads packets to its queues (`RTE_ETH_RSS_*`).
    RssTypes {
        /// The two addresses.
        IP = sys::SHIM_RSS_IP;
        /// Addresses and ports of UDP.
        UDP = sys::SHIM_RSS_UDP;
        /// Addresses and ports of TCP.
        TCP = sys::SHIM_RSS_TCP;
        /// SPI of ESP.
        ESP = sys::SHIM_RSS_ESP;
        /// SPI of AH.
        AH = sys::SHIM_RSS_AH;
    }
}

flags! {
    /// Work that a port takes off at reception (`RTE_ETH_RX_OFFLOAD_*`).
    RxOffloads {
        /// Verify the IPv4 header checksum.
        IPV4_CHECKSUM = sys::SHIM_RX_IPV4_CHECKSUM;
        /// Deliver packets in several buffers.
        SCATTER = sys::SHIM_RX_SCATTER;
    }
}

flags! {
    /// Work that a port takes off at transmission (`RTE_ETH_TX_OFFLOAD_*`).
    TxOffloads {
        /// Compute the IPv4 header checksum.
        IPV4_CHECKSUM = sys::SHIM_TX_IPV4_CHECKSUM;
        /// Give sent buffers back in bulk; all of a queue's must come from one pool.
        FAST_FREE = sys::SHIM_TX_FAST_FREE;
    }
}

/// A port's kind, limits and capabilities.
#[derive(Clone, Debug)]
pub struct PortInfo {
    /// The driver's name, `net_ring` or `net_ice`.
    pub driver: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Receive queues at most.
    pub max_rx_queues: u16,
    /// Transmit queues at most.
    pub max_tx_queues: u16,
    /// Smallest MTU, bytes.
    pub min_mtu: u16,
    /// Largest MTU, bytes.
    pub max_mtu: u16,
    /// MTU now, bytes.
    pub mtu: u16,
    /// Longest frame that it receives, bytes.
    pub max_rx_packet: u32,
    /// Entries of its table from hash to queue; 0 if it has none.
    pub reta_size: u16,
    /// The kernel's interface below it, for `af_packet` and `af_xdp`.
    pub if_index: Option<u32>,
    /// Its memory node, if known.
    pub socket: Option<u32>,
    /// Fields that it can hash over.
    pub rss_types: RssTypes,
    /// What it can do at reception.
    pub rx_offloads: RxOffloads,
    /// What it can do at transmission.
    pub tx_offloads: TxOffloads,
}

impl PortInfo {
    pub(crate) fn from_raw(raw: &sys::shim_port_info) -> Self {
        Self {
            driver: text(&raw.driver),
            mac: Mac(raw.mac),
            max_rx_queues: raw.max_rx_queues,
            max_tx_queues: raw.max_tx_queues,
            min_mtu: raw.min_mtu,
            max_mtu: raw.max_mtu,
            mtu: raw.mtu,
            max_rx_packet: raw.max_rx_packet,
            reta_size: raw.reta_size,
            if_index: (raw.if_index != 0).then_some(raw.if_index),
            socket: u32::try_from(raw.socket).ok(),
            rss_types: RssTypes::from_bits(raw.rss_types),
            rx_offloads: RxOffloads::from_bits(raw.rx_offloads),
            tx_offloads: TxOffloads::from_bits(raw.tx_offloads),
        }
    }
}

/// A port's link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// It carries frames.
    pub up: bool,
    /// Megabits a second; `u32::MAX` when the driver does not know.
    pub speed_mbps: u32,
    /// Both ways at once.
    pub full_duplex: bool,
}

/// A C string in an array.
pub(crate) fn text(bytes: &[c_char]) -> String {
    let bytes: Vec<u8> = bytes.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
