//! An intermediate node's control plane, alone on one core: AIVTs created and destroyed while many others stand.
//!
//! ```text
//!   asker ──CREATE──► Node ──CREATE──► asked        timed: signals in, signals out, keys expanded, flow table written
//!         ◄─CREATED──      ◄─CREATED─               not timed: what neighbours do, sealing and sending
//! ```
//!
//! `cargo bench -p ain-controlplane --bench churn -- [STANDING...]` prints, for each number of standing AIVTs, how many are
//! created and destroyed a second, the longest time that one call took, and bytes of memory an AIVT.

#[path = "../tests/net/mod.rs"]
mod net;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ain_controlplane::action::Action;
use ain_controlplane::lifetime::Lifetime;
use ain_controlplane::node::{Node, Quotas};
use ain_controlplane::sa::{Generation, Numbers, SaKind, SaSpec};
use ain_controlplane::signal::create::{FlowToken, HopSpec, Terms, build};
use ain_controlplane::signal::destroy::Reason;
use ain_controlplane::signal::frame::{Frame, Message, Signal};
use ain_controlplane::signal::suite::x25519::KEM;
use ain_controlplane::table_writer::{TableWriter, TunnelShape, TunnelSpec, Workers};
use ain_crypto::{MacAlgorithm, Portable};
use ain_dataplane::command::Command;
use ain_dataplane::engine::Capacity;
use ain_dataplane::id::{Now, PeerId, Spi, WorkerId};
use ain_dataplane::table::flow_table;
use net::{AH_SPI, Plan, WALL, id, onion_key};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use zeroize::Zeroizing;

const ASKER: PeerId = PeerId(0);
const ASKED: PeerId = PeerId(1);
/// AIVTs whose creation and end are timed.
const TIMED: usize = 5_000;
/// Time between two of them: 10 000 a second.
const STEP: u64 = Now::SECOND / 10_000;
/// Time between two of those that only stand: what is remembered of a minute's signals is no AIVT's memory.
const SLOW_STEP: u64 = Now::SECOND / 100;

/// Workers that carry out everything at once and keep nothing: what they would keep is the data plane's.
#[derive(Default)]
struct AtOnce {
    done: u64,
}

impl Workers<Portable, Vec<u8>> for AtOnce {
    fn send(&mut self, _: WorkerId, command: Command<Portable, Vec<u8>>) -> Result<(), Command<Portable, Vec<u8>>> {
        drop(command);
        self.done += 1;
        Ok(())
    }

    fn done(&self, _: WorkerId) -> u64 {
        self.done
    }
}

/// What the control thread spends on one kind of work.
#[derive(Default)]
struct Spent {
    total: Duration,
    longest: Duration,
}

struct World {
    node: Node,
    writer: TableWriter<Portable, Vec<u8>>,
    workers: AtOnce,
    now: Now,
    rng: ChaCha12Rng,
    next_id: u32,
    next_spi: u32,
    /// Signals that the node has sent and that were not answered yet.
    sent: Vec<(PeerId, Vec<u8>)>,
    spent: Spent,
}

fn frame(peer: PeerId) -> Frame {
    let address = if peer == ASKER { 1 } else { 3 };
    Frame::new((Ipv4Addr::new(192, 0, 2, address), Ipv4Addr::new(192, 0, 2, 2)), 1408)
}

/// Keys that nobody uses.
fn ah_pair(peer: PeerId) -> [SaSpec; 2] {
    let algorithm = MacAlgorithm::Aes128Gmac;
    [Numbers::fresh_in(), Numbers::fresh_out(1)].map(|numbers| SaSpec {
        peer,
        spi: Spi::new(AH_SPI).expect("SPI"),
        kind: SaKind::Ah {
            algorithm,
            generation: Generation::HAND_MADE,
            spi_counter: None,
        },
        key: Zeroizing::new(vec![1; algorithm.key_bytes()]),
        esn: true,
        numbers,
        lifetime: Lifetime::NONE,
    })
}

