//! The authentication header (RFC 4302), and what of the outer IP header its ICV covers.
//!
//! ```text
//!  0                   1                   2                   3
//! | next header   | payload len   |          reserved             |
//! | SPI                                                           |
//! | sequence number, low half                                     |
//! | ICV field: HMAC: tag[16]                                      |
//! |            GMAC: IV[8] | tag[16]                              |
//! |            CMAC: tag[12]                                      |
//! |            then 4 pad bytes where the family's alignment asks |
//! ```
//!
//! A receiver parses ([`Ah::parse`]), finds the SA, asks for the layout ([`Ah::layout`]), takes IV and tag out
//! ([`take_icv`]), masks the IP header ([`mask_mutable_ipv4`], [`mask_mutable_ipv6`]) and computes the ICV over what then lies in
//! the buffer. A sender writes ([`write_header`]) and computes before it fills in TTL, DF and checksum or hop limit.

use ain_crypto::{MacAlgorithm, TAG_BYTES};
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{WireError, ipv4};
use crate::id::Spi;

mod ipv6;

pub use ipv6::{mask_mutable_ipv6, offset_ipv6};

/// Bytes before the ICV field.
pub const FIXED_LEN: usize = 12;
/// Bytes of the explicit IV of GMAC, at the front of the ICV field (RFC 4543 section 3.1).
pub const GMAC_IV_LEN: usize = 8;

/// The fixed part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AhHeader {
    /// Protocol of what follows the AH, see [`super::protocol`].
    pub next_header: u8,
    /// Length of the AH in 32-bit words, minus 2.
    pub payload_len: u8,
    /// Zero when sent; ignored, but covered, when received (RFC 4302 section 2.3).
    pub reserved: U16,
    /// Security parameter index.
    pub spi: U32,
    /// Low half of the sequence number.
    pub sequence: U32,
}

/// IP family of the outer header: AH is a multiple of 4 bytes in IPv4, of 8 in IPv6 (RFC 4302 section 2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Bytes of the whole AH that this node sends.
pub const fn ah_len(algorithm: MacAlgorithm, family: Family) -> usize {
    match (algorithm, family) {
        (MacAlgorithm::HmacSha256_128, Family::V4) => 28,
        (MacAlgorithm::HmacSha256_128, Family::V6) => 32,
        (MacAlgorithm::Aes128Gmac, Family::V4) => 36,
        (MacAlgorithm::Aes128Gmac, Family::V6) => 40,
        (MacAlgorithm::AesCmac96, Family::V4 | Family::V6) => 24,
    }
}

/// Where IV and tag lie in an AH of one algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcvLayout {
    algorithm: MacAlgorithm,
    len: usize,
}

impl IcvLayout {
    /// The layout that this node sends.
    pub const fn sent(algorithm: MacAlgorithm, family: Family) -> Self {
        Self {
            algorithm,
            len: ah_len(algorithm, family),
        }
    }

    /// The layout of a received AH of `len` bytes: the sent one, and HMAC at 32 on IPv4 too (Linux without `align4`).
    ///
    /// # Errors
    /// [`WireError::IcvLength`] for any other length.
    pub const fn received(algorithm: MacAlgorithm, family: Family, len: usize) -> Result<Self, WireError> {
        let lenient = matches!((algorithm, family), (MacAlgorithm::HmacSha256_128, Family::V4)) && len == 32;
        if len == ah_len(algorithm, family) || lenient {
            Ok(Self { algorithm, len })
        } else {
            Err(WireError::IcvLength)
        }
    }

    /// Bytes of the whole AH. Always [`FIXED_LEN`] + IV + tag at least.
    #[allow(clippy::len_without_is_empty)] // an AH is never empty
    pub const fn len(self) -> usize {
        self.len
    }

    /// Offset of the tag in the AH.
    const fn tag_offset(self) -> usize {
        match self.algorithm {
            MacAlgorithm::HmacSha256_128 | MacAlgorithm::AesCmac96 => FIXED_LEN,
            MacAlgorithm::Aes128Gmac => FIXED_LEN + GMAC_IV_LEN,
        }
    }

    /// Offset of the first byte behind the tag.
    const fn tag_end(self) -> usize {
        self.tag_offset() + self.algorithm.tag_bytes()
    }
}

/// An AH whose fixed part and ICV field lie inside the packet and whose SPI is not reserved. Nothing is authentic yet.
#[derive(Clone, Copy, Debug)]
pub struct Ah<'a> {
    header: &'a AhHeader,
    spi: Spi,
    len: usize,
    payload: &'a [u8],
}

