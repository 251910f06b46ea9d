//! Configurations whose parts do not fit each other are refused, and the error names the part.

mod net;

use ain_controlplane::node::{Config, ConfigError, Node, Peer};
use ain_dataplane::id::Now;
use net::{Plan, WALL};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

#[test]
fn configurations_that_do_not_fit_are_refused() {
    let error = |change: &dyn Fn(&mut Config)| {
        let mut config = Plan::chain(3).config(1, WALL);
        change(&mut config);
        Node::new(config, Now(0), Box::new(ChaCha12Rng::seed_from_u64(1))).err()
    };
    assert_eq!(error(&|_| {}), None);
    assert_eq!(
        error(&|config| config.id = net::id(9)),
        Some(ConfigError::NotInDirectory(net::id(9)))
    );
    assert_eq!(
        error(&|config| config.max_nodes = 7),
        Some(ConfigError::PathLength { min: 2, max: 7 })
    );
    assert_eq!(
        error(&|config| config.min_nodes = 1),
        Some(ConfigError::PathLength { min: 1, max: 6 })
    );
    assert_eq!(error(&|config| config.inactivity_s = 0), Some(ConfigError::Inactivity));
    let neighbour = |config: &mut Config, id| {
        let Peer::Neighbour(neighbour) = &mut config.peers[1] else {
            panic!("neighbours come first")
        };
        neighbour.id = id;
    };
    let (own, other) = (net::id(1), net::id(0));
    assert_eq!(
        error(&|config| neighbour(config, own)),
        Some(ConfigError::NotANeighbour { peer: 1, node: own })
    );
    assert_eq!(
        error(&|config| neighbour(config, other)),
        Some(ConfigError::RepeatedNeighbour { peer: 1, node: other })
    );
    let overlap = error(&|config| {
        let twin = match &config.peers[2] {
            Peer::Host(host) => host.clone(),
            Peer::Neighbour(_) => panic!("hosts follow"),
        };
        config.peers.push(Peer::Host(twin));
    });
    assert!(matches!(
        overlap,
        Some(ConfigError::OverlappingHosts { peer: 4, other: 2, .. })
    ));
}
