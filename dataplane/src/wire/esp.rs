//! The encapsulating security payload (RFC 4303) in tunnel mode, with the combined-mode algorithms of RFC 4106.
//!
//! ```text
//! | SPI | sequence, low half | IV[8] | inner datagram | TFC padding | 1,2,3.. | pad length | next header | ICV[16] |
//!                                    |<------------------ text: a multiple of 4 bytes ------------------->|
//! ```

use zerocopy::byteorder::network_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{WireError, datagram_len, protocol};
use crate::id::Spi;

/// Bytes of SPI and sequence number.
pub const HEADER_LEN: usize = 8;
/// Bytes of the explicit IV (RFC 4106 section 3.1).
pub const IV_LEN: usize = 8;
/// Bytes of the ICV.
pub const ICV_LEN: usize = 16;
/// Bytes of pad length and next header.
pub const TRAILER_FIXED_LEN: usize = 2;
/// Text is a multiple of this (RFC 4303 section 2.4).
pub const ALIGNMENT: usize = 4;
/// Bytes around a text: header, IV, ICV.
pub const AROUND_TEXT: usize = HEADER_LEN + IV_LEN + ICV_LEN;
/// Bytes of padding that one trailer can hold.
pub const MAX_PADDING: usize = 255;

/// SPI and sequence number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct EspHeader {
    /// Security parameter index.
    pub spi: U32,
    /// Low half of the sequence number.
    pub sequence: U32,
}

impl EspHeader {
    /// A header.
    pub fn new(spi: Spi, sequence_low: u32) -> Self {
        Self {
            spi: U32::new(spi.value()),
            sequence: U32::new(sequence_low),
        }
    }
}

/// An ESP packet with room for everything around its text, a text length that is a multiple of four, and an SPI that is not reserved.
/// Nothing is authentic yet.
#[derive(Clone, Copy, Debug)]
pub struct Esp<'a> {
    spi: Spi,
    sequence_low: u32,
    iv: &'a [u8; IV_LEN],
    text: &'a [u8],
    icv: &'a [u8; ICV_LEN],
}

impl<'a> Esp<'a> {
    /// The ESP packet that fills `payload`.
    ///
    /// # Errors
    /// `Truncated`, `Padding` (text not aligned) or `ReservedSpi` of [`WireError`].
    pub fn parse(payload: &'a [u8]) -> Result<Self, WireError> {
        const CUT: WireError = WireError::Truncated("ESP");
        let (header, rest) = EspHeader::ref_from_prefix(payload).map_err(|_| CUT)?;
        let (iv, rest) = rest.split_first_chunk().ok_or(CUT)?;
        let (text, icv) = rest.split_last_chunk().ok_or(CUT)?;
        if text.is_empty() {
            return Err(CUT);
        }
        if !text.len().is_multiple_of(ALIGNMENT) {
            return Err(WireError::Padding);
        }
        let spi = Spi::new(header.spi.get()).ok_or(WireError::ReservedSpi)?;
        Ok(Self {
            spi,
            sequence_low: header.sequence.get(),
            iv,
            text,
            icv,
        })
    }

    /// Security parameter index.
    pub fn spi(&self) -> Spi {
        self.spi
    }

    /// Low half of the sequence number; the window infers the high one.
    pub fn sequence_low(&self) -> u32 {
        self.sequence_low
    }

    /// Explicit IV.
    pub fn iv(&self) -> &'a [u8; IV_LEN] {
        self.iv
    }

    /// Encrypted text, trailer included; begins at [`HEADER_LEN`] + [`IV_LEN`].
    pub fn text(&self) -> &'a [u8] {
        self.text
    }

    /// Integrity check value.
    pub fn icv(&self) -> &'a [u8; ICV_LEN] {
        self.icv
    }
}

/// The additional data of RFC 4106 section 5: SPI and the sequence number, all 64 bits of it with ESN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Aad {
    bytes: [u8; 12],
    len: u8,
}

impl Aad {
    /// Additional data of the packet with this SPI and (full) sequence number.
    pub fn new(spi: Spi, sequence: u64, esn: bool) -> Self {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&spi.value().to_be_bytes());
        if esn {
            bytes[4..].copy_from_slice(&sequence.to_be_bytes());
            Self { bytes, len: 12 }
        } else {
            bytes[4..8].copy_from_slice(&(sequence as u32).to_be_bytes());
            Self { bytes, len: 8 }
        }
    }

    /// The bytes: 8, or 12 with ESN.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Bytes of the shortest trailer behind an inner datagram (and TFC padding) of `inner_len` bytes: 2 to 5.
