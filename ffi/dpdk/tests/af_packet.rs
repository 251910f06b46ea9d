//! `net_af_packet` over a veth pair.
mod common;

#[test]
fn af_packet_carries_frames_both_ways() {
    common::veth::both_ways("net_af_packet", "net_af_packet0,iface=dpdk0,qdisc_bypass=1", 0);
}