impl<'a> Ah<'a> {
    /// The AH at the front of an IP payload.
    ///
    /// # Errors
    /// `Truncated`, `HeaderLength` or `ReservedSpi` of [`WireError`].
    pub fn parse(ip_payload: &'a [u8]) -> Result<Self, WireError> {
        let (header, _) = AhHeader::ref_from_prefix(ip_payload).map_err(|_| WireError::Truncated("AH"))?;
        let len = (usize::from(header.payload_len) + 2) * 4;
        if len < FIXED_LEN {
            return Err(WireError::HeaderLength("AH"));
        }
        let payload = ip_payload.get(len..).ok_or(WireError::Truncated("AH"))?;
        let spi = Spi::new(header.spi.get()).ok_or(WireError::ReservedSpi)?;
        Ok(Self {
            header,
            spi,
            len,
            payload,
        })
    }

    /// Protocol of what follows.
    pub fn next_header(&self) -> u8 {
        self.header.next_header
    }

    /// Security parameter index.
    pub fn spi(&self) -> Spi {
        self.spi
    }

    /// Low half of the sequence number; the window infers the high one.
    pub fn sequence_low(&self) -> u32 {
        self.header.sequence.get()
    }

    /// Bytes of the whole AH.
    #[allow(clippy::len_without_is_empty)] // an AH is never empty
    pub fn len(&self) -> usize {
        self.len
    }

    /// Where IV and tag lie, given the SA's algorithm.
    ///
    /// # Errors
    /// [`WireError::IcvLength`] if the AH is not as long as the algorithm makes it.
    pub fn layout(&self, algorithm: MacAlgorithm, family: Family) -> Result<IcvLayout, WireError> {
        IcvLayout::received(algorithm, family, self.len)
    }

    /// What follows the AH.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// IV and tag as they came on the wire. The IV is zero where the algorithm has none, and so is what a short tag leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Icv {
    /// Explicit IV of GMAC.
    pub iv: [u8; GMAC_IV_LEN],
    /// Tag.
    pub tag: [u8; TAG_BYTES],
}

/// IV and tag of an ICV field, of lengths that the compiler knows: for so few bytes a call to the C library, which it makes for any
/// other length, costs more than the work.
type Parts<'a, const IV: usize, const TAG: usize> = (&'a mut [u8; IV], &'a mut [u8; TAG]);

fn parts<const IV: usize, const TAG: usize>(ah: &mut [u8]) -> Result<Parts<'_, IV, TAG>, WireError> {
    let field = ah.get_mut(FIXED_LEN..).ok_or(WireError::Truncated("AH"))?;
    let (iv, rest) = field.split_first_chunk_mut().ok_or(WireError::Truncated("AH"))?;
    let tag = rest.first_chunk_mut().ok_or(WireError::Truncated("AH"))?;
    Ok((iv, tag))
}

fn take<const IV: usize, const TAG: usize>(ah: &mut [u8]) -> Result<Icv, WireError> {
    let (iv, tag) = parts::<IV, TAG>(ah)?;
    let mut icv = Icv {
        iv: [0; GMAC_IV_LEN],
        tag: [0; TAG_BYTES],
    };
    icv.iv[..IV].copy_from_slice(&std::mem::replace(iv, [0; IV]));
    icv.tag[..TAG].copy_from_slice(&std::mem::replace(tag, [0; TAG]));
    Ok(icv)
}

fn put<const IV: usize, const TAG: usize>(ah: &mut [u8], icv: &Icv) -> Result<(), WireError> {
    let (iv, tag) = parts::<IV, TAG>(ah)?;
    iv.copy_from_slice(&icv.iv[..IV]);
    tag.copy_from_slice(&icv.tag[..TAG]);
    Ok(())
}

/// Takes IV and tag out of the AH at the front of `ah` and leaves zeros, as the ICV computation wants (protocol section 2); pad bytes
/// stay, covered as received (RFC 4302 section 3.3.3.2.1).
///
/// # Errors
/// [`WireError::Truncated`] if `ah` is shorter than the layout.
pub fn take_icv(ah: &mut [u8], layout: IcvLayout) -> Result<Icv, WireError> {
    match layout.algorithm {
        MacAlgorithm::Aes128Gmac => take::<GMAC_IV_LEN, 16>(ah),
        MacAlgorithm::HmacSha256_128 => take::<0, 16>(ah),
        MacAlgorithm::AesCmac96 => take::<0, 12>(ah),
    }
}

