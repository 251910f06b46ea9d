//! The Internet checksum (RFC 1071), computed whole or moved along with a change (RFC 1624).

use std::net::{Ipv4Addr, Ipv6Addr};

/// Sum of 16-bit words so far, before folding. Wide enough for any packet: 2^16 words of 16 bits stay under 2^33.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sum(u64);

impl Sum {
    /// Nothing summed.
    pub const fn new() -> Self {
        Self(0)
    }

    /// Adds `bytes`, padded with one zero byte if odd: only the last piece of a message may be odd.
    #[must_use]
    pub fn add_bytes(mut self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<4>();
        for word in words {
            self.0 += u64::from(u32::from_be_bytes(*word));
        }
        let (halves, odd) = rest.as_chunks::<2>();
        for half in halves {
            self = self.add_u16(u16::from_be_bytes(*half));
        }
        if let [last] = odd {
            self = self.add_u16(u16::from(*last) << 8);
        }
        self
    }

    /// Adds one word.
    #[must_use]
    pub const fn add_u16(mut self, word: u16) -> Self {
        self.0 += word as u64;
        self
    }

    /// Adds a 32-bit number.
    #[must_use]
    pub const fn add_u32(mut self, word: u32) -> Self {
        self.0 += word as u64;
        self
    }

    /// The one's complement sum.
    const fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// The checksum: the complement of the sum.
    pub const fn finish(self) -> u16 {
        !self.fold()
    }
}

/// Checksum over `bytes`; 0 if they hold their own right checksum.
pub fn checksum(bytes: &[u8]) -> u16 {
    Sum::new().add_bytes(bytes).finish()
}

/// The checksum after one word it covers went from `old` to `new`: RFC 1624 equation 3, HC' = ~(~HC + ~m + m').
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::new().add_u16(!checksum).add_u16(!old).add_u16(new).finish()
}

/// As [`update`] for an address of either family.
pub fn update_address<const N: usize>(checksum: u16, old: [u8; N], new: [u8; N]) -> u16 {
    let sum = Sum::new().add_u16(!checksum).add_bytes(&old.map(|byte| !byte));
    sum.add_bytes(&new).finish()
}

/// Checksum of a UDP or TCP segment with the IPv4 pseudo-header (RFC 768, RFC 9293 section 3.1); 0 if `segment` holds its own right
/// checksum. A UDP sender writes 0xffff where this yields 0.
pub fn transport_ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, segment: &[u8]) -> u16 {
    pseudo(
        Sum::new().add_bytes(&source.octets()).add_bytes(&destination.octets()),
        protocol,
        segment,
    )
}

/// As [`transport_ipv4`] with the IPv6 pseudo-header (RFC 8200 section 8.1).
pub fn transport_ipv6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, segment: &[u8]) -> u16 {
    pseudo(
        Sum::new().add_bytes(&source.octets()).add_bytes(&destination.octets()),
        protocol,
        segment,
    )
}

/// Length and protocol of either pseudo-header, then the segment.
fn pseudo(addresses: Sum, protocol: u8, segment: &[u8]) -> u16 {
    let length = u32::try_from(segment.len()).unwrap_or(u32::MAX);
    addresses
        .add_u32(length)
        .add_u16(u16::from(protocol))
        .add_bytes(segment)
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    /// Word by word, as RFC 1071 section 4.1 has it.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn rfc1071_section_3_example() {
        assert_eq!(checksum(&hex!("0001 f203 f4f5 f6f7")), !0xddf2);
    }

    /// RFC 1624 section 4: the case that RFC 1141 gets wrong, 0x0000 and not 0xffff.
    #[test]
    fn rfc1624_section_4_example() {
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    proptest! {
        #[test]
        fn whole_equals_reference(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(checksum(&bytes), reference(&bytes));
        }

        #[test]
        fn incremental_equals_whole(mut bytes in prop::collection::vec(any::<u8>(), 20..60), new: u16, address: u32) {
            bytes[0] = 0x45; // as a real header, never all zero
            bytes.truncate(bytes.len() & !1);
            let before = checksum(&bytes);
            let old = u16::from_be_bytes([bytes[2], bytes[3]]);
            bytes[2..4].copy_from_slice(&new.to_be_bytes());
            let between = checksum(&bytes);
            prop_assert_eq!(update(before, old, new), between);
            let old: [u8; 4] = bytes[4..8].try_into().unwrap();
            bytes[4..8].copy_from_slice(&address.to_be_bytes());
            prop_assert_eq!(update_address(between, old, address.to_be_bytes()), checksum(&bytes));
        }

        #[test]
        fn segment_with_its_checksum_sums_to_zero(mut segment in prop::collection::vec(any::<u8>(), 20..200), a: u32, b: u32) {
            let (a, b) = (Ipv4Addr::from(a), Ipv4Addr::from(b));
            segment[16..18].fill(0);
            let sum = transport_ipv4(a, b, 6, &segment);
            segment[16..18].copy_from_slice(&sum.to_be_bytes());
            prop_assert_eq!(transport_ipv4(a, b, 6, &segment), 0);
            segment[19] ^= 1;
            prop_assert_ne!(transport_ipv4(a, b, 6, &segment), 0);
        }
    }
}
