//! The node's verdict on packets of ESP+AH tunnels, right ones and altered ones, against that of a model of the RFCs' text.
//!
//! ```text
//!   source ──► a packet of some class ──┬─► node:  a real engine                    ──► verdict ─┐
//!   (tunnel keys, numbers, classes)     ├─► model: RFC 4302, 4303, 4301 by hand     ──► verdict ─┴─► equal, or the run fails
//!                                       └─► a sample in a file, for another judge: the Linux kernel (deploy/test)
//! ```
//! The run is the same each time: keys, packets and their order come from a seed.

mod classes;
mod draft;
mod model;
mod node;
mod source;
mod tunnel;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ain_crypto::MacAlgorithm;
use ain_dataplane::wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader, HEADER_LEN};
use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::backend::{Fresh, WithBackend};
use crate::capture::CaptureFile;
use crate::site::{LOCAL_MAC, REMOTE_MAC};
use classes::{CLASSES, has_one_reason};
use model::{Model, Rule, Verdict};
use node::{Node, address};
use source::{Made, Source, tunnels};
use tunnel::{Kind, Tunnel};

/// Packets of a sample between two that surely arrive.
const MARK_EVERY: usize = 64;

/// How many, and where the sample goes.
#[derive(Debug, clap::Args)]
pub struct Differential {
    /// Packets.
    #[arg(long, default_value_t = 1_000_000)]
    packets: usize,
    /// What keys and packets are drawn by.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for a sample that a Linux kernel can judge: packets.pcap, and what they are in sample.json.
    #[arg(long)]
    sample: Option<PathBuf>,
    /// Packets of the sample.
    #[arg(long, default_value_t = 2000)]
    sampled: usize,
}

impl WithBackend for &Differential {
    type Output = anyhow::Result<()>;

    fn run<C: Fresh>(self) -> anyhow::Result<()> {
        let all = tunnels(&Kind::all(), self.seed);
        let mut run = Run::<C>::new(&all, self.seed, None)?;
        run.judge(self.packets, |_, _| Ok(()))?;
        run.print();
        ensure!(
            run.differences == 0,
            "node and model differ on {} packets",
            run.differences
        );
        match &self.sample {
            Some(folder) => self
                .write_sample::<C>(folder)
                .with_context(|| folder.display().to_string()),
            None => Ok(()),
        }
    }
}

impl Differential {
    /// A run of its own, of the tunnels that a kernel can have.
    fn write_sample<C: Fresh>(&self, folder: &Path) -> anyhow::Result<()> {
        let mut kinds = Kind::all();
        kinds.retain(|kind| kind.ah != MacAlgorithm::Aes128Gmac);
        let kernels = tunnels(&kinds, self.seed);
        fs::create_dir_all(folder)?;
        let mut file = CaptureFile::create(&folder.join("packets.pcap"))?;
        let mut described = Vec::new();
        let mut run = Run::<C>::new(&kernels, self.seed, None)?;
        let mut add = |made: &Made, verdict: &Verdict| {
            let (class, id) = (CLASSES[made.class].0, made.id);
            described.push(json!({ "class": class, "tunnel": made.tunnel, "id": id, "verdict": name(verdict) }));
            file.add(&frame(&kernels[made.tunnel], &made.packet))
        };
        while run.judged < self.sampled {
            run.judge(MARK_EVERY, &mut add)?;
            let mark = run.source.plain(0);
            run.judge_these(mark, &mut add)?;
        }
        ensure!(
            run.differences == 0,
            "node and model differ on {} packets",
            run.differences
        );
        file.finish()?;
        let sample = json!({ "tunnels": kernels.iter().map(describe).collect::<Vec<_>>(), "packets": described });
        fs::write(folder.join("sample.json"), sample.to_string())?;
        println!("{} packets for another judge: {}", run.judged, folder.display());
        Ok(())
    }
}

/// What is known of a class of packets.
#[derive(Default)]
struct Tally {
    packets: usize,
    /// By what node and model say.
    verdicts: BTreeMap<String, usize>,
}

/// Node, model and source, and what came of it.
struct Run<'t, C: Fresh> {
    tunnels: &'t [Tunnel],
    source: Source<'t>,
    node: Node<C>,
    model: Model<'t>,
    tallies: Vec<Tally>,
    judged: usize,
    differences: usize,
}

impl<'t, C: Fresh> Run<'t, C> {
    fn new(tunnels: &'t [Tunnel], seed: u64, without: Option<Rule>) -> anyhow::Result<Self> {
        Ok(Self {
            tunnels,
            source: Source::new(tunnels, seed),
            node: Node::new(tunnels)?,
            model: Model::new(tunnels, without),
            tallies: CLASSES.iter().map(|_| Tally::default()).collect(),
            judged: 0,
            differences: 0,
        })
    }

