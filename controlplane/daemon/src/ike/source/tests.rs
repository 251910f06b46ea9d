//! Line 2: what charon asks for, and what becomes of it.

use std::collections::BTreeSet;

use ain_controlplane::lifetime::Amounts;
use ain_controlplane::sa::Generation;
use ain_crypto::{AeadAlgorithm, MacAlgorithm};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::*;
use crate::config::secret::KeyMaterial;
use crate::ike::message::{Flags, Keyed, Limit, Mode, Policy, PolicyDirection, Selector};

pub(in crate::ike) const HERE: &str = "192.0.2.1";
pub(in crate::ike) const THERE: &str = "192.0.2.2";
pub(in crate::ike) const PEER: PeerId = PeerId(3);
const SECOND: Now = Now(Now::SECOND);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(in crate::ike) fn tunnel() -> IkeTunnel {
    IkeTunnel {
        peer: PEER,
        label: "a host".into(),
        has_tvts: true,
        local: address(HERE),
        remote: address(THERE),
        esn: true,
        ah: MacAlgorithm::HmacSha256_128,
        esp: AeadAlgorithm::Aes256Gcm16,
        inside: ["0.0.0.0/0", "10.0.0.0/30"].map(|net| vec![net.parse().unwrap()]),
    }
}

/// The source, and a packet path that takes everything.
struct Bench {
    source: IkeSource,
    rng: ChaCha8Rng,
    next_id: u32,
    /// SPIs of TVTs.
    taken: Vec<Spi>,
    added: Vec<SaSpec>,
    removed: Vec<SaName>,
    used: Vec<Arc<SaUse>>,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self {
            source: IkeSource::new(vec![tunnel()], 2, 99),
            rng: ChaCha8Rng::seed_from_u64(5),
            next_id: 0,
            taken: Vec::new(),
            added: Vec::new(),
            removed: Vec::new(),
            used: Vec::new(),
        };
        assert_eq!(bench.ask(SECOND, hello(1)), Reply::Process(99));
        bench
    }

    fn ask(&mut self, now: Now, request: Request) -> Reply {
        self.next_id += 1;
        let taken = &self.taken;
        self.source
            .handle_request(now, (self.next_id, request), &mut self.rng, |peer, spi| {
                assert_eq!(peer, PEER);
                !taken.contains(&spi)
            });
        self.run();
        let (id, reply) = self.source.poll_reply().expect("an answer at once");
        assert_eq!(id, self.next_id);
        reply
    }

    fn run(&mut self) {
        while let Some(event) = self.source.poll_event() {
            match event {
                SaEvent::Add(spec) => {
                    let used = SaUse::new(0);
                    used.put_in_place();
                    self.source.handle_added(spec.name(), Ok(Arc::clone(&used)));
                    self.added.push(spec);
                    self.used.push(used);
                }
                SaEvent::Remove(name) => self.removed.push(name),
            }
        }
    }

    fn refusal(&mut self, request: Request) -> String {
        match self.ask(SECOND, request) {
            Reply::Refused(why) => why,
            other => panic!("{other:?}"),
        }
    }

    fn spi(&mut self, protocol: Protocol) -> u32 {
        let request = Request::Spi {
            protocol,
            source: address(THERE),
            destination: address(HERE),
        };
        match self.ask(SECOND, request) {
            Reply::Spi(spi) => spi,
            other => panic!("{other:?}"),
        }
    }

    fn install(&mut self, add: Add) -> SaName {
        assert_eq!(self.ask(SECOND, Request::Add(Box::new(add))), Reply::Done);
        self.added.last().unwrap().name()
    }

    fn inbound(&mut self, protocol: Protocol) -> (SaName, Name) {
        let spi = self.spi(protocol);
        let add = add(Direction::In, protocol, spi);
        let name = add.name;
        (self.install(add), name)
    }

    /// Of an exchange that this end began, or not.
    fn ah_in(&mut self, initiator: bool) -> SaName {
        let spi = self.spi(Protocol::Ah);
        let mut add = add(Direction::In, Protocol::Ah, spi);
        add.flags.initiator = initiator;
        self.install(add)
    }

    fn ah_out(&mut self, spi: u32, initiator: bool) -> SaName {
        let mut add = add(Direction::Out, Protocol::Ah, spi);
        add.flags.initiator = initiator;
        self.install(add)
    }

    fn delete_ah_in(&mut self, name: SaName) {
        let name = add(Direction::In, Protocol::Ah, name.spi.value()).name;
        assert_eq!(self.ask(SECOND, Request::Delete(name)), Reply::Done);
    }

    fn looks(&mut self, times: u8) {
        (0..times).for_each(|_| self.source.handle_timeout(SECOND, 1));
    }

    /// The SPI of the association for which charon is asked for a successor.
    fn told_soft(&mut self) -> Option<u32> {
        match self.source.poll_reply()? {
            (0, Reply::Expire { spi, hard: false, .. }) => Some(spi),
            other => panic!("{other:?}"),
        }
    }

    fn generation(&self, name: SaName) -> Generation {
        let spec = self.added.iter().find(|spec| spec.name() == name).unwrap();
        match spec.kind {
            SaKind::Ah { generation, .. } => generation,
            SaKind::Esp(_) => panic!("ESP has none"),
        }
    }
}

