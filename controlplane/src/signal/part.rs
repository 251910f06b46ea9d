//! Signals that do not fit one datagram: creating signals of the suites with long keys (protocol section 6).
//!
//! ```text
//! payload ─► part 0 | part 1 | ... | last part        all full but the last, each in a datagram of the one length
//!            any order, repeated, some lost ─► Assembler ─► the signal, once every part is there
//! ```
//! A request that is sent again is sent with all its parts, under the same message id: parts of two sendings complete each other.

use std::collections::{BTreeMap, BTreeSet};

use ain_dataplane::id::Now;
use thiserror::Error;

use super::frame::{FrameError, Kind, Signal, parse};
use crate::limits::{HALF_RECEIVED_MEMORY, HALF_RECEIVED_PER_NEIGHBOUR, PARTS_MAX};

/// What one datagram carries of a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part<'a> {
    /// Of what kind the signal is.
    pub kind: Kind,
    /// The TVT meant.
    pub spi: u32,
    /// The signal's number, the same in all its parts.
    pub message_id: u32,
    /// Position, from 0.
    pub index: usize,
    /// Parts in all: 1 to [`PARTS_MAX`].
    pub count: usize,
    /// Its bytes of the payload.
    pub payload: &'a [u8],
}

impl Part<'_> {
    /// The signal whose only part this is. Errors: it has others, or the payload does not fit its kind.
    pub fn signal(&self) -> Result<Signal, FrameError> {
        if self.count == 1 {
            self.of_payload(self.payload)
        } else {
            Err(FrameError::Fragmented {
                index: self.index,
                count: self.count,
            })
        }
    }

    fn of_payload(&self, payload: &[u8]) -> Result<Signal, FrameError> {
        let Self {
            kind, spi, message_id, ..
        } = *self;
        let length = payload.len();
        Ok(Signal {
            spi,
            message_id,
            message: parse(kind, payload).ok_or(FrameError::Payload { kind, length })?,
        })
    }
}

/// A part that contradicts one that came before it.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("two parts of one signal contradict each other")]
pub struct Contradiction;

/// A signal of which some parts are there.
struct Half {
    since: Now,
    spi: u32,
    pieces: Vec<Option<Box<[u8]>>>,
}

/// One neighbour's signals of which some parts are there.
#[derive(Default)]
pub struct Assembler {
    halves: BTreeMap<u32, Half>,
    by_age: BTreeSet<(Now, u32)>,
    never_whole: u64,
}

impl Assembler {
    /// Takes in one part of several. Returns the signal if it was the last one missing. For another there is always room: the oldest
    /// signal gives way. Errors: the part does not fit those that are there, which stay.
    pub fn add(&mut self, now: Now, part: &Part<'_>) -> Result<Option<Signal>, Contradiction> {
        self.forget(now);
        if !self.halves.contains_key(&part.message_id) {
            self.begin(now, part);
        }
        let half = self.halves.get_mut(&part.message_id).ok_or(Contradiction)?;
        if (half.spi, half.pieces.len()) != (part.spi, part.count) {
            return Err(Contradiction);
        }
        let piece = half.pieces.get_mut(part.index).ok_or(Contradiction)?;
        piece.get_or_insert_with(|| part.payload.into());
        if half.pieces.iter().any(Option::is_none) {
            return Ok(None);
        }
        let payload = half.pieces.iter().flatten().flat_map(|piece| piece.iter().copied());
        let payload: Vec<u8> = payload.collect();
        self.remove(part.message_id);
        part.of_payload(&payload).map(Some).map_err(|_| Contradiction)
    }

    fn begin(&mut self, now: Now, part: &Part<'_>) {
        if self.halves.len() >= HALF_RECEIVED_PER_NEIGHBOUR {
            self.give_up_oldest();
        }
        let half = Half {
            since: now,
            spi: part.spi,
            pieces: vec![None; part.count.min(PARTS_MAX)],
        };
        self.by_age.insert((now, part.message_id));
        self.halves.insert(part.message_id, half);
    }

    /// Gives up signals whose sender has given them up.
    pub fn forget(&mut self, now: Now) {
        while self
            .by_age
            .first()
            .is_some_and(|(since, _)| now.since(*since) > HALF_RECEIVED_MEMORY)
        {
            self.give_up_oldest();
        }
    }

    /// The neighbour is gone.
    pub fn clear(&mut self) {
        while !self.halves.is_empty() {
            self.give_up_oldest();
        }
    }

