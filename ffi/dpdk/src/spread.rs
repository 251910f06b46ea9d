//! How a port's packets reach several workers: planned from what the port says it can do, judged by what it says it does.
//!
//! ```text
//!   PortInfo ── plan ──► queues, hash fields ── start, program, read back ── judge ──► Spread
//!
//!   rss-ah-spi          the port hashes AH SPIs: a packet comes to the queue that its SPI falls to
//!   software hand-off   it does not: a worker takes what comes and hands it to the owner of its association
//!   one queue           there is one worker
//! ```
//!
//! Both decisions are pure functions, so that they are proven without a NIC.

use std::fmt;

use crate::info::{PortInfo, RssTypes};
use crate::port::{Device, PortError};
use crate::sys;

/// What to ask of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Pairs of queues: one a worker, as far as the port has them. Workers without one are guests of those that have.
    pub queues: u16,
    /// Hash fields.
    pub rss: RssTypes,
}

/// What a port said after it was programmed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Programmed {
    /// Fields it hashes over now.
    pub types: RssTypes,
    /// It took a flow rule that hashes AH by its SPI.
    pub ah_rule: bool,
    /// Key of its Toeplitz hash; empty if it does not tell.
    pub key: Vec<u8>,
    /// Its table from hash to queue; empty if it does not tell.
    pub reta: Vec<u16>,
}

/// How packets reach several workers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// The port hashes AH SPIs.
    RssAhSpi,
    /// Workers hand packets to each other.
    HandOff,
    /// Nothing to spread.
    OneQueue,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::RssAhSpi, Self::HandOff, Self::OneQueue];

    /// Its name for operators.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RssAhSpi => "rss-ah-spi",
            Self::HandOff => "software hand-off",
            Self::OneQueue => "one queue",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A judgement and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spread {
    /// How packets reach workers.
    pub mode: Mode,
    /// Why so, for operators.
    pub reason: String,
    /// The queue of each SPI, where the port told enough to know it.
    pub steering: Option<Steering>,
}

/// A port's way from an AH SPI to a queue, as far as it can be computed: Toeplitz over the SPI alone, the table behind it. A port
/// that hashes more than that sends packets to other queues, and they are handed over: slower, never wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Steering {
    key: [u8; 8],
    reta: Vec<u16>,
}

impl Steering {
    /// From a hash key and a table. `None` if either is too short to be one, or the key is zeros: under it every SPI falls to one
    /// queue, and a driver that fills in nothing says the same.
    pub fn new(key: &[u8], reta: Vec<u16>) -> Option<Self> {
        let key = *key.first_chunk()?;
        (key != [0; 8] && !reta.is_empty()).then_some(Self { key, reta })
    }

    /// The queue that packets with `spi` come to.
    pub fn queue_of(&self, spi: u32) -> u16 {
        self.reta[toeplitz(&self.key, spi) as usize % self.reta.len()]
    }
}

/// Microsoft's receive-side scaling hash of 32 bits of input: for each bit set, the 32 bits of the key from there on.
fn toeplitz(key: &[u8; 8], input: u32) -> u32 {
    let key = u64::from_be_bytes(*key);
    (0..32)
        .filter(|bit| input & (1 << (31 - bit)) != 0)
        .fold(0, |hash, bit| hash ^ (key >> (32 - bit)) as u32)
}

/// What to ask of a port with `info` for `workers` workers, at least one.
pub fn plan(info: &PortInfo, workers: u16) -> Plan {
    let queues = workers.min(info.max_rx_queues).min(info.max_tx_queues).max(1);
    Plan {
        queues,
        rss: match queues {
            1 => RssTypes::NONE,
            _ => info.rss_types.and(RssTypes::AH | RssTypes::IP),
        },
    }
}