pub(in crate::ike) fn hello(session: u64) -> Request {
    Request::Hello {
        session,
        version: "5.9.8".into(),
    }
}

fn selector(first: &str, last: &str, protocol: Protocol) -> Vec<Selector> {
    vec![Selector {
        protocol: if protocol == Protocol::Ah { 50 } else { 0 },
        ports: (0, 65535),
        first: address(first),
        last: address(last),
    }]
}

/// What charon says of the tunnel above.
pub(in crate::ike) fn add(direction: Direction, protocol: Protocol, spi: u32) -> Add {
    let keyed = |id: u16, bytes| Keyed {
        id,
        key: KeyMaterial::new((0..bytes).collect()),
    };
    let none = || keyed(0, 0);
    let (encryption, integrity, mode) = match protocol {
        Protocol::Esp => (keyed(20, 36), none(), Mode::Tunnel),
        Protocol::Ah => (none(), keyed(12, 32), Mode::Transport),
    };
    let any = selector("0.0.0.0", "255.255.255.255", protocol);
    let host = match protocol {
        Protocol::Esp => selector("10.0.0.0", "10.0.0.3", protocol),
        Protocol::Ah => any.clone(),
    };
    let (from, to, source, destination) = match direction {
        Direction::In => (THERE, HERE, host, any),
        Direction::Out => (HERE, THERE, any, host),
    };
    Add {
        name: Name {
            direction,
            protocol,
            spi,
            source: address(from),
            destination: address(to),
        },
        encryption,
        integrity,
        flags: Flags {
            esn: true,
            ..Flags::default()
        },
        mode,
        tfc: 0,
        window: 32,
        reqid: 1,
        seconds: Limit { soft: 50, hard: 60 },
        packets: Limit { soft: 0, hard: 1000 },
        bytes: Limit { soft: 5, hard: 0 },
        source,
        destination,
    }
}

#[test]
fn line_2_four_associations_come_up_and_go() {
    let mut bench = Bench::new();
    let (esp_in, esp_name) = bench.inbound(Protocol::Esp);
    let esp_out = bench.install(add(Direction::Out, Protocol::Esp, 0x1000));
    let (ah_in, _) = bench.inbound(Protocol::Ah);
    let ah_out = bench.install(add(Direction::Out, Protocol::Ah, 0x1000));
    assert_eq!(bench.generation(ah_in), bench.generation(ah_out));
    assert_eq!(bench.source.len(), 4);
    let spec = &bench.added[0];
    assert_eq!((spec.peer, spec.esn, spec.key.len()), (PEER, true, 36));
    let expected = Amounts {
        packets: 1000,
        octets: u64::MAX,
        age: 60 * Now::SECOND,
    };
    assert_eq!(spec.lifetime.hard, expected);
    let Amounts { octets, age, .. } = spec.lifetime.soft;
    assert_eq!(
        (octets, age),
        (5, 50 * Now::SECOND),
        "charon leaves time to who has the association"
    );
    bench.used[0].count(100, 1);
    bench.source.handle_timeout(SECOND, 1234);
    let used = Reply::Use {
        packets: 1,
        bytes: 100,
        last_s: 1234,
    };
    assert_eq!(bench.ask(SECOND, Request::Query(esp_name)), used);
    assert_eq!(bench.ask(SECOND, Request::Delete(esp_name)), Reply::Done);
    assert_eq!(
        bench.ask(SECOND, Request::Delete(esp_name)),
        Reply::Done,
        "gone already"
    );
    assert_eq!(bench.removed, [esp_in]);
    assert_eq!(bench.ask(SECOND, Request::Flush), Reply::Done);
    assert_eq!(bench.removed.len(), 4);
    assert!(bench.removed.contains(&esp_out) && bench.source.is_empty());
    assert_eq!(bench.source.counts().installed, 4);
}

