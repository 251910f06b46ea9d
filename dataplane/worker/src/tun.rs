//! A TUN device: IP datagrams to and from the host's own network stack. A TAP device: Ethernet frames. Both go with their owner.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use ain_dataplane::wire::ethernet::{self, MacAddr};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::fd_port::{FdPort, PacketFd};
use crate::vec_buf::VecPool;

/// Ethernet's header, and the tag of a VLAN.
const FRAME_OVERHEAD: usize = ethernet::HEADER_LEN + 4;

/// IP datagrams, without any header before them.
pub type TunPort = FdPort<TunDevice>;

/// Bytes that a buffer needs for a frame of a device with that MTU.
pub const fn frame_room(mtu: u16) -> usize {
    mtu as usize + FRAME_OVERHEAD
}

/// Why there is no TUN device.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// A datagram of the device's MTU would not fit into a buffer.
    #[error("tun {name}: MTU {mtu} does not fit into buffers of {room} bytes")]
    Buffers {
        /// The device.
        name: String,
        /// Its MTU, bytes.
        mtu: u16,
        /// Bytes that a buffer holds.
        room: usize,
    },
    /// The kernel refused: no `/dev/net/tun`, no `CAP_NET_ADMIN`, or the name is taken.
    #[error("tun {name}: {source}")]
    Create {
        /// The device.
        name: String,
        /// The reason.
        source: io::Error,
    },
}

/// The device below a [`TunPort`].
pub struct TunDevice(SyncDevice);

impl TunPort {
    /// Makes the device `name` with that MTU and sets it up, without an address.
    ///
    /// # Errors
    /// When the buffers are too small, or the kernel refuses.
    pub fn create(name: &str, mtu: u16, pool: VecPool) -> Result<Self, TunError> {
        Self::build(DeviceBuilder::new(), name, mtu, usize::from(mtu), pool)
    }

    /// Makes a TAP device with that MAC address, as [`Self::create`] makes a TUN device.
    ///
    /// # Errors
    /// The same; buffers need [`frame_room`].
    pub fn create_tap(name: &str, mac: MacAddr, mtu: u16, pool: VecPool) -> Result<Self, TunError> {
        let builder = DeviceBuilder::new().layer(Layer::L2).mac_addr(mac.0);
        Self::build(builder, name, mtu, frame_room(mtu), pool)
    }

    fn build(builder: DeviceBuilder, name: &str, mtu: u16, needed: usize, pool: VecPool) -> Result<Self, TunError> {
        let room = pool.room();
        if needed > room {
            return Err(TunError::Buffers {
                name: name.into(),
                mtu,
                room,
            });
        }
        let failed = |source| TunError::Create {
            name: name.into(),
            source,
        };
        let builder = builder.name(name).mtu(mtu).packet_information(false);
        let device = builder.build_sync().map_err(failed)?;
        device.set_nonblocking(true).map_err(failed)?;
        Ok(Self::over(TunDevice(device), pool))
    }
}

impl PacketFd for TunDevice {
    fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        self.0.recv(into)
    }

    fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.0.send(packet).map(drop)
    }
}

impl AsFd for TunDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl fmt::Debug for TunDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TunDevice")
    }
}
