//! SPIs of TVTs: random to look at, never twice under one key generation (protocol section 3).
//!
//! ```text
//! (side bit | counter u31) --keyed permutation of 32 bits--> SPI
//! ```
//!
//! Each key generation has a permutation of its own. Both ends of a PVT use the same one and count on different sides, so they never draw the same SPI. The permutation is
//! a ten-round Feistel network whose round function is AES-128 (the shape of NIST SP 800-38G's FF1).

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use ain_dataplane::id::Spi;
use thiserror::Error;

use crate::config::SpiSecret;
use crate::limits::{SPI_BLOCK, SPI_DRAWS, SPI_LOW_WATER};

const ROUNDS: u8 = 10;
const SIDE_BIT: u32 = 1 << 31;

/// No SPI can be had.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SpiError {
    /// The reserved block is used up and the next one is not on disk yet.
    #[error("no reserved SPI is left; the next block is being saved")]
    NotReserved,
    /// The key generation has given all it can: rekey the PVT.
    #[error("every SPI of this key generation has been used")]
    Exhausted,
    /// The PVT has no key generation.
    #[error("the PVT has no keys")]
    NoKeys,
    /// None of many was acceptable.
    #[error("no acceptable SPI among {SPI_DRAWS}")]
    NoneAccepted,
}

/// The SPIs this node draws for one PVT.
pub struct SpiSource {
    cipher: Aes128,
    side: u32,
    next: u32,
    reserved: u32,
    asked: bool,
}

impl SpiSource {
    /// Of the node with the lower id (`low`) or the other, counting from `start`; nothing is reserved yet.
    pub fn new(secret: &SpiSecret, low: bool, start: u32) -> Self {
        let key: &[u8; 16] = secret.0.first_chunk().expect("16 of 32");
        let side = if low { 0 } else { SIDE_BIT };
        let start = start.min(SIDE_BIT);
        Self {
            cipher: Aes128::new(key.into()),
            side,
            next: start,
            reserved: start,
            asked: false,
        }
    }

    /// The same under keys that were made for this process: all is reserved.
    pub fn fresh(secret: &SpiSecret, low: bool) -> Self {
        Self {
            reserved: SIDE_BIT,
            ..Self::new(secret, low, 0)
        }
    }

    /// If the reserve runs low: the value up to which the shell should save that the counter is taken. Asks once a block.
    pub fn reservation_wanted(&mut self) -> Option<u32> {
        if self.asked || self.reserved == SIDE_BIT || self.reserved - self.next > SPI_LOW_WATER {
            return None;
        }
        self.asked = true;
        Some((self.reserved + SPI_BLOCK).min(SIDE_BIT))
    }

    /// Values below `up_to` are reserved on disk.
    pub fn reserved(&mut self, up_to: u32) {
        self.reserved = up_to.clamp(self.reserved, SIDE_BIT);
        self.asked = false;
    }

    /// The next SPI that is not reserved by RFC 4302 and that `accept` takes; what it does not take is never drawn again.
    pub fn draw(&mut self, accept: impl Fn(Spi) -> bool) -> Result<Spi, SpiError> {
        for _ in 0..SPI_DRAWS {
            if self.next == SIDE_BIT {
                return Err(SpiError::Exhausted);
            }
            if self.next == self.reserved {
                return Err(SpiError::NotReserved);
            }
            let value = permute(&self.cipher, self.side | self.next);
            self.next += 1;
            if let Some(spi) = Spi::new(value).filter(|spi| accept(*spi)) {
                return Ok(spi);
            }
        }
        Err(SpiError::NoneAccepted)
    }
}

fn permute(cipher: &Aes128, value: u32) -> u32 {
    let (mut left, mut right) = ((value >> 16) as u16, value as u16);
    for round in 0..ROUNDS {
        (left, right) = (right, left ^ round_function(cipher, round, right));
    }
    u32::from(left) << 16 | u32::from(right)
}

