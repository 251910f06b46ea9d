//! The key generations of a PVT, as its TVTs see them: under which one the next TVT is born, and which SPI it gets (protocol section 3).
//!
//! ```text
//!   AH pair made ─► known ─► heard: the neighbour uses it, so it has both halves ─► TVTs are born under the newest such
//!                     └──── CREATE names it by the SPI of the AH association towards its receiver ────► Over
//! ```

use std::sync::Arc;

use ain_dataplane::id::Spi;
use ain_dataplane::usage::SaUse;

use crate::config::SpiSecret;
use crate::sa::Generation;
use crate::spi::{SpiError, SpiSource};

/// An AH pair of a PVT.
pub struct AhPair {
    /// Its name.
    pub generation: Generation,
    /// SPI of the association from the neighbour.
    pub spi_in: Spi,
    /// SPI of the association to the neighbour.
    pub spi_out: Spi,
    /// Keys the order in which SPIs of TVTs are drawn; the same at both ends.
    pub spi_secret: SpiSecret,
    /// First SPI counter value that no earlier process has reserved; none: the keys are new, and nothing needs to be on disk.
    pub spi_counter: Option<u32>,
    /// Use of the association from the neighbour.
    pub heard: Arc<SaUse>,
}

struct Known {
    generation: Generation,
    spi_in: Spi,
    spi_out: Spi,
    spis: SpiSource,
    heard: Arc<SaUse>,
}

/// What a new TVT gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drawn {
    /// Its SPI.
    pub spi: Spi,
    /// The generation that it is born under.
    pub generation: Generation,
    /// How CREATE names that: the SPI of the AH association towards the neighbour.
    pub ah: Spi,
}

/// The generations of one PVT.
pub struct Generations {
    /// Whether this node has the lower id.
    low: bool,
    /// The newest last.
    known: Vec<Known>,
}

impl Generations {
    /// None yet, at the node with the lower id (`low`) or the other.
    pub fn new(low: bool) -> Self {
        Self { low, known: Vec::new() }
    }

    /// A pair is there.
    pub fn begin(&mut self, pair: AhPair) {
        self.known.push(Known {
            generation: pair.generation,
            spi_in: pair.spi_in,
            spi_out: pair.spi_out,
            spis: match pair.spi_counter {
                Some(start) => SpiSource::new(&pair.spi_secret, self.low, start),
                None => SpiSource::fresh(&pair.spi_secret, self.low),
            },
            heard: pair.heard,
        });
    }

    /// No TVT is born under `generation` any more.
    pub fn end(&mut self, generation: Generation) {
        self.known.retain(|known| known.generation != generation);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether `spi` is that of an AH association of the PVT.
    pub fn owns(&self, spi: Spi) -> bool {
        self.known
            .iter()
            .any(|known| known.spi_in == spi || known.spi_out == spi)
    }

    /// The generation that the neighbour names by the SPI of its AH association to this node.
    pub fn named(&self, spi: u32) -> Option<Generation> {
        let known = self.known.iter().rev().find(|known| known.spi_in.value() == spi);
        known.map(|known| known.generation)
    }

    /// The next SPI for a TVT that is none of the PVT's own and that `accept` takes, of the newest generation that the neighbour is known
    /// to have: of one whose packets have come from it. It may have made half of the newest yet.
    ///
    /// # Errors
    /// [`SpiError`].
    pub fn draw(&mut self, accept: impl Fn(Spi) -> bool) -> Result<Drawn, SpiError> {
        let newest = self.known.len().checked_sub(1).ok_or(SpiError::NoKeys)?;
        let at = self.known.iter().rposition(|known| known.heard.packets() > 0);
        let own: Vec<Spi> = self
            .known
            .iter()
            .flat_map(|known| [known.spi_in, known.spi_out])
            .collect();
        let known = &mut self.known[at.unwrap_or(newest)];
        Ok(Drawn {
            spi: known.spis.draw(|spi| !own.contains(&spi) && accept(spi))?,
            generation: known.generation,
            ah: known.spi_out,
        })
    }

    /// A generation whose reserve of SPIs runs low, and the counter value up to which the shell should save that it is taken.
    pub fn reservation_wanted(&mut self) -> Option<(Generation, u32)> {
        self.known
            .iter_mut()
            .find_map(|known| Some((known.generation, known.spis.reservation_wanted()?)))
    }

    /// Values below `up_to` are reserved on disk.
    pub fn reserved(&mut self, generation: Generation, up_to: u32) {
        let known = self.known.iter_mut().find(|known| known.generation == generation);
        if let Some(known) = known {
            known.spis.reserved(up_to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(number: u32) -> AhPair {
        let spi = |offset| Spi::new(1000 + 10 * number + offset).unwrap();
        AhPair {
            generation: Generation(number),
            spi_in: spi(0),
            spi_out: spi(1),
            spi_secret: SpiSecret::derive(b"one", &number.to_be_bytes()),
            spi_counter: None,
            heard: SaUse::new(0),
        }
    }

    #[test]
    fn tvts_are_born_under_the_newest_pair_that_the_neighbour_uses() {
        let mut generations = Generations::new(true);
        assert_eq!(generations.draw(|_| true), Err(SpiError::NoKeys));
        let heard: Vec<_> = (0..3)
            .map(|number| {
                let pair = pair(number);
                let heard = Arc::clone(&pair.heard);
                generations.begin(pair);
                heard
            })
            .collect();
        let mut born = || generations.draw(|_| true).unwrap();
        assert_eq!(born().generation, Generation(2), "none is heard: the newest");
        heard[0].count(1, 1);
        assert_eq!(born().generation, Generation(0));
        heard[2].count(1, 1);
        assert_eq!((born().generation, born().ah.value()), (Generation(2), 1021));
    }

    #[test]
    fn a_neighbour_names_what_is_there() {
        let mut generations = Generations::new(false);
        generations.begin(pair(4));
        assert_eq!(
            (generations.named(1040), generations.named(1041)),
            (Some(Generation(4)), None)
        );
        assert!(generations.owns(Spi::new(1041).unwrap()) && !generations.owns(Spi::new(1042).unwrap()));
        generations.end(Generation(4));
        assert!(generations.is_empty() && generations.named(1040).is_none());
    }

    #[test]
    fn young_keys_need_nothing_on_disk_and_old_ones_do() {
        let mut generations = Generations::new(true);
        generations.begin(pair(0));
        assert_eq!(generations.reservation_wanted(), None);
        assert!(generations.draw(|_| true).is_ok());
        generations.begin(AhPair {
            spi_counter: Some(7),
            ..pair(1)
        });
        assert_eq!(generations.draw(|_| true), Err(SpiError::NotReserved));
        let (of, up_to) = generations.reservation_wanted().unwrap();
        assert_eq!(of, Generation(1));
        generations.reserved(of, up_to);
        assert!(generations.draw(|_| true).is_ok());
    }
}