#[test]
fn line_2_halves_of_an_ah_pair_find_each_other() {
    let mut bench = Bench::new();
    let first_in = bench.ah_in(true);
    let first_out = bench.ah_out(0x1000, true);
    // Both ends rekey at once. The other one wins: the outbound half comes when it deletes the old pair, and what this end began goes.
    let answered_in = bench.ah_in(false);
    let begun_in = bench.ah_in(true);
    let answered_out = bench.ah_out(0x1001, false);
    let pairs = [(first_in, first_out), (answered_in, answered_out)];
    for (one, other) in pairs {
        assert_eq!(bench.generation(one), bench.generation(other));
    }
    bench.delete_ah_in(begun_in);
    let last_in = bench.ah_in(true);
    let last_out = bench.ah_out(0x1002, true);
    assert_eq!(bench.generation(last_in), bench.generation(last_out));
    let all = [first_in, answered_in, begun_in, last_in].map(|name| bench.generation(name).0);
    assert_eq!(all, [1, 2, 3, 4]);
}

#[test]
fn line_2_a_peer_that_rekeys_twice_before_it_deletes_crosses_no_pairs() {
    let mut bench = Bench::new();
    let first = [bench.ah_in(false), bench.ah_out(0x1000, false)];
    let waiting = [bench.ah_in(false), bench.ah_in(false)];
    let mut alone = Vec::new();
    for spi in [0x1001, 0x1002] {
        alone.push(bench.ah_out(spi, false));
        assert_eq!(bench.told_soft(), Some(spi));
    }
    bench.looks(ALONE_LOOKS - 1);
    assert_eq!(bench.told_soft(), None);
    bench.looks(ALONE_LOOKS);
    assert_eq!(
        bench.told_soft(),
        Some(0x1002),
        "it may not have heard, and there is no newer one"
    );
    // What was asked for.
    let last = [bench.ah_in(true), bench.ah_out(0x1003, true)];
    bench.looks(2 * ALONE_LOOKS);
    assert_eq!(bench.told_soft(), None);
    for pair in [first, last] {
        assert_eq!(bench.generation(pair[0]), bench.generation(pair[1]));
    }
    let generations: BTreeSet<_> = bench.added.iter().map(|spec| bench.generation(spec.name())).collect();
    assert_eq!(generations.len(), 1 + waiting.len() + alone.len() + 1);
}

#[test]
fn line_2_what_comes_while_one_is_in_doubt_is_in_doubt_too() {
    let mut bench = Bench::new();
    let in_doubt = [bench.ah_in(false), bench.ah_in(false)];
    let mut alone = vec![bench.ah_out(0x1000, false)];
    assert_eq!(bench.told_soft(), Some(0x1000));
    let third = bench.ah_in(false);
    for spi in [0x1001, 0x1002] {
        alone.push(bench.ah_out(spi, false));
        assert_eq!(bench.told_soft(), Some(spi), "the peer has rekeyed again in between");
    }
    let whole = [bench.ah_in(false), bench.ah_out(0x1003, false)];
    assert_eq!(bench.generation(whole[0]), bench.generation(whole[1]));
    let all = in_doubt.into_iter().chain([third, whole[0]]).chain(alone);
    let generations: BTreeSet<_> = all.map(|name| bench.generation(name)).collect();
    assert_eq!(generations.len(), 7, "none is guessed");
}

