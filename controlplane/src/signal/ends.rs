//! The two addresses that a PVT's signals run between, and the IP and UDP headers this makes, in either family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ain_dataplane::wire::ipv4::{self, Ipv4, Ipv4Fields};
use ain_dataplane::wire::ipv6::{self, Ipv6, Ipv6Header};
use ain_dataplane::wire::udp::{self, UdpHeader};
use ain_dataplane::wire::{checksum, protocol};
use zerocopy::IntoBytes;

use super::frame::{FrameError, PORT};

/// Signalling addresses of the two ends of a PVT, which are of one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ends {
    /// IPv4.
    V4 {
        /// This node's.
        local: Ipv4Addr,
        /// The neighbour's.
        remote: Ipv4Addr,
    },
    /// IPv6.
    V6 {
        /// This node's.
        local: Ipv6Addr,
        /// The neighbour's.
        remote: Ipv6Addr,
    },
}

impl From<(Ipv4Addr, Ipv4Addr)> for Ends {
    fn from((local, remote): (Ipv4Addr, Ipv4Addr)) -> Self {
        Self::V4 { local, remote }
    }
}

impl From<(Ipv6Addr, Ipv6Addr)> for Ends {
    fn from((local, remote): (Ipv6Addr, Ipv6Addr)) -> Self {
        Self::V6 { local, remote }
    }
}

impl Ends {
    /// Two addresses of whatever family, `None` if they differ in it.
    pub fn between(local: IpAddr, remote: IpAddr) -> Option<Self> {
        match (local, remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => Some(Self::V4 { local, remote }),
            (IpAddr::V6(local), IpAddr::V6(remote)) => Some(Self::V6 { local, remote }),
            _ => None,
        }
    }

    /// Of a datagram that came in, whatever it is.
    pub(crate) fn of(datagram: &[u8]) -> Option<Self> {
        match Ipv4::parse(datagram) {
            Ok(ip) => Some((ip.destination(), ip.source()).into()),
            Err(_) => Ipv6::parse(datagram)
                .ok()
                .map(|ip| (ip.destination(), ip.source()).into()),
        }
    }

    const fn ip_bytes(&self) -> usize {
        match self {
            Self::V4 { .. } => ipv4::HEADER_LEN,
            Self::V6 { .. } => ipv6::HEADER_LEN,
        }
    }

    /// Bytes of the IP and the UDP header.
    pub const fn headers_bytes(&self) -> usize {
        self.ip_bytes() + udp::HEADER_LEN
    }

    /// Writes the headers of a datagram to the neighbour over the front of `datagram`, which ends with the UDP payload.
    pub(crate) fn write_headers(&self, datagram: &mut [u8]) {
        let total = length_field(datagram.len());
        let (ip, segment) = datagram.split_at_mut(self.ip_bytes());
        let segment_len = length_field(segment.len());
        segment[..udp::HEADER_LEN].copy_from_slice(UdpHeader::new(PORT, PORT, segment_len).as_bytes());
        let sum = match self {
            Self::V4 { local, remote } => {
                let fields = Ipv4Fields::outer(*local, *remote, protocol::UDP, total);
                ipv4::write_header(ip.first_chunk_mut().expect("split there"), &fields);
                checksum::transport_ipv4(*local, *remote, protocol::UDP, segment)
            }
            Self::V6 { local, remote } => {
                let header = Ipv6Header::plain(*local, *remote, protocol::UDP, segment_len);
                ip.copy_from_slice(header.as_bytes());
                checksum::transport_ipv6(*local, *remote, protocol::UDP, segment)
            }
        };
        let sum = if sum == 0 { 0xffff } else { sum };
        segment[udp::CHECKSUM_OFFSET..udp::HEADER_LEN].copy_from_slice(&sum.to_be_bytes());
    }

    /// The UDP payload of a datagram that came from the neighbour and is as long as the buffer.
    pub(crate) fn check_headers<'a>(&self, datagram: &'a [u8]) -> Result<&'a [u8], FrameError> {
        let (protocol, segment) = match self {
            Self::V4 { local, remote } => check_ipv4(datagram, (*remote, *local))?,
            Self::V6 { local, remote } => check_ipv6(datagram, (*remote, *local))?,
        };
        if protocol != protocol::UDP {
            return Err(FrameError::Udp);
        }
        let (header, payload) = UdpHeader::parse(segment).map_err(|_| FrameError::Udp)?;
        let whole = udp::HEADER_LEN + payload.len() == segment.len();
        if !whole || !self.is_intact(header, segment) {
            return Err(FrameError::Udp);
        }
        if header.source_port.get() == PORT && header.destination_port.get() == PORT {
            Ok(payload)
        } else {
            Err(FrameError::Port)
        }
    }

    /// Without a checksum there is nothing to be wrong, but IPv6 demands one (RFC 8200 section 8.1).
    fn is_intact(&self, header: &UdpHeader, segment: &[u8]) -> bool {
        match self {
            Self::V4 { local, remote } => {
                header.checksum.get() == 0 || checksum::transport_ipv4(*remote, *local, protocol::UDP, segment) == 0
            }
            Self::V6 { local, remote } => {
                header.checksum.get() != 0 && checksum::transport_ipv6(*remote, *local, protocol::UDP, segment) == 0
            }
        }
    }
}

/// Protocol and payload of a whole datagram without options between these addresses.
fn check_ipv4(datagram: &[u8], ends: (Ipv4Addr, Ipv4Addr)) -> Result<(u8, &[u8]), FrameError> {
    let ip = Ipv4::parse(datagram).map_err(|_| FrameError::Ip)?;
    if ip.header_len() != ipv4::HEADER_LEN || ip.total_len() != datagram.len() || ip.is_fragment() {
        return Err(FrameError::Ip);
    }
    if (ip.source(), ip.destination()) != ends {
        return Err(FrameError::Addresses);
    }
    Ok((ip.protocol(), ip.payload()))
}

/// As [`check_ipv4`]; an extension header is none of the protocols that are asked for.
fn check_ipv6(datagram: &[u8], ends: (Ipv6Addr, Ipv6Addr)) -> Result<(u8, &[u8]), FrameError> {
    let ip = Ipv6::parse(datagram).map_err(|_| FrameError::Ip)?;
    if ip.total_len() != datagram.len() {
        return Err(FrameError::Ip);
    }
    if (ip.source(), ip.destination()) != ends {
        return Err(FrameError::Addresses);
    }
    Ok((ip.next_header(), ip.payload()))
}

fn length_field(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("a cell is shorter than 64 KiB")
}