/// Puts IV (where the algorithm has one) and tag into the AH at the front of `ah`.
///
/// # Errors
/// [`WireError::Truncated`] if `ah` is shorter than the layout.
pub fn put_icv(ah: &mut [u8], layout: IcvLayout, icv: &Icv) -> Result<(), WireError> {
    match layout.algorithm {
        MacAlgorithm::Aes128Gmac => put::<GMAC_IV_LEN, 16>(ah, icv),
        MacAlgorithm::HmacSha256_128 => put::<0, 16>(ah, icv),
        MacAlgorithm::AesCmac96 => put::<0, 12>(ah, icv),
    }
}

/// Writes the AH over the front of `ah`, IV, tag and padding zero.
///
/// # Errors
/// [`WireError::Truncated`] if `ah` is shorter than the layout.
pub fn write_header(
    ah: &mut [u8],
    layout: IcvLayout,
    next_header: u8,
    spi: Spi,
    sequence_low: u32,
) -> Result<(), WireError> {
    let ah = ah.get_mut(..layout.len()).ok_or(WireError::Truncated("AH"))?;
    let header = AhHeader {
        next_header,
        payload_len: (layout.len() / 4 - 2) as u8,
        reserved: U16::ZERO,
        spi: U32::new(spi.value()),
        sequence: U32::new(sequence_low),
    };
    header.write_to_prefix(ah).map_err(|_| WireError::Truncated("AH"))?;
    if let Some(padding) = ah[layout.tag_end()..].first_chunk_mut::<4>() {
        *padding = [0; 4];
    }
    let zero = Icv {
        iv: [0; GMAC_IV_LEN],
        tag: [0; TAG_BYTES],
    };
    put_icv(ah, layout, &zero)
}

/// Zeroes, in place, the mutable fields of the outer IPv4 header that `header` exactly holds, as the ICV computation of sender and
/// receiver wants it (RFC 4302 section 3.3.3.1.1): DSCP and ECN, all flags, fragment offset, TTL, checksum, and each mutable option
/// as a whole. A destination that a source route will still change is replaced by the final one.
///
/// # Errors
/// `Truncated`, `HeaderLength` or `Option` of [`WireError`]; the header is unspecified then.
pub fn mask_mutable_ipv4(header: &mut [u8]) -> Result<(), WireError> {
    let (fixed, options) = header
        .split_at_mut_checked(ipv4::HEADER_LEN)
        .ok_or(WireError::Truncated("IPv4"))?;
    if usize::from(fixed[0] & 0x0f) * 4 != fixed.len() + options.len() {
        return Err(WireError::HeaderLength("IPv4"));
    }
    fixed[1] = 0; // DSCP, ECN
    fixed[6..9].fill(0); // flags, fragment offset, TTL
    fixed[10..12].fill(0); // checksum
    if let Some(destination) = mask_options(options)? {
        fixed[16..20].copy_from_slice(&destination);
    }
    Ok(())
}

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_LOOSE_SOURCE_ROUTE: u8 = 0x83;
const OPTION_STRICT_SOURCE_ROUTE: u8 = 0x89;

/// Immutable by RFC 4302 appendix A1: security, extended security, commercial security, router alert, sender-directed
/// multi-destination delivery. Every other option, known or not, is zeroed.
const fn is_immutable_option(kind: u8) -> bool {
    matches!(kind, 0x82 | 0x85 | 0x86 | 0x94 | 0x95)
}

/// Zeroes mutable options; the final destination if a source route is not used up.
fn mask_options(mut options: &mut [u8]) -> Result<Option<[u8; 4]>, WireError> {
    let mut destination = None;
    while let Some(&kind) = options.first() {
        let len = match kind {
            OPTION_END => break,
            OPTION_NOP => 1,
            _ => usize::from(*options.get(1).ok_or(WireError::Option)?),
        };
        if len < 2 && kind != OPTION_NOP {
            return Err(WireError::Option);
        }
        let (option, rest) = options.split_at_mut_checked(len).ok_or(WireError::Option)?;
        if kind == OPTION_LOOSE_SOURCE_ROUTE || kind == OPTION_STRICT_SOURCE_ROUTE {
            destination = final_destination(option)?.or(destination);
        }
        if kind != OPTION_NOP && !is_immutable_option(kind) {
            option.fill(0);
        }
        options = rest;
    }
    Ok(destination)
}

/// Last address of a source route, unless its pointer says that the route is used up (RFC 791 section 3.1).
fn final_destination(option: &[u8]) -> Result<Option<[u8; 4]>, WireError> {
    let pointer = usize::from(*option.get(2).ok_or(WireError::Option)?);
    if pointer > option.len() {
        return Ok(None);
    }
    let route = &option[3..];
    match route.last_chunk::<4>() {
        Some(last) if pointer >= 4 && route.len().is_multiple_of(4) => Ok(Some(*last)),
        _ => Err(WireError::Option),
    }
}

#[cfg(test)]
mod tests;
