//! On an interface that the kernel shares with a port, the kernel sees every AH and ESP packet too, knows no SA for it, and would
//! answer "protocol unreachable" (RFC 792): noise that tells an eavesdropper about the node and a peer to give up.
//!
//! The kernel stays silent about a protocol that some raw socket listens to. So the process holds one for AH and one for ESP, with a
//! filter that takes no packet. They end with the process, however it ends: no rule is left behind.

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
        let sockets = PROTOCOLS.into_iter().map(|protocol| {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(protocol)))?;
            socket.attach_filter(&[SockFilter::new(RETURN_NOTHING, 0, 0, 0)])?;
            Ok(socket)
        });
        Ok(Self {
            _sockets: sockets.collect::<io::Result<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{SocketAddr, UdpSocket};

    use super::*;
    use crate::testnet::two_hosts;

    /// Codes of ICMP destination unreachable (RFC 792).
    const PROTOCOL_UNREACHABLE: u8 = 2;
    const PORT_UNREACHABLE: u8 = 3;

    /// Sends an AH and an ESP packet and then a UDP datagram to a closed port, which the kernel does answer; collects the codes of
    /// all "unreachable" that left `veth0` up to the first with code `last`. Few, as the kernel limits their rate.
    fn codes_sent(capture: &mut Socket, there: &dyn Fn(Box<dyn FnOnce() + Send>), last: u8) -> Vec<u8> {
        there(Box::new(|| {
            for protocol in PROTOCOLS {
                let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(protocol))).unwrap();
                let to: SocketAddr = "192.0.2.1:0".parse().unwrap();
                socket.send_to(&[1; 64], &to.into()).unwrap();
            }
            let udp = UdpSocket::bind("192.0.2.2:0").unwrap();
            udp.send_to(b"fence", "192.0.2.1:9").unwrap();
        }));
        let mut codes = Vec::new();
        let mut frame = [0; 2048];
        while codes.last() != Some(&last) {
            let bytes = capture.read(&mut frame).expect("the kernel answers a closed port");
            let is_unreachable = bytes > 35 && frame[12..14] == [8, 0] && frame[23] == 1 && frame[34] == 3;
            if is_unreachable && frame[26..30] == [192, 0, 2, 1] {
                codes.push(frame[35]);
            }
        }
        codes
    }

    #[test]
    fn the_kernel_is_silent_about_ah_and_esp_only_while_held() {
        two_hosts(|there| {
            let every_protocol = i32::from((libc::ETH_P_ALL as u16).to_be());
            let mut capture = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(every_protocol))).unwrap();
            capture
                .set_read_timeout(Some(std::time::Duration::from_secs(10)))
                .unwrap();
            let both = [PROTOCOL_UNREACHABLE, PROTOCOL_UNREACHABLE, PORT_UNREACHABLE];
            assert_eq!(
                codes_sent(&mut capture, there, PORT_UNREACHABLE),
                both,
                "without the sockets the kernel answers"
            );
            let silence = KernelSilence::hold().unwrap();
            assert_eq!(codes_sent(&mut capture, there, PORT_UNREACHABLE), [PORT_UNREACHABLE]);
            drop(silence);
            let again = codes_sent(&mut capture, there, PROTOCOL_UNREACHABLE);
            assert_eq!(again, [PROTOCOL_UNREACHABLE], "nothing is left behind");
        });
    }
}
