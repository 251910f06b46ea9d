//! An intermediate AIN: bursts of 32 TVT packets of 32 AIVTs through its whole packet path. Packets are made beforehand, with fresh
//! sequence numbers, and outside the measured time.

#[path = "../../controlplane/tests/sim/mod.rs"]
mod sim;

use std::time::Duration;

use ain_dataplane::stage::Lane;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sim::chain::{Chain, Plan, tvt_spi};
use sim::forge::Forged;
use sim::{Buf, GMAC, HMAC, Suite};

/// AIVTs, and packets of a burst.
const BURST: u8 = 32;
/// The AIN that is measured: the first behind the entrance.
const AIN: u8 = 3;

/// One packet of each AIVT, as the entrance would send them.
fn burst(suite: Suite, seq: u64) -> Lane<Buf> {
    let packet = |flow| {
        Forged {
            from: AIN - 1,
            to: AIN,
            suite,
            seed: 5,
            spi: tvt_spi(flow, AIN - 1).value(),
            seq,
            esn: true,
            next_header: 99,
            payload: &[0x5a; 1408],
        }
        .buf()
    };
    (0..BURST).map(packet).collect()
}

fn intermediate(c: &mut Criterion) {
    let mut group = c.benchmark_group("intermediate");
    group.throughput(Throughput::Elements(u64::from(BURST)));
    for (name, suite) in [("Aes128Gmac", GMAC), ("HmacSha256_128", HMAC)] {
        let mut chain = Chain::new(Plan {
            flows: BURST,
            ..Plan::new(4, suite)
        });
        let now = chain.now;
        let ain = chain.machine(AIN);
        let (mut seq, mut sent) = (0, 0);
        let mut fresh = || {
            seq += 1;
            burst(suite, seq)
        };
        group.bench_function(name, |b| {
            b.iter_batched(
                &mut fresh,
                |mut frames| {
                    ain.engines[0].from_wire(now, &ain.peers, &mut frames, &mut ain.io);
                    sent += ain.io.frames.drain(..).count();
                },
                BatchSize::NumIterations(8),
            );
        });
        chain.assert_no_drops();
        assert!(sent > 0, "packets went through");
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = intermediate
}
criterion_main!(benches);