#[test]
fn line_2_for_answers_of_a_charon_that_is_gone_nothing_is_waited() {
    let mut bench = Bench::new();
    let spi = bench.spi(Protocol::Esp);
    let request = Request::Add(Box::new(add(Direction::In, Protocol::Esp, spi)));
    bench
        .source
        .handle_request(SECOND, (77, request), &mut bench.rng, |_, _| true);
    bench.run();
    assert!(bench.source.is_installing());
    bench.source.handle_gone();
    assert!(!bench.source.is_installing());
    assert_eq!(bench.ask(SECOND, hello(1)), Reply::Process(99));
    assert_eq!(bench.source.poll_reply(), None);
    assert_eq!(bench.source.len(), 1, "it is there for the same charon");
}

#[test]
fn line_2_what_is_not_configured_is_refused_in_words() {
    let mut bench = Bench::new();
    let spi = bench.spi(Protocol::Esp);
    let mut refused = |change: &dyn Fn(&mut Add)| {
        let mut add = add(Direction::In, Protocol::Esp, spi);
        change(&mut add);
        bench.refusal(Request::Add(Box::new(add)))
    };
    assert_eq!(
        refused(&|add| add.flags.udp = true),
        "a NAT stands between 192.0.2.2 and 192.0.2.1: AH cannot cross it"
    );
    let ends = "192.0.2.2 to 192.0.2.1: ";
    for (change, why) in [
        (
            (|add: &mut Add| add.flags.esn = false) as fn(&mut Add),
            "extended sequence numbers are off, and configured on",
        ),
        (
            |add| add.mode = Mode::Transport,
            "ESP in Transport mode where Tunnel mode is due",
        ),
        (
            |add| add.encryption.key = KeyMaterial::new(vec![1; 20]),
            "transforms 20 and 0 of IKEv2 with keys of 20 bytes where `esp = aes-256-gcm-16` is configured",
        ),
        (
            |add| add.encryption.id = 12,
            "transforms 12 and 0 of IKEv2 with keys of 36 bytes where `esp = aes-256-gcm-16` is configured",
        ),
        (
            |add| add.source[0].last = "10.0.0.2".parse().unwrap(),
            "the traffic selectors are not those of the tunnel: 10.0.0.0-10.0.0.2/0 where 10.0.0.0/30 is due",
        ),
        (
            |add| add.destination.clear(),
            "the traffic selectors are not those of the tunnel:  where 0.0.0.0/0 is due",
        ),
        (|add| add.name.spi = 255, "an SPI that RFC 4302 reserves"),
        (
            |add| add.name.spi ^= 1,
            "an inbound SPI that this process did not give out",
        ),
    ] {
        assert_eq!(refused(&change), format!("{ends}{why}"));
    }
    let elsewhere = refused(&|add| add.name.source = address("192.0.2.9"));
    assert_eq!(
        elsewhere,
        "192.0.2.9 to 192.0.2.1: no tunnel with keys by IKE has these ends"
    );
    let good = add(Direction::In, Protocol::Esp, spi);
    let name = bench.install(good);
    assert_eq!(name.spi.value(), spi, "refusals use nothing up");
    assert!(
        bench
            .refusal(Request::Add(Box::new(add(Direction::In, Protocol::Esp, spi))))
            .contains("it is there")
    );
    let moved = Request::Update {
        name: add(Direction::In, Protocol::Esp, spi).name,
        source: address("192.0.2.9"),
        destination: address(HERE),
        flags: Flags::default(),
    };
    assert!(bench.refusal(moved).contains("an end of a tunnel does not move"));
    assert_eq!(bench.source.counts().refused, 12);
    assert!(
        Refusal::Selectors("10.0.0.0".into()).to_string().find("10.").is_none(),
        "no address for our log"
    );
}

