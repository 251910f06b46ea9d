//! Packets and node configuration for a packet generator: what `Scene`'s peers would send, as a capture file, and the node that
//! accepts it.
//!
//! ```text
//!    ain-bench pcap DIR ──► packets.pcap ──► generator or net_pcap ──► ain run --config DIR/ain.toml
//!                       └─► ain.toml, directory.toml, identity.key, neighbours.sh
//! ```
//! The node makes the same static AIVTs from its `[benchmark]` section. Anti-replay is off there: generators send the file over and
//! over. Keys are the same in every run, and known to everybody.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ain_controlplane::directory::{Entry, NodeId, OnionKey, SignedEntry};
use ain_crypto::MacAlgorithm;
use ain_daemon::config::{entry, secret};
use ain_daemon::keygen;
use ain_dataplane::id::PeerId;
use ain_dataplane::packet::PacketBuf;
use ain_dataplane::wire::cell::CellProfile;
use anyhow::Context;
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use crate::backend::{Fresh, WithBackend};
use crate::capture::CaptureFile;
use crate::memory::{Memories, Ordinary};
use crate::role::{Case, ESP, Half, Role, SIDE, Scene, Ways};
use crate::site::{LOCAL, REMOTE_MAC, Sa, material, remote, tunnel_spi};

/// Number of the node among its peers.
const NODE: u16 = 2 * SIDE;

/// What goes where.
#[derive(Debug, clap::Args)]
pub struct Pcap {
    /// The node's part.
    #[arg(long, value_enum, default_value = "intermediate")]
    role: Role,
    /// AH algorithm: gmac or hmac.
    #[arg(long, default_value = "gmac", value_parser = ah)]
    mac: MacAlgorithm,
    /// AIVTs.
    #[arg(long, default_value_t = 1000)]
    aivts: u32,
    /// AINs behind an entrance.
    #[arg(long, default_value_t = 2)]
    hops: usize,
    /// Directions, the first packet of every AIVT left out, which goes forward.
    #[arg(long, value_enum, default_value = "forward")]
    ways: Ways,
    /// Bytes of an inner datagram; a cell's fill by default.
    #[arg(long)]
    datagram: Option<usize>,
    /// Jumbo cells.
    #[arg(long)]
    jumbo: bool,
    /// Packets in the file, besides the first of every AIVT.
    #[arg(long, default_value_t = 4096)]
    packets: usize,
    /// Port of the node; by default the file itself, over and over, and nothing out.
    #[arg(long)]
    device: Option<String>,
    /// Kernel interface on which the node looks up its next hops.
    #[arg(long, default_value = "eth0")]
    interface: String,
    /// Cores of its workers.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    cores: Vec<u16>,
    /// Folder that is made.
    directory: PathBuf,
}

fn ah(name: &str) -> Result<MacAlgorithm, String> {
    match name {
        "gmac" => Ok(MacAlgorithm::Aes128Gmac),
        "hmac" => Ok(MacAlgorithm::HmacSha256_128),
        other => Err(format!("no AH algorithm {other:?}: gmac or hmac")),
    }
}

impl Pcap {
    fn case(&self) -> Case {
        Case {
            role: self.role,
            ways: self.ways,
            ah: self.mac,
            profile: if self.jumbo {
                CellProfile::Jumbo
            } else {
                CellProfile::Standard
            },
            hops: self.hops,
            aivts: self.aivts,
            datagram: self.datagram,
            ..Case::HEADLINE
        }
    }
}

impl WithBackend for &Pcap {
    type Output = anyhow::Result<()>;

    fn run<C: Fresh>(self) -> anyhow::Result<()> {
        fs::create_dir(&self.directory).with_context(|| format!("{} must be new", self.directory.display()))?;
        let out = self.directory.canonicalize()?;
        let case = self.case();
        let path = out.join("packets.pcap");
        let count = write_packets::<C>(case, self.packets, &path).with_context(|| path.display().to_string())?;
        write_node(self, &case, &out).with_context(|| out.display().to_string())?;
        println!(
            "{count} packets of {}, and the node that takes them: {}",
            case.name(),
            out.display()
        );
        Ok(())
    }
}

