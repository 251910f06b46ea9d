//! `ain-bench shape`: what an eavesdropper can read off the packets of tunnels with a rate, from captures of links.
//!
//! ```text
//!   capture ─► streams, one a direction ─► slots ─► intervals ─► idle or loaded? real or dummy?      AUC 0.5: it cannot be told
//! ```
//! The judge knows more than the eavesdropper: when there was load, and with the PVTs' AH keys what is under the veil.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ain_controlplane::table_writer::veil;
use ain_crypto::Veil;
use ain_dataplane::wire::{ah, ethernet, ipv4, ipv6, protocol};
use anyhow::{Context, bail, ensure};

use crate::adversary::{Auc, logistic};
use crate::stats::Spread;

/// What is looked at.
#[derive(Debug, clap::Args)]
pub struct Shape {
    /// Captures of links between AINs, one stream a direction: tcpdump's, in micro- or nanoseconds.
    #[arg(required = true)]
    captures: Vec<PathBuf>,
    /// Packets a second in each direction.
    #[arg(long)]
    rate: u32,
    /// When there was load: a line of `BEGIN END`, Unix seconds, each time. Packets before the first line and after the last are left
    /// out.
    #[arg(long)]
    loaded: PathBuf,
    /// Keys of the PVTs: a line of `AH-SPI HEX` a direction, the key material of its ESP association.
    #[arg(long)]
    keys: PathBuf,
    /// Where all intervals go, for other classifiers.
    #[arg(long)]
    csv: Option<PathBuf>,
}

/// A packet of one direction.
#[derive(Clone, Copy)]
struct Packet {
    at_ns: u64,
    bytes: u32,
    spi: u32,
    number: u32,
    next_header: u8,
    veil: u64,
}

/// A packet in its slot, as an eavesdropper sees it, and what it really was.
struct Interval {
    /// Since the packet before.
    interval_us: f64,
    /// After the slot's usual time.
    late_us: f64,
    /// Slots since the packet before: more than one where slots were missed.
    slots: u64,
    loaded: bool,
    /// Cell or dummy; `None` in the PVT's own slots, which anybody can see.
    real: Option<bool>,
}

/// Slots in a window of 100 ms.
struct Windows {
    full: usize,
    slots: usize,
    missing: u64,
    /// Windows with more packets than slots.
    crowded: usize,
}

impl Shape {
    /// Prints the figures: lines of `name value`.
    ///
    /// # Errors
    /// A file that cannot be read, or streams that are not of one size and one SPI.
    pub fn run(&self) -> anyhow::Result<()> {
        let loads = read_loads(&self.loaded)?;
        let keys = read_keys(&self.keys)?;
        let period_us = 1e6 / f64::from(self.rate);
        let mut all = Vec::new();
        for capture in &self.captures {
            let streams = read_capture(capture).with_context(|| capture.display().to_string())?;
            ensure!(
                streams.len() == 2,
                "{}: {} streams, not 2",
                capture.display(),
                streams.len()
            );
            for packets in streams.values() {
                all.push(self.stream(packets, period_us, &loads, &keys)?);
            }
        }
        if let Some(path) = &self.csv {
            write_csv(path, &all).with_context(|| path.display().to_string())?;
        }
        report(&all, period_us);
        Ok(())
    }

    fn stream(
        &self,
        packets: &[Packet],
        period_us: f64,
        loads: &[(u64, u64)],
        keys: &BTreeMap<u32, Veil>,
    ) -> anyhow::Result<Vec<Interval>> {
        let first = packets.first().context("an empty stream")?;
        ensure!(
            packets
                .iter()
                .all(|packet| (packet.bytes, packet.spi) == (first.bytes, first.spi)),
            "more than one size or SPI in one direction"
        );
        let veil = keys
            .get(&first.spi)
            .with_context(|| format!("no key for SPI {}", first.spi))?;
        let (begin, end) = (
            loads.first().map_or(0, |load| load.0),
            loads.last().map_or(u64::MAX, |load| load.1),
        );
        let within: Vec<Packet> = packets
            .iter()
            .copied()
            .filter(|p| (begin..end).contains(&p.at_ns))
            .collect();
        let mut high = 0;
        let mut last_number = 0;
        let mut slots = SlotGrid::new(&within, period_us);
        Ok(within
            .windows(2)
            .map(|pair| {
                let packet = pair[1];
                if packet.number < last_number {
                    high += 1;
                }
                last_number = packet.number;
                let interval_us = (packet.at_ns - pair[0].at_ns) as f64 / 1000.0;
                let (passed, late_us) = slots.next(interval_us);
                let plain = packet.veil ^ veil.mask(high << 32 | u64::from(packet.number));
                Interval {
                    interval_us,
                    late_us,
                    slots: passed,
                    loaded: loads.iter().any(|load| (load.0..load.1).contains(&packet.at_ns)),
                    real: (packet.next_header == protocol::CELL).then_some(plain >> 32 != 0),
                }
            })
            .collect())
    }
}

