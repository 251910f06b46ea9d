//! On an interface that the kernel shares with a port, the kernel sees every AH and ESP packet too, knows no SA for it, and would
//! answer "protocol unreachable" (RFC 792) or "unrecognized next header" (RFC 4443): noise that tells an eavesdropper about the node
//! and a peer to give up.
//!
//! The kernel stays silent about a protocol that some raw socket listens to. So the process holds one for AH and one for ESP of each
//! family, with a filter that takes no packet. They end with the process, however it ends: no rule is left behind.

use std::io;

use nix::libc;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

/// IP protocol numbers of AH and ESP (RFC 4302, RFC 4303).
const PROTOCOLS: [i32; 2] = [51, 50];
/// `return 0`: not a byte of any packet.
const RETURN_NOTHING: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Keeps the kernel silent about AH and ESP in this network namespace while it lives.
#[derive(Debug)]
pub struct KernelSilence {
    _sockets: Vec<Socket>,
}

impl KernelSilence {
    /// From now on the kernel answers no AH and no ESP packet.
    ///
    /// # Errors
    /// Raw sockets need CAP_NET_RAW.
    pub fn hold() -> io::Result<Self> {
        let mut sockets = Vec::new();
        for protocol in PROTOCOLS {
            sockets.push(deaf(Domain::IPV4, protocol)?);
            match deaf(Domain::IPV6, protocol) {
                Ok(socket) => sockets.push(socket),
                // A kernel without IPv6 answers nothing over it.
                Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { _sockets: sockets })
    }
}

/// A raw socket that takes no packet.
fn deaf(domain: Domain, protocol: i32) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(protocol)))?;
    socket.attach_filter(&[SockFilter::new(RETURN_NOTHING, 0, 0, 0)])?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{SocketAddr, UdpSocket};

    use super::*;
    use crate::testnet::two_hosts;

    /// One family as the kernel speaks it: addresses of both ends, and how its ICMP errors look in a frame.
    struct Family {
        domain: Domain,
        here: &'static str,
        there: &'static str,
        /// (offset, bytes) that every ICMP error of `here` has.
        marks: &'static [(usize, &'static [u8])],
        /// Where ICMP type and code are.
        icmp: usize,
        /// To an unknown protocol, and to a closed port.
        unknown: [u8; 2],
        closed: [u8; 2],
    }

    /// RFC 792: destination unreachable, protocol or port.
    const V4: Family = Family {
        domain: Domain::IPV4,
        here: "192.0.2.1",
        there: "192.0.2.2",
        marks: &[(12, &[8, 0]), (23, &[1]), (26, &[192, 0, 2, 1])],
        icmp: 34,
        unknown: [3, 2],
        closed: [3, 3],
    };
    /// RFC 4443: parameter problem, unrecognized next header; destination unreachable, port.
    const V6: Family = Family {
        domain: Domain::IPV6,
        here: "2001:db8::1",
        there: "2001:db8::2",
        marks: &[
            (12, &[0x86, 0xdd]),
            (20, &[58]),
            (22, &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ],
        icmp: 54,
        unknown: [4, 1],
        closed: [1, 4],
    };

    /// Sends an AH and an ESP packet and then a UDP datagram to a closed port, which the kernel does answer; collects type and code of
    /// all such errors that left `veth0` up to the first that is `last`. Few, as the kernel limits their rate.
    fn errors_sent(
        family: &'static Family,
        capture: &mut Socket,
        there: &dyn Fn(Box<dyn FnOnce() + Send>),
        last: [u8; 2],
    ) -> Vec<[u8; 2]> {
        there(Box::new(|| {
            let address = |text: &str, port| SocketAddr::new(text.parse().unwrap(), port);
            for protocol in PROTOCOLS {
                let socket = Socket::new(family.domain, Type::RAW, Some(Protocol::from(protocol))).unwrap();
                socket.send_to(&[1; 64], &address(family.here, 0).into()).unwrap();
            }
            let udp = UdpSocket::bind(address(family.there, 0)).unwrap();
            udp.send_to(b"fence", address(family.here, 9)).unwrap();
        }));
        let mut errors = Vec::new();
        let mut frame = [0; 2048];
        while errors.last() != Some(&last) {
            let bytes = capture.read(&mut frame).expect("the kernel answers a closed port");
            let error = [frame[family.icmp], frame[family.icmp + 1]];
            let ours = family.marks.iter().all(|(at, mark)| frame[*at..].starts_with(mark));
            if bytes > family.icmp + 1 && ours && [family.unknown, family.closed].contains(&error) {
                errors.push(error);
            }
        }
        errors
    }

    fn the_kernel_is_silent_only_while_held(family: &'static Family) {
        two_hosts(|there| {
            let every_protocol = i32::from((libc::ETH_P_ALL as u16).to_be());
            let mut capture = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(every_protocol))).unwrap();
            capture
                .set_read_timeout(Some(std::time::Duration::from_secs(10)))
                .unwrap();
            let (unknown, closed) = (family.unknown, family.closed);
            assert_eq!(
                errors_sent(family, &mut capture, there, closed),
                [unknown, unknown, closed],
                "without the sockets the kernel answers"
            );
            let silence = KernelSilence::hold().unwrap();
            assert_eq!(errors_sent(family, &mut capture, there, closed), [closed]);
            drop(silence);
            let again = errors_sent(family, &mut capture, there, unknown);
            assert_eq!(again, [unknown], "nothing is left behind");
        });
    }

    #[test]
    fn the_kernel_is_silent_about_ah_and_esp_only_while_held() {
        the_kernel_is_silent_only_while_held(&V4);
    }

    #[test]
    fn the_same_over_ipv6() {
        the_kernel_is_silent_only_while_held(&V6);
    }
}
