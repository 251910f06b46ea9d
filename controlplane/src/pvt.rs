//! The signalling half of one PVT: message ids, ACKs, repetition, liveness (protocol section 6).
//!
//! ```text
//! request --> ACK       within 0.5 s, or again after 0.5, 1, 2 s; then given up
//! request twice --> the same ACK, nothing else
//! ```

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use ain_dataplane::id::Now;
use ain_dataplane::per_second::PerSecond;
use rand::CryptoRng;
use thiserror::Error;

use crate::generation::Generations;
use crate::limits::{
    ID_MEMORY, PENDING_REQUESTS, REMEMBERED_IDS, RETRANSMISSIONS, RETRANSMIT_FIRST, RETRANSMIT_FIRST_MAX,
    SLOTS_OF_A_REQUEST,
};
use crate::share::NeighbourShare;
use crate::signal::frame::{Frame, Kind, Message, Signal, TooLong};
use crate::signal::keepalive::{Check, Liveness};
use crate::signal::part::Assembler;

/// A signal that cannot be sent.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SendError {
    /// Too many requests wait for their ACK.
    #[error("{PENDING_REQUESTS} requests to this neighbour wait for their ACK")]
    Full,
    /// The payload does not fit.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

/// A request that waits for its ACK.
struct Request {
    spi: u32,
    kind: Kind,
    datagrams: Vec<Vec<u8>>,
    due: Now,
    wait: u64,
    left: u8,
}

/// Whether a request was received before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// No: ACK and obey.
    First,
    /// Yes: ACK again.
    Repeated,
    /// Unknown, for the memory is full: neither; it comes again.
    Overload,
}

/// What time brought.
#[derive(PartialEq, Eq, Debug)]
pub enum Event {
    /// Send this signal.
    Send {
        /// Its kind.
        kind: Kind,
        /// The inner IP datagrams.
        datagrams: Vec<Vec<u8>>,
    },
    /// A request was repeated often enough.
    GivenUp {
        /// The TVT it was about.
        spi: u32,
        /// Its kind.
        kind: Kind,
    },
    /// The neighbour does not answer.
    Down,
}

/// One PVT.
pub struct Pvt {
    frame: Frame,
    /// Liveness of the neighbour.
    pub liveness: Liveness,
    /// What TVTs to the neighbour are born under.
    pub generations: Generations,
    /// Its signals that came in parts and are not whole yet.
    pub halves: Assembler,
    /// What the neighbour may have of this node.
    pub share: NeighbourShare,
    creates: PerSecond,
    process: u32,
    neighbour_process: Option<u32>,
    /// Between two slots for signals, where the PVT has a rate; 0: they leave at once.
    slot_ns: u64,
    next_id: u32,
    pending: BTreeMap<u32, Request>,
    due: BTreeSet<(Now, u32)>,
    seen: HashSet<u32>,
    seen_at: VecDeque<(Now, u32)>,
}

impl Pvt {
    /// A PVT that is down until its neighbour is heard. `process` tells this process from earlier ones of the node;
    /// it changes when the PVT goes down.
    pub fn new(
        now: Now,
        frame: Frame,
        generations: Generations,
        share: NeighbourShare,
        process: u32,
        rng: &mut dyn CryptoRng,
    ) -> Self {
        Self {
            frame,
            liveness: Liveness::new(now),
            generations,
            halves: Assembler::default(),
            share,
            creates: PerSecond::new(share.creates_per_second),
            process,
            neighbour_process: None,
            slot_ns: 0,
            // Ids of an earlier process may still be remembered on the other side.
            next_id: rng.next_u32(),
            pending: BTreeMap::new(),
            due: BTreeSet::new(),
            seen: HashSet::new(),
            seen_at: VecDeque::new(),
        }
    }

    /// From now on a signal leaves every `slot_ns` at most, as on a PVT with a rate: ACKs come later.
    pub fn signals_wait(&mut self, slot_ns: u64) {
        self.slot_ns = slot_ns;
    }

    /// The frame of its signals.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Whether another CREATE of the neighbour may cost a public-key operation at `now`; counts it if so.
    pub fn admit_create(&mut self, now: Now) -> bool {
        self.creates.admit(now)
    }

    /// Makes a request about `spi` and keeps it until it is ACKed. Returns its message id, never 0, and the datagrams to send.
    pub fn request(
        &mut self,
        now: Now,
        spi: u32,
        message: Message,
        rng: &mut dyn CryptoRng,
    ) -> Result<(u32, Vec<Vec<u8>>), SendError> {
        if self.pending.len() >= PENDING_REQUESTS {
            return Err(SendError::Full);
        }
        let (kind, message_id) = (message.kind(), self.fresh_id());
        let datagrams = self.frame.encode_all(
            &Signal {
                spi,
                message_id,
                message,
            },
            rng,
        )?;
        let wait = self.first_wait();
        let due = now.plus(wait);
        let request = Request {
            spi,
            kind,
            datagrams: datagrams.clone(),
            due,
            wait,
            left: RETRANSMISSIONS,
        };
        self.due.insert((due, message_id));
        self.pending.insert(message_id, request);
        Ok((message_id, datagrams))
    }