/// Follows the slots of a stream: the usual time of a packet in its slot is learned from the packets themselves.
struct SlotGrid {
    period_us: f64,
    /// How late the last packet was.
    late_us: f64,
}

/// Part of a period before its usual time in which a packet still counts for its slot: half of what dither takes, and a little for
/// jitter; all the rest is for late ones.
const EARLY: f64 = 0.05;
/// How fast the usual time follows the packets.
const FOLLOW: f64 = 0.01;

impl SlotGrid {
    /// The first packet is as late as its interval to the next few says.
    fn new(packets: &[Packet], period_us: f64) -> Self {
        let first = packets.first().map_or(0, |packet| packet.at_ns);
        let phases = packets.iter().take(101).map(|packet| {
            let since = (packet.at_ns - first) as f64 / 1000.0;
            since - (since / period_us).round() * period_us
        });
        Self {
            period_us,
            late_us: -Spread::of(phases.collect()).median,
        }
    }

    /// Slots that have begun since the last packet, and how late the one after `interval_us` is.
    fn next(&mut self, interval_us: f64) -> (u64, f64) {
        let since_slot = self.late_us + interval_us;
        let slots = (since_slot / self.period_us + EARLY).floor().max(0.0);
        let late_us = since_slot - slots * self.period_us;
        self.late_us = late_us - FOLLOW * late_us.clamp(-50.0, 50.0);
        (slots as u64, late_us)
    }
}

fn windows(stream: &[Interval], period_us: f64) -> Windows {
    let slots = (100_000.0 / period_us).round() as usize;
    let mut counts: Vec<usize> = Vec::new();
    let mut slot = 0;
    for interval in stream {
        slot += interval.slots as usize;
        let window = slot / slots;
        counts.resize(counts.len().max(window + 1), 0);
        counts[window] += 1;
    }
    counts.pop(); // the last one is not whole
    Windows {
        full: counts.len(),
        slots,
        // A packet that is almost a slot late counts for the next one, which then has two.
        missing: slot.saturating_sub(stream.len()) as u64,
        crowded: counts.iter().filter(|count| **count > slots).count(),
    }
}

fn report(streams: &[Vec<Interval>], period_us: f64) {
    for stream in streams {
        let spread = Spread::of(stream.iter().map(|interval| interval.interval_us).collect());
        println!(
            "stream: {} intervals, median {:.0} us, quartiles {:.0} and {:.0} us",
            stream.len(),
            spread.median,
            spread.lower_quartile,
            spread.upper_quartile
        );
    }
    let all: Vec<Windows> = streams.iter().map(|stream| windows(stream, period_us)).collect();
    let sum = |of: fn(&Windows) -> u64| all.iter().map(of).sum::<u64>();
    println!("slots_a_window {}", all.first().map_or(0, |windows| windows.slots));
    println!("windows {}", sum(|w| w.full as u64));
    println!("windows_crowded {}", sum(|w| w.crowded as u64));
    println!("slots_missing {}", sum(|w| w.missing));
    println!("intervals {}", streams.iter().map(Vec::len).sum::<usize>());
    let loaded = samples(streams, |interval| Some(interval.loaded));
    told_apart("loaded", &loaded);
    let real = samples(streams, |interval| interval.real.filter(|_| interval.loaded));
    told_apart("real", &real);
}

/// Interval, deviation from the slot's usual time, the same of the packet after, and how far the interval is off.
const FEATURES: usize = 5;

fn samples(streams: &[Vec<Interval>], label: impl Fn(&Interval) -> Option<bool>) -> Vec<([f64; FEATURES], bool)> {
    let mut samples = Vec::new();
    for stream in streams {
        let median = Spread::of(stream.iter().map(|one| one.interval_us).collect()).median;
        for pair in stream.windows(2) {
            let (this, after) = (&pair[0], &pair[1]);
            if let Some(label) = label(this) {
                let off = (this.interval_us - median).abs();
                samples.push((
                    [this.interval_us, off, this.late_us, after.interval_us, after.late_us],
                    label,
                ));
            }
        }
    }
    samples
}

