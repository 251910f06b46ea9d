//! IPv4 fragmentation (RFC 791 section 3.2) of datagrams too long for a tunnel, where DF allows it. IPv6 datagrams are cut by their
//! sender alone (RFC 8200 section 4.5).

use arrayvec::ArrayVec;

use crate::wire::ipv4::{HEADER_LEN, Ipv4, MAX_HEADER_LEN, refresh_checksum};

/// Why a datagram cannot be cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FragmentError {
    /// It is too long and DF is set: the sender must learn (`icmp::Problem::TooBig`).
    #[error("too long and not to be fragmented")]
    DontFragment,
    /// Header and 8 bytes do not fit.
    #[error("MTU of {0} bytes is too small")]
    Mtu(usize),
    /// A fragment that reaches past 65535 bytes.
    #[error("fragment reaches past the longest datagram")]
    Offset,
}

/// One fragment: a header of its own and a stretch of the datagram's payload.
#[derive(Clone, Debug)]
pub struct Fragment<'a> {
    /// IP header, checksum right.
    pub header: ArrayVec<u8, MAX_HEADER_LEN>,
    /// What follows it.
    pub payload: &'a [u8],
}

impl Fragment<'_> {
    /// Bytes of header and payload.
    pub fn total_len(&self) -> usize {
        self.header.len() + self.payload.len()
    }

    /// Writes the fragment into the front of `out`, which holds [`Self::total_len`] bytes at least, else it panics.
    pub fn write(&self, out: &mut [u8]) {
        let (header, rest) = out.split_at_mut(self.header.len());
        header.copy_from_slice(&self.header);
        rest[..self.payload.len()].copy_from_slice(self.payload);
    }
}

/// The fragments of `datagram`, none longer than `mtu` bytes, in order. A datagram that fits comes out as it is; one that is a
/// fragment already is cut further. Does not allocate.
///
/// # Errors
/// [`FragmentError`].
pub fn fragments<'a>(datagram: &Ipv4<'a>, mtu: usize) -> Result<Fragments<'a>, FragmentError> {
    let mut later = ArrayVec::new();
    if datagram.total_len() > mtu {
        if datagram.dont_fragment() {
            return Err(FragmentError::DontFragment);
        }
        if mtu < datagram.header_len() + 8 {
            return Err(FragmentError::Mtu(mtu));
        }
        if datagram.fragment_offset() + datagram.payload().len() > usize::from(u16::MAX) {
            return Err(FragmentError::Offset);
        }
        later = later_header(datagram);
    }
    let first = datagram.bytes()[..datagram.header_len()].iter().copied().collect();
    let more = datagram.more_fragments();
    Ok(Fragments {
        next: Some(first),
        later,
        rest: datagram.payload(),
        offset: datagram.fragment_offset(),
        more,
        mtu,
    })
}

/// Iterator of [`fragments`].
#[derive(Clone, Debug)]
pub struct Fragments<'a> {
    next: Option<ArrayVec<u8, MAX_HEADER_LEN>>,
    /// Header of all fragments behind the first, fields of its length and place not yet set.
    later: ArrayVec<u8, MAX_HEADER_LEN>,
    rest: &'a [u8],
    /// Of `rest` in the payload of the whole datagram, bytes.
    offset: usize,
    /// Whether the datagram itself is not the last fragment.
    more: bool,
    mtu: usize,
}

impl<'a> Iterator for Fragments<'a> {
    type Item = Fragment<'a>;

    fn next(&mut self) -> Option<Fragment<'a>> {
        let mut header = self.next.take()?;
        let room = self.mtu.saturating_sub(header.len());
        // Only the last piece may be of any length; offsets count units of 8 bytes.
        let length = if self.rest.len() <= room {
            self.rest.len()
        } else {
            room & !7
        };
        let (payload, rest) = self.rest.split_at(length);
        place(&mut header, payload.len(), self.offset, self.more || !rest.is_empty());
        self.offset += length;
        self.rest = rest;
        if !rest.is_empty() {
            self.next = Some(self.later.clone());
        }
        Some(Fragment { header, payload })
    }
}

/// Sets total length, MF and offset, and the checksum with them. DF and the reserved bit stay.
fn place(header: &mut [u8], payload_len: usize, offset: usize, more: bool) {
    const MORE_FRAGMENTS: u16 = 0x2000;
    let total = u16::try_from(header.len() + payload_len).expect("no longer than the datagram");
    header[2..4].copy_from_slice(&total.to_be_bytes());
    let units = u16::try_from(offset / 8).expect("offset under 65536");
    let kept = u16::from_be_bytes([header[6], header[7]]) & 0xc000;
    let field = kept | units | if more { MORE_FRAGMENTS } else { 0 };
    header[6..8].copy_from_slice(&field.to_be_bytes());
    refresh_checksum(header).expect("a whole header");
}