    fn give_up_oldest(&mut self) {
        if let Some((_, message_id)) = self.by_age.first().copied() {
            self.remove(message_id);
            self.never_whole += 1;
        }
    }

    fn remove(&mut self, message_id: u32) {
        if let Some(half) = self.halves.remove(&message_id) {
            self.by_age.remove(&(half.since, message_id));
        }
    }

    /// Signals of which some parts are there.
    pub fn len(&self) -> usize {
        self.halves.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.halves.is_empty()
    }

    /// Signals given up since the start.
    pub fn never_whole(&self) -> u64 {
        self.never_whole
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::signal::frame::Message;

    fn part(message_id: u32, (index, count): (usize, usize), payload: &[u8]) -> Part<'_> {
        Part {
            kind: Kind::Create,
            spi: 300,
            message_id,
            index,
            count,
            payload,
        }
    }

    proptest! {
        /// Parts of several signals, in any order, each at least once: every signal comes out once, as it was.
        #[test]
        fn line_2_any_order_gives_every_signal_once(
            counts in prop::collection::vec(2..=PARTS_MAX, 1..8),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
        ) {
            let all: Vec<(u32, usize, usize)> = (0..)
                .zip(&counts)
                .flat_map(|(id, count)| (0..*count).map(move |index| (id, index, *count)))
                .collect();
            let order = order.iter().map(|at| *at.get(&all)).chain(all.clone());
            let (mut assembler, mut whole) = (Assembler::default(), Vec::new());
            for (id, index, count) in order {
                let payload = [id as u8, index as u8, 7, 7];
                // Ids of whole signals are remembered: their parts never get here.
                if whole.contains(&id) {
                    continue;
                }
                if let Some(signal) = assembler.add(Now(5), &part(id, (index, count), &payload)).unwrap() {
                    let payload: Vec<u8> = (0..count).flat_map(|index| [id as u8, index as u8, 7, 7]).collect();
                    let ah = u32::from_be_bytes(*payload.first_chunk().unwrap());
                    let onion = payload[4..].to_vec();
                    prop_assert_eq!((signal.message_id, signal.message), (id, Message::Create { ah, onion }));
                    whole.push(id);
                }
            }
            prop_assert_eq!(whole.len(), counts.len());
            prop_assert!(assembler.is_empty() && assembler.never_whole() == 0 && assembler.by_age.is_empty());
        }
    }

    #[test]
    fn line_2_contradictions_change_nothing() {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.add(Now(0), &part(7, (0, 3), b"abcd")), Ok(None));
        for bad in [
            part(7, (1, 2), b"b"),
            part(7, (5, 6), b"b"),
            Part {
                spi: 301,
                ..part(7, (1, 3), b"b")
            },
        ] {
            assert_eq!(assembler.add(Now(0), &bad), Err(Contradiction));
        }
        assert_eq!(assembler.add(Now(0), &part(7, (0, 3), b"another text")), Ok(None));
        assert_eq!(assembler.add(Now(0), &part(7, (2, 3), b"c")), Ok(None));
        let signal = assembler.add(Now(0), &part(7, (1, 3), b"b")).unwrap().unwrap();
        let (ah, onion) = (u32::from_be_bytes(*b"abcd"), b"bc".to_vec());
        assert_eq!(signal.message, Message::Create { ah, onion });
    }

    #[test]
    fn line_2_half_received_signals_are_few_and_do_not_stay() {
        let mut assembler = Assembler::default();
        let most = HALF_RECEIVED_PER_NEIGHBOUR as u32;
        for id in 0..most + 10 {
            assembler.add(Now(u64::from(id)), &part(id, (0, 2), b"abcd")).unwrap();
            assert!(assembler.len() <= HALF_RECEIVED_PER_NEIGHBOUR);
        }
        assert_eq!(assembler.never_whole(), 10, "the oldest gave way");
        assert_eq!(
            assembler.add(Now(0), &part(9, (1, 2), b"b")),
            Ok(None),
            "it begins anew"
        );
        let newest = assembler.add(Now(0), &part(most + 9, (1, 2), b"b"));
        assert!(newest.unwrap().is_some());
        assembler.forget(Now(HALF_RECEIVED_MEMORY + 1_000_000));
        assert!(assembler.is_empty() && assembler.by_age.is_empty());
    }
}
