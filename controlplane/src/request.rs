//! What a host asks of its AIN, and what the AIN answers: UDP between ports 4797 inside the host's tunnel (protocol section 7).
//!
//! ```text
//!  0         1          2         3         4            8          8 + n              n = 4 or 16
//!  | version | command  | family  | result  | request id | source   | destination |
//!  |    1    | 0 CLOSE  | 4 or 6  |    0    |    u32     | of a datagram as the host sends it |
//!  |    1    | 1 ANSWER |    0    | outcome |    u32     |
//! ```

use std::net::IpAddr;

use ain_dataplane::id::Pair;
use thiserror::Error;

use crate::signal::ends::Ends;
use crate::signal::frame::PORT;

/// The only version there is.
pub const VERSION: u8 = 1;

const CLOSE: u8 = 0;
const ANSWER: u8 = 1;
const HEADER: usize = 8;

/// What a host asks: end what carries its datagrams of this pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Close {
    /// Comes back in the answer.
    pub id: u32,
    /// As the host sends its datagrams: its own address is the source, whether it is initiator or responder.
    pub pair: Pair,
}

/// What the AIN says to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The request's.
    pub id: u32,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Outcome {
    /// The AIVT ends, or the attempts to make one do; it comes back with new traffic.
    Closed = 0,
    /// This host has no AIVT of that pair.
    Unknown = 1,
    /// The AIN does not understand the request.
    NotUnderstood = 2,
}

impl Outcome {
    /// Every outcome, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Unknown, Self::NotUnderstood];

    /// Name in counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Unknown => "unknown",
            Self::NotUnderstood => "not_understood",
        }
    }
}

/// Why a datagram is no request or answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RequestError {
    /// No whole UDP datagram between ports 4797.
    #[error("no UDP datagram between ports {PORT}")]
    Datagram,
    /// Shorter than its header.
    #[error("a request of {0} bytes is too short")]
    Short(usize),
    /// Another version, command, family or length: the request of this id cannot be understood.
    #[error("request {0} is not understood")]
    NotUnderstood(u32),
}

impl Close {
    /// The UDP payload.
    pub fn to_bytes(self) -> Vec<u8> {
        let family = if self.pair.source.is_ipv4() { 4 } else { 6 };
        let header = header(CLOSE, family, 0, self.id);
        [&header[..], &octets(self.pair.source), &octets(self.pair.destination)].concat()
    }

    /// Reads a UDP payload.
    ///
    /// # Errors
    /// `Short` or `NotUnderstood` of [`RequestError`].
    pub fn parse(payload: &[u8]) -> Result<Self, RequestError> {
        let (header, addresses) = split(payload)?;
        let pair = match (header, addresses.len()) {
            ([VERSION, CLOSE, 4, 0, ..], 8) => addresses_of::<4>(addresses).map(|[s, d]| (s.into(), d.into())),
            ([VERSION, CLOSE, 6, 0, ..], 32) => addresses_of::<16>(addresses).map(|[s, d]| (s.into(), d.into())),
            _ => None,
        };
        let id = id_of(header);
        let (source, destination) = pair.ok_or(RequestError::NotUnderstood(id))?;
        Ok(Self {
            id,
            pair: Pair { source, destination },
        })
    }
}

impl Answer {
    /// The UDP payload.
    pub fn to_bytes(self) -> [u8; HEADER] {
        header(ANSWER, 0, self.outcome as u8, self.id)
    }

    /// Reads a UDP payload.
    ///
    /// # Errors
    /// `Short` or `NotUnderstood` of [`RequestError`].
    pub fn parse(payload: &[u8]) -> Result<Self, RequestError> {
        let (header, rest) = split(payload)?;
        let id = id_of(header);
        let outcome = match header {
            [VERSION, ANSWER, 0, outcome, ..] if rest.is_empty() => Outcome::ALL.get(usize::from(*outcome)),
            _ => None,
        };
        let outcome = *outcome.ok_or(RequestError::NotUnderstood(id))?;
        Ok(Self { id, outcome })
    }
}

fn header(command: u8, family: u8, result: u8, id: u32) -> [u8; HEADER] {
    let [a, b, c, d] = id.to_be_bytes();
    [VERSION, command, family, result, a, b, c, d]
}

