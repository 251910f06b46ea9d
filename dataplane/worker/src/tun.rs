//! A TUN device: IP datagrams to and from the host's own network stack. Goes with its owner.

use std::fmt;
use std::io;

use tun_rs::{DeviceBuilder, SyncDevice};

use crate::fd_port::{FdPort, PacketFd};
use crate::vec_buf::VecPool;

/// IP datagrams, without any header before them.
pub type TunPort = FdPort<TunDevice>;

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
        let room = pool.room();
        if usize::from(mtu) > room {
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
        let builder = DeviceBuilder::new().name(name).mtu(mtu).packet_information(false);
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

impl fmt::Debug for TunDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TunDevice")
    }
}
