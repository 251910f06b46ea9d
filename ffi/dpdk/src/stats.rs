//! What a port and its driver count.

use crate::info::text;
use crate::port::{Device, PortError};
use crate::sys;

/// A port's counters since its start, as every driver has them (`rte_eth_stats`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets lost because queues were full.
    pub rx_missed: u64,
    /// Packets received with errors.
    pub rx_errors: u64,
    /// Receptions that found no buffer.
    pub rx_no_buffer: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets that failed to be sent.
    pub tx_errors: u64,
}

impl Device {
    /// The port's counters.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn stats(&self) -> Result<PortStats, PortError> {
        let mut raw = sys::rte_eth_stats::default();
        // SAFETY: a claimed port, a structure of DPDK's own layout.
        self.call("rte_eth_stats_get", |id| unsafe {
            sys::rte_eth_stats_get(id, &raw mut raw)
        })?;
        Ok(PortStats {
            rx_packets: raw.ipackets,
            rx_bytes: raw.ibytes,
            rx_missed: raw.imissed,
            rx_errors: raw.ierrors,
            rx_no_buffer: raw.rx_nombuf,
            tx_packets: raw.opackets,
            tx_bytes: raw.obytes,
            tx_errors: raw.oerrors,
        })
    }

    /// All that the driver counts, by its own names.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn extended_stats(&self) -> Result<Vec<(String, u64)>, PortError> {
        // SAFETY: with no place, DPDK answers the number that it needs.
        let count = self.call("rte_eth_xstats_get_names", |id| unsafe {
            sys::rte_eth_xstats_get_names(id, std::ptr::null_mut(), 0)
        })?;
        let mut names = vec![sys::rte_eth_xstat_name { name: [0; 64] }; count as usize];
        let mut values = vec![sys::rte_eth_xstat::default(); count as usize];
        // SAFETY: `count` places.
        let named = self.call("rte_eth_xstats_get_names", |id| unsafe {
            sys::rte_eth_xstats_get_names(id, names.as_mut_ptr(), count as u32)
        })?;
        // SAFETY: `count` places.
        let valued = self.call("rte_eth_xstats_get", |id| unsafe {
            sys::rte_eth_xstats_get(id, values.as_mut_ptr(), count as u32)
        })?;
        // More than asked for means that the set grew meanwhile and nothing was written: the next scrape sees it.
        names.truncate(if named <= count { named as usize } else { 0 });
        values.truncate(if valued <= count { valued as usize } else { 0 });
        let pairs = values
            .iter()
            .filter_map(|v| Some((text(&names.get(v.id as usize)?.name), v.value)));
        Ok(pairs.collect())
    }
}
