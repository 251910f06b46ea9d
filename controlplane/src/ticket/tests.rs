//! Line 7: tickets by the vectors of RFC 9497, from the request to the spent ticket, and what an issuer gets to see.

use ain_dataplane::id::Now;
use ed25519_dalek::SigningKey;
use hex_literal::hex;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::issuer::{Issuer, NotIssued};
use super::message::{Answer, Malformed, Request};
use super::wallet::{IssuerKeys, NotAccepted, Wallet};
use super::*;
use crate::directory::{NodeId, TicketKey};
use crate::limits::{REQUEST_WAIT, TICKETS_A_BATCH};

const HOUR: u32 = 3600;
const WALL: u64 = 500_000 * 3600 + 60;
const SLICE: Slice = Slice(500_000);

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(7)
}

/// RFC 9497, A.1.2: seed, "test key", and the public key that comes of them.
#[test]
fn line_7_keys_and_evaluations_are_those_of_rfc_9497() {
    let server = VoprfServer::<Ristretto255>::new_from_seed(&[0xa3; 32], b"test key").unwrap();
    assert_eq!(
        Ristretto255::serialize_elem(server.get_public_key())[..],
        hex!("c803e2cc6b05fc15064549b5920659ca4a77b2cca6f04f6b357009335476ad4e")
    );
    let key = SliceKey { slice: SLICE, server };
    let blinded = [
        hex!("863f330cc1a1259ed5a5998a23acfd37fb4351a793a5b3c090b642ddc439b945"),
        hex!("90a0145ea9da29254c3a56be4fe185465ebb3bf2a1801f7124bbbadac751e654"),
    ];
    let batch = blinded.map(|element| BlindedElement::deserialize(&element).unwrap());
    let (evaluated, _) = key.evaluate(&batch, &mut rng());
    let evaluated: Vec<_> = evaluated.iter().map(|element| element.serialize().to_vec()).collect();
    assert_eq!(
        evaluated,
        [
            hex!("aa8fa048764d5623868679402ff6108d2521884fa138cd7f9c7669a9a014267e"),
            hex!("cc5ac221950a49ceaa73c8db41b82c20372a4c8d63e5dded2db920b7eee36a2a"),
        ]
    );
    for (input, output) in [
        (
            vec![0],
            hex!(
                "b58cfbe118e0cb94d79b5fd6a6dafb98764dff49c14e1770b566e42402da1a7da4d8527693914139caee5bd03903af43a491351d23b430948dd50cde10d32b3c"
            ),
        ),
        (
            vec![0x5a; 17],
            hex!(
                "8a9a2f3c7f085b65933594309041fc1898d42d0858e59f90814ae90571a6df60356f4610bf816f27afdd84f47719e480906d27ecd994985890e5f539e7ea74b6"
            ),
        ),
    ] {
        assert_eq!(key.server.evaluate(&input).unwrap()[..], output);
    }
}

struct Two {
    seed: TicketSeed,
    issuer: Issuer,
    wallet: Wallet,
    entrance: SigningKey,
    keys: Vec<TicketKey>,
    /// What the issuer's shell has written down.
    past: Past,
    now: Now,
    rng: ChaCha20Rng,
}

const ISSUER: NodeId = NodeId([9; 32]);

impl Two {
    fn new(quota: u32, capacity: usize) -> Self {
        let seed = TicketSeed::from_bytes([3; 32]);
        let entrance = SigningKey::from_bytes(&[5; 32]);
        let me = NodeId::of(&entrance.verifying_key().to_bytes());
        let keys = (SLICE.0..SLICE.0 + 3).map(|slice| seed.key(Slice(slice)).entry());
        Self {
            keys: keys.collect(),
            issuer: Issuer::new(ISSUER, HOUR, quota),
            wallet: Wallet::new(me, entrance.clone(), HOUR, capacity),
            seed,
            entrance,
            past: Past::default(),
            now: Now(Now::SECOND),
            rng: rng(),
        }
    }

