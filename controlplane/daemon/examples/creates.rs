//! Creating signals as every hop of paths of 2 to 6 AINs sees them, for `deploy/test/test_path_length.py`, which tries to tell the
//! path's length by them.
//!
//! ```text
//!   creates SUITE COUNT [unpadded] > FILE        COUNT paths of each length
//!
//!   nodes u8 | position u8 | exit u8 | 0 u8 | bytes received u32 | bytes passed on u32 | datagrams received | datagrams passed on
//! ```
//!
//! `unpadded` is what a careless build would do, and what the paper's onion does: each layer is as long as what is left of the path.

use std::io::{self, Write};
use std::net::Ipv4Addr;

use ain_controlplane::directory::NodeId;
use ain_controlplane::signal::create::{FlowToken, HopSpec, Next, Terms, build, peel};
use ain_controlplane::signal::frame::{Frame, Message, Signal};
use ain_controlplane::signal::suite::{Kem, OnionPrivateKey};
use ain_daemon::onion_key;
use rand::{CryptoRng, Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// Nodes after the entrance that an onion has room for.
const SLOTS: usize = 5;
/// Nodes that paths are made of: not many, for RSA keys take their time.
const NODES: usize = 8;

struct Node {
    id: NodeId,
    key: OnionPrivateKey,
}

/// What all signals of a run have in common.
struct Plan {
    kem: Kem,
    nodes: Vec<Node>,
    frame: Frame,
    unpadded: bool,
}

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let suite = words.first().and_then(|word| word.parse().ok()).unwrap_or(0);
    let kem = onion_key::kem(suite).ok_or(io::Error::other("suite 1, 2, 3 or 4"))?;
    let count: usize = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(1000);
    let rng = &mut ChaCha20Rng::seed_from_u64(0x5eed);
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        let key = onion_key::generate(suite).map_err(io::Error::other)?;
        nodes.push(Node {
            id: NodeId(random(rng)),
            key: onion_key::load(suite, &key).ok_or(io::Error::other("a key that is none"))?,
        });
    }
    let plan = Plan {
        kem,
        nodes,
        frame: Frame::new((Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)), 1408),
        unpadded: words.get(2) == Some(&"unpadded"),
    };
    let out = &mut io::stdout().lock();
    for _ in 0..count {
        for hops in 1..=SLOTS {
            one_path(&plan, hops, rng, out)?;
        }
    }
    Ok(())
}

/// One CREATE, at every hop of a path of its own.
fn one_path(plan: &Plan, hops: usize, rng: &mut ChaCha20Rng, out: &mut impl Write) -> io::Result<()> {
    let mut path: Vec<&Node> = plan.nodes.iter().collect();
    for at in 0..hops {
        let other = rng.random_range(at..path.len());
        path.swap(at, other);
    }
    path.truncate(hops);
    let specs = path.iter().map(|node| HopSpec {
        id: node.id,
        onion_key: node.key.public(),
        created: 1_800_000_000,
        ticket: None,
    });
    let terms = Terms {
        profile: 0,
        expires: 0,
        flow_token: FlowToken::random(rng),
    };
    let (mut onion, _) = build(&plan.kem, &specs.collect::<Vec<_>>(), &terms, rng).map_err(io::Error::other)?;
    for (at, node) in path.iter().enumerate() {
        let received = plan.datagrams(&onion, hops - at, rng);
        let next = match peel(&onion, &node.key).map_err(io::Error::other)?.next {
            Next::Relay { onion, .. } => Some(onion),
            Next::Exit { .. } => None,
        };
        let passed = next.as_ref().map(|onion| plan.datagrams(onion, hops - at - 1, rng));
        let passed = passed.unwrap_or_default();
        out.write_all(&[hops as u8 + 1, at as u8 + 1, u8::from(next.is_none()), 0])?;
        for bytes in [&received, &passed] {
            out.write_all(&(bytes.len() as u32).to_be_bytes())?;
        }
        out.write_all(&received)?;
        out.write_all(&passed)?;
        onion = next.unwrap_or_default();
    }
    Ok(())
}

impl Plan {
    /// The signal's datagrams, one after the other: to `left` nodes, the next included.
    fn datagrams(&self, onion: &[u8], left: usize, rng: &mut dyn CryptoRng) -> Vec<u8> {
        let slot = self.kem.suite.slot();
        let superfluous = if self.unpadded { (SLOTS - left) * slot } else { 0 };
        let signal = Signal {
            spi: rng.next_u32(),
            message_id: rng.next_u32(),
            message: Message::Create {
                ah: rng.next_u32(),
                onion: onion[..onion.len() - superfluous].to_vec(),
            },
        };
        let datagrams = self.frame.encode_all(&signal, rng).expect("an onion fits a signal");
        datagrams.concat()
    }
}

fn random(rng: &mut ChaCha20Rng) -> [u8; 32] {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    bytes
}
