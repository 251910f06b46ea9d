//! The cell (protocol sections 3 and 4): the fixed-size payload of every TVT packet, as its innermost plaintext shows it.
//!
//! ```text
//!  0  sequence u64    8  zero[12]    20  AGGFRAG sub-type u8, reserved u8, block offset u16    24  data blocks
//! ```

use subtle::ConstantTimeEq;
use zerocopy::byteorder::network_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{WireError, esp, ipv4, protocol};

/// Bytes of a standard cell.
pub const STANDARD_LEN: usize = 1408;
/// Bytes of a jumbo cell.
pub const JUMBO_LEN: usize = 8896;
/// Bytes before the data blocks.
pub const HEADER_LEN: usize = 24;
/// Where the sequence number lies.
pub const SEQUENCE_OFFSET: usize = 0;
/// Where the redundancy lies.
pub const ZERO_OFFSET: usize = 8;
/// Bytes of redundancy.
pub const ZERO_LEN: usize = 12;
/// Where the AGGFRAG header (RFC 9347 section 6.1) lies.
pub const AGGFRAG_OFFSET: usize = 20;
/// Next header of the AH before a cell.
pub const AH_NEXT_HEADER: u8 = protocol::CELL;
/// AGGFRAG sub-type of data without congestion control (RFC 9347 section 6.1.1).
pub const SUB_TYPE_DATA: u8 = 0;
/// AGGFRAG sub-type of a verdict of the exit; the reason is the first byte of the data (protocol section 4).
pub const SUB_TYPE_VERDICT: u8 = 255;
/// Sequence number before which an AIVT must have been renewed.
pub const SEQUENCE_LIMIT: u64 = 1 << 40;

/// The network's one cell length; its number stands in the routing part of creating signals (protocol section 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum CellProfile {
    /// 1408 bytes, for an MTU of 1500.
    Standard = 0,
    /// 8896 bytes, for an MTU of 9000.
    Jumbo = 1,
}

impl CellProfile {
    /// Bytes of a cell.
    pub const fn cell_len(self) -> usize {
        match self {
            Self::Standard => STANDARD_LEN,
            Self::Jumbo => JUMBO_LEN,
        }
    }

    /// Bytes of data blocks in a cell.
    pub const fn data_len(self) -> usize {
        self.cell_len() - HEADER_LEN
    }

    /// Bytes of every inner datagram on a PVT, which make its packet as long as a TVT's (protocol section 6): 34 less than a cell,
    /// for what ESP puts around a text and two bytes of trailer.
    pub const fn signal_datagram_len(self) -> usize {
        self.cell_len() - esp::AROUND_TEXT - esp::TRAILER_FIXED_LEN
    }

    /// Bytes of a TVT packet in IPv4, Ethernet excluded, round an AH of `ah_len` bytes.
    pub const fn packet_len_ipv4(self, ah_len: usize) -> usize {
        ipv4::HEADER_LEN + ah_len + self.cell_len()
    }
}

/// The first 24 bytes of a cell's plaintext.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CellHeader {
    /// Number of the cell in its AIVT and direction, from 1.
    pub sequence: U64,
    /// Redundancy: zero, or the cell was changed on its way.
    pub zero: [u8; ZERO_LEN],
    /// AGGFRAG sub-type.
    pub sub_type: u8,
    /// Zero. RFC 9347 section 6.1.1 ignores it when received; [`crate::aggfrag::open`] is stricter.
    pub reserved: u8,
    /// Bytes from the start of the data to the first block that begins in this cell (RFC 9347 section 6.1.1).
    pub block_offset: U16,
}

impl CellHeader {
    /// A header with right redundancy.
    pub fn new(sequence: u64, sub_type: u8, block_offset: u16) -> Self {
        Self {
            sequence: U64::new(sequence),
            zero: [0; ZERO_LEN],
            sub_type,
            reserved: 0,
            block_offset: U16::new(block_offset),
        }
    }

    /// Header and data of a whole cell's plaintext.
    ///
    /// # Errors
    /// [`WireError::Truncated`] under 24 bytes.
    pub fn parse(cell: &[u8]) -> Result<(&Self, &[u8]), WireError> {
        Self::ref_from_prefix(cell).map_err(|_| WireError::Truncated("cell"))
    }

    /// Whether the redundancy is all zero; constant-time, in three words.
    pub fn is_intact(&self) -> bool {
        let (words, []) = self.zero.as_chunks::<4>() else {
            return false; // never: twelve bytes are three words
        };
        let any = words.iter().fold(0, |any, word| any | u32::from_ne_bytes(*word));
        any.ct_eq(&0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    #[test]
    fn golden_header() {
        let header = CellHeader::new(0x0102_0304_0506_0708, SUB_TYPE_DATA, 0x0a0b);
        let golden = hex!("0102030405060708 000000000000000000000000 00 00 0a0b");
        assert_eq!(header.as_bytes(), golden);
        let (read, data) = CellHeader::parse(&golden).unwrap();
        assert_eq!((*read, data.len()), (header, 0));
        assert!(CellHeader::parse(&golden[..23]).is_err());
    }

    #[test]
    fn each_bit_of_redundancy_counts() {
        let header = CellHeader::new(1, SUB_TYPE_DATA, 0);
        assert!(header.is_intact());
        for bit in 0..ZERO_LEN * 8 {
            let mut cell = [0; HEADER_LEN];
            cell.copy_from_slice(header.as_bytes());
            cell[ZERO_OFFSET + bit / 8] ^= 1 << (bit % 8);
            assert!(!CellHeader::parse(&cell).unwrap().0.is_intact());
        }
    }

    /// Protocol section 6: a signal's packet is as long as a cell's.
    #[test]
    fn signals_are_as_long_as_cells() {
        for profile in [CellProfile::Standard, CellProfile::Jumbo] {
            assert_eq!(profile.signal_datagram_len(), profile.cell_len() - 34);
            assert_eq!(esp::packet_len(profile.signal_datagram_len()), profile.cell_len());
        }
        assert_eq!(CellProfile::Standard.packet_len_ipv4(36), 1464);
        assert_eq!(CellProfile::Jumbo.data_len(), 8872);
    }
}
