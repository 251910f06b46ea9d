//! Path and floor take turns, chunk by chunk, so that a slow minute of the machine hits both.

use crate::clock::Clock;
use crate::stats::Spread;

/// Something with two sides to compare.
pub trait Contest {
    /// Makes a fresh chunk of packets, waits for `go`, and runs them through the packet path. Cycles of the latter.
    ///
    /// # Errors
    /// When packets cannot be made or got lost.
    fn path(&mut self, clock: &Clock, go: impl FnOnce()) -> anyhow::Result<u64>;
    /// The same for the bare primitives; if `asked`, with all bytes and layer keys of a burst asked for first.
    ///
    /// # Errors
    /// When packets cannot be made.
    fn floor(&mut self, clock: &Clock, asked: bool, go: impl FnOnce()) -> anyhow::Result<u64>;
    /// Packets in a chunk.
    fn packets(&self) -> usize;
    /// Bits of a received frame.
    fn frame_bits(&self) -> usize;
}

/// What the turns said, a packet.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Figures {
    /// Cycles of the path.
    pub path: Spread,
    /// Cycles of the floor.
    pub floor: Spread,
    /// Cycles of the floor with all bytes and layer keys of a burst asked for first.
    pub asked: Spread,
    /// Bits of a received frame.
    pub frame_bits: usize,
    /// Ticks a second.
    pub hz: f64,
}

impl Figures {
    /// Cycles of the floor over cycles of the path, both medians.
    pub fn efficiency(&self) -> f64 {
        self.floor.median / self.path.median
    }

    /// One packet of each.
    pub fn and(&self, other: &Self) -> Self {
        Self {
            path: self.path.and(&other.path),
            floor: self.floor.and(&other.floor),
            asked: self.asked.and(&other.asked),
            frame_bits: (self.frame_bits + other.frame_bits) / 2,
            hz: self.hz,
        }
    }

    /// Million packets a second and core.
    pub fn mpps(&self) -> f64 {
        self.hz / self.path.median / 1e6
    }

    /// Gb/s a core, of frames as received.
    pub fn gbps(&self) -> f64 {
        self.mpps() * self.frame_bits as f64 / 1e3
    }
}

/// Lets all sides have `turns` turns each, after two that do not count.
///
/// # Errors
/// What the contest says.
pub fn measure(contest: &mut impl Contest, clock: &Clock, turns: usize) -> anyhow::Result<Figures> {
    const WARM_UP: usize = 2;
    let packets = contest.packets() as f64;
    let (mut path, mut floor, mut asked) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..WARM_UP + turns {
        let p = contest.path(clock, || ())?;
        let (f, a) = (contest.floor(clock, false, || ())?, contest.floor(clock, true, || ())?);
        if turn >= WARM_UP {
            path.push(p as f64 / packets);
            floor.push(f as f64 / packets);
            asked.push(a as f64 / packets);
        }
    }
    Ok(Figures {
        path: Spread::of(path),
        floor: Spread::of(floor),
        asked: Spread::of(asked),
        frame_bits: contest.frame_bits(),
        hz: clock.hz(),
    })
}