/// The header without the options that only the first fragment has: those whose type lacks the copied flag (RFC 791 section 3.1).
fn later_header(datagram: &Ipv4<'_>) -> ArrayVec<u8, MAX_HEADER_LEN> {
    const COPIED: u8 = 0x80;
    let (fixed, mut options) = datagram.bytes()[..datagram.header_len()].split_at(HEADER_LEN);
    let mut header: ArrayVec<u8, MAX_HEADER_LEN> = fixed.iter().copied().collect();
    loop {
        let length = match options {
            [1, ..] => 1,
            [kind @ 2..=255, length @ 2..=255, ..] if usize::from(*length) <= options.len() => {
                let length = usize::from(*length);
                if kind & COPIED != 0 {
                    header.extend(options[..length].iter().copied());
                }
                length
            }
            // End of the list, or nothing that could be told apart further.
            _ => break,
        };
        options = &options[length..];
    }
    while !header.len().is_multiple_of(4) {
        header.push(0);
    }
    header[0] = 0x40 | u8::try_from(header.len() / 4).expect("at most 60 bytes");
    header
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn datagram(options: &[u8], payload: &[u8], flags_offset: u16) -> Vec<u8> {
        let mut bytes = vec![
            0x45, 0xb8, 0, 0, 0xca, 0xfe, 0, 0, 61, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
        ];
        bytes[0] += options.len() as u8 / 4;
        bytes[6..8].copy_from_slice(&flags_offset.to_be_bytes());
        bytes.extend(options);
        bytes.extend(payload);
        let total = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&total.to_be_bytes());
        refresh_checksum(&mut bytes).unwrap();
        bytes
    }

    fn cut(bytes: &[u8], mtu: usize) -> Result<Vec<Vec<u8>>, FragmentError> {
        let written = |f: Fragment<'_>| {
            let mut out = vec![0xee; f.total_len()];
            f.write(&mut out);
            out
        };
        Ok(fragments(&Ipv4::parse(bytes).unwrap(), mtu)?.map(written).collect())
    }

    /// (offset, more, payload) of each, by RFC 791's own procedure: pieces laid at their offsets.
    fn reassemble(pieces: &[Vec<u8>]) -> (usize, bool, Vec<u8>) {
        let mut parsed: Vec<_> = pieces.iter().map(|p| Ipv4::parse(p).unwrap()).collect();
        parsed.sort_by_key(|ip| std::cmp::Reverse(ip.fragment_offset()));
        let last = parsed[0].more_fragments();
        let start = parsed.last().unwrap().fragment_offset();
        let mut whole = vec![0; parsed[0].fragment_offset() + parsed[0].payload().len() - start];
        let mut filled = 0;
        for ip in &parsed {
            whole[ip.fragment_offset() - start..][..ip.payload().len()].copy_from_slice(ip.payload());
            filled += ip.payload().len();
        }
        assert_eq!(filled, whole.len());
        (start, last, whole)
    }

    #[test]
    fn what_fits_stays() {
        for flags in [0, 0x4000, 0x2010] {
            let bytes = datagram(&[7, 3, 4, 0], &[9; 76], flags);
            assert_eq!(cut(&bytes, 100), Ok(vec![bytes]));
        }
    }

    #[test]
    fn refusals() {
        assert_eq!(
            cut(&datagram(&[], &[9; 81], 0x4000), 100),
            Err(FragmentError::DontFragment)
        );
        assert_eq!(cut(&datagram(&[1; 40], &[9; 81], 0), 67), Err(FragmentError::Mtu(67)));
        assert_eq!(cut(&datagram(&[1; 40], &[9; 81], 0), 68).unwrap().len(), 3);
        assert_eq!(cut(&datagram(&[], &[9; 81], 0x1fff), 100), Err(FragmentError::Offset));
        assert_eq!(cut(&datagram(&[], &[9; 7], 0x1fff), 100).unwrap().len(), 1);
    }

    #[test]
    fn options_are_copied_by_their_flag() {
        // Record route (first only), NOP, router alert (all), a security option (all), end.
        let options = [7, 7, 4, 0, 0, 0, 0, 1, 148, 4, 0, 0, 130, 3, 5, 0];
        let pieces = cut(&datagram(&options, &[9; 120], 0), 84).unwrap();
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[0][20..36], options);
        for piece in &pieces[1..] {
            assert_eq!((piece[0], &piece[20..28]), (0x47, &[148, 4, 0, 0, 130, 3, 5, 0][..]));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, rng_seed: proptest::test_runner::RngSeed::Fixed(791), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn reassembly_gives_the_original(
            payload in prop::collection::vec(any::<u8>(), 1..9000),
            options in prop::collection::vec(any::<u8>(), 0..=10),
            mtu in 68..2000usize, again in 68..2000usize, offset in 0..1000u16, more: bool,
        ) {
            let options: Vec<u8> = options.repeat(4);
            let bytes = datagram(&options, &payload, offset | if more { 0x2000 } else { 0 });
            let pieces = cut(&bytes, mtu).unwrap();
            // Cut once more on the way.
            let smaller: Vec<_> = pieces.iter().flat_map(|piece| cut(piece, again).unwrap()).collect();
            for (pieces, mtu) in [(&pieces, mtu), (&smaller, mtu.min(again))] {
                prop_assert!(pieces.iter().all(|p| p.len() <= mtu));
                prop_assert_eq!(reassemble(pieces), (usize::from(offset) * 8, more, payload.clone()));
                for piece in pieces {
                    let ip = Ipv4::parse(piece).unwrap();
                    prop_assert_eq!((ip.id(), ip.ttl(), ip.protocol(), ip.header().tos), (0xcafe, 61, 17, 0xb8));
                    prop_assert_eq!(piece.len(), ip.total_len());
                }
            }
            let first = &bytes[20..20 + options.len()];
            prop_assert_eq!(&pieces[0][20..20 + options.len()], first);
        }
    }
}
