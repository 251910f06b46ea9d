//! The in-memory Internet of the control plane's tests over Intel IPsec Multi-Buffer.
#![cfg(feature = "ipsec-mb")]

use std::io::Write;

use ipsec_mb_sys::{IpsecMb, Unavailable};

#[path = "../../tests/both_ways/mod.rs"]
mod both_ways;
#[path = "../../tests/sim/mod.rs"]
mod sim;

mod crypto {
    pub use ipsec_mb_sys::IpsecMb as Crypto;

    pub fn crypto() -> Crypto {
        Crypto::new().expect("asked before")
    }
}

#[test]
fn datagrams_cross_chains_both_ways() {
    if let Err(why @ Unavailable::Cpu) = IpsecMb::level() {
        // Not eprintln: the test runner would swallow it.
        let _ = writeln!(std::io::stderr(), "SKIPPED datagrams over ipsec-mb: {why}");
        return;
    }
    both_ways::datagrams_cross_chains_both_ways();
}
