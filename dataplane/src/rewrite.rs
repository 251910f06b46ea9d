//! Another address for a datagram, in place: the option `random-private` (protocol section 7).
//!
//! ```text
//!  initiator                entrance                     responder
//!  192.0.2.7 -> R   ==>  source(10.1.2.3)       ==>   10.1.2.3 -> R
//!  R -> 192.0.2.7   <==  destination(192.0.2.7) <==   R -> 10.1.2.3
//! ```
//!
//! Checksums move along (RFC 1624), none is computed anew: what was wrong stays wrong. Fragments behind the first carry no transport
//! header, so only their address changes. An ICMP error quotes a datagram of the flow: wherever that shows the old address, as
//! source or as destination, it gets the new one, and the quoted checksums and the error's own follow.
//!
//! What may hold addresses in places that are not known here is refused: it would show what the rewriting hides.

use std::net::IpAddr;

use crate::wire::checksum::{checksum, update, update_address};
use crate::wire::extension::{DESTINATION_OPTIONS, Extensions, FRAGMENT, HOP_BY_HOP, Upper, is_extension};
use crate::wire::icmp::{self, IcmpHeader};
use crate::wire::ip::Ip;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::{WireError, icmpv6, protocol};

/// Why a datagram cannot get another address. It is unchanged then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RewriteError {
    /// Not a well-formed IP datagram.
    #[error("not rewritable: {0}")]
    Datagram(#[from] WireError),
    /// The new address is of the other family.
    #[error("the new address is of another family")]
    Family,
    /// An authentication header covers the address (RFC 4302 section 3.3.3.1). End-to-end IPsec wants the option `as-sent`.
    #[error("AH inside the tunnel cannot take another address; use `as-sent` for end-to-end IPsec")]
    AuthenticationHeader,
    /// An IP option that may hold addresses, like a recorded route or a home address.
    #[error("IP option {0} cannot take another address")]
    Option(u8),
    /// An IPv6 extension header that holds addresses, like a routing header.
    #[error("IPv6 extension header {0} cannot take another address")]
    Extension(u8),
    /// The transport header is cut before its checksum.
    #[error("header of protocol {0} is cut before its checksum")]
    Transport(u8),
    /// An ICMPv6 message that is neither an error nor an echo: those about a link or a node hold addresses.
    #[error("ICMPv6 message of type {0} cannot take another address")]
    Message(u8),
    /// The datagram quoted in an ICMP error is of another family or cut inside its header.
    #[error("ICMP error quotes no IP header of its family")]
    Quote,
}

/// Which address.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

/// Gives the datagram at the front of `datagram` another source.
///
/// # Errors
/// [`RewriteError`]; nothing is changed then.
pub fn source(datagram: &mut [u8], new: IpAddr) -> Result<(), RewriteError> {
    rewrite(datagram, Side::Source, new)
}

/// Gives the datagram at the front of `datagram` another destination.
///
/// # Errors
/// [`RewriteError`]; nothing is changed then.
pub fn destination(datagram: &mut [u8], new: IpAddr) -> Result<(), RewriteError> {
    rewrite(datagram, Side::Destination, new)
}

fn rewrite(datagram: &mut [u8], side: Side, new: IpAddr) -> Result<(), RewriteError> {
    let ip = Ip::parse(datagram)?;
    let len = ip.bytes().len();
    match (ip, new) {
        (Ip::V4(ip), IpAddr::V4(new)) => {
            let error = check_v4(&ip)?;
            put(&mut datagram[..len], side, new.octets(), error);
        }
        (Ip::V6(ip), IpAddr::V6(new)) => {
            let error = check_v6(&ip)?;
            put(&mut datagram[..len], side, new.octets(), error);
        }
        _ => return Err(RewriteError::Family),
    }
    Ok(())
}

/// Puts `new` into a datagram that has been checked; `error` is where an ICMP error begins in it, if it is one.
fn put<const N: usize>(datagram: &mut [u8], side: Side, new: [u8; N], error: Option<usize>) {
    let layout = Layout::of::<N>(datagram);
    let at = layout.address::<N>(side);
    let old = address(datagram, at);
    layout.replace(datagram, at, old, new);
    if let Some(error) = error {
        replace_quoted(&mut datagram[error..], old, new);
    }
}