fn told_apart(what: &str, samples: &[([f64; FEATURES], bool)]) {
    let names = ["interval", "deviation", "lateness", "next_interval", "next_lateness"];
    let count = samples.iter().filter(|(_, label)| *label).count();
    println!("{what}_samples {count} of {}", samples.len());
    for (at, name) in names.iter().enumerate() {
        let of = |wanted: bool| -> Vec<f64> {
            let these = samples.iter().filter(|(_, label)| *label == wanted);
            these.map(|(features, _)| features[at]).collect()
        };
        print_auc(
            &format!("{what}_auc_{name}"),
            Auc::of(&of(true), &of(false)).map(Auc::either_way),
        );
    }
    print_auc(&format!("{what}_auc_logistic"), logistic(&shuffled(samples)));
}

/// In an order that has nothing to do with time, the same in every run.
fn shuffled<T: Copy>(samples: &[T]) -> Vec<T> {
    let mut keyed: Vec<(u64, T)> = (0u64..)
        .zip(samples)
        .map(|(at, sample)| {
            (
                at.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .rotate_left(29)
                    .wrapping_mul(0xbf58_476d_1ce4_e5b9),
                *sample,
            )
        })
        .collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, sample)| sample).collect()
}

fn print_auc(name: &str, auc: Option<Auc>) {
    if let Some(Auc { area, margin }) = auc {
        println!("{name} {area:.4} +- {margin:.4}");
    }
}

fn write_csv(path: &Path, streams: &[Vec<Interval>]) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(fs::File::create(path)?);
    writeln!(out, "stream,interval_us,late_us,slots,loaded,real")?;
    for (number, stream) in streams.iter().enumerate() {
        for one in stream {
            let real = one.real.map_or(-1, i32::from);
            let loaded = u8::from(one.loaded);
            writeln!(
                out,
                "{number},{:.3},{:.3},{},{loaded},{real}",
                one.interval_us, one.late_us, one.slots
            )?;
        }
    }
    Ok(out.flush()?)
}

fn read_loads(path: &Path) -> anyhow::Result<Vec<(u64, u64)>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let ns = |word: &str| -> anyhow::Result<u64> { Ok((word.parse::<f64>()? * 1e9) as u64) };
    let line = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [begin, end] => Ok((ns(begin)?, ns(end)?)),
        _ => bail!("not a pair of times: {line}"),
    };
    text.lines().map(line).collect()
}

fn read_keys(path: &Path) -> anyhow::Result<BTreeMap<u32, Veil>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let line = |line: &str| {
        let (spi, hex) = line.split_once(' ').context("not an SPI and a key")?;
        let digits: Vec<u32> = hex
            .trim()
            .chars()
            .map(|c| c.to_digit(16).context("not hex"))
            .collect::<Result<_, _>>()?;
        let key: Vec<u8> = digits
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8))
            .collect();
        Ok((spi.parse()?, veil(&key)))
    };
    text.lines().map(line).collect()
}

const RECORD_HEADER: usize = 16;

/// Source and destination.
type Ends = (IpAddr, IpAddr);

/// AH packets of a capture by their ends.
fn read_capture(path: &Path) -> anyhow::Result<BTreeMap<Ends, Vec<Packet>>> {
    let bytes = fs::read(path)?;
    let (header, mut rest) = bytes.split_at_checked(24).context("not a capture")?;
    let unit_ns = match header[..4] {
        [0xd4, 0xc3, 0xb2, 0xa1] => 1000,
        [0x4d, 0x3c, 0xb2, 0xa1] => 1,
        _ => bail!("not a capture of a little-endian machine"),
    };
    let mut streams: BTreeMap<Ends, Vec<Packet>> = BTreeMap::new();
    while let Some((record, after)) = rest.split_at_checked(RECORD_HEADER) {
        let word = |at: usize| u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
        let Some((frame, after)) = after.split_at_checked(word(8) as usize) else {
            break;
        };
        rest = after;
        let at_ns = u64::from(word(0)) * 1_000_000_000 + u64::from(word(4)) * unit_ns;
        if let Some((ends, packet)) = ah_packet(frame, at_ns, word(12)) {
            streams.entry(ends).or_default().push(packet);
        }
    }
    Ok(streams)
}