impl World {
    fn new(standing: usize) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let mut config = Plan::chain(3).config(1, 0);
        config.inactivity_s = 86_400;
        config.quotas = Quotas::halves(4 * (standing + TIMED), 0);
        let mut node = Node::new(config, Now(1), Box::new(ChaCha12Rng::from_rng(&mut rng))).expect("configuration");
        for keying in Plan::chain(3).keys(1, &HashMap::new()) {
            node.handle_keying(Now(1), keying);
        }
        let room = u32::try_from(2 * (standing + TIMED)).expect("capacity");
        let (table, _) = flow_table(room as usize + 8, [1, 2]);
        let capacity = Capacity {
            tvts: room,
            tunnels: 8,
            flows: 0,
        };
        let mut writer = TableWriter::new(table, 1, capacity);
        for peer in [ASKER, ASKED] {
            let tunnel = TunnelSpec {
                peer,
                owner: WorkerId(0),
                shape: TunnelShape::default(),
            };
            writer.add_tunnel(&tunnel).expect("tunnel");
            for spec in ah_pair(peer) {
                writer.add_sa(&spec, None).expect("association");
            }
        }
        let mut world = Self {
            node,
            writer,
            workers: AtOnce::default(),
            now: Now(1),
            rng,
            next_id: 0,
            next_spi: 1000,
            sent: Vec::new(),
            spent: Spent::default(),
        };
        world.carry_out();
        world.keep_alive();
        world
    }

    fn wall(&self) -> u64 {
        WALL + self.now.0 / Now::SECOND
    }

    fn say(&mut self, from: PeerId, spi: u32, message_id: u32, message: Message) {
        let signal = Signal {
            spi,
            message_id,
            message,
        };
        let datagram = frame(from).encode(&signal, &mut self.rng).expect("it fits");
        let begun = Instant::now();
        self.node.handle_signal(self.now, from, &datagram);
        self.carry_out();
        let took = begun.elapsed();
        self.spent.total += took;
        self.spent.longest = self.spent.longest.max(took);
    }

    /// What the control thread does after each event.
    fn carry_out(&mut self) {
        loop {
            while let Some(action) = self.node.poll_action() {
                match action {
                    Action::Send { peer, datagram } => self.sent.push((peer, datagram)),
                    Action::ReserveSpis {
                        peer,
                        generation,
                        up_to,
                    } => self.node.handle_spis_reserved(peer, generation, up_to),
                    Action::Open(opening) => self.node.handle_opened(self.now, self.wall(), opening.open()),
                    Action::Install { aivt, route, activity } => {
                        self.writer.install(aivt, route, &activity).expect("room");
                    }
                    Action::Remove { aivt } => self.writer.remove(self.now, aivt),
                    _ => unreachable!("an intermediate node"),
                }
            }
            self.writer.pump(&mut self.workers);
            let mut came = false;
            while let Some(aivt) = self.writer.poll_installed(&self.workers) {
                self.node.handle_installed(self.now, aivt);
                came = true;
            }
            if !came {
                break;
            }
        }
        if self.node.poll_timeout().is_some_and(|due| due <= self.now) {
            let wall = self.wall();
            self.node.handle_timeout(self.now, wall);
        }
    }

    /// Neighbours ACK everything and let every AIVT come to stand, until nobody has anything to say.
    fn settle(&mut self) {
        while let Some((peer, datagram)) = self.sent.pop() {
            let signal = frame(peer).decode(&datagram).expect("well-formed");
            if !signal.message.is_request() {
                continue;
            }
            self.say(peer, signal.spi, signal.message_id, Message::Ack);
            if let Message::Create { .. } = signal.message {
                self.next_id += 1;
                let created = Message::Created {
                    create: signal.message_id,
                    confirmation: [7; 32],
                };
                self.say(peer, signal.spi, self.next_id, created);
            }
        }
    }

    fn pass(&mut self, step: u64) {
        let before = self.now.0 / Now::SECOND;
        self.now = self.now.plus(step);
        if self.now.0 / Now::SECOND != before {
            self.keep_alive();
        }
    }

    fn keep_alive(&mut self) {
        for peer in [ASKER, ASKED] {
            self.next_id += 1;
            let id = self.next_id;
            self.say(peer, 0, id, Message::Keepalive);
        }
        self.settle();
    }

    /// Creates an AIVT; its name.
    fn create(&mut self, step: u64) -> u32 {
        let keys = [1, 2].map(|node| onion_key(node).public().to_vec());
        let created = u32::try_from(self.wall() / 10 * 10).expect("before 2106");
        let hops = [1, 2].map(|node| HopSpec {
            id: id(node),
            onion_key: &keys[node - 1],
            created,
            ticket: None,
        });
        let terms = Terms {
            profile: 0,
            expires: 0,
            flow_token: FlowToken::random(&mut self.rng),
        };
        let (onion, _) = build(&KEM, &hops, &terms, &mut self.rng).expect("a path");
        self.pass(step);
        self.next_spi += 1;
        self.next_id += 1;
        let (spi, message_id) = (self.next_spi, self.next_id);
        self.say(ASKER, spi, message_id, Message::Create { ah: AH_SPI, onion });
        self.settle();
        spi
    }

    fn destroy(&mut self, spi: u32) {
        self.pass(STEP);
        self.next_id += 1;
        let message_id = self.next_id;
        let message = Message::Destroy {
            create: 0,
            reason: Reason::None,
        };
        self.say(ASKER, spi, message_id, message);
        self.settle();
    }

    fn standing(&self) -> usize {
        self.node.snapshot().standing[1]
    }

    /// Runs `work` on each of `TIMED` AIVTs: how many a second, and the longest call.
    fn timed(&mut self, mut work: impl FnMut(&mut Self, usize)) -> (f64, Duration) {
        self.spent = Spent::default();
        for at in 0..TIMED {
            work(self, at);
        }
        (TIMED as f64 / self.spent.total.as_secs_f64(), self.spent.longest)
    }
}

fn run(standing: usize) {
    let mut world = World::new(standing);
    let memory = allocation_counter::measure(|| {
        for _ in 0..standing {
            world.create(SLOW_STEP);
        }
    });
    assert_eq!(world.standing(), standing, "{:?}", world.node.counts());
    let mut names = Vec::new();
    let (created, create_max) = world.timed(|world, _| names.push(world.create(STEP)));
    let (destroyed, destroy_max) = world.timed(|world, at| world.destroy(names[at]));
    assert_eq!(world.standing(), standing);
    println!(
        "{standing:>8} standing: {created:>7.0} created/s (longest call {:>6.0} us)  {destroyed:>7.0} destroyed/s (longest {:>6.0} us)  {:>5} bytes an AIVT",
        create_max.as_secs_f64() * 1e6,
        destroy_max.as_secs_f64() * 1e6,
        memory.bytes_current / standing as i64,
    );
}

fn main() {
    let asked: Vec<usize> = std::env::args().filter_map(|text| text.parse().ok()).collect();
    let sizes = if asked.is_empty() { vec![1_000, 100_000] } else { asked };
    sizes.into_iter().for_each(run);
}
