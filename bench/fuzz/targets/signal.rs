//! Signals between neighbours.
#![no_main]

use ain_controlplane::limits::HALF_RECEIVED_PER_NEIGHBOUR;
use ain_controlplane::signal::ends::Ends;
use ain_controlplane::signal::frame::{Frame, Message, Signal};
use ain_controlplane::signal::part::Assembler;
use ain_dataplane::id::Now;
use ain_dataplane::wire::{checksum, ipv6, protocol};
use libfuzzer_sys::fuzz_target;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::net::{Ipv4Addr, Ipv6Addr};

const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const HERE_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const THERE_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// Header and first bytes of a part's payload.
const PIECE: usize = 16;

fuzz_target!(|bytes: &[u8]| {
    for (there, here) in [
        (Ends::from((THERE, HERE)), Ends::from((HERE, THERE))),
        (Ends::from((THERE_6, HERE_6)), Ends::from((HERE_6, THERE_6))),
    ] {
        read(Frame::new(there, 1408), Frame::new(here, 1408), bytes);
    }
});

fn read(sends: Frame, receives: Frame, bytes: &[u8]) {
    let _ = receives.decode(bytes);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    if let Ok(signal) = receives.decode(&datagram(sends, bytes)) {
        let again = sends.encode(&signal, &mut rng).expect("it fitted a datagram once");
        assert_eq!(receives.decode(&again), Ok(signal));
    }

    // Parts of signals, one a piece of the bytes.
    let mut assembler = Assembler::default();
    for (at, piece) in (0..).zip(bytes.chunks(PIECE)) {
        let datagram = datagram(sends, piece);
        let Some(part) = receives.read(&datagram).ok().filter(|part| part.count > 1) else {
            continue;
        };
        if let Ok(Some(signal)) = assembler.add(Now(at * Now::SECOND / 4), &part) {
            let mut again = Assembler::default();
            let parts = sends.encode_all(&signal, &mut rng).expect("it came in as many");
            let read = |datagram: &Vec<u8>| again.add(Now(0), &receives.read(datagram).expect("as written"));
            assert_eq!(parts.iter().map(read).last(), Some(Ok(Some(signal))));
        }
        assert!(assembler.len() <= HALF_RECEIVED_PER_NEIGHBOUR);
    }
}

/// A datagram that only differs from a right one behind its UDP header, whose checksum is right or, in IPv4, left out.
fn datagram(sends: Frame, body: &[u8]) -> Vec<u8> {
    let keepalive = Signal {
        spi: 0,
        message_id: 1,
        message: Message::Keepalive,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut datagram = sends.encode(&keepalive, &mut rng).expect("a KEEPALIVE is short");
    let headers = sends.ends.headers_bytes();
    datagram[headers - 2..headers].fill(0);
    for (to, from) in datagram[headers..].iter_mut().zip(body) {
        *to = *from;
    }
    if let Ends::V6 { local, remote } = sends.ends {
        let sum = checksum::transport_ipv6(local, remote, protocol::UDP, &datagram[ipv6::HEADER_LEN..]);
        datagram[headers - 2..headers].copy_from_slice(&sum.to_be_bytes());
    }
    datagram
}