fn round_function(cipher: &Aes128, round: u8, half: u16) -> u16 {
    let mut block = [0; 16];
    block[0] = round;
    block[1..3].copy_from_slice(&half.to_be_bytes());
    let mut block = block.into();
    cipher.encrypt_block(&mut block);
    u16::from_be_bytes([block[0], block[1]])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn secret() -> SpiSecret {
        SpiSecret::derive(b"one direction", b"the other")
    }

    #[test]
    fn both_sides_draw_different_spis_and_none_twice() {
        let mut sides = [true, false].map(|low| SpiSource::new(&secret(), low, 0));
        let mut drawn = HashSet::new();
        for source in &mut sides {
            source.reserved(SPI_BLOCK);
            for _ in 0..30_000 {
                assert!(drawn.insert(source.draw(|_| true).unwrap()));
            }
        }
    }

    #[test]
    fn neighbouring_counters_look_unrelated() {
        let mut source = SpiSource::new(&secret(), true, 0);
        source.reserved(SPI_BLOCK);
        let spis: Vec<u32> = (0..4096).map(|_| source.draw(|_| true).unwrap().value()).collect();
        let flipped: u32 = spis.windows(2).map(|pair| (pair[0] ^ pair[1]).count_ones()).sum();
        let mean = f64::from(flipped) / 4095.0;
        assert!(
            (15.5..16.5).contains(&mean),
            "{mean} bits of 32 change from one SPI to the next"
        );
    }

    #[test]
    fn the_secret_is_the_same_from_both_ends_and_matters() {
        let first = |secret: &SpiSecret| {
            let mut source = SpiSource::new(secret, true, 0);
            source.reserved(1);
            source.draw(|_| true)
        };
        assert_eq!(
            first(&secret()),
            first(&SpiSecret::derive(b"the other", b"one direction"))
        );
        assert_ne!(
            first(&secret()),
            first(&SpiSecret::derive(b"the other", b"one directioN"))
        );
    }

    #[test]
    fn nothing_is_drawn_that_is_not_on_disk() {
        let mut source = SpiSource::new(&secret(), true, 5);
        assert_eq!(source.draw(|_| true), Err(SpiError::NotReserved));
        assert_eq!(source.reservation_wanted(), Some(5 + SPI_BLOCK));
        assert_eq!(source.reservation_wanted(), None, "asked already");
        source.reserved(5 + SPI_BLOCK);
        assert_eq!(source.reservation_wanted(), None, "enough for now");
        for _ in 0..SPI_BLOCK {
            source.draw(|_| true).unwrap();
        }
        assert_eq!(source.draw(|_| true), Err(SpiError::NotReserved));
        assert_eq!(source.reservation_wanted(), Some(5 + 2 * SPI_BLOCK));
    }

    // A crash loses what was drawn since the last block was saved; the restart begins behind that block.
    #[test]
    fn a_restart_repeats_nothing() {
        let mut drawn = HashSet::new();
        let mut saved = 0;
        for _ in 0..5 {
            let mut source = SpiSource::new(&secret(), false, saved);
            saved = source.reservation_wanted().unwrap();
            source.reserved(saved);
            for _ in 0..1000 {
                assert!(drawn.insert(source.draw(|_| true).unwrap()));
            }
        }
    }

    #[test]
    fn the_end_of_the_key_generation_is_an_end() {
        let mut source = SpiSource::new(&secret(), true, SIDE_BIT - 2);
        assert_eq!(source.reservation_wanted(), Some(SIDE_BIT));
        source.reserved(SIDE_BIT);
        assert!(source.draw(|_| true).is_ok() && source.draw(|_| true).is_ok());
        assert_eq!(source.draw(|_| true), Err(SpiError::Exhausted));
        assert_eq!(source.reservation_wanted(), None);
    }

    #[test]
    fn what_is_not_accepted_is_passed_over() {
        let mut source = SpiSource::new(&secret(), true, 0);
        source.reserved(SPI_BLOCK);
        assert!((0..100).all(|_| source.draw(|spi| spi.value() % 4 == 3).unwrap().value() % 4 == 3));
        assert_eq!(source.draw(|_| false), Err(SpiError::NoneAccepted));
    }
}
