//! What goes in comes out, both ways.

use crate::sim::chain::{Chain, Plan, initiator, responder};
use crate::sim::{CMAC, GMAC, HMAC, datagram};

/// Over this test's backend.
pub fn datagrams_cross_chains_both_ways() {
    for (ains, workers, suite) in [(2, 1, GMAC), (3, 1, HMAC), (3, 2, CMAC), (4, 2, GMAC), (6, 3, GMAC)] {
        let mut chain = Chain::new(Plan {
            workers,
            ..Plan::new(ains, suite)
        });
        let sizes = [20, 21, 100, 1383, 1384, 1385, 1400, 2768, 9000];
        let forward = |ttl, fill, burst| -> Vec<_> {
            let sizes = sizes.iter().take(burst);
            sizes
                .map(|&len| datagram(initiator(0), responder(0), ttl, len, fill))
                .collect()
        };
        let backward = |ttl| -> Vec<_> {
            sizes
                .iter()
                .map(|&len| datagram(responder(0), initiator(0), ttl, len, 9))
                .collect()
        };
        for (fill, burst) in [(1, 1), (2, 9)] {
            let mut seen = chain.send(1, &forward(64, fill, burst));
            assert_eq!(
                chain.delivered(ains + 2),
                forward(63, fill, burst),
                "{ains} AINs forward"
            );
            seen.extend(chain.send(ains + 2, &backward(64)));
            assert_eq!(chain.delivered(1), backward(63), "{ains} AINs backward");
            let sizes = chain.sizes_between_ains(&seen);
            assert_eq!(sizes.len(), 1, "one packet size between AINs, not {sizes:?}");
        }
        chain.assert_no_drops();
    }
}
