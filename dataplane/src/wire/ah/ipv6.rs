//! What stands between an IPv6 header and its AH, and what of both the ICV covers (RFC 4302 section 3.3.3.1.2).
//!
//! ```text
//!  IPv6 (40) | hop-by-hop options | destination options | AH ...
//!     |                  `-------------------`- data of options that may change en route is taken as zero
//!     `- DSCP, ECN, flow label, hop limit are taken as zero
//! ```
//!
//! Nothing in a tunnel's outer header has to be acted on, so that only what may be skipped is taken: no routing header of any type
//! (RFC 5095 abolishes type 0, and an end of a tunnel is no waypoint), no option whose type says that who does not know it must
//! discard the packet (RFC 8200 section 4.2), and no fragment.

use zerocopy::byteorder::network_endian::U32;

use crate::limits::OUTER_EXTENSIONS;
use crate::wire::ipv6::{HEADER_LEN, Ipv6, Ipv6Header};
use crate::wire::{WireError, protocol};

const HOP_BY_HOP_OPTIONS: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// The one option without length and data.
const PAD1: u8 = 0;
/// Bits of an option's type that are clear if it may be skipped by who does not know it.
const MUST_KNOW: u8 = 0xc0;
/// Bit of an option's type that is set if its data may change en route.
const CHANGES_EN_ROUTE: u8 = 0x20;

/// Where the AH begins, in bytes from the IPv6 header on. What the options say is not looked at.
///
/// # Errors
/// `NextHeader` if the packet carries something else, `Fragment`, `Extension` or `Truncated` of [`WireError`].
pub fn offset_ipv6(ip: &Ipv6<'_>) -> Result<usize, WireError> {
    let (mut next, mut rest) = (ip.next_header(), ip.payload());
    for place in 0..=OUTER_EXTENSIONS {
        match next {
            protocol::AH => return Ok(ip.total_len() - rest.len()),
            HOP_BY_HOP_OPTIONS if place > 0 => return Err(WireError::Extension("hop-by-hop options not in front")),
            HOP_BY_HOP_OPTIONS | DESTINATION_OPTIONS => {
                let (header, behind) = rest
                    .split_at_checked(extension_len(rest)?)
                    .ok_or(WireError::Truncated("extension"))?;
                (next, rest) = (header[0], behind);
            }
            FRAGMENT => return Err(fragment(rest)),
            ROUTING => return Err(WireError::Extension("a routing header")),
            other => return Err(WireError::NextHeader(other)),
        }
    }
    Err(WireError::Extension(
        "more extension headers than any tunnel has use for",
    ))
}

/// A fragment header tells what the whole packet carries; the AH, whose place is behind it, may follow destination options.
fn fragment(header: &[u8]) -> WireError {
    match header.first() {
        Some(&(protocol::AH | DESTINATION_OPTIONS)) => WireError::Fragment,
        Some(&other) => WireError::NextHeader(other),
        None => WireError::Truncated("extension"),
    }
}

/// Bytes of the extension header at the front of `bytes`, 8 at least.
fn extension_len(bytes: &[u8]) -> Result<usize, WireError> {
    let units = *bytes.get(1).ok_or(WireError::Truncated("extension"))?;
    Ok((usize::from(units) + 1) * 8)
}

/// Zeroes, in place, what may change en route in an IPv6 header and the option headers behind it, which `headers` exactly holds up
/// to the AH ([`offset_ipv6`]): DSCP and ECN, flow label, hop limit, and the data of options that say so in their type.
///
/// # Errors
/// `Truncated`, `Option` or `Extension` of [`WireError`]; the headers are unspecified then.
pub fn mask_mutable_ipv6(headers: &mut [u8]) -> Result<(), WireError> {
    let (fixed, mut extensions) = headers
        .split_first_chunk_mut::<HEADER_LEN>()
        .ok_or(WireError::Truncated("IPv6"))?;
    let fixed: &mut Ipv6Header = zerocopy::transmute_mut!(fixed);
    fixed.version_class_flow = U32::new(fixed.version_class_flow.get() & 0xf000_0000);
    fixed.hop_limit = 0;
    while !extensions.is_empty() {
        let (header, behind) = extensions
            .split_at_mut_checked(extension_len(extensions)?)
            .ok_or(WireError::Truncated("extension"))?;
        mask_options(&mut header[2..])?;
        extensions = behind;
    }
    Ok(())
}

fn mask_options(mut options: &mut [u8]) -> Result<(), WireError> {
    while let Some((&mut kind, rest)) = options.split_first_mut() {
        if kind == PAD1 {
            options = rest;
            continue;
        }
        let (&mut len, rest) = rest.split_first_mut().ok_or(WireError::Option)?;
        let (data, rest) = rest.split_at_mut_checked(usize::from(len)).ok_or(WireError::Option)?;
        if kind & MUST_KNOW != 0 {
            return Err(WireError::Extension("an option that may not be skipped"));
        }
        if kind & CHANGES_EN_ROUTE != 0 {
            data.fill(0);
        }
        options = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
