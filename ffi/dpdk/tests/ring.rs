//! `net_ring`: packets, threads, life cycle and refusals, on hugepages if there are any.
mod common;

#[test]
fn ring_port_from_plug_to_cleanup() {
    common::ring::whole_life(common::eal());
}
