//! `net_af_xdp` over a veth pair.
mod common;

/// The driver's close does not give back what lies in the kernel's fill and completion rings of 2048 entries each; the first is
/// full, of the other a burst or two is not reclaimed.
const LEFT_IN_RINGS: usize = 2048 + 64;

#[test]
fn af_xdp_carries_frames_both_ways() {
    common::veth::both_ways("net_af_xdp", "net_af_xdp0,iface=dpdk0", LEFT_IN_RINGS);
}
