//! Where a datagram, or the head of one that an ICMP error quotes, has its ports, and how to give it others.

use crate::wire::checksum::{checksum, update};
use crate::wire::extension::FRAGMENT;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::{icmp, icmpv6, protocol};

/// What an open exit carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6 echo: the identifier stands for the port.
    Echo,
}

/// What kind of message a datagram is to an open exit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// A datagram with ports, or an echo request.
    Request,
    /// An echo reply.
    Reply,
    /// An ICMP error: it quotes a datagram of the other direction.
    Error,
}

/// Why an open exit cannot carry a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// Not a well-formed datagram.
    Malformed,
    /// A fragment behind the first, which alone has ports.
    Fragment,
    /// No protocol that it carries.
    Protocol,
}

/// The transport header of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transport {
    /// Where it begins, bytes from the IP header's first.
    pub at: usize,
    /// Its protocol.
    pub protocol: Protocol,
    /// What it is.
    pub message: Message,
    /// Source port, or the identifier of an echo.
    pub source: u16,
    /// Destination port, or the identifier of an echo.
    pub destination: u16,
    /// TCP flags; 0 else.
    pub tcp_flags: u8,
}

const TCP_HEADER: usize = 20;
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;
const ICMP_CHECKSUM: usize = 2;
const ICMP_IDENTIFIER: usize = 4;
/// Bytes of an ICMP error before what it quotes.
pub const ICMP_HEADER: usize = 8;

/// Finds the transport header of the datagram at the front of `datagram`, or of the first fragment of one.
///
/// # Errors
/// [`Unfit`].
pub fn locate(datagram: &[u8]) -> Result<Transport, Unfit> {
    match datagram.first().map(|first| first >> 4) {
        Some(4) => {
            let ip = Ipv4::parse(datagram).map_err(|_| Unfit::Malformed)?;
            if ip.fragment_offset() != 0 {
                return Err(Unfit::Fragment);
            }
            whole(ip.payload(), ip.header_len(), ip.protocol(), protocol::ICMP)
        }
        Some(6) => {
            let ip = Ipv6::parse(datagram).map_err(|_| Unfit::Malformed)?;
            match (ip.next_header(), ip.payload()) {
                (FRAGMENT, [next, _, 0, 0..=7, _, _, _, _, segment @ ..]) => {
                    whole(segment, ipv6::HEADER_LEN + 8, *next, protocol::ICMPV6)
                }
                (next, segment) => whole(segment, ipv6::HEADER_LEN, next, protocol::ICMPV6),
            }
        }
        _ => Err(Unfit::Malformed),
    }
}

/// Finds the first 8 bytes of the transport header of the datagram whose head an ICMP error quotes: as much as each must (RFC 792).
///
/// # Errors
/// [`Unfit`].
pub fn locate_quoted(quoted: &[u8]) -> Result<Transport, Unfit> {
    const FRAGMENT_OFFSET: u16 = 0x1fff;
    let (at, next, icmp) = match quoted.first().map(|first| first >> 4) {
        Some(4) if quoted.len() >= ipv4::HEADER_LEN => {
            if word(quoted, 6) & FRAGMENT_OFFSET != 0 {
                return Err(Unfit::Fragment);
            }
            (usize::from(quoted[0] & 15) * 4, quoted[9], protocol::ICMP)
        }
        Some(6) if quoted.len() >= ipv6::HEADER_LEN => (ipv6::HEADER_LEN, quoted[6], protocol::ICMPV6),
        _ => return Err(Unfit::Malformed),
    };
    let head = quoted
        .get(at..)
        .filter(|head| head.len() >= 8 && at >= ipv4::HEADER_LEN);
    read(head.ok_or(Unfit::Malformed)?, at, next, icmp)
}

/// A transport header that is there in full.
fn whole(segment: &[u8], at: usize, next: u8, icmp: u8) -> Result<Transport, Unfit> {
    if next == FRAGMENT {
        return Err(Unfit::Fragment);
    }
    let least = if next == protocol::TCP { TCP_HEADER } else { 8 };
    let known = next == protocol::TCP || next == protocol::UDP || next == icmp;
    match (known, segment.len() >= least) {
        (false, _) => Err(Unfit::Protocol),
        (true, false) => Err(Unfit::Malformed),
        (true, true) => read(segment, at, next, icmp),
    }
}