/// First a packet towards the exit of every AIVT, which makes flows and bindings; then what was asked for.
fn write_packets<C: Fresh>(case: Case, packets: usize, path: &Path) -> anyhow::Result<usize> {
    let pool = Ordinary::default().pool(4 * Half::CHUNK, case.longest_frame())?;
    let mut scene = Scene::<C, _>::new(case, pool)?;
    let mut file = CaptureFile::create(path)?;
    let first: Vec<Half> = (0..case.aivts).map(|aivt| Half::of(aivt, true)).collect();
    let others: Vec<Half> = (0..packets).map(|_| scene.draw()).collect();
    for chunk in first.chunks(Half::CHUNK).chain(others.chunks(Half::CHUNK)) {
        let mut frames = Vec::new();
        scene.make(chunk, &mut frames)?;
        for frame in &frames {
            file.add(frame.data())?;
        }
    }
    file.finish()?;
    Ok(first.len() + others.len())
}

impl Half {
    /// Packets made at a time.
    const CHUNK: usize = 64;
}

/// The node's files.
fn write_node(asked: &Pcap, case: &Case, out: &Path) -> anyhow::Result<()> {
    let names: Vec<String> = (0..2 * SIDE)
        .filter(|peer| !is_host(case, *peer))
        .map(|peer| format!("peer{peer}"))
        .collect();
    fs::write(out.join("directory.toml"), directory(case, &names, out)?)?;
    fs::write(out.join("neighbours.sh"), next_hops(&asked.interface))?;
    let config = out.join("ain.toml");
    fs::write(&config, node_file(asked, case, out)?.as_bytes())?;
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

/// The directory, and the node's identity key. All keys are known to everybody, and hold for ever.
fn directory(case: &Case, names: &[String], out: &Path) -> anyhow::Result<String> {
    let secret = |number: u16| {
        let mut secret = [0; 32];
        secret[..2].copy_from_slice(&number.to_be_bytes());
        secret
    };
    let for_ever = i64::MAX.unsigned_abs();
    let entry = |name: &str, key: &SigningKey, address: IpAddr| {
        let identity = key.verifying_key().to_bytes();
        let (not_before, not_after) = (0, for_ever);
        // The peers do not signal: any 32 bytes will do.
        let (suite, key) = (3, identity.to_vec());
        Entry {
            valid_until: for_ever,
            onion_keys: vec![OnionKey {
                suite,
                key,
                not_before,
                not_after,
            }],
            ..Entry::new(name, identity, address)
        }
    };
    let id = |key: &SigningKey| NodeId::of(&key.verifying_key().to_bytes());
    let own = SigningKey::from_bytes(&secret(NODE));
    secret::write_identity(&out.join(keygen::IDENTITY_FILE), &secret(NODE))?;
    let peers = (0..NODE).filter(|peer| !is_host(case, *peer));
    let peers: Vec<_> = peers
        .map(|peer| (peer, SigningKey::from_bytes(&secret(peer))))
        .collect();
    let node = Entry {
        neighbours: peers.iter().map(|(_, key)| id(key)).collect(),
        exit_prefixes: match case.role {
            Role::Exit => vec!["203.0.113.0/24".parse()?],
            Role::Entrance | Role::Intermediate => Vec::new(),
        },
        ..entry("node", &own, LOCAL.into())
    };
    let mut text = entry::signed(&SignedEntry::sign(node, &own)?, names);
    for ((peer, key), name) in peers.iter().zip(names) {
        let peer = Entry {
            neighbours: vec![id(&own)],
            ..entry(name, key, remote(PeerId(*peer)).into())
        };
        text += &entry::signed(&SignedEntry::sign(peer, key)?, &["node".to_owned()]);
    }
    Ok(text)
}

/// Whether a peer is a host: those of an entrance are up, those of an exit down.
fn is_host(case: &Case, peer: u16) -> bool {
    match case.role {
        Role::Entrance => peer < SIDE,
        Role::Intermediate => false,
        Role::Exit => peer >= SIDE,
    }
}

fn node_file(asked: &Pcap, case: &Case, out: &Path) -> anyhow::Result<Zeroizing<String>> {
    let replay = format!("net_pcap0,rx_pcap={},infinite_rx=1", out.join("packets.pcap").display());
    let device = asked.device.as_deref().unwrap_or(&replay);
    let (profile, mtu) = match case.profile {
        CellProfile::Standard => ("standard", 1500),
        CellProfile::Jumbo => ("jumbo", 9000),
    };
    let role = match case.role {
        Role::Entrance => "entrance",
        Role::Intermediate => "intermediate",
        Role::Exit => "exit",
    };
    let nodes = case.hops + 1;
    let room = 2 * case.aivts.max(1024);
    let mut text = Zeroizing::new(String::with_capacity(1 << 15));
    write!(
        text,
        "# Made by `ain-bench pcap` for packets.pcap. Its keys are no secrets: never let this node serve users.\n\n\
         [node]\nname = \"node\"\nidentity_key_file = \"identity.key\"\n\
         directory = \"directory.toml\"\nstate_dir = \"state\"\nadmin_socket = \"ain.sock\"\nmetrics = \"127.0.0.1:9797\"\n\n\
         [benchmark]\nrole = \"{role}\"\naivts = {}\nhops = {}\nanti_replay = false\n\n\
         [capacity]\naivts = {room}\nflows = {room}\n\n[network]\ncell_profile = \"{profile}\"\nmin_path_nodes = {nodes}\nmax_path_nodes = {nodes}\n\n\
         [workers]\ncores = {:?}\nidle = \"spin\"\n\n\
         [[ports]]\nname = \"wan\"\ndevice = \"{device}\"\ninterface = \"{}\"\naddress = \"{LOCAL}/8\"\nmtu = {mtu}\n",
        case.aivts, case.hops, asked.cores, asked.interface
    )?;
    for peer in 0..2 * SIDE {
        tunnel(&mut text, case, peer)?;
    }
    Ok(text)
}

/// `[[neighbours]]` or `[[hosts]]`.
fn tunnel(text: &mut String, case: &Case, number: u16) -> anyhow::Result<()> {
    let peer = PeerId(number);
    if is_host(case, number) {
        let address = match case.role {
            Role::Exit => Ipv4Addr::new(203, 0, 113, 100 + number as u8),
            Role::Entrance | Role::Intermediate => Ipv4Addr::new(10, 128, 0, number as u8),
        };
        write!(
            text,
            "\n[[hosts]]\nname = \"peer{number}\"\nrole = \"{}\"\nremote = \"{}\"\naddresses = [\"{address}/32\"]\ninner_mtu = {}\n",
            if case.role == Role::Exit {
                "responder"
            } else {
                "initiator"
            },
            remote(peer),
            case.datagram().max(576),
        )?;
    } else {
        write!(text, "\n[[neighbours]]\nnode = \"peer{number}\"\n")?;
    }
    let ah_name = match case.ah {
        MacAlgorithm::HmacSha256_128 => "hmac-sha2-256-128",
        MacAlgorithm::Aes128Gmac => "aes-128-gmac",
        MacAlgorithm::AesCmac96 => "aes-cmac-96",
    };
    write!(text, "ah = \"{ah_name}\"\nesp = \"aes-128-gcm-16\"\n")?;
    for (name, sa, bytes) in [
        ("ah_in", Sa::AhIn, case.ah.key_bytes()),
        ("ah_out", Sa::AhOut, case.ah.key_bytes()),
        ("esp_in", Sa::EspIn, ESP.key_bytes()),
        ("esp_out", Sa::EspOut, ESP.key_bytes()),
    ] {
        write!(text, "{name} = {{ spi = {}, key = \"", tunnel_spi(sa, peer).value())?;
        for byte in material(sa, peer, bytes).iter() {
            write!(text, "{byte:02x}")?;
        }
        writeln!(text, "\" }}")?;
    }
    Ok(())
}

/// Commands that give the kernel the next hops which a generator does not answer for.
fn next_hops(interface: &str) -> String {
    let [a, b, c, d, e, f] = REMOTE_MAC.0;
    let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    let mut text = String::from("#!/bin/sh\nset -e\n");
    for peer in 0..2 * SIDE {
        let address = remote(PeerId(peer));
        // A string takes all.
        let _ = writeln!(
            text,
            "ip neighbour replace {address} lladdr {mac} dev {interface} nud permanent"
        );
    }
    text
}
