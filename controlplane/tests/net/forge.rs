//! Signals that tests make up.

use std::net::Ipv4Addr;

use ain_controlplane::signal::create::{FlowToken, HopSpec, Terms, build};
use ain_controlplane::signal::frame::{Frame, Message, Signal};
use ain_controlplane::ticket::Ticket;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use super::{Net, id};

impl Net {
    /// Node `at` hears `message` as if node `from` had said it.
    pub fn say(&mut self, from: usize, at: usize, spi: u32, message: Message) {
        self.forged += 1;
        let message_id = self.forged;
        let signal = Signal {
            spi,
            message_id,
            message,
        };
        let address = |node: usize| Ipv4Addr::new(192, 0, 2, u8::try_from(node).unwrap() + 1);
        let frame = Frame::new((address(from), address(at)), 1408);
        let datagrams = frame.encode_all(&signal, &mut ChaCha12Rng::seed_from_u64(1)).unwrap();
        datagrams.iter().for_each(|datagram| self.hear(from, at, datagram));
    }

    /// Node `at` hears a datagram of node `from`.
    pub fn hear(&mut self, from: usize, at: usize, datagram: &[u8]) {
        let peer = self.peer(at, from);
        self.drive(at, |node, now, _| node.handle_signal(now, peer, datagram));
    }

    /// A creating signal, good now, for a path over `path`.
    pub fn onion(&mut self, path: &[usize]) -> Vec<u8> {
        self.onion_with(path, &[])
    }

    /// The same with tickets for the first nodes of the path.
    pub fn onion_with(&mut self, path: &[usize], tickets: &[Ticket]) -> Vec<u8> {
        let rng = &mut ChaCha12Rng::seed_from_u64(u64::from(self.forged));
        let created = u32::try_from(self.wall() / 10 * 10).unwrap();
        let keys: Vec<_> = path.iter().map(|node| (self.plan.onion_key)(*node)).collect();
        let hops: Vec<_> = path
            .iter()
            .zip(&keys)
            .enumerate()
            .map(|(at, (node, key))| HopSpec {
                id: id(*node),
                onion_key: key.public(),
                created,
                ticket: tickets.get(at),
            })
            .collect();
        let terms = Terms {
            profile: 0,
            expires: 0,
            flow_token: FlowToken::random(rng),
        };
        build(&self.plan.kem, &hops, &terms, rng).unwrap().0
    }
}