    /// Makes `packets` packets and has them judged; `each` is told what the node says.
    fn judge(
        &mut self,
        packets: usize,
        mut each: impl FnMut(&Made, &Verdict) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let end = self.judged + packets;
        while self.judged < end {
            let made = self.source.make();
            self.judge_these(made, &mut each)?;
        }
        Ok(())
    }

    fn judge_these(
        &mut self,
        packets: Vec<Made>,
        mut each: impl FnMut(&Made, &Verdict) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        for made in packets {
            let tunnel = &self.tunnels[made.tunnel];
            let theirs = self.model.judge(tunnel.v6, &made.packet);
            let ours = self.node.judge(&frame(tunnel, &made.packet));
            let both_drop = matches!((&ours, &theirs), (Verdict::Dropped(_), Verdict::Dropped(_)));
            if ours != theirs && (has_one_reason(made.class) || !both_drop) {
                self.differ(&made, &ours, &theirs);
            }
            let tally = &mut self.tallies[made.class];
            tally.packets += 1;
            *tally.verdicts.entry(name(&ours)).or_default() += 1;
            self.judged += 1;
            each(&made, &ours)?;
        }
        Ok(())
    }

    /// The first few are shown.
    fn differ(&mut self, made: &Made, ours: &Verdict, theirs: &Verdict) {
        self.differences += 1;
        if self.differences <= 5 && !cfg!(test) {
            let (class, tunnel) = (CLASSES[made.class].0, made.tunnel);
            println!("{class}, tunnel {tunnel}: node {}, model {}", name(ours), name(theirs));
            println!("  {}", hex(&made.packet));
        }
    }

    fn print(&self) {
        println!("{:<34} {:>8}  verdicts of node and model", "class", "packets");
        for ((class, _), tally) in CLASSES.iter().zip(&self.tallies) {
            let verdicts: Vec<String> = tally
                .verdicts
                .iter()
                .map(|(what, count)| format!("{what} {count}"))
                .collect();
            println!("{class:<34} {:>8}  {}", tally.packets, verdicts.join(", "));
        }
        println!("{} packets, {} differences", self.judged, self.differences);
    }
}

/// A verdict in a word.
fn name(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Datagram(_) => "accepted".into(),
        Verdict::Dummy => "dummy".into(),
        Verdict::Dropped(why) => format!("{why:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// On the link of the node.
fn frame(tunnel: &Tunnel, packet: &[u8]) -> Vec<u8> {
    let ethertype = if tunnel.v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
    let mut frame = vec![0; HEADER_LEN];
    EthernetHeader::new(LOCAL_MAC, REMOTE_MAC, ethertype)
        .write(&mut frame)
        .expect("room for a header");
    frame.extend(packet);
    frame
}

/// What the other judge has to know of a tunnel.
fn describe(tunnel: &Tunnel) -> Value {
    json!({
        "source": address(&tunnel.source).to_string(),
        "destination": address(&tunnel.destination).to_string(),
        "ah": if tunnel.ah == MacAlgorithm::AesCmac96 { "aes-cmac-96" } else { "hmac-sha2-256-128" },
        "esn": tunnel.esn,
        "start": tunnel.start,
        "ah_spi": tunnel.ah_spi,
        "esp_spi": tunnel.esp_spi,
        "ah_key": hex(&tunnel.ah_key),
        "esp_key": hex(&tunnel.esp_key),
    })
}

#[cfg(test)]
mod tests {
    use ain_crypto::Portable;

    use super::*;

    /// Differences of a run of so many packets, which ends with the first if it may differ.
    fn differences(packets: usize, without: Option<Rule>) -> usize {
        let all = tunnels(&Kind::all(), 7);
        let mut run = Run::<Portable>::new(&all, 7, without).unwrap();
        while run.judged < packets && (without.is_none() || run.differences == 0) {
            run.judge(100, |_, _| Ok(())).unwrap();
        }
        assert!(
            without.is_some() || run.tallies.iter().all(|tally| tally.packets > 0),
            "no class is empty"
        );
        run.differences
    }

    #[test]
    fn node_and_model_agree() {
        assert_eq!(differences(50_000, None), 0);
    }

    #[test]
    fn a_model_that_lacks_any_rule_is_told_from_the_node() {
        for rule in Rule::ALL {
            assert!(differences(100_000, Some(*rule)) > 0, "{rule:?} does not matter");
        }
    }
}