#[test]
fn line_2_spis_are_drawn_once_and_not_those_of_tvts() {
    let mut bench = Bench::new();
    let drawn: BTreeSet<u32> = (0..100).map(|_| bench.spi(Protocol::Ah)).collect();
    assert_eq!(drawn.len(), 100);
    let again = Bench::new().spi(Protocol::Ah);
    assert!(drawn.contains(&again), "the same generator draws the same");
    let mut other = Bench::new();
    other.taken.push(Spi::new(again).unwrap());
    assert_ne!(other.spi(Protocol::Ah), again, "a TVT has it");
    let given = Request::Delete(add(Direction::In, Protocol::Ah, again).name);
    assert_eq!(bench.ask(SECOND, given), Reply::Done);
    let late = add(Direction::In, Protocol::Ah, again);
    assert!(bench.refusal(Request::Add(Box::new(late))).contains("did not give out"));
    for _ in 0..2 * RESERVED_MAX {
        bench.spi(Protocol::Esp);
    }
    assert_eq!(bench.source.reserved.len(), RESERVED_MAX);
}

#[test]
fn line_2_limits_are_told_to_charon() {
    let mut bench = Bench::new();
    let (name, asked) = bench.inbound(Protocol::Esp);
    for (expiry, hard) in [(Expiry::Soft, false), (Expiry::Hard, true)] {
        bench.source.handle_expired(name, expiry);
        let told = Reply::Expire {
            protocol: Protocol::Esp,
            spi: asked.spi,
            destination: address(HERE),
            hard,
        };
        assert_eq!(bench.source.poll_reply(), Some((0, told)));
    }
    bench.source.handle_expired(name, Expiry::Hard);
    assert_eq!(bench.source.poll_reply(), None, "gone, or another source's");
    let counts = bench.source.counts();
    assert_eq!((counts.expired_soft, counts.expired_hard), (1, 1));
}

#[test]
fn line_2_what_expired_while_charon_was_away_is_told_after_the_greeting() {
    let mut bench = Bench::new();
    let (name, _) = bench.inbound(Protocol::Esp);
    assert_eq!(bench.ask(SECOND, hello(1)), Reply::Process(99));
    bench.source.handle_expired(name, Expiry::Soft);
    let (id, reply) = bench.source.poll_reply().unwrap();
    bench.source.not_told(id, reply);
    bench.source.not_told(7, Reply::Done);
    assert_eq!(bench.ask(SECOND, hello(1)), Reply::Process(99));
    let told = bench.source.poll_reply();
    assert!(matches!(told, Some((0, Reply::Expire { hard: false, .. }))), "{told:?}");
    assert_eq!(bench.source.poll_reply(), None, "nobody waits for an old answer");
}

#[test]
fn line_2_old_associations_work_for_a_minute_after_charon_began_anew() {
    let mut bench = Bench::new();
    let (old, _) = bench.inbound(Protocol::Esp);
    assert_eq!(bench.ask(SECOND, hello(1)), Reply::Process(99));
    bench.source.handle_timeout(SECOND.plus(2 * OLD_SESSION), 1);
    bench.run();
    assert!(bench.removed.is_empty(), "the same charon: nothing changes");
    bench.ask(SECOND, hello(2));
    bench.source.handle_expired(old, Expiry::Soft);
    assert_eq!(bench.source.poll_reply(), None, "the new charon does not know it");
    let (new, _) = bench.inbound(Protocol::Esp);
    bench.source.handle_timeout(SECOND.plus(OLD_SESSION - 1), 1);
    bench.run();
    assert!(bench.removed.is_empty());
    bench.source.handle_timeout(SECOND.plus(OLD_SESSION), 1);
    bench.run();
    assert_eq!(bench.removed, [old]);
    assert_ne!(old, new);
    assert_eq!((bench.source.len(), bench.source.counts().sessions), (1, 2));
}

#[test]
fn line_2_policies_lie_within_a_tunnel() {
    let mut bench = Bench::new();
    let mut policy = Policy {
        direction: PolicyDirection::Out,
        is_added: true,
        source: selector("0.0.0.0", "255.255.255.255", Protocol::Esp)[0],
        destination: selector("10.0.0.1", "10.0.0.1", Protocol::Esp)[0],
        reqid: 1,
    };
    assert_eq!(bench.ask(SECOND, Request::Policy(policy)), Reply::Done);
    policy.direction = PolicyDirection::Forward;
    assert!(bench.refusal(Request::Policy(policy)).contains("traffic selectors"));
    policy.is_added = false;
    assert_eq!(bench.ask(SECOND, Request::Policy(policy)), Reply::Done);
}