    /// The answer to a request or KEEPALIVE: an ACK or KEEPALIVE-ACK with its message id.
    pub fn answer(&self, spi: u32, message_id: u32, message: Message, rng: &mut dyn CryptoRng) -> Vec<u8> {
        let spi = if message == Message::KeepaliveAck {
            self.process
        } else {
            spi
        };
        self.frame
            .encode(
                &Signal {
                    spi,
                    message_id,
                    message,
                },
                rng,
            )
            .expect("an answer has no payload")
    }

    /// Stops repeating the request `message_id`: it was ACKed, or overtaken by events. Returns whether it was waiting.
    pub fn settle(&mut self, message_id: u32) -> bool {
        let Some(request) = self.pending.remove(&message_id) else {
            return false;
        };
        self.due.remove(&(request.due, message_id))
    }

    /// Whether the request `message_id` of the neighbour has arrived before.
    pub fn has_seen(&self, message_id: u32) -> bool {
        self.seen.contains(&message_id)
    }

    /// Whether the request `message_id` of the neighbour arrives for the first time; remembers it if so.
    pub fn arrival(&mut self, now: Now, message_id: u32) -> Arrival {
        self.forget(now);
        if self.seen.contains(&message_id) {
            return Arrival::Repeated;
        }
        if self.seen.len() >= REMEMBERED_IDS {
            return Arrival::Overload;
        }
        self.seen.insert(message_id);
        self.seen_at.push_back((now, message_id));
        Arrival::First
    }

    /// Notes the process number that came with a KEEPALIVE or its ACK. Returns whether the neighbour was started anew since the
    /// last one: then it knows none of the TVTs any more.
    pub fn neighbour_restarted(&mut self, process: u32) -> bool {
        self.neighbour_process
            .replace(process)
            .is_some_and(|earlier| earlier != process)
    }

    /// Forgets all requests under way, in both directions; for a PVT that went down.
    pub fn drop_requests(&mut self) {
        self.pending.clear();
        self.due.clear();
        self.halves.clear();
    }

    /// What is due at `now`.
    pub fn handle_timeout(&mut self, now: Now, rng: &mut dyn CryptoRng) -> Vec<Event> {
        self.forget(now);
        let mut events = Vec::new();
        while let Some(&(due, message_id)) = self.due.first().filter(|(due, _)| *due <= now) {
            self.due.remove(&(due, message_id));
            events.extend(self.repeat(now, message_id));
        }
        match self.liveness.check(now) {
            Check::Quiet => {}
            Check::Ask => events.extend(self.keepalive(rng)),
            Check::AskAndDown => {
                self.forget_process();
                events.push(Event::Down);
                events.extend(self.keepalive(rng));
            }
        }
        events
    }

    /// Nothing can be sent to the neighbour, or heard from it, any more. Whether the PVT was up.
    pub fn cut(&mut self, now: Now) -> bool {
        let was_up = self.liveness.cut(now);
        if was_up {
            self.forget_process();
        }
        was_up
    }

