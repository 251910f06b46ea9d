//! IPv6 extension headers (RFC 8200 section 4): the chain between the fixed header and what the datagram carries.
//!
//! ```text
//!  IPv6 | hop-by-hop | destination options | fragment | ... | TCP
//!   next └──► kind, next └──► ...                       └──► Upper { protocol: TCP, at }
//! ```
//!
//! The headers differ in how they state their length, and behind the header of a later fragment lies a piece of something: no header
//! can be told there.

use super::ipv6::{HEADER_LEN, NEXT_HEADER};
use super::{WireError, protocol};
use crate::limits::EXTENSION_HEADERS;

/// Hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Routing.
pub const ROUTING: u8 = 43;
/// Fragment.
pub const FRAGMENT: u8 = 44;
/// Destination options.
pub const DESTINATION_OPTIONS: u8 = 60;
/// Mobility (RFC 6275 section 6.1).
pub const MOBILITY: u8 = 135;
/// Host identity protocol (RFC 7401 section 5.1).
pub const HIP: u8 = 139;
/// Shim6 (RFC 5533 section 5.1).
pub const SHIM6: u8 = 140;

/// Length of the shortest header, and of the fragment header.
const UNIT: usize = 8;

/// Whether a header of this kind is followed by another one (IANA "IPv6 Extension Header Types", but for ESP, which hides it).
pub const fn is_extension(kind: u8) -> bool {
    matches!(
        kind,
        HOP_BY_HOP | ROUTING | FRAGMENT | protocol::AH | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6
    )
}

/// One header of the chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extension<'a> {
    /// What it is.
    pub kind: u8,
    /// Where it begins, counted from the fixed header's first byte.
    pub at: usize,
    /// All of it.
    pub bytes: &'a [u8],
}

/// What follows the chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upper {
    /// Its protocol, see [`protocol`].
    pub protocol: u8,
    /// Where it begins, counted from the datagram's first byte.
    pub at: usize,
    /// Whether it is a piece from the middle or the end of something: then its header is not here.
    pub later_fragment: bool,
}

/// The headers of a datagram, one after the other.
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    upper: Upper,
    rest: &'a [u8],
    left: usize,
}

impl<'a> Extensions<'a> {
    /// The chain of a fixed header that names `first` and is followed by `rest`, which may be cut anywhere.
    pub(super) fn new(first: u8, rest: &'a [u8]) -> Self {
        let upper = Upper {
            protocol: first,
            at: HEADER_LEN,
            later_fragment: false,
        };
        Self {
            upper,
            rest,
            left: EXTENSION_HEADERS,
        }
    }

    /// The chain of an IPv6 datagram that may be cut anywhere, as where an ICMP error quotes it; `None` inside the fixed header.
    pub fn of_quoted(datagram: &'a [u8]) -> Option<Self> {
        let (fixed, rest) = datagram.split_first_chunk::<HEADER_LEN>()?;
        Some(Self::new(fixed[NEXT_HEADER], rest))
    }

    /// Goes past all headers left, to what follows them.
    ///
    /// # Errors
    /// As the iterator's items.
    pub fn upper(mut self) -> Result<Upper, WireError> {
        for extension in &mut self {
            extension?;
        }
        Ok(self.upper)
    }

    fn advance(&mut self) -> Result<Extension<'a>, WireError> {
        const CUT: WireError = WireError::Truncated("IPv6 extension");
        self.left = self.left.checked_sub(1).ok_or(WireError::Extensions)?;
        let &[next, length, high, low, ..] = self.rest else {
            return Err(CUT);
        };
        let kind = self.upper.protocol;
        let len = match kind {
            FRAGMENT => UNIT,
            protocol::AH => (usize::from(length) + 2) * 4,
            _ => (usize::from(length) + 1) * UNIT,
        };
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(CUT)?;
        let at = self.upper.at;
        self.upper = Upper {
            protocol: next,
            at: at + len,
            later_fragment: kind == FRAGMENT && u16::from_be_bytes([high, low]) & 0xfff8 != 0,
        };
        self.rest = rest;
        Ok(Extension { kind, at, bytes })
    }
}

impl<'a> Iterator for Extensions<'a> {
    /// `Truncated` or `Extensions` of [`WireError`]; nothing follows an error.
    type Item = Result<Extension<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.upper.later_fragment || !is_extension(self.upper.protocol) {
            return None;
        }
        let found = self.advance();
        if found.is_err() {
            self.upper.protocol = protocol::NONE;
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    fn kinds(first: u8, rest: &[u8]) -> (Vec<(u8, usize)>, Option<WireError>) {
        let found: Vec<_> = Extensions::new(first, rest).collect();
        let error = found.iter().find_map(|item| item.err());
        let good = found.iter().flatten().map(|extension| (extension.kind, extension.at));
        (good.collect(), error)
    }

    #[test]
    fn every_kind_states_its_length_in_its_own_way() {
        // Hop-by-hop of 8, routing of 24, destination options of 16, AH of 24, fragment of 8 (offset 0), then UDP.
        let chain = hex!(
            "2b00 0104 00000000" "3c02 0000 00000000 20010db8000000000000000000000001"
            "3301 010c 000000000000000000000000" "2c04 0000 00001000 00000001 000102030405060708090a0b"
            "1100 0001 cafebabe" "1234"
        );
        let expected = vec![
            (HOP_BY_HOP, 40),
            (ROUTING, 48),
            (60, 72),
            (protocol::AH, 88),
            (FRAGMENT, 112),
        ];
        assert_eq!(kinds(HOP_BY_HOP, &chain), (expected, None));
        let upper = Extensions::new(HOP_BY_HOP, &chain).upper();
        let udp = Upper {
            protocol: protocol::UDP,
            at: 120,
            later_fragment: false,
        };
        assert_eq!(upper, Ok(udp));
        for cut in 0..80 {
            let cut = Extensions::new(HOP_BY_HOP, &chain[..cut]).upper();
            assert_eq!(cut, Err(WireError::Truncated("IPv6 extension")));
        }
    }

    #[test]
    fn a_later_fragment_hides_what_it_is_a_piece_of() {
        let fragment = hex!("3c00 0010 cafebabe ffffffffffffffff");
        let upper = Extensions::new(FRAGMENT, &fragment).upper().unwrap();
        assert_eq!((upper.protocol, upper.at, upper.later_fragment), (60, 48, true));
    }

    #[test]
    fn the_chain_has_an_end() {
        let endless = [0; 9000];
        let (found, error) = kinds(HOP_BY_HOP, &endless);
        assert_eq!((found.len(), error), (EXTENSION_HEADERS, Some(WireError::Extensions)));
    }

    proptest! {
        #[test]
        fn hostile_bytes_do_no_harm(first: u8, rest in prop::collection::vec(prop_oneof![Just(0u8), Just(60), any::<u8>()], 0..100)) {
            if let Ok(upper) = Extensions::new(first, &rest).upper() {
                prop_assert!(upper.at <= 40 + rest.len());
            }
        }
    }
}