fn split(payload: &[u8]) -> Result<(&[u8; HEADER], &[u8]), RequestError> {
    payload.split_first_chunk().ok_or(RequestError::Short(payload.len()))
}

fn id_of([_, _, _, _, a, b, c, d]: &[u8; HEADER]) -> u32 {
    u32::from_be_bytes([*a, *b, *c, *d])
}

fn addresses_of<const N: usize>(bytes: &[u8]) -> Option<[[u8; N]; 2]> {
    let (source, rest) = bytes.split_first_chunk()?;
    Some([*source, *rest.first_chunk()?])
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The whole datagram that carries `payload` between these ends.
pub fn wrap(ends: &Ends, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0; ends.headers_bytes()];
    datagram.extend(payload);
    ends.write_headers(&mut datagram);
    datagram
}

/// Between whom a datagram is that came in, and its UDP payload. An answer goes between the same ends.
///
/// # Errors
/// [`RequestError::Datagram`].
pub fn open(datagram: &[u8]) -> Result<(Ends, &[u8]), RequestError> {
    let ends = Ends::of(datagram).ok_or(RequestError::Datagram)?;
    let payload = ends.check_headers(datagram).map_err(|_| RequestError::Datagram)?;
    Ok((ends, payload))
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    fn pair(source: &str, destination: &str) -> Pair {
        Pair {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    #[test]
    fn bytes_of_protocol_section_7() {
        let close = Close {
            id: 0x0102_0304,
            pair: pair("192.0.2.1", "198.51.100.2"),
        };
        assert_eq!(close.to_bytes(), hex!("01 00 04 00 01020304 c0000201 c6336402"));
        let close = Close {
            id: 5,
            pair: pair("2001:db8::1", "2001:db8::2"),
        };
        let addresses = hex!("20010db8000000000000000000000001 20010db8000000000000000000000002");
        assert_eq!(
            close.to_bytes(),
            [&hex!("01 00 06 00 00000005")[..], &addresses].concat()
        );
        assert_eq!(Close::parse(&close.to_bytes()), Ok(close));
        let answer = Answer {
            id: 6,
            outcome: Outcome::Unknown,
        };
        assert_eq!(answer.to_bytes(), hex!("01 01 00 01 00000006"));
        assert_eq!(Answer::parse(&answer.to_bytes()), Ok(answer));
    }

    #[test]
    fn what_is_not_understood_says_which_it_was() {
        let good = Close {
            id: 9,
            pair: pair("192.0.2.1", "198.51.100.2"),
        }
        .to_bytes();
        for (at, value) in [(0, 2), (1, 2), (1, 1), (2, 6), (2, 0), (3, 1)] {
            let mut other = good.clone();
            other[at] = value;
            assert_eq!(Close::parse(&other), Err(RequestError::NotUnderstood(9)));
        }
        assert_eq!(Close::parse(&good[..15]), Err(RequestError::NotUnderstood(9)));
        assert_eq!(
            Close::parse(&[&good[..], &[0]].concat()),
            Err(RequestError::NotUnderstood(9))
        );
        assert_eq!(Close::parse(&good[..7]), Err(RequestError::Short(7)));
        assert_eq!(
            Answer::parse(&hex!("01 01 00 03 00000006")),
            Err(RequestError::NotUnderstood(6))
        );
        assert_eq!(Answer::parse(&good), Err(RequestError::NotUnderstood(9)));
    }

    #[test]
    fn datagrams_carry_payloads() {
        for (here, there) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let (here, there) = (here.parse().unwrap(), there.parse().unwrap());
            let datagram = wrap(&Ends::between(here, there).unwrap(), b"payload");
            let back = Ends::between(there, here).unwrap();
            assert_eq!(open(&datagram), Ok((back, &b"payload"[..])));
            for at in 0..datagram.len() {
                assert_eq!(open(&datagram[..at]), Err(RequestError::Datagram));
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = open(&bytes);
            if let Ok(close) = Close::parse(&bytes) {
                prop_assert_eq!(close.to_bytes(), bytes);
            } else if let Ok(answer) = Answer::parse(&bytes) {
                prop_assert_eq!(&answer.to_bytes()[..], &bytes[..]);
            }
        }
    }
}