    fn ask(&mut self, wall: u64) -> Vec<Vec<u8>> {
        let issuers: [IssuerKeys<'_>; 1] = [(ISSUER, &self.keys)];
        let asked = self
            .wallet
            .handle_timeout((self.now, wall), issuers.into_iter(), &mut self.rng);
        assert!(asked.iter().all(|(issuer, _)| *issuer == ISSUER));
        asked.into_iter().map(|(_, request)| request).collect()
    }

    fn issue(&mut self, wall: u64, request: &[u8]) -> Result<(Vec<u8>, u32), NotIssued> {
        let identity = self.entrance.verifying_key().to_bytes();
        let known = |id: &NodeId| (*id == NodeId::of(&identity)).then_some(identity);
        let (answer, issued) = self
            .issuer
            .answer((self.now, wall), request, &self.seed, known, &mut self.rng)?;
        self.past.issued.extend(issued);
        Ok((answer, issued.map_or(0, |issued| issued.tickets.into())))
    }

    /// The issuer dies, and another one takes up what is on record.
    fn restart(&mut self, quota: u32) {
        self.issuer = Issuer::new(ISSUER, HOUR, quota).after(&self.past);
    }
}

#[test]
fn line_7_a_ticket_from_request_to_check() {
    let mut two = Two::new(1000, 2 * TICKETS_A_BATCH);
    let requests = two.ask(WALL);
    assert_eq!(requests.len(), 2);
    for request in &requests {
        let (answer, fresh) = two.issue(WALL, request).unwrap();
        assert_eq!(fresh, 32);
        assert!(
            answer.len() + 28 <= 1386 && request.len() + 28 <= 1386,
            "one datagram each"
        );
        assert_eq!(two.wallet.accept(&answer), Ok(TICKETS_A_BATCH));
        assert_eq!(
            two.wallet.accept(&answer),
            Err(NotAccepted::NotAsked),
            "an answer serves once"
        );
    }
    assert!(two.ask(WALL).is_empty(), "the wallet is full");
    let verifier = Verifier::new(&two.seed, SLICE);
    let ticket = two.wallet.take(&ISSUER, WALL).unwrap();
    let Presented::Good(mark) = verifier.check(ticket.bytes()) else {
        panic!("a good ticket is refused");
    };
    assert_eq!(mark.slice, SLICE);
    let mut changed = *ticket.bytes();
    changed[95] ^= 1;
    assert_eq!(verifier.check(&changed), Presented::Wrong);
    let mut changed = *ticket.bytes();
    changed[3] ^= 1;
    assert_eq!(
        verifier.check(&changed),
        Presented::Wrong,
        "the slice is part of the input"
    );
    assert_eq!(verifier.check(&[0; 96]), Presented::Nothing);
    assert_eq!(
        Verifier::new(&two.seed, SLICE.next().next()).check(ticket.bytes()),
        Presented::Stale
    );
    assert_eq!(
        Verifier::new(&TicketSeed::from_bytes([4; 32]), SLICE).check(ticket.bytes()),
        Presented::Wrong
    );
    assert_eq!(two.wallet.len(), 63, "a ticket that was taken is gone");
}

#[test]
fn line_7_a_share_is_a_share_and_a_repeat_costs_nothing() {
    let mut two = Two::new(40, 2 * TICKETS_A_BATCH);
    let requests = two.ask(WALL);
    let first = two.issue(WALL, &requests[0]).unwrap();
    let again = two.issue(WALL, &requests[0]).unwrap();
    assert_eq!((first.1, again.1), (32, 0));
    let evaluated = |answer: &[u8]| answer[..answer.len() - 64].to_vec();
    assert!(evaluated(&first.0) == evaluated(&again.0), "the same tickets");
    assert_eq!(two.issue(WALL, &requests[1]), Err(NotIssued::Quota));
    // The answer was lost: the wallet asks in the same words.
    two.now = two.now.plus(REQUEST_WAIT);
    assert!(two.ask(WALL).contains(&requests[0]));
    assert_eq!(
        two.issue(WALL + u64::from(HOUR) + 60, &requests[0]).map(|_| ()),
        Err(NotIssued::Slice)
    );
    for _ in 0..2 {
        two.issue(WALL, &requests[0]).unwrap();
    }
    assert_eq!(two.issue(WALL, &requests[0]), Err(NotIssued::Quota), "but not for ever");
}

#[test]
fn line_7_a_restart_gives_nobody_its_share_again() {
    let mut two = Two::new(40, 2 * TICKETS_A_BATCH);
    let requests = two.ask(WALL);
    let first = two.issue(WALL, &requests[0]).unwrap();
    two.restart(40);
    assert_eq!(two.issue(WALL, &requests[1]), Err(NotIssued::Quota));
    let again = two.issue(WALL, &requests[0]).unwrap();
    assert_eq!((first.1, again.1), (32, 0), "a repeat is known as one");
    two.past = Past {
        earliest: SLICE.next(),
        ..Past::default()
    };
    two.restart(1000);
    let forgotten = two.issue(WALL, &requests[1]);
    assert_eq!(forgotten, Err(NotIssued::Slice), "the clock went back");
}

#[test]
fn line_7_only_signed_requests_of_entrances_of_the_directory() {
    let mut two = Two::new(1000, TICKETS_A_BATCH);
    let request = two.ask(WALL).remove(0);
    for at in [0, 1, 2, 3, 4, 8, 24, 56, 88, request.len() - 1] {
        let mut changed = request.clone();
        changed[at] ^= 1;
        assert!(two.issue(WALL, &changed).is_err(), "byte {at}");
    }
    let head = Request::decode(&request).unwrap().head;
    let stranger = SigningKey::from_bytes(&[6; 32]);
    let id = NodeId::of(&stranger.verifying_key().to_bytes());
    let elements = std::iter::repeat_n([0; 32], 32);
    let strange = Request::encode(&head, &ISSUER, &id, elements, &stranger);
    assert_eq!(two.issue(WALL, &strange), Err(NotIssued::Unauthentic));
    let other = Request::encode(&head, &id, &id, std::iter::empty(), &stranger);
    assert!(matches!(two.issue(WALL, &other), Err(NotIssued::Malformed(_))));
    assert!(two.issue(WALL, &request).is_ok());
}

/// An issuer that uses a key of its own for one entrance, to know its tickets again, is found out.
#[test]
fn line_7_another_key_than_the_directorys_is_refused() {
    let mut two = Two::new(1000, TICKETS_A_BATCH);
    let request = two.ask(WALL).remove(0);
    let honest = std::mem::replace(&mut two.seed, TicketSeed::from_bytes([4; 32]));
    let (answer, _) = two.issue(WALL, &request).unwrap();
    assert_eq!(two.wallet.accept(&answer), Err(NotAccepted::Proof));
    assert!(two.wallet.is_empty());
    two.seed = honest;
    two.issuer = Issuer::new(ISSUER, HOUR, 1000);
    let (answer, _) = two.issue(WALL, &request).unwrap();
    assert_eq!(two.wallet.accept(&answer), Ok(TICKETS_A_BATCH));
}

/// All that the issuer sees of a batch are elements that a fresh random number has made of each input: the same input gives
/// another element each time, and no part of a ticket can be found in what passed.
#[test]
fn line_7_the_issuer_sees_nothing_of_a_ticket() {
    let mut two = Two::new(1000, TICKETS_A_BATCH);
    let request = two.ask(WALL).remove(0);
    let (answer, _) = two.issue(WALL, &request).unwrap();
    two.wallet.accept(&answer).unwrap();
    let seen = [request, answer].concat();
    while let Some(ticket) = two.wallet.take(&ISSUER, WALL) {
        for part in ticket.bytes()[4..].chunks_exact(4) {
            assert!(seen.windows(4).all(|window| window != part));
        }
    }
    let blinded = |rng: &mut ChaCha20Rng| VoprfClient::<Ristretto255>::blind(&[1; 32], &mut Elder(rng)).unwrap();
    let (one, other) = (blinded(&mut two.rng), blinded(&mut two.rng));
    assert_ne!(one.message.serialize(), other.message.serialize());
}

#[test]
fn line_7_the_next_slice_is_fetched_in_good_time() {
    let mut two = Two::new(1000, TICKETS_A_BATCH);
    let mut slices = Vec::new();
    for minute in 0..70 {
        let wall = WALL + 60 * minute;
        two.now = two.now.plus(60 * Now::SECOND);
        for request in two.ask(wall) {
            slices.push((minute, Request::decode(&request).unwrap().head.slice.0 - SLICE.0));
            let (answer, _) = two.issue(wall, &request).unwrap();
            two.wallet.accept(&answer).unwrap();
        }
        assert!(two.wallet.holds(&ISSUER, wall));
    }
    assert_eq!(slices, [(0, 0), (44, 1)]);
    assert_eq!(two.wallet.len(), 64, "those of the slice before are good for a while");
    assert!(
        two.ask(WALL + 3 * u64::from(HOUR)).is_empty(),
        "no key in the directory, no request"
    );
    assert_eq!(two.wallet.len(), 0);
}

#[test]
fn line_7_an_issuer_that_does_not_answer_is_left_alone() {
    let mut two = Two::new(1000, TICKETS_A_BATCH);
    let mut asked_at = Vec::new();
    for second in 0..120 {
        two.now = two.now.plus(Now::SECOND);
        asked_at.extend(two.ask(WALL).iter().map(|_| second));
    }
    assert_eq!(asked_at, [0, 3, 6, 24, 27, 30, 63, 66, 69]);
}

#[test]
fn line_7_an_answer_that_nobody_waits_for_is_told_by_its_head() {
    let mut two = Two::new(1000, TICKETS_A_BATCH);
    let request = two.ask(WALL).remove(0);
    let (mut answer, _) = two.issue(WALL, &request).unwrap();
    answer[24..56].fill(0xff);
    assert_eq!(two.wallet.accept(&answer), Err(Malformed::Element.into()));
    answer[8] ^= 1;
    assert_eq!(
        two.wallet.accept(&answer),
        Err(NotAccepted::NotAsked),
        "its elements are not looked at"
    );
}

#[test]
fn line_7_messages_of_any_length_and_kind_are_read_without_harm() {
    let mut two = Two::new(1000, TICKETS_A_BATCH);
    let request = two.ask(WALL).remove(0);
    let (answer, _) = two.issue(WALL, &request).unwrap();
    for length in 0..request.len() {
        assert!(Request::decode(&request[..length]).is_err());
    }
    for length in 0..answer.len() {
        assert!(Answer::decode(&answer[..length]).is_err());
    }
    assert!(Request::decode(&answer).is_err() && Answer::decode(&request).is_err());
    assert!(Answer::decode(&answer).unwrap().encode() == answer);
}