pub const fn trailer_len(inner_len: usize) -> usize {
    TRAILER_FIXED_LEN + (ALIGNMENT - (inner_len + TRAILER_FIXED_LEN) % ALIGNMENT) % ALIGNMENT
}

/// Bytes of a whole ESP packet, SPI to ICV, round an inner datagram of `inner_len` bytes.
pub const fn packet_len(inner_len: usize) -> usize {
    AROUND_TEXT + inner_len + trailer_len(inner_len)
}

/// Writes a trailer that fills `trailer`: padding 1, 2, 3, ..., its length, the next header.
///
/// # Errors
/// [`WireError::Padding`] if `trailer` is shorter than 2 bytes or longer than 257.
pub fn write_trailer(trailer: &mut [u8], next_header: u8) -> Result<(), WireError> {
    let (padding, fixed) = trailer
        .split_last_chunk_mut::<TRAILER_FIXED_LEN>()
        .ok_or(WireError::Padding)?;
    let len = u8::try_from(padding.len()).map_err(|_| WireError::Padding)?;
    for (byte, value) in padding.iter_mut().zip(1..=u8::MAX) {
        *byte = value;
    }
    *fixed = [len, next_header];
    Ok(())
}

/// What an authentic text holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inner<'a> {
    /// The bytes of an IPv4 datagram, as long as it says; its checksum is not looked at. They begin where the text began.
    Ipv4(&'a [u8]),
    /// The bytes of an IPv6 datagram, as long as it says. They begin where the text began.
    Ipv6(&'a [u8]),
    /// A dummy packet (RFC 4303 section 2.6): to be discarded, without complaint.
    Dummy,
}

impl<'a> Inner<'a> {
    /// What the decrypted and authentic `text` holds. Bytes between inner datagram and trailer are TFC padding and left out
    /// (RFC 4303 section 2.7).
    ///
    /// # Errors
    /// `Padding` (longer than the text, or not 1, 2, 3, ...), `NextHeader` (neither IPv4, IPv6 nor dummy), or what
    /// [`datagram_len`] says; `Version` also if next header and datagram disagree, `TotalLength` if the datagram is cut short.
    pub fn parse(text: &'a [u8]) -> Result<Self, WireError> {
        let (rest, &[pad_len, next_header]) = text.split_last_chunk::<TRAILER_FIXED_LEN>().ok_or(WireError::Padding)?;
        let body_len = rest.len().checked_sub(usize::from(pad_len)).ok_or(WireError::Padding)?;
        let (body, padding) = rest.split_at(body_len);
        if next_header == protocol::NONE {
            return Ok(Self::Dummy);
        }
        if padding.iter().zip(1..=u8::MAX).any(|(&byte, wanted)| byte != wanted) {
            return Err(WireError::Padding);
        }
        let (version, name) = match next_header {
            protocol::IPV4 => (4, "IPv4"),
            protocol::IPV6 => (6, "IPv6"),
            other => return Err(WireError::NextHeader(other)),
        };
        if body.first().is_some_and(|first| first >> 4 != version) {
            return Err(WireError::Version);
        }
        let datagram = body.get(..datagram_len(body)?).ok_or(WireError::TotalLength(name))?;
        Ok(if version == 4 {
            Self::Ipv4(datagram)
        } else {
            Self::Ipv6(datagram)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    const SPI: Spi = Spi::new(0x0000_4321).unwrap();

    #[test]
    fn golden_packet_is_parsed() {
        let packet = hex!("00004321 00000009 0102030405060708 c0c1c2c3 d0d1d2d3d4d5d6d7d8d9dadbdcdddedf");
        let esp = Esp::parse(&packet).unwrap();
        assert_eq!((esp.spi(), esp.sequence_low()), (SPI, 9));
        assert_eq!(esp.iv(), &hex!("0102030405060708"));
        assert_eq!(esp.text(), hex!("c0c1c2c3"));
        assert_eq!(esp.icv()[..2], hex!("d0d1"));
        assert_eq!(EspHeader::new(SPI, 9).as_bytes(), &packet[..8]);
        for len in 0..packet.len() {
            assert!(Esp::parse(&packet[..len]).is_err(), "{len}");
        }
        let mut odd = packet.to_vec();
        odd.push(0);
        assert_eq!(Esp::parse(&odd).map(|_| ()), Err(WireError::Padding));
        let mut reserved = packet;
        reserved[..4].copy_from_slice(&[0, 0, 0, 255]);
        assert_eq!(Esp::parse(&reserved).map(|_| ()), Err(WireError::ReservedSpi));
    }

    #[test]
    fn additional_data() {
        assert_eq!(
            Aad::new(SPI, 0x1_0000_0002, true).as_bytes(),
            hex!("00004321 00000001 00000002")
        );
        assert_eq!(Aad::new(SPI, 2, false).as_bytes(), hex!("00004321 00000002"));
    }

    #[test]
    fn trailer_by_hand() {
        for (inner, len) in [(20, 4), (21, 3), (22, 2), (23, 5), (1374, 2)] {
            assert_eq!(trailer_len(inner), len);
        }
        let mut trailer = [0; 5];
        write_trailer(&mut trailer, 4).unwrap();
        assert_eq!(trailer, [1, 2, 3, 3, 4]);
        assert!(write_trailer(&mut [0], 4).is_err());
        assert!(write_trailer(&mut [0; 257], 4).is_ok());
        assert!(write_trailer(&mut [0; 258], 4).is_err());
    }

    /// A text of an IPv4 datagram of `inner` bytes, `tfc` zero bytes and the shortest trailer.
    fn text(inner: u16, tfc: usize) -> Vec<u8> {
        let mut text = vec![0x77; usize::from(inner)];
        text[0] = 0x45;
        text[2..4].copy_from_slice(&inner.to_be_bytes());
        text.resize(text.len() + tfc, 0);
        let body = text.len();
        text.resize(body + trailer_len(body), 0);
        write_trailer(&mut text[body..], protocol::IPV4).unwrap();
        text
    }

    #[test]
    fn wrong_texts_are_refused() {
        let good = text(23, 0);
        assert_eq!(Inner::parse(&good), Ok(Inner::Ipv4(&good[..23])));
        let last = good.len() - 1;
        let change = |at: usize, value: u8| {
            let mut text = good.clone();
            text[at] = value;
            Inner::parse(&text).map(|_| ()).unwrap_err()
        };
        assert_eq!(change(last, protocol::IPV6), WireError::Version);
        assert_eq!(change(last, protocol::TCP), WireError::NextHeader(6));
        assert_eq!(change(last - 1, 200), WireError::Padding);
        assert_eq!(change(last - 2, 9), WireError::Padding);
        assert_eq!(change(last - 4, 0), WireError::Padding);
        assert_eq!(change(0, 0x65), WireError::Version);
        assert_eq!(change(3, 24), WireError::TotalLength("IPv4"));
        assert_eq!(change(3, 19), WireError::TotalLength("IPv4"));
        for len in 0..2 {
            assert_eq!(Inner::parse(&good[..len]), Err(WireError::Padding));
        }
        assert_eq!(Inner::parse(&[0, 4]), Err(WireError::Truncated("IP")));
    }

    #[test]
    fn dummies_are_recognised_whatever_they_hold() {
        assert_eq!(Inner::parse(&[0xde, 0xad, 0, 59]), Ok(Inner::Dummy));
        assert_eq!(Inner::parse(&[7, 7, 2, 59]), Ok(Inner::Dummy));
        assert_eq!(Inner::parse(&[7, 7, 3, 59]), Err(WireError::Padding));
    }

    #[test]
    fn inner_ipv6() {
        let mut text = vec![0; 44];
        text[0] = 0x60;
        text[5] = 1;
        write_trailer(&mut text[41..], protocol::IPV6).unwrap();
        assert_eq!(Inner::parse(&text), Ok(Inner::Ipv6(&text[..41])));
    }

    proptest! {
        #[test]
        fn inner_of_written_text_is_the_datagram(inner in 20u16..1500, tfc in 0usize..300) {
            let text = text(inner, tfc);
            prop_assert_eq!(text.len() % ALIGNMENT, 0);
            prop_assert_eq!(packet_len(usize::from(inner) + tfc), text.len() + AROUND_TEXT);
            prop_assert_eq!(Inner::parse(&text), Ok(Inner::Ipv4(&text[..usize::from(inner)])));
        }

        #[test]
        fn parse_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..100), pad in 0u8..20, next in prop::sample::select(vec![4u8, 41, 59, 6])) {
            let _ = Esp::parse(&bytes);
            let _ = Inner::parse(&bytes);
            if let Some(end) = bytes.last_chunk_mut::<2>() {
                *end = [pad, next];
            }
            let _ = Inner::parse(&bytes);
        }
    }
}
