//! A datagram of either family, seen alike: what the inside of tunnels is made of.

use std::net::IpAddr;

use super::WireError;
use super::extension::Upper;
use super::ipv4::{self, Ipv4};
use super::ipv6::{self, Ipv6};

/// A datagram whose header has been found right by [`Ipv4::parse`] or [`Ipv6::parse`].
#[derive(Clone, Copy, Debug)]
pub enum Ip<'a> {
    /// IPv4.
    V4(Ipv4<'a>),
    /// IPv6.
    V6(Ipv6<'a>),
}

impl<'a> Ip<'a> {
    /// The datagram at the front of `bytes`; what lies behind it is left out.
    ///
    /// # Errors
    /// Those of either family; `Version` of [`WireError`] for any other, `Truncated` for no bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        match bytes.first().ok_or(WireError::Truncated("IP"))? >> 4 {
            4 => Ipv4::parse(bytes).map(Self::V4),
            6 => Ipv6::parse(bytes).map(Self::V6),
            _ => Err(WireError::Version),
        }
    }

    /// Source address.
    pub fn source(&self) -> IpAddr {
        match self {
            Self::V4(ip) => IpAddr::V4(ip.source()),
            Self::V6(ip) => IpAddr::V6(ip.source()),
        }
    }

    /// Destination address.
    pub fn destination(&self) -> IpAddr {
        match self {
            Self::V4(ip) => IpAddr::V4(ip.destination()),
            Self::V6(ip) => IpAddr::V6(ip.destination()),
        }
    }

    /// Time to live or hop limit.
    pub fn ttl(&self) -> u8 {
        match self {
            Self::V4(ip) => ip.ttl(),
            Self::V6(ip) => ip.hop_limit(),
        }
    }

    /// Whether no router may cut it: DF, and every IPv6 datagram (RFC 8200 section 4.5).
    pub fn dont_fragment(&self) -> bool {
        match self {
            Self::V4(ip) => ip.dont_fragment(),
            Self::V6(_) => true,
        }
    }

    /// The whole datagram.
    pub fn bytes(&self) -> &'a [u8] {
        match self {
            Self::V4(ip) => ip.bytes(),
            Self::V6(ip) => ip.bytes(),
        }
    }

    /// What it carries, behind options and extension headers.
    ///
    /// # Errors
    /// `Truncated` or `Extensions` of [`WireError`] where extension headers are cut short or too many.
    pub fn upper(&self) -> Result<Upper, WireError> {
        match self {
            Self::V4(ip) => Ok(Upper {
                protocol: ip.protocol(),
                at: ip.header_len(),
                later_fragment: ip.fragment_offset() != 0,
            }),
            Self::V6(ip) => ip.extensions().upper(),
        }
    }
}

/// Takes one from the TTL or hop limit in place; the new one. A header checksum moves along.
///
/// # Errors
/// As [`ipv4::decrement_ttl`] and [`ipv6::decrement_hop_limit`]; `Version` of [`WireError`] for any other family.
pub fn decrement_ttl(datagram: &mut [u8]) -> Result<u8, WireError> {
    match datagram.first().map(|first| first >> 4) {
        Some(4) => ipv4::decrement_ttl(datagram),
        Some(6) => ipv6::decrement_hop_limit(datagram),
        _ => Err(WireError::Version),
    }
}

/// Whether `address` can be that of one host beyond the sender's own link: not unspecified, loopback, link-local (RFC 3927, RFC 4291
/// section 2.5.6), multicast, broadcast or reserved, nor an IPv4 address written as an IPv6 one (RFC 4291 section 2.5.5).
pub fn is_single_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !matches!(v4.octets(), [0 | 127 | 224..=255, ..] | [169, 254, ..]),
        IpAddr::V6(v6) => match v6.segments() {
            [0, 0, 0, 0, 0, 0 | 0xffff, _, _] => false,
            [first, ..] => first & 0xff00 != 0xff00 && first & 0xffc0 != 0xfe80,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_what_is_none() {
        let single = |text: &str| is_single_host(text.parse().unwrap());
        for host in [
            "10.0.0.1",
            "192.0.2.7",
            "100.64.0.1",
            "2001:db8::1",
            "fd00::1",
            "fec0::1",
            "64:ff9b::1",
        ] {
            assert!(single(host), "{host}");
        }
        for none in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "169.254.7.7",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::192.0.2.7",
            "::ffff:192.0.2.7",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "ff0e::1",
        ] {
            assert!(!single(none), "{none}");
        }
    }

    #[test]
    fn either_family_is_read_alike() {
        let mut v4 = hex_literal::hex!("45000014000040004011 0000 0a0000010a000002");
        ipv4::refresh_checksum(&mut v4).unwrap();
        let v6 =
            hex_literal::hex!("60000000 0000 3b 40 20010db8000000000000000000000001 20010db8000000000000000000000002");
        for (bytes, len, at) in [(&v4[..], 20, 20), (&v6[..], 40, 40)] {
            let ip = Ip::parse(bytes).unwrap();
            assert_eq!((ip.ttl(), ip.dont_fragment(), ip.bytes().len()), (64, true, len));
            let upper = ip.upper().unwrap();
            assert_eq!((upper.at, upper.later_fragment), (at, false));
            let mut copy = bytes.to_vec();
            assert_eq!(decrement_ttl(&mut copy), Ok(63));
            assert_eq!(Ip::parse(&copy).unwrap().ttl(), 63);
        }
        assert_eq!(Ip::parse(&[0x50; 40]).unwrap_err(), WireError::Version);
        assert_eq!(Ip::parse(&[]).unwrap_err(), WireError::Truncated("IP"));
        assert_eq!(decrement_ttl(&mut [0x50; 40]), Err(WireError::Version));
    }
}
