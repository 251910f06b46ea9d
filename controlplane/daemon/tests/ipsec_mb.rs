//! The in-memory Internet of the control plane's tests over Intel IPsec Multi-Buffer.
#![cfg(feature = "ipsec-mb")]

#[path = "../../tests/both_ways/mod.rs"]
mod both_ways;
#[path = "../../tests/sim/mod.rs"]
mod sim;

mod crypto {
    pub use ipsec_mb_sys::IpsecMb as Crypto;

    pub fn crypto() -> Crypto {
        Crypto::new().expect("this test needs a CPU that ipsec-mb has code for")
    }
}