/// Whether everything that depends on the address can be found, and where an ICMP error begins.
fn check_v4(ip: &Ipv4<'_>) -> Result<Option<usize>, RewriteError> {
    if ip.protocol() == protocol::AH {
        return Err(RewriteError::AuthenticationHeader);
    }
    check_options_v4(&ip.bytes()[ipv4::HEADER_LEN..ip.header_len()])?;
    if ip.fragment_offset() != 0 {
        return Ok(None);
    }
    check_transport(ip.protocol(), checksum_place(ip.protocol()), ip.payload())?;
    if ip.protocol() != protocol::ICMP {
        return Ok(None);
    }
    let (header, quoted) = IcmpHeader::parse(ip.payload()).map_err(|_| RewriteError::Transport(protocol::ICMP))?;
    if header.is_error() && (quoted.len() < ipv4::HEADER_LEN || quoted[0] >> 4 != 4 || quoted[0] & 15 < 5) {
        return Err(RewriteError::Quote);
    }
    Ok(header.is_error().then(|| ip.header_len()))
}

/// As [`check_v4`].
fn check_v6(ip: &Ipv6<'_>) -> Result<Option<usize>, RewriteError> {
    let refuse = |kind| match kind {
        protocol::AH => RewriteError::AuthenticationHeader,
        other => RewriteError::Extension(other),
    };
    let mut extensions = ip.extensions();
    for header in &mut extensions {
        let header = header?;
        match header.kind {
            HOP_BY_HOP | DESTINATION_OPTIONS => check_options_v6(&header.bytes[2..])?,
            FRAGMENT => {}
            other => return Err(refuse(other)),
        }
    }
    let Upper {
        protocol,
        at,
        later_fragment,
    } = extensions.upper()?;
    if later_fragment {
        let hidden = is_extension(protocol) && protocol != DESTINATION_OPTIONS;
        return if hidden { Err(refuse(protocol)) } else { Ok(None) };
    }
    let payload = &ip.bytes()[at..];
    check_transport(protocol, checksum_place_v6(protocol), payload)?;
    if protocol != protocol::ICMPV6 {
        return Ok(None);
    }
    let (header, quoted) = IcmpHeader::parse(payload).map_err(|_| RewriteError::Transport(protocol))?;
    match header.kind {
        kind if !icmpv6::is_error(kind) => match kind {
            icmpv6::ECHO | icmpv6::ECHO_REPLY => Ok(None),
            other => Err(RewriteError::Message(other)),
        },
        _ if quoted.len() < ipv6::HEADER_LEN || quoted[0] >> 4 != 6 => Err(RewriteError::Quote),
        _ => Ok(Some(at)),
    }
}

/// Lets pass what holds no address: end, padding, router alert (RFC 2113).
fn check_options_v4(mut options: &[u8]) -> Result<(), RewriteError> {
    const END: u8 = 0;
    const NOP: u8 = 1;
    const ROUTER_ALERT: u8 = 148;
    loop {
        options = match options {
            [] | [END, ..] => return Ok(()),
            [NOP, rest @ ..] | [ROUTER_ALERT, 4, _, _, rest @ ..] => rest,
            [other, ..] => return Err(RewriteError::Option(*other)),
        }
    }
}

/// Lets pass what holds no address: padding (RFC 8200 section 4.2), the tunnel encapsulation limit (RFC 2473 section 4.1.1), router
/// alert (RFC 2711).
fn check_options_v6(mut options: &[u8]) -> Result<(), RewriteError> {
    const PAD_1: u8 = 0;
    const PAD_N: u8 = 1;
    const ENCAPSULATION_LIMIT: u8 = 4;
    const ROUTER_ALERT: u8 = 5;
    loop {
        options = match options {
            [] => return Ok(()),
            [PAD_1, rest @ ..] => rest,
            [kind @ (PAD_N | ENCAPSULATION_LIMIT | ROUTER_ALERT), len, rest @ ..] => {
                rest.get(usize::from(*len)..).ok_or(RewriteError::Option(*kind))?
            }
            [other, ..] => return Err(RewriteError::Option(*other)),
        }
    }
}

