//! The command line.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use ain_crypto::{AeadAlgorithm, MacAlgorithm};
use ain_dataplane::id::Pair;
use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::config::report::Problems;
use crate::config::{self, AnyConfig, Own, entry};
use crate::upkeep::OwnKeys;
use crate::{host_config, ike_config, keygen};

/// Exit code of what failed for another reason than its configuration.
const FAILURE: u8 = 1;
/// Exit code of a configuration or command line that is wrong.
const BAD_CONFIGURATION: u8 = 2;

/// Node of an anonymous Internet at the IP layer.
#[derive(Debug, Parser)]
#[command(name = "ain", version)]
struct Cli {
    /// What goes to standard error: error, warn, info, debug or trace, also by module (`info,ain_daemon::neighbours=debug`)
    #[arg(long, env = "AIN_LOG", default_value = "info", global = true)]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until SIGTERM or SIGINT
    Run {
        /// Its configuration
        #[arg(long)]
        config: PathBuf,
    },
    /// Run the host's side of a tunnel to an AIN on a TUN device
    Endpoint {
        /// Its configuration
        #[arg(long)]
        config: PathBuf,
        /// Ask the AIN, through the endpoint that runs with this configuration, to end the AIVT of this host's datagrams from
        /// SOURCE to DESTINATION, whether the host began it or answers on it
        #[arg(long, num_args = 2, value_names = ["SOURCE", "DESTINATION"])]
        close: Option<Vec<IpAddr>>,
    },
    /// Show what a running node is doing
    Status {
        /// Its admin socket
        #[arg(long, default_value = "/run/ain/ain.sock")]
        socket: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Have a running node, or endpoint, read its configuration again and take the hand-made keys that have changed
    Reload {
        /// Its configuration
        #[arg(long)]
        config: PathBuf,
    },
    /// Check a configuration: a node's, the network's directory or a host's
    Check {
        /// The file
        file: PathBuf,
    },
    /// Print a node's entry for the network's directory, signed, as its part in that file says it
    Entry {
        /// The node's configuration
        #[arg(long)]
        config: PathBuf,
    },
    /// Print the commands that give a Linux kernel the other end of a tunnel with a node; they hold keys
    HostConfig {
        /// The node's configuration
        #[arg(long)]
        config: PathBuf,
        /// The host's name there
        #[arg(long, required_unless_present = "neighbour")]
        host: Option<String>,
        /// The neighbour's name there, for the PVT and its signals alone
        #[arg(long, conflicts_with = "host")]
        neighbour: Option<String>,
        /// The host's interface towards the node
        #[arg(long, default_value = "eth0")]
        interface: String,
    },
    /// Write what strongSwan needs to make the keys of this node's tunnels by IKE, or print what it needs at the other end of one
    IkeConfig {
        /// The node's configuration
        #[arg(long)]
        config: PathBuf,
        /// Where strongswan.conf and swanctl/ are written, for this node's own charon
        #[arg(long, required_unless_present_any = ["host", "neighbour"])]
        dir: Option<PathBuf>,
        /// Print swanctl.conf of the host of this name instead; it may hold a key
        #[arg(long, conflicts_with_all = ["dir", "neighbour"])]
        host: Option<String>,
        /// Print swanctl.conf of the neighbour of this name instead, for the PVT and its signals alone
        #[arg(long, conflicts_with = "dir")]
        neighbour: Option<String>,
    },
    /// Make the identity key of a new node, or the keys of one hand-made tunnel
    Keygen(Keygen),
}

#[derive(Debug, clap::Args)]
struct Keygen {
    /// Where identity.key is made
    #[arg(long, default_value = ".")]
    out_dir: PathBuf,
    /// Name in the draft of its directory entry that is printed
    #[arg(long, default_value = "NAME")]
    name: String,
    /// Outer address in that draft
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    address: IpAddr,
    /// Print keys and SPIs of one tunnel instead, for both its ends; they are secret
    #[arg(long, conflicts_with_all = ["out_dir", "name", "address"])]
    sa: bool,
    /// AH algorithm of the tunnel
    #[arg(long, value_enum, default_value_t = Ah::Gmac, requires = "sa")]
    ah: Ah,
    /// ESP algorithm of the tunnel
    #[arg(long, value_enum, default_value_t = Esp::Gcm128, requires = "sa")]
    esp: Esp,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Ah {
    #[value(name = "hmac-sha2-256-128")]
    Hmac,
    #[value(name = "aes-128-gmac")]
    Gmac,
    #[value(name = "aes-cmac-96")]
    Cmac,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Esp {
    #[value(name = "aes-128-gcm-16")]
    Gcm128,
    #[value(name = "aes-256-gcm-16")]
    Gcm256,
}

/// Runs the program as its command line says. Exit codes: 0 well, 1 failure, 2 wrong configuration or command line.
pub fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<Problems>() {
            Some(problems) => {
                eprintln!("{problems}");
                ExitCode::from(BAD_CONFIGURATION)
            }
            None => {
                eprintln!("error: {error:#}");
                ExitCode::from(FAILURE)
            }
        },
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    start_log(&cli.log)?;
    match cli.command {
        Command::Run { config } => crate::run::node(&config),
        Command::Endpoint { config, close } => match close.as_deref() {
            Some([source, destination]) => close_aivt(&config, *source, *destination),
            _ => crate::endpoint::endpoint(&config),
        },
        Command::Status { socket, json } => status(&socket, json),
        Command::Reload { config } => {
            println!("{}", crate::reload::ask(&config)?);
            Ok(())
        }
        Command::Check { file } => check(&file),
        Command::Entry { config } => {
            print!("{}", own_entry(&config)?);
            Ok(())
        }
        Command::HostConfig {
            config,
            host,
            neighbour,
            interface,
        } => {
            let node = config::NodeConfig::load_strictly(&config, SystemTime::now())?;
            let commands = match (host, neighbour) {
                (Some(name), _) => host_config::of_host(&node, &name, &interface)?,
                (None, name) => host_config::of_neighbour(&node, &name.unwrap_or_default())?,
            };
            print!("{}", *commands);
            Ok(())
        }
        Command::IkeConfig {
            config,
            dir,
            host,
            neighbour,
        } => {
            let node = config::NodeConfig::load_strictly(&config, SystemTime::now())?;
            match (dir, host, neighbour) {
                (Some(dir), ..) => println!("{}", ike_config::write(&node, &dir)?),
                (None, Some(name), _) => print!("{}", *ike_config::of_host(&node, &name)?),
                (None, None, name) => print!("{}", *ike_config::of_neighbour(&node, &name.unwrap_or_default())?),
            }
            Ok(())
        }
        Command::Keygen(arguments) => make_keys(&arguments),
    }
}

/// Lines to standard error, with colours for a person only.
fn start_log(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).context("--log")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}

fn status(socket: &std::path::Path, json: bool) -> anyhow::Result<()> {
    let report = crate::admin::report(socket)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}

fn close_aivt(config: &std::path::Path, source: IpAddr, destination: IpAddr) -> anyhow::Result<()> {
    let outcome = crate::endpoint::close(config, Pair { source, destination })?;
    println!("{outcome}");
    Ok(())
}

fn check(file: &std::path::Path) -> anyhow::Result<()> {
    let kind = match config::check_any(file, SystemTime::now())? {
        AnyConfig::Node(_) => "node",
        AnyConfig::Directory(_) => "directory",
        AnyConfig::Endpoint(_) => "endpoint",
    };
    println!("{}: good ({kind})", file.display());
    Ok(())
}

/// Makes the onion keys that are missing, and signs the entry of the node with the configuration `file`.
fn own_entry(file: &std::path::Path) -> anyhow::Result<String> {
    let now = SystemTime::now();
    config::check_clock(now)?;
    let wall = config::unix_seconds(now);
    let own = Own::load(file)?;
    let signed = OwnKeys::open(&own.identity_key, &own.state_dir, &own.network)?.sign(&own.entry, wall)?;
    Ok(entry::signed(&signed, &own.neighbours))
}

fn make_keys(arguments: &Keygen) -> anyhow::Result<()> {
    if arguments.sa {
        let ah = match arguments.ah {
            Ah::Hmac => MacAlgorithm::HmacSha256_128,
            Ah::Gmac => MacAlgorithm::Aes128Gmac,
            Ah::Cmac => MacAlgorithm::AesCmac96,
        };
        let esp = match arguments.esp {
            Esp::Gcm128 => AeadAlgorithm::Aes128Gcm16,
            Esp::Gcm256 => AeadAlgorithm::Aes256Gcm16,
        };
        print!("{}", *keygen::tunnel_keys(ah, esp)?);
        return Ok(());
    }
    std::fs::create_dir_all(&arguments.out_dir).with_context(|| arguments.out_dir.display().to_string())?;
    print!(
        "{}",
        keygen::identity(&arguments.out_dir, &arguments.name, arguments.address)?
    );
    Ok(())
}
