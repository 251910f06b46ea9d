//! What an open exit hears from the Internet, and what its AIVTs send there. The first byte says what the rest is.
#![no_main]

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use ain_dataplane::id::{FlowTag, Now, Pair, WorkerId};
use ain_dataplane::nat::fragments::Piece;
use ain_dataplane::nat::mappings::Timeouts;
use ain_dataplane::nat::neighbour::{ANSWER, answer};
use ain_dataplane::nat::policy::{Policy, Rule};
use ain_dataplane::nat::pool::Pool;
use ain_dataplane::nat::{Limits, Nat, Settings};
use ain_dataplane::wire::ethernet::MacAddr;
use ain_dataplane::wire::ipv4::refresh_checksum;
use libfuzzer_sys::fuzz_target;

/// Inner source, destination, pool address: of IPv4, then of IPv6.
const ENDS: [[&str; 3]; 2] = [
    ["10.1.2.3", "9.9.9.9", "203.0.113.64"],
    ["fd00::3", "2620:fe::fe", "2001:db8::64"],
];

fn address(family: usize, which: usize) -> IpAddr {
    ENDS[family][which].parse().expect("an address")
}

/// A small pool, so that chance finds mappings.
fn nat() -> Nat {
    let everything = ["0.0.0.0/0", "::/0"].map(|prefix| Rule {
        prefix: prefix.parse().expect("a prefix"),
        protocol: None,
        ports: None,
    });
    let settings = Settings {
        pool: Pool::new([address(0, 2), address(1, 2)], &(0x4100..=0x4103), 1),
        policy: Policy {
            allow: everything.into(),
            ..Policy::default()
        },
        limits: Limits {
            mappings_per_aivt: 16,
            new_mappings_per_s: u32::MAX,
            packets_per_s: u32::MAX,
            mappings_per_worker: 24,
            held_ports_per_worker: 0,
        },
        timeouts: Timeouts::default(),
    };
    let mut nat = Nat::new(WorkerId(0), Arc::new(settings), 2, [0; 32]);
    for family in 0..2 {
        let pair = Pair {
            source: address(family, 0),
            destination: address(family, 1),
        };
        let tag = FlowTag([family as u8; 16]);
        assert_eq!(nat.begin(Now(1), family as u32, pair, tag), Some(family as u32));
    }
    nat
}

thread_local! {
    static NAT: RefCell<Nat> = RefCell::new(nat());
}

fuzz_target!(|bytes: &[u8]| {
    let [kind, rest @ ..] = bytes else { return };
    let mut packet = rest.to_vec();
    let _ = refresh_checksum(&mut packet);
    NAT.with_borrow_mut(|nat| {
        let owner = nat.owner(&packet);
        match kind % 4 {
            0 => {
                let before = packet.len();
                let heard = match Piece::of(&packet) {
                    None => nat.inbound(Now(1), &mut packet).is_ok(),
                    Some(piece) => nat.inbound_piece(Now(1), piece, &mut packet).is_ok(),
                };
                assert_eq!(packet.len(), before);
                assert!(!heard || owner == Some(WorkerId(0)));
            }
            1 | 2 => {
                let session = u32::from(kind % 4 - 1);
                let _ = match Piece::of(&packet) {
                    None => nat.outbound(Now(1), session, &mut packet),
                    Some(piece) => nat.outbound_piece(Now(1), session, piece, &mut packet),
                };
            }
            _ => {
                let (own, mut out) = (MacAddr([2, 0, 0, 0, 0, 3]), [0; ANSWER]);
                let len = answer(rest, own, &nat.settings().pool, &mut out);
                assert!(len.is_none_or(|len| len <= ANSWER && out[6..12] == own.0));
            }
        }
        assert!(nat.in_use()[0] <= 24);
    });
});