/// Reads the first 8 bytes of a transport header, and TCP's flags if they are there.
fn read(segment: &[u8], at: usize, next: u8, icmp: u8) -> Result<Transport, Unfit> {
    let ports = |protocol, tcp_flags| Transport {
        at,
        protocol,
        message: Message::Request,
        source: word(segment, 0),
        destination: word(segment, 2),
        tcp_flags,
    };
    match next {
        protocol::TCP => Ok(ports(Protocol::Tcp, segment.get(13).copied().unwrap_or(0))),
        protocol::UDP => Ok(ports(Protocol::Udp, 0)),
        _ if next == icmp => {
            let identifier = word(segment, ICMP_IDENTIFIER);
            Ok(Transport {
                at,
                protocol: Protocol::Echo,
                message: message(segment[0], icmp).ok_or(Unfit::Protocol)?,
                source: identifier,
                destination: identifier,
                tcp_flags: 0,
            })
        }
        _ => Err(Unfit::Protocol),
    }
}

/// What an ICMP type is; `None` for those that no open exit carries, redirects and source quench among them (RFC 5508 section 4.2).
fn message(kind: u8, family: u8) -> Option<Message> {
    match (family, kind) {
        (protocol::ICMP, icmp::ECHO) | (protocol::ICMPV6, icmpv6::ECHO) => Some(Message::Request),
        (protocol::ICMP, icmp::ECHO_REPLY) | (protocol::ICMPV6, icmpv6::ECHO_REPLY) => Some(Message::Reply),
        (protocol::ICMP, icmp::UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM) => Some(Message::Error),
        (protocol::ICMPV6, icmpv6::UNREACHABLE..=icmpv6::PARAMETER_PROBLEM) => Some(Message::Error),
        _ => None,
    }
}

impl Transport {
    /// Gives the datagram that begins with `head`, in which this was found, another source port or echo identifier; its checksum
    /// follows if it is there.
    pub fn set_source(&self, head: &mut [u8], port: u16) {
        self.set(head, 0, port);
    }

    /// The same for the destination.
    pub fn set_destination(&self, head: &mut [u8], port: u16) {
        self.set(head, 2, port);
    }

    fn set(&self, head: &mut [u8], field: usize, port: u16) {
        let segment = &mut head[self.at..];
        let (field, sum_at) = match self.protocol {
            Protocol::Tcp => (field, TCP_CHECKSUM),
            Protocol::Udp => (field, UDP_CHECKSUM),
            Protocol::Echo => (ICMP_IDENTIFIER, ICMP_CHECKSUM),
        };
        let old = word(segment, field);
        set_word(segment, field, port);
        if segment.len() < sum_at + 2 {
            return; // a quoted head that ends before
        }
        let moved = match (word(segment, sum_at), self.protocol) {
            (0, Protocol::Udp) => return, // RFC 768: no checksum was made
            (sum, _) => update(sum, old, port),
        };
        let moved = if moved == 0 && self.protocol == Protocol::Udp {
            0xffff
        } else {
            moved
        };
        set_word(segment, sum_at, moved);
    }

    /// The bytes that an ICMP error quotes.
    pub fn quoted<'a>(&self, error: &'a [u8]) -> &'a [u8] {
        error.get(self.at + ICMP_HEADER..).unwrap_or_default()
    }

    /// Gives the datagram that the ICMP error quotes another source port; the error's own checksum follows.
    pub fn set_quoted_source(&self, error: &mut [u8], quoted: &Transport, port: u16) {
        let message = &mut error[self.at..];
        let sum = word(message, ICMP_CHECKSUM);
        // As far as the change can reach: TCP's checksum is the farthest. The stretch counts as one word with the value of its sum.
        let reach = (ICMP_HEADER + quoted.at + TCP_HEADER).min(message.len());
        let before = checksum(&message[ICMP_HEADER..reach]);
        quoted.set_source(&mut message[ICMP_HEADER..], port);
        let after = checksum(&message[ICMP_HEADER..reach]);
        set_word(message, ICMP_CHECKSUM, update(sum, !before, !after));
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn set_word(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