/// How packets reach `workers` workers over a port of `plan` that said `programmed`.
pub fn judge(info: &PortInfo, workers: u16, plan: &Plan, programmed: &Programmed) -> Spread {
    let hand_off = |reason: String| Spread {
        mode: Mode::HandOff,
        reason,
        steering: None,
    };
    if workers == 1 {
        return Spread {
            mode: Mode::OneQueue,
            reason: "there is one worker".into(),
            steering: None,
        };
    }
    let driver = &info.driver;
    if plan.queues < workers {
        let (queues, noun) = (plan.queues, if plan.queues == 1 { "pair" } else { "pairs" });
        return hand_off(format!("{driver} has {queues} {noun} of queues for {workers} workers"));
    }
    let by_type = programmed.types.contains(RssTypes::AH);
    if !by_type && !programmed.ah_rule {
        let asked = plan.rss.contains(RssTypes::AH);
        let why = match (asked, programmed.types.is_empty()) {
            (true, _) => "was told to hash AH SPIs, and says that it does not",
            (false, true) => "does not hash packets, its other end chooses the queue",
            (false, false) => "hashes addresses, but no AH SPIs",
        };
        return hand_off(format!("{driver} {why}"));
    }
    let how = if by_type { "hash fields" } else { "flow rule" };
    Spread {
        mode: Mode::RssAhSpi,
        reason: format!("{driver} hashes AH SPIs ({how})"),
        steering: Steering::new(&programmed.key, programmed.reta.clone()),
    }
}

impl Device {
    /// Deals the port's hash values to `queues` queues in turn, has AH hashed by a flow rule where hash fields did not bring that,
    /// and reads back what the port does now. What it refuses is left as it is: [`judge`] says what that means.
    ///
    /// # Errors
    /// Never for what a port cannot do.
    pub fn program_spread(&self, plan: &Plan) -> Result<Programmed, PortError> {
        if plan.queues == 1 {
            return Ok(Programmed::default());
        }
        // SAFETY: a claimed port that runs.
        let _kept = self.call("rte_eth_dev_rss_reta_update", |id| unsafe {
            sys::shim_rss_deal(id, plan.queues)
        });
        let ah_rule = !self.read_spread().types.contains(RssTypes::AH)
            // SAFETY: as above.
            && self.call("rte_flow_create", |id| unsafe { sys::shim_rss_rule_ah(id) }).is_ok();
        Ok(Programmed {
            ah_rule,
            ..self.read_spread()
        })
    }

