//! Golden packets: one small capture of every kind of packet that nodes and hosts put on a wire, made by the real control nodes and
//! packet paths in memory, from seeds. Each test run makes them anew and compares every byte with the files in this folder, which
//! README.md describes; `deploy/test` has tshark and scapy read them.
//!
//! A change of the protocol changes them. To write them anew:
//!
//! ```text
//!   AIN_GOLDEN=write cargo test -p ain-controlplane --test golden
//! ```

#[path = "../crypto/mod.rs"]
mod crypto;
#[path = "../net/plan.rs"]
#[allow(dead_code)] // the other tests use the rest
mod plan;
#[path = "../sim/mod.rs"]
mod sim;
mod stories;
#[path = "../world/mod.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use ain_crypto::{AeadAlgorithm, MacAlgorithm};
use ain_dataplane::wire::ah::Family;
use sim::{Suite, key, outer_of};

/// Seconds after which the plan's nodes end an idle AIVT.
const INACTIVITY_S: u32 = 300;

/// The tunnel that a packet belongs to.
#[derive(Clone, Copy)]
struct Joint {
    suite: Suite,
    /// Machines, sender first.
    ends: (u8, u8),
    /// Of the keys from the sender.
    seed: u8,
    /// SPI of AH; ESP's is the next one.
    spi: u32,
}

impl Joint {
    /// Between `a` and `b`, as [`sim::towards`] draws from the seed of their joint.
    fn of(suite: Suite, (a, b): (u8, u8), seed: u8, ends: (u8, u8)) -> Self {
        let there = ends == (a, b);
        Self {
            suite,
            ends,
            seed: if there { seed } else { seed + 1 },
            spi: if there { 0x1000 } else { 0x9000 } + 16 * u32::from(seed),
        }
    }

    /// A line an association: file, source, destination, protocol, SPI, algorithm, extended numbers, key.
    fn lines(&self, file: &str) -> String {
        let Suite { family, ah, esp, esn } = self.suite;
        let ah_name = match ah {
            MacAlgorithm::HmacSha256_128 => "hmac-sha2-256-128",
            MacAlgorithm::Aes128Gmac => "aes-128-gmac",
            MacAlgorithm::AesCmac96 => "aes-cmac-96",
        };
        let esp_name = match esp {
            AeadAlgorithm::Aes128Gcm16 => "aes-128-gcm-16",
            AeadAlgorithm::Aes256Gcm16 => "aes-256-gcm-16",
        };
        let [source, destination] = [self.ends.0, self.ends.1].map(|end| outer_of(end, family));
        let mut lines = String::new();
        for (protocol, spi, name, material) in [
            ("ah", self.spi, ah_name, key(3, self.seed, ah.key_bytes())),
            ("esp", self.spi + 1, esp_name, key(5, self.seed, esp.key_bytes())),
        ] {
            let esn = if esn { "esn" } else { "short" };
            write!(
                lines,
                "{file} {source} {destination} {protocol} {spi:#010x} {name} {esn} "
            )
            .unwrap();
            material.iter().for_each(|byte| write!(lines, "{byte:02x}").unwrap());
            lines.push('\n');
        }
        lines
    }
}

/// Frames by the name of their file, and the associations of each.
#[derive(Default)]
struct Golden {
    frames: BTreeMap<String, Vec<Vec<u8>>>,
    associations: BTreeSet<String>,
}

impl Golden {
    /// Adds a packet of a kind.
    fn add(&mut self, kind: &str, joint: &Joint, frame: &[u8]) {
        let family = match joint.suite.family {
            Family::V4 => "v4",
            Family::V6 => "v6",
        };
        let file = format!("{kind}-{family}.pcap");
        self.associations.insert(joint.lines(&file));
        self.frames.entry(file).or_default().push(frame.to_vec());
    }

    /// Every file with its bytes.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let captures = self.frames.iter().map(|(file, frames)| (file.clone(), capture(frames)));
        let associations: String = self.associations.iter().map(String::as_str).collect();
        captures
            .chain([("associations".to_owned(), associations.into_bytes())])
            .collect()
    }
}

/// A capture of Ethernet frames in the format of libpcap 2.4, a second apart.
fn capture(frames: &[Vec<u8>]) -> Vec<u8> {
    let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    let mut bytes = words(&[0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 65_535, 1]);
    for (second, frame) in (0..).zip(frames) {
        let length = frame.len() as u32;
        bytes.extend(words(&[second, 0, length, length]));
        bytes.extend(frame);
    }
    bytes
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

#[test]
fn line4_golden_packets_are_made_the_same() {
    let mut golden = Golden::default();
    stories::tell(&mut golden);
    let files = golden.files();
    if std::env::var("AIN_GOLDEN").is_ok_and(|what| what == "write") {
        for (name, bytes) in &files {
            fs::write(folder().join(name), bytes).unwrap();
        }
    }
    for (name, bytes) in &files {
        let known = fs::read(folder().join(name)).unwrap_or_default();
        assert!(known == *bytes, "{name} differs: see the head of this file");
    }
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(kind) = name.strip_suffix(".pcap") {
            assert!(files.contains_key(&name), "nothing makes {name}");
            let kind = kind.trim_end_matches("-v4").trim_end_matches("-v6");
            assert!(
                readme.contains(&format!("`{kind}`")),
                "README.md says nothing of {kind}"
            );
        }
    }
}