/// The checksum, if there shall be one, is there.
fn check_transport(protocol: u8, checksum: Option<usize>, payload: &[u8]) -> Result<(), RewriteError> {
    match checksum {
        Some(at) if payload.len() < at + 2 => Err(RewriteError::Transport(protocol)),
        _ => Ok(()),
    }
}

/// Where a transport header has the checksum that covers the addresses.
fn checksum_place(protocol: u8) -> Option<usize> {
    const DCCP: u8 = 33;
    const UDP_LITE: u8 = 136;
    match protocol {
        protocol::TCP => Some(16),
        protocol::UDP | DCCP | UDP_LITE => Some(6),
        _ => None,
    }
}

/// As [`checksum_place`]; here ICMP's covers them too (RFC 4443 section 2.3).
fn checksum_place_v6(protocol: u8) -> Option<usize> {
    if protocol == protocol::ICMPV6 {
        return Some(2);
    }
    checksum_place(protocol)
}

/// Where a datagram, or the beginning of one, has what depends on its addresses.
struct Layout {
    source: usize,
    /// Of the header, in IPv4.
    header_checksum: Option<usize>,
    /// Of the transport, unless it is not here.
    transport_checksum: Option<usize>,
    /// No transport checksum may become 0, which says that there is none (RFC 768).
    udp: bool,
}

impl Layout {
    /// The layout of a datagram with addresses of `N` bytes, whose fixed header is there.
    fn of<const N: usize>(datagram: &[u8]) -> Self {
        let (source, header_checksum, upper) = if N == 4 {
            let upper = Upper {
                protocol: datagram[ipv4::PROTOCOL],
                at: usize::from(datagram[0] & 15) * 4,
                later_fragment: word(datagram, 6) & 0x1fff != 0,
            };
            (12, Some(10), Some((checksum_place(upper.protocol), upper)))
        } else {
            let upper = Extensions::of_quoted(datagram).and_then(|chain| chain.upper().ok());
            (8, None, upper.map(|upper| (checksum_place_v6(upper.protocol), upper)))
        };
        let transport_checksum = upper
            .filter(|(_, upper)| !upper.later_fragment)
            .and_then(|(place, upper)| Some(upper.at + place?))
            .filter(|at| at + 2 <= datagram.len());
        Self {
            source,
            header_checksum,
            transport_checksum,
            udp: upper.is_some_and(|(_, upper)| upper.protocol == protocol::UDP),
        }
    }

    fn address<const N: usize>(&self, side: Side) -> usize {
        match side {
            Side::Source => self.source,
            Side::Destination => self.source + N,
        }
    }

    /// Replaces the address at `at`, which is `old`; header checksum and, if there, the transport's follow.
    fn replace<const N: usize>(&self, datagram: &mut [u8], at: usize, old: [u8; N], new: [u8; N]) {
        datagram[at..at + N].copy_from_slice(&new);
        if let Some(at) = self.header_checksum {
            let moved = update_address(word(datagram, at), old, new);
            set_word(datagram, at, moved);
        }
        let Some(at) = self.transport_checksum else { return };
        match word(datagram, at) {
            0 if self.udp => {} // RFC 768: no checksum was made.
            sum => {
                let moved = match update_address(sum, old, new) {
                    0 if self.udp => 0xffff,
                    moved => moved,
                };
                set_word(datagram, at, moved);
            }
        }
    }

    /// The first byte behind all that a replacement can change. Even.
    fn reach<const N: usize>(&self) -> usize {
        self.transport_checksum.map_or(self.source + 2 * N, |at| at + 2)
    }
}

/// Replaces `old` where the datagram quoted in an ICMP error has it.
fn replace_quoted<const N: usize>(message: &mut [u8], old: [u8; N], new: [u8; N]) {
    let sum = word(message, 2);
    let quoted = &mut message[icmp::HEADER_LEN..];
    let layout = Layout::of::<N>(quoted);
    let before = checksum(&quoted[..layout.reach::<N>()]);
    for side in [Side::Source, Side::Destination] {
        let at = layout.address::<N>(side);
        if address(quoted, at) == old {
            layout.replace(quoted, at, old, new);
        }
    }
    // The whole stretch counts as one word with the value of its sum.
    let moved = update(sum, !before, !checksum(&quoted[..layout.reach::<N>()]));
    set_word(message, 2, moved);
}

fn address<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("the fixed header has been checked")
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn set_word(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_v6;
