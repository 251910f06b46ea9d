//! Must show: a hop that marks cells, to know them again at another, marks nothing. One flipped bit makes noise of the whole cell at
//! the next layer, and the end that sees noise says so.

mod crypto;
mod sim;

use ain_controlplane::action::HopKeys;
use ain_crypto::{Direction, Layer, LayerJob, LayerOp};
use ain_dataplane::verdict::DropReason;
use crypto::{Crypto, crypto};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use sim::chain::{Chain, Heard, Plan, aivt, ends, hop_keys, initiator, responder, tvt_spi};
use sim::forge::{Forged, cell_of};
use sim::{Buf, GMAC, datagram};

const AINS: u8 = 6;
const CELL_BITS: usize = 8 * 1408;
/// Bits flipped at each hop.
const BITS: u64 = 1000;

/// A chain that has carried a datagram each way.
fn chain() -> Chain {
    let mut chain = Chain::new(Plan::new(AINS, GMAC));
    let last = chain.responder();
    chain.send(1, &[datagram(initiator(0), responder(0), 64, 60, 1)]);
    chain.send(last, &[datagram(responder(0), initiator(0), 64, 60, 2)]);
    assert_eq!((chain.delivered(last).len(), chain.delivered(1).len()), (1, 1));
    chain
}

/// The cell of a datagram that `from` sends, as AIN `marker` passes it on; it goes no further.
fn caught(chain: &mut Chain, from: u8, bytes: &[u8], marker: u8) -> Vec<u8> {
    let now = chain.now;
    chain.machine(from).send(now, [Buf::of(bytes)]);
    let mut at = from;
    loop {
        let frame = chain.machine(at).io.frames.pop().expect("it moves on");
        if at == marker {
            return cell_of(&frame);
        }
        at = ends(&frame).1;
        chain.machine(at).receive(now, 0, [frame]);
    }
}

/// `cell` goes on from AIN `from` to AIN `to`, signed as that AIN signs.
fn pass_on(chain: &mut Chain, (from, to): (u8, u8), seq: u64, cell: &[u8]) {
    let lower = from.min(to);
    let forged = Forged {
        from,
        to,
        suite: GMAC,
        seed: 5 + 2 * (lower - 2) + u8::from(from > to),
        spi: tvt_spi(0, lower).value(),
        seq,
        esn: true,
        next_header: 99,
        payload: cell,
    };
    let now = chain.now;
    chain.machine(to).receive(now, 0, [forged.buf()]);
    chain.run();
}

#[test]
fn a_mark_reaches_no_host_from_any_hop() {
    let exit = AINS + 1;
    for marker in 2..exit {
        let mut chain = chain();
        let mut rng = ChaCha12Rng::seed_from_u64(u64::from(marker));
        let cell = caught(&mut chain, 1, &datagram(initiator(0), responder(0), 64, 60, 3), marker);
        for n in 1..=BITS {
            let mut marked = cell.clone();
            let bit = rng.random_range(0..CELL_BITS);
            marked[bit / 8] ^= 1 << (bit % 8);
            pass_on(&mut chain, (marker, marker + 1), 10 + n, &marked);
        }
        // Each is noticed, and all together reported once.
        assert_eq!(chain.heard, [(exit, Heard::Misbehaviour(aivt(0)))]);
        assert_eq!(chain.machines[&exit].all_drops(), [(DropReason::CellBroken, BITS)]);
        assert_eq!(chain.delivered(exit + 1), Vec::<Vec<u8>>::new(), "marker {marker}");
    }
}

#[test]
fn nor_on_the_way_back() {
    let (exit, host) = (AINS + 1, AINS + 2);
    for marker in 3..=exit {
        let mut chain = chain();
        let mut rng = ChaCha12Rng::seed_from_u64(u64::from(marker));
        let cell = caught(
            &mut chain,
            host,
            &datagram(responder(0), initiator(0), 64, 60, 3),
            marker,
        );
        for n in 1..=BITS / 10 {
            let mut marked = cell.clone();
            let bit = rng.random_range(0..CELL_BITS);
            marked[bit / 8] ^= 1 << (bit % 8);
            pass_on(&mut chain, (marker, marker - 1), 10 + n, &marked);
        }
        assert_eq!(chain.heard, [(2, Heard::Misbehaviour(aivt(0)))]);
        assert_eq!(chain.machines[&2].all_drops(), [(DropReason::CellBroken, BITS / 10)]);
        assert_eq!(chain.delivered(1), Vec::<Vec<u8>>::new(), "marker {marker}");
    }
}

/// The cell after the layers of the AINs behind `marker`.
fn opened(mut cell: Vec<u8>, marker: u8) -> Vec<u8> {
    let mut tweak = [0; 16];
    tweak[0] = Direction::Forward as u8;
    for ain in marker + 1..=AINS + 1 {
        let HopKeys { suite, forward, .. } = &hop_keys(0, ain);
        tweak[1] = *suite;
        let (key, op) = (Crypto::layer_key(forward), LayerOp::Decrypt);
        let mut jobs = [LayerJob {
            key: &key,
            tweak,
            op,
            cell: &mut cell,
        }];
        crypto().apply(&mut jobs);
    }
    cell
}

/// What a mark leaves at the exit differs from the cell in half of its bits, as any other noise does, wherever it was made.
#[test]
fn a_mark_leaves_noise() {
    let mut chain = chain();
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let (mut differing, mut cases) = (0, 0);
    for marker in 2..=AINS {
        let cell = caught(&mut chain, 1, &datagram(initiator(0), responder(0), 64, 60, 3), marker);
        let plain = opened(cell.clone(), marker);
        for _ in 0..100 {
            let mut marked = cell.clone();
            let bit = rng.random_range(0..CELL_BITS);
            marked[bit / 8] ^= 1 << (bit % 8);
            let noise = opened(marked, marker);
            let differs: u32 = plain
                .iter()
                .zip(&noise)
                .map(|(one, other)| (one ^ other).count_ones())
                .sum();
            // 5632 on average, with a standard deviation of 53.
            assert!(
                (5200..6064).contains(&differs),
                "{differs} bits after a mark at {marker}"
            );
            (differing, cases) = (differing + differs, cases + 1);
        }
    }
    let mean = f64::from(differing) / f64::from(cases);
    assert!((mean - 5632.0).abs() < 6.0 * 53.0 / f64::from(cases).sqrt(), "{mean}");
}
