//! The same as `ring.rs` on ordinary pages, whatever the machine has.
mod common;

#[test]
fn ring_port_without_hugepages() {
    let megabytes = common::MEMORY_MB.to_string();
    let options = ["--no-huge", "--no-shconf", "-m", &megabytes].map(str::to_owned);
    common::ring::whole_life(common::eal_with(options.into()));
}
