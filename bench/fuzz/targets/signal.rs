//! Signals between neighbours.
#![no_main]

use ain_controlplane::signal::frame::{Frame, Message, Signal};
use libfuzzer_sys::fuzz_target;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::net::Ipv4Addr;

const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const HEADERS: usize = 28;

fuzz_target!(|bytes: &[u8]| {
    let (sends, receives) = (Frame::new(THERE, HERE, 1408), Frame::new(HERE, THERE, 1408));
    let _ = receives.decode(bytes);

    // A datagram that only differs from a right one behind its UDP header, which says "no checksum".
    let keepalive = Signal {
        spi: 0,
        message_id: 1,
        message: Message::Keepalive,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut datagram = sends.encode(&keepalive, &mut rng).expect("a KEEPALIVE is short");
    datagram[HEADERS - 2..HEADERS].fill(0);
    for (to, from) in datagram[HEADERS..].iter_mut().zip(bytes) {
        *to = *from;
    }
    if let Ok(signal) = receives.decode(&datagram) {
        let again = sends.encode(&signal, &mut rng).expect("it fitted a datagram once");
        assert_eq!(receives.decode(&again), Ok(signal));
    }
});
