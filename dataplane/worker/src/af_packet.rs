//! A plain `AF_PACKET` socket on one interface: Ethernet frames without DPDK. The kernel shares the interface.
//!
//! The interface's checksum and segmentation offloads must be off (`ethtool -K IF tx off gso off tso off gro off`), or frames
//! come with unfinished checksums and longer than the wire allows.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::{RcvBufForce, SetBool};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
};

use crate::fd_port::{FdPort, PacketFd};
use crate::limits::{FRAMES_BEFORE_BIND, SOCKET_RECEIVE_BYTES};
use crate::vec_buf::VecPool;

/// Ethernet frames of one interface, without those that this machine sends.
pub type AfPacketPort = FdPort<PacketSocket>;

/// Why there is no `AF_PACKET` port.
#[derive(Debug, thiserror::Error)]
pub enum AfPacketError {
    /// No such interface, or not one of Ethernet.
    #[error("af_packet: no Ethernet interface {0:?}")]
    NoInterface(String),
    /// A system call failed; `EPERM` without `CAP_NET_RAW`.
    #[error("af_packet on {interface}: {call}: {errno}")]
    Call {
        /// The interface.
        interface: String,
        /// The call.
        call: &'static str,
        /// Its reason.
        errno: Errno,
    },
}

/// The socket below an [`AfPacketPort`].
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
    mac: [u8; 6],
}

impl AfPacketPort {
    /// Opens a port on `interface`, with buffers from `pool`, whose room must be the longest frame's and what the packet path adds.
    ///
    /// # Errors
    /// When there is no such interface, or the process may not do that.
    pub fn open(interface: &str, pool: VecPool) -> Result<Self, AfPacketError> {
        Ok(Self::over(PacketSocket::open(interface)?, pool))
    }

    /// The interface's address.
    pub fn mac(&self) -> [u8; 6] {
        self.fd.mac
    }
}

impl PacketSocket {
    fn open(interface: &str) -> Result<Self, AfPacketError> {
        let failed = |call| {
            move |errno| AfPacketError::Call {
                interface: interface.into(),
                call,
                errno,
            }
        };
        let address = link_address(interface).map_err(failed("getifaddrs"))?;
        let no_interface = || AfPacketError::NoInterface(interface.into());
        let address = address.ok_or_else(no_interface)?;
        let mac = address.addr().ok_or_else(no_interface)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).map_err(failed("socket"))?;
        setsockopt(&socket, IgnoreOutgoing, &true).map_err(failed("PACKET_IGNORE_OUTGOING"))?;
        setsockopt(&socket, RcvBufForce, &SOCKET_RECEIVE_BYTES).map_err(failed("SO_RCVBUFFORCE"))?;
        bind(socket.as_raw_fd(), &address).map_err(failed("bind"))?;
        let port = Self { socket, mac };
        port.discard_waiting();
        Ok(port)
    }

    /// Until it was bound, the socket heard every interface.
    fn discard_waiting(&self) {
        for _ in 0..FRAMES_BEFORE_BIND {
            if self.receive(&mut []).is_err() {
                return;
            }
        }
    }
}

impl PacketFd for PacketSocket {
    fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        // MSG_TRUNC: the frame's own length, also when it was cut.
        Ok(recv(self.socket.as_raw_fd(), into, MsgFlags::MSG_TRUNC)?)
    }

    fn send(&self, packet: &[u8]) -> io::Result<()> {
        send(self.socket.as_raw_fd(), packet, MsgFlags::empty())?;
        Ok(())
    }
}

/// The interface's number and hardware address.
fn link_address(interface: &str) -> nix::Result<Option<LinkAddr>> {
    let named = getifaddrs()?.filter(|i| i.interface_name == interface);
    Ok(named.filter_map(|i| i.address).find_map(|a| a.as_link_addr().copied()))
}

/// `PACKET_IGNORE_OUTGOING` of packet(7).
#[derive(Clone, Copy)]
struct IgnoreOutgoing;

nix::setsockopt_impl!(
    IgnoreOutgoing,
    libc::SOL_PACKET,
    libc::PACKET_IGNORE_OUTGOING,
    bool,
    SetBool
);