fn ah_packet(frame: &[u8], at_ns: u64, bytes: u32) -> Option<(Ends, Packet)> {
    let (ends, ah) = ah_of(frame)?;
    let number = |at: usize| {
        ah.get(at..at + 4)
            .map(|four| u32::from_be_bytes(four.try_into().unwrap_or_default()))
    };
    let after = (usize::from(*ah.get(1)?) + 2) * 4;
    let veil = u64::from(number(after.max(ah::FIXED_LEN))?) << 32 | u64::from(number(after + 4)?);
    let packet = Packet {
        at_ns,
        bytes,
        spi: number(4)?,
        number: number(8)?,
        next_header: ah[0],
        veil,
    };
    Some((ends, packet))
}

/// The AH of a frame, which may be cut off behind it; PVTs use no extension headers.
fn ah_of(frame: &[u8]) -> Option<(Ends, &[u8])> {
    let ip = frame.get(ethernet::HEADER_LEN..)?;
    let ethertype = u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]);
    let (ends, next, header) = match ethertype {
        ethernet::ETHERTYPE_IPV4 => (ends::<4>(ip, 12)?, ip[ipv4::PROTOCOL], usize::from(ip[0] & 15) * 4),
        ethernet::ETHERTYPE_IPV6 => (ends::<16>(ip, 8)?, ip[ipv6::NEXT_HEADER], ipv6::HEADER_LEN),
        _ => return None,
    };
    let ah = ip.get(header..).filter(|_| next == protocol::AH)?;
    Some((ends, ah))
}

/// The addresses at `at` of an IP packet.
fn ends<const N: usize>(ip: &[u8], at: usize) -> Option<Ends>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = ip.get(at..)?.split_first_chunk::<N>()?;
    Some(((*source).into(), (*rest.first_chunk::<N>()?).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(times_us: &[u64]) -> Vec<Interval> {
        let packets: Vec<Packet> = times_us
            .iter()
            .map(|at| Packet {
                at_ns: at * 1000,
                bytes: 1,
                spi: 300,
                number: 1,
                next_header: 50,
                veil: 0,
            })
            .collect();
        let mut grid = SlotGrid::new(&packets, 5000.0);
        let of = |pair: &[Packet]| {
            let interval_us = (pair[1].at_ns - pair[0].at_ns) as f64 / 1000.0;
            let (slots, late_us) = grid.next(interval_us);
            Interval {
                interval_us,
                late_us,
                slots,
                loaded: false,
                real: None,
            }
        };
        packets.windows(2).map(of).collect()
    }

    #[test]
    fn line_6_links_of_either_family_are_read() {
        let ah = [
            &[99, 4, 0, 0, 0, 0, 1, 44, 0, 0, 0, 7][..],
            &[0; 12],
            &[0, 0, 0, 5, 0, 0, 0, 6],
        ]
        .concat();
        let v4 = [&[0x45; 9][..], &[51], &[0; 2], &[192, 0, 2, 1, 192, 0, 2, 2]].concat();
        let address = |last| [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[last]].concat();
        let v6 = [&[0x60, 0, 0, 0, 0, 0, 51, 64][..], &address(1), &address(2)].concat();
        for (ethertype, ip, source) in [([8, 0], v4, "192.0.2.1"), ([0x86, 0xdd], v6, "2001:db8::1")] {
            let frame = [&[0; 12][..], &ethertype, &ip, &ah].concat();
            let (ends, packet) = ah_packet(&frame, 1, 1472).unwrap();
            assert_eq!(ends.0, source.parse::<IpAddr>().unwrap());
            assert_eq!(
                (packet.spi, packet.number, packet.next_header, packet.veil),
                (300, 7, 99, 5 << 32 | 6)
            );
            assert!((0..frame.len()).all(|cut| ah_packet(&frame[..cut], 1, 1472).is_none()));
        }
    }

    #[test]
    fn line_6_late_packets_stay_in_their_slots_and_missing_ones_are_seen() {
        let mut times: Vec<u64> = (0..200).map(|slot| 5000 * slot + slot % 3).collect();
        times[50] += 3000;
        times[51] += 20;
        times.remove(120);
        let seen = stream(&times);
        let windows = windows(&seen, 5000.0);
        assert_eq!((windows.slots, windows.missing, windows.crowded), (20, 1, 0));
        assert!((2990.0..3010.0).contains(&seen[49].late_us) && seen[50].late_us < 50.0);
    }
}
