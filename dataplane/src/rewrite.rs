//! Another address for an IPv4 datagram, in place: the option `random-private` (protocol section 7).
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

use std::net::Ipv4Addr;

use crate::wire::checksum::{checksum, update, update_ipv4};
use crate::wire::icmp::{self, IcmpHeader};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::{WireError, protocol};

/// Why a datagram cannot get another address. It is unchanged then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RewriteError {
    /// Not a well-formed IPv4 datagram.
    #[error("not rewritable: {0}")]
    Datagram(#[from] WireError),
    /// An authentication header covers the address (RFC 4302 section 3.3.3.1). End-to-end IPsec wants the option `as-sent`.
    #[error("AH inside the tunnel cannot take another address; use `as-sent` for end-to-end IPsec")]
    AuthenticationHeader,
    /// An IP option that may hold addresses, like a recorded route: it would show what the rewriting hides.
    #[error("IP option {0} cannot take another address")]
    Option(u8),
    /// The transport header is cut before its checksum.
    #[error("header of protocol {0} is cut before its checksum")]
    Transport(u8),
    /// The datagram quoted in an ICMP error is not IPv4 or cut inside its header.
    #[error("ICMP error quotes no IPv4 header")]
    Quote,
}

const CHECKSUM: usize = 10;
const SOURCE: usize = 12;
const DESTINATION: usize = 16;

/// Gives the datagram at the front of `datagram` another source.
///
/// # Errors
/// [`RewriteError`]; nothing is changed then.
pub fn source(datagram: &mut [u8], new: Ipv4Addr) -> Result<(), RewriteError> {
    rewrite(datagram, SOURCE, new)
}

/// Gives the datagram at the front of `datagram` another destination.
///
/// # Errors
/// [`RewriteError`]; nothing is changed then.
pub fn destination(datagram: &mut [u8], new: Ipv4Addr) -> Result<(), RewriteError> {
    rewrite(datagram, DESTINATION, new)
}

fn rewrite(datagram: &mut [u8], at: usize, new: Ipv4Addr) -> Result<(), RewriteError> {
    let ip = Ipv4::parse(datagram)?;
    let quotes = check(&ip)?;
    let (header_len, total_len) = (ip.header_len(), ip.total_len());
    let datagram = &mut datagram[..total_len];
    let old = address(datagram, at);
    replace(datagram, at, old, new);
    if quotes {
        replace_quoted(&mut datagram[header_len..], old, new);
    }
    Ok(())
}

/// Whether everything that depends on the address can be found, and whether there is a quoted datagram.
fn check(ip: &Ipv4<'_>) -> Result<bool, RewriteError> {
    if ip.protocol() == protocol::AH {
        return Err(RewriteError::AuthenticationHeader);
    }
    check_options(&ip.bytes()[ipv4::HEADER_LEN..ip.header_len()])?;
    if ip.fragment_offset() != 0 {
        return Ok(false);
    }
    if let Some(at) = transport_checksum(ip.protocol())
        && ip.payload().len() < at + 2
    {
        return Err(RewriteError::Transport(ip.protocol()));
    }
    if ip.protocol() != protocol::ICMP {
        return Ok(false);
    }
    let (header, quoted) = IcmpHeader::parse(ip.payload()).map_err(|_| RewriteError::Transport(protocol::ICMP))?;
    if header.is_error() && (quoted.len() < ipv4::HEADER_LEN || quoted[0] >> 4 != 4 || quoted[0] & 15 < 5) {
        return Err(RewriteError::Quote);
    }
    Ok(header.is_error())
}

/// Lets pass what holds no address: end, padding, router alert (RFC 2113).
fn check_options(mut options: &[u8]) -> Result<(), RewriteError> {
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

/// Where a transport header has the checksum that covers the addresses.
fn transport_checksum(protocol: u8) -> Option<usize> {
    const DCCP: u8 = 33;
    const UDP_LITE: u8 = 136;
    match protocol {
        protocol::TCP => Some(16),
        protocol::UDP | DCCP | UDP_LITE => Some(6),
        _ => None,
    }
}

/// Replaces the address at `at`, which is `old`, in a datagram or the beginning of one: header checksum and, if there, the transport's
/// follow.
fn replace(datagram: &mut [u8], at: usize, old: Ipv4Addr, new: Ipv4Addr) {
    datagram[at..at + 4].copy_from_slice(&new.octets());
    let moved = update_ipv4(word(datagram, CHECKSUM), old, new);
    set_word(datagram, CHECKSUM, moved);
    let later_fragment = word(datagram, 6) & 0x1fff != 0;
    let transport = datagram[9];
    let Some(offset) = transport_checksum(transport).filter(|_| !later_fragment) else {
        return;
    };
    let at = usize::from(datagram[0] & 15) * 4 + offset;
    if datagram.len() < at + 2 {
        return;
    }
    match (word(datagram, at), transport) {
        (0, protocol::UDP) => {} // RFC 768: no checksum was made.
        (sum, _) => {
            let moved = match update_ipv4(sum, old, new) {
                0 if transport == protocol::UDP => 0xffff,
                moved => moved,
            };
            set_word(datagram, at, moved);
        }
    }
}

/// Replaces `old` where the datagram quoted in an ICMP error has it.
fn replace_quoted(message: &mut [u8], old: Ipv4Addr, new: Ipv4Addr) {
    // As far as a change can reach: the longest IP header and the farthest transport checksum.
    let reach = message.len().min(icmp::HEADER_LEN + ipv4::MAX_HEADER_LEN + 18);
    let sum = word(message, 2);
    let quoted = &mut message[icmp::HEADER_LEN..reach];
    let before = checksum(quoted);
    for at in [SOURCE, DESTINATION] {
        if address(quoted, at) == old {
            replace(quoted, at, old, new);
        }
    }
    // The whole stretch counts as one word with the value of its sum.
    let moved = update(sum, !before, !checksum(quoted));
    set_word(message, 2, moved);
}

fn address(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn set_word(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests;
