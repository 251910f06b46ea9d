//! Line 7: what a node that demands tickets says to creating signals with good, spent, stale and forged ones, before and after its
//! restart, and what it lets those do that come without any.

mod net;

use ain_controlplane::signal::destroy::Reason;
use ain_controlplane::signal::frame::Message;
use ain_controlplane::ticket::issuer::Issuer;
use ain_controlplane::ticket::wallet::Wallet;
use ain_controlplane::ticket::{Mark, Slice, Ticket};
use ed25519_dalek::SigningKey;
use net::{AH_SPI, Net, Plan, SLICE_S, id, ticket_seed};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

const SPI: u32 = 0x5000;

/// Tickets of node 1 that node 0 has fetched at `wall`.
fn fetch(wall: u64) -> Vec<Ticket> {
    let rng = &mut ChaCha12Rng::seed_from_u64(wall);
    let now = ain_dataplane::id::Now(1);
    let identity = SigningKey::from_bytes(&[1; 32]);
    let public = identity.verifying_key().to_bytes();
    let mut wallet = Wallet::new(id(0), identity, SLICE_S, 32);
    let seed = ticket_seed(1);
    let keys = [seed.key(Slice::at(wall, SLICE_S)).entry()];
    let requests = wallet.handle_timeout((now, wall), [(id(1), &keys[..])].into_iter(), rng);
    let mut issuer = Issuer::new(id(1), SLICE_S, 100);
    let (answer, _) = issuer
        .answer((now, wall), &requests[0].1, &seed, |_| Some(public), rng)
        .unwrap();
    wallet.accept(&answer).unwrap();
    std::iter::from_fn(|| wallet.take(&id(1), wall)).collect()
}

struct Case {
    net: Net,
    spi: u32,
}

impl Case {
    /// 0 - 1 - 2, all demanding tickets; no request of theirs gets anywhere here.
    fn new() -> Self {
        let mut plan = Plan::chain(3);
        plan.tickets = Some(|_| 64);
        let net = Net::new(plan, 7);
        Self { net, spi: SPI }
    }

    /// Node 1 hears a CREATE of node 0 for a path over `path` with these tickets: why it refused it, if it did.
    fn create(&mut self, path: &[usize], tickets: &[Ticket]) -> Option<Reason> {
        let refused = |net: &mut Net| Reason::ALL.map(|reason| net.node(1).counts().refused.of(reason));
        let before = refused(&mut self.net);
        self.spi += 1;
        let onion = self.net.onion_with(path, tickets);
        self.net.say(0, 1, self.spi, Message::Create { ah: AH_SPI, onion });
        self.net.run_ms(100);
        let after = refused(&mut self.net);
        (0..before.len())
            .find(|at| before[*at] != after[*at])
            .map(|at| Reason::ALL[at])
    }
}

#[test]
fn line_7_a_ticket_is_spent_once_by_exit_or_relay() {
    let mut case = Case::new();
    let tickets = fetch(case.net.wall());
    for (path, ticket) in [(&[1][..], 0), (&[1, 2], 1)] {
        let ticket = &tickets[ticket..=ticket];
        assert_eq!(case.create(path, ticket), None);
        assert_eq!(case.create(path, ticket), Some(Reason::TicketRefused));
        assert_eq!(case.create(&[1], ticket), Some(Reason::TicketRefused));
    }
    let counts = case.net.node(1).counts().tickets;
    assert_eq!((counts.spent, counts.spent_twice), (2, 4));
}

#[test]
fn line_7_a_restart_forgets_no_spent_ticket() {
    let mut case = Case::new();
    let ticket = &fetch(case.net.wall())[..1];
    assert_eq!(case.create(&[1, 2], ticket), None);
    let spent: Vec<Mark> = case.net.node(1).take_spent_tickets();
    assert_eq!(spent.len(), 1);
    case.net.plan.past.spent = spent;
    case.net.start(1, 0);
    case.net.run_ms(3000);
    assert_eq!(case.create(&[1, 2], ticket), Some(Reason::TicketRefused));
    assert_eq!(case.net.node(1).counts().tickets.spent_twice, 1);
}

#[test]
fn line_7_old_and_foreign_tickets_are_refused() {
    let mut case = Case::new();
    let wall = case.net.wall();
    for (age, answer) in [(1, None), (2, Some(Reason::TicketRefused))] {
        let old = fetch(wall - age * u64::from(SLICE_S));
        assert_eq!(case.create(&[1, 2], &old[..1]), answer, "{age} slices old");
    }
    assert_eq!(case.net.node(1).counts().tickets.stale, 1);
    // Of node 1, shown to node 2: the first lets the CREATE pass, the second is not good where it is.
    let tickets = fetch(wall);
    assert_eq!(case.create(&[1, 2], &tickets[..2]), None);
    case.net.run_ms(1000);
    assert_eq!(case.net.node(2).counts().tickets.wrong, 1);
    assert_eq!(case.net.node(2).counts().refused.of(Reason::TicketRefused), 1);
}

#[test]
fn line_7_without_a_ticket_an_exit_serves_nobody_but_itself_and_a_relay_nobody() {
    let mut case = Case::new();
    assert_eq!(case.create(&[1, 2], &[]), Some(Reason::TicketRefused));
    let mut let_in = 0;
    for _ in 0..6 {
        let_in += u32::from(case.create(&[1], &[]).is_none());
    }
    assert_eq!(let_in, 4, "so many in a second");
    let aivts = case.net.node(1).snapshot().standing[2];
    assert_eq!(aivts, 4);
    // They stand, and refuse the hosts of the node.
    let exits: Vec<_> = case.net.sites[1].routes.keys().copied().collect();
    let pair = net::sender(0, 1, 1).pair;
    case.net.drive(1, |node, now, _| node.handle_bind(now, exits[0], pair));
    assert_eq!(case.net.sites[1].refused.len(), 1);
    let own = ain_dataplane::id::Pair {
        destination: "192.0.2.2".parse().unwrap(),
        ..pair
    };
    case.net.drive(1, |node, now, _| node.handle_bind(now, exits[1], own));
    assert_eq!(case.net.sites[1].bound.get(&exits[1]), Some(&own));
}

#[test]
fn line_7_a_node_that_demands_none_does_not_look() {
    let mut plan = Plan::chain(3);
    plan.tickets = None;
    let mut case = Case {
        net: Net::new(plan, 7),
        spi: SPI,
    };
    let ticket = &fetch(case.net.wall())[..1];
    for _ in 0..2 {
        assert_eq!(case.create(&[1, 2], ticket), None);
    }
}