    /// What the port says of its hashing; nothing, if it says nothing.
    fn read_spread(&self) -> Programmed {
        let mut raw = Box::<sys::shim_rss>::default();
        // SAFETY: a claimed port and a structure to fill.
        let read = self.call("rte_eth_dev_rss_hash_conf_get", |id| unsafe {
            sys::shim_rss_read(id, &raw mut *raw)
        });
        if read.is_err() {
            return Programmed::default();
        }
        Programmed {
            types: RssTypes::from_bits(raw.types),
            ah_rule: false,
            key: raw.key[..usize::from(raw.key_len)].to_vec(),
            reta: raw.reta[..usize::from(raw.reta_len)].to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::info::{Mac, RxOffloads, TxOffloads};

    /// A port that reports these figures.
    fn info(queues: u16, rss_types: RssTypes) -> PortInfo {
        PortInfo {
            driver: "net_test".into(),
            mac: Mac([2; 6]),
            max_rx_queues: queues,
            max_tx_queues: queues,
            min_mtu: 68,
            max_mtu: 9000,
            mtu: 1500,
            max_rx_packet: 9018,
            reta_size: 128,
            if_index: None,
            socket: None,
            rss_types,
            rx_offloads: RxOffloads::NONE,
            tx_offloads: TxOffloads::NONE,
        }
    }

    fn all() -> RssTypes {
        RssTypes::AH | RssTypes::IP | RssTypes::UDP | RssTypes::TCP
    }

    fn outcome(queues: u16, can: RssTypes, workers: u16, programmed: &Programmed) -> Spread {
        let info = info(queues, can);
        judge(&info, workers, &plan(&info, workers), programmed)
    }

    fn said(types: RssTypes) -> Programmed {
        Programmed {
            types,
            key: vec![0x6d; 40],
            reta: (0..128).map(|at| at % 2).collect(),
            ..Programmed::default()
        }
    }

    #[test]
    fn a_plan_asks_for_what_the_port_has() {
        let asked = plan(&info(8, all()), 4);
        assert_eq!((asked.queues, asked.rss), (4, RssTypes::AH | RssTypes::IP));
        assert_eq!(plan(&info(8, RssTypes::UDP), 4).rss, RssTypes::NONE);
        assert_eq!(
            plan(&info(8, all()), 1).rss,
            RssTypes::NONE,
            "one worker spreads nothing"
        );
        let scarce = plan(&info(1, all()), 4);
        assert_eq!((scarce.queues, scarce.rss), (1, RssTypes::NONE));
    }

    #[test]
    fn one_worker_needs_no_spreading() {
        assert_eq!(outcome(8, all(), 1, &Programmed::default()).mode, Mode::OneQueue);
    }

    #[test]
    fn a_port_that_hashes_spis_does_the_work() {
        let spread = outcome(8, all(), 2, &said(RssTypes::AH | RssTypes::IP));
        assert_eq!(spread.mode, Mode::RssAhSpi);
        let steering = spread.steering.expect("key and table were told");
        let to_first = (0..10_000)
            .filter(|spi| steering.queue_of(spi * 0x9e37 + 256) == 0)
            .count();
        assert!((4000..6000).contains(&to_first), "{to_first} of 10000");
    }

    #[test]
    fn a_flow_rule_does_as_well() {
        let by_rule = Programmed {
            ah_rule: true,
            ..said(RssTypes::IP)
        };
        let spread = outcome(8, RssTypes::IP, 2, &by_rule);
        assert_eq!(
            (spread.mode, spread.reason.contains("flow rule")),
            (Mode::RssAhSpi, true)
        );
    }

    /// The port's word after programming counts, not what it offered before.
    #[test]
    fn promises_not_kept_and_hashes_of_addresses_mean_handing_over() {
        for (can, said_types, words) in [
            (all(), RssTypes::IP, "says that it does not"),
            (RssTypes::IP, RssTypes::IP, "no AH SPIs"),
            (RssTypes::NONE, RssTypes::NONE, "does not hash"),
        ] {
            let spread = outcome(8, can, 2, &said(said_types));
            assert_eq!((spread.mode, spread.steering), (Mode::HandOff, None));
            assert!(spread.reason.contains(words), "{}", spread.reason);
        }
    }

    #[test]
    fn too_few_queues_mean_handing_over() {
        let spread = outcome(1, all(), 2, &Programmed::default());
        assert_eq!(spread.mode, Mode::HandOff);
        assert_eq!(spread.reason, "net_test has 1 pair of queues for 2 workers");
    }

    #[test]
    fn a_port_that_hides_its_key_still_spreads() {
        for key in [Vec::new(), vec![0; 40]] {
            let mute = Programmed {
                key,
                ..said(RssTypes::AH)
            };
            let spread = outcome(8, all(), 2, &mute);
            assert_eq!((spread.mode, spread.steering), (Mode::RssAhSpi, None));
        }
    }

    /// Toeplitz is linear: the published verification hashes of source and destination address together (Microsoft, "Verifying the
    /// RSS Hash Calculation") are the XOR of a hash of each under the key from its place on.
    #[test]
    fn toeplitz_gives_the_published_hashes() {
        let key: [u8; 12] = [0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d];
        let at = |from: usize| -> &[u8; 8] { key[from..].first_chunk().expect("8 bytes") };
        for (source, destination, hash) in [
            ([66, 9, 149, 187], [161, 142, 100, 80], 0x323e_8fc2),
            ([199, 92, 111, 2], [65, 69, 140, 83], 0xd718_262a),
        ] {
            let both = toeplitz(at(0), u32::from_be_bytes(source)) ^ toeplitz(at(4), u32::from_be_bytes(destination));
            assert_eq!(both, hash);
        }
    }
}