    /// When [`Pvt::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Now {
        self.due
            .first()
            .map_or(self.liveness.due(), |(due, _)| self.liveness.due().min(*due))
    }

    /// Requests that wait for their ACK.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    fn repeat(&mut self, now: Now, message_id: u32) -> Option<Event> {
        let request = self.pending.get_mut(&message_id)?;
        if request.left == 0 {
            let Request { spi, kind, .. } = self.pending.remove(&message_id)?;
            return Some(Event::GivenUp { spi, kind });
        }
        request.left -= 1;
        request.wait *= 2;
        request.due = now.plus(request.wait);
        self.due.insert((request.due, message_id));
        Some(Event::Send {
            kind: request.kind,
            datagrams: request.datagrams.clone(),
        })
    }

    /// What stood is forgotten here: the neighbour, which may never have missed anything, learns it as of a restart.
    fn forget_process(&mut self) {
        self.process = self.process.wrapping_add(1);
    }

    /// None as long as there is no key to send it under.
    fn keepalive(&mut self, rng: &mut dyn CryptoRng) -> Option<Event> {
        if self.generations.is_empty() {
            return None;
        }
        let signal = Signal {
            spi: self.process,
            message_id: self.fresh_id(),
            message: Message::Keepalive,
        };
        let datagram = self.frame.encode(&signal, rng).expect("a KEEPALIVE has no payload");
        Some(Event::Send {
            kind: Kind::Keepalive,
            datagrams: vec![datagram],
        })
    }

    /// How long a request waits for its ACK at first. Where signals wait for slots, it and its ACK stand behind those of all other
    /// requests under way, and the neighbour's: four slots for each.
    fn first_wait(&self) -> u64 {
        let slots = SLOTS_OF_A_REQUEST * (self.pending.len() as u64 + 1);
        (RETRANSMIT_FIRST + slots * self.slot_ns).min(RETRANSMIT_FIRST_MAX)
    }

    fn fresh_id(&mut self) -> u32 {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        self.next_id
    }

    fn forget(&mut self, now: Now) {
        while let Some((_, message_id)) = self.seen_at.front().filter(|(at, _)| now.since(*at) > ID_MEMORY) {
            self.seen.remove(message_id);
            self.seen_at.pop_front();
        }
        self.halves.forget(now);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::*;
    use crate::signal::destroy::Reason;

    const MS: u64 = Now::SECOND / 1000;

    fn pvt(rng: &mut ChaCha12Rng) -> Pvt {
        let frame = Frame::new((Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)), 1408);
        let generations = Generations::new(true);
        let mut pvt = Pvt::new(Now(0), frame, generations, NeighbourShare::default(), 1, rng);
        pvt.liveness.heard(Now(0));
        pvt
    }

    fn destroy() -> Message {
        Message::Destroy {
            create: 0,
            reason: Reason::None,
        }
    }

    /// When something is sent again or given up, in ms, KEEPALIVEs and their consequences left out.
    fn history(pvt: &mut Pvt, until_ms: u64, rng: &mut ChaCha12Rng) -> Vec<(u64, bool)> {
        let mut history = Vec::new();
        while pvt.poll_timeout() <= Now(until_ms * MS) {
            let now = pvt.poll_timeout();
            for event in pvt.handle_timeout(now, rng) {
                match event {
                    Event::Send {
                        kind: Kind::Destroy, ..
                    } => history.push((now.0 / MS, true)),
                    Event::GivenUp {
                        spi: 300,
                        kind: Kind::Destroy,
                    } => history.push((now.0 / MS, false)),
                    _ => {}
                }
            }
        }
        history
    }

    #[test]
    fn a_request_without_ack_goes_out_four_times_and_is_given_up() {
        let rng = &mut ChaCha12Rng::seed_from_u64(1);
        let mut pvt = pvt(rng);
        pvt.request(Now(0), 300, destroy(), rng).unwrap();
        let times = [(500, true), (1500, true), (3500, true), (7500, false)];
        assert_eq!(history(&mut pvt, 20_000, rng), times);
        assert_eq!(pvt.pending(), 0);
    }

    #[test]
    fn line_6_a_request_that_waits_for_slots_is_more_patient() {
        let rng = &mut ChaCha12Rng::seed_from_u64(6);
        let mut pvt = pvt(rng);
        pvt.signals_wait(40 * MS);
        pvt.request(Now(0), 300, destroy(), rng).unwrap();
        let times = [(660, true), (1980, true), (4620, true), (9900, false)];
        assert_eq!(history(&mut pvt, 20_000, rng), times);
        for waiting in 0..100 {
            pvt.request(Now(0), 400 + waiting, destroy(), rng).unwrap();
        }
        assert_eq!(pvt.first_wait(), RETRANSMIT_FIRST_MAX);
    }

    #[test]
    fn an_ack_ends_repetition() {
        let rng = &mut ChaCha12Rng::seed_from_u64(2);
        let mut pvt = pvt(rng);
        let (id, _) = pvt.request(Now(0), 300, destroy(), rng).unwrap();
        assert_eq!(history(&mut pvt, 600, rng), [(500, true)]);
        assert!(pvt.settle(id) && !pvt.settle(id));
        assert_eq!(history(&mut pvt, 20_000, rng), []);
    }

    #[test]
    fn ids_are_remembered_for_sixty_seconds() {
        let mut pvt = pvt(&mut ChaCha12Rng::seed_from_u64(3));
        assert_eq!(pvt.arrival(Now(0), 7), Arrival::First);
        assert_eq!(pvt.arrival(Now(60_000 * MS), 7), Arrival::Repeated);
        assert_eq!(pvt.arrival(Now(60_001 * MS), 7), Arrival::First);
    }

    #[test]
    fn memory_and_queue_have_limits() {
        let rng = &mut ChaCha12Rng::seed_from_u64(4);
        let mut pvt = pvt(rng);
        for id in 0..u32::try_from(REMEMBERED_IDS).unwrap() {
            pvt.arrival(Now(0), id);
        }
        assert_eq!(pvt.arrival(Now(0), u32::MAX), Arrival::Overload);
        assert_eq!(pvt.arrival(Now(0), 0), Arrival::Repeated);
        for _ in 0..PENDING_REQUESTS {
            pvt.request(Now(0), 300, destroy(), rng).unwrap();
        }
        assert_eq!(pvt.request(Now(0), 300, destroy(), rng), Err(SendError::Full));
    }

    #[test]
    fn a_new_process_of_the_neighbour_is_noticed_once() {
        let mut pvt = pvt(&mut ChaCha12Rng::seed_from_u64(5));
        assert_eq!(
            [7, 7, 9, 9].map(|process| pvt.neighbour_restarted(process)),
            [false, false, true, false]
        );
    }
}
