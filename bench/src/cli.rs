//! The command line.

use std::path::PathBuf;

use ain_bench::backend::{Choice, Fresh, WithBackend, with};
use ain_bench::clock::Clock;
use ain_bench::differential::Differential;
use ain_bench::machine::{self, Steal};
use ain_bench::memory::Memories;
use ain_bench::pcap::Pcap;
use ain_bench::role::{Case, Role, Ways};
use ain_bench::shape::Shape;
use ain_bench::suite::{Run, Scale, create, flood, live, memory, primitives, roles, scaling, stages};
use ain_bench::summary::Summary;
use ain_bench::{goals, plot};
use ain_crypto::MacAlgorithm;
use ain_dataplane::wire::cell::CellProfile;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// What a packet costs a node, beside the bare primitives over the same bytes in the same run.
#[derive(Parser)]
pub struct Cli {
    /// Core to measure on; the last one by default.
    #[arg(long, global = true)]
    core: Option<usize>,
    /// Cryptography.
    #[arg(long, global = true, value_enum, default_value_t)]
    backend: Choice,
    /// Where summary and plots go.
    #[arg(long, global = true, default_value = "target/bench")]
    out: PathBuf,
    /// Everything; takes long.
    #[arg(long, global = true, conflicts_with = "smoke")]
    full: bool,
    /// Every line once, with tiny counts: whether it works.
    #[arg(long, global = true)]
    smoke: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Everything below.
    All,
    /// Cycles a packet in every role.
    Roles,
    /// Cycles a packet in chosen lines.
    Role(Lines),
    /// Cycles a packet by stage.
    Stages,
    /// One worker against two.
    Scaling,
    /// Cycles of the bare primitives.
    Primitives,
    /// AIVTs created a second.
    Create,
    /// What a neighbour that floods CREATEs does to others' setups and data.
    Flood,
    /// What a node adds to a packet's way.
    Latency,
    /// What a node loses while AIVTs come and go.
    Churn,
    /// Bytes an AIVT.
    Memory,
    /// Packets and node configuration for a packet generator.
    Pcap(Pcap),
    /// The node's verdicts on right and altered packets, against those of a model of the RFCs.
    Differential(Differential),
    /// What an eavesdropper can read off the times of packets on links with a rate.
    Shape(Shape),
    /// Fills a node and says what it holds: the process that `memory` measures.
    #[command(hide = true)]
    Fill {
        #[arg(long)]
        aivts: u32,
        #[arg(long)]
        no_node: bool,
    },
}

/// Chosen lines of the table of roles.
#[derive(Args)]
struct Lines {
    /// Roles.
    #[arg(long, value_delimiter = ',', value_enum, default_value = "intermediate")]
    role: Vec<Role>,
    /// Directions; entrance and exit take one of forward and backward.
    #[arg(long, value_delimiter = ',', value_enum)]
    ways: Vec<Ways>,
    /// AH algorithms.
    #[arg(long, value_delimiter = ',', value_enum, default_value = "gmac")]
    mac: Vec<MacName>,
    /// AIVTs.
    #[arg(long, value_delimiter = ',', default_value = "1000")]
    aivts: Vec<u32>,
    /// Packets of a burst, 1..=64.
    #[arg(long, value_delimiter = ',', default_value = "32")]
    burst: Vec<usize>,
    /// AINs behind the entrance.
    #[arg(long, value_delimiter = ',', default_value = "3")]
    hops: Vec<usize>,
    /// Bytes of inner datagrams; a cell's fill by default.
    #[arg(long)]
    datagram: Option<usize>,
    /// Jumbo cells.
    #[arg(long)]
    jumbo: bool,
    /// Packets made beforehand for a turn.
    #[arg(long, default_value_t = Case::HEADLINE.chunk)]
    chunk: usize,
    /// Turns of path and floor each.
    #[arg(long, default_value_t = 60)]
    turns: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum MacName {
    Gmac,
    Hmac,
    Cmac,
}

impl Lines {
    fn cases(&self) -> Vec<Case> {
        let mut cases = vec![Case {
            profile: if self.jumbo {
                CellProfile::Jumbo
            } else {
                CellProfile::Standard
            },
            datagram: self.datagram,
            chunk: self.chunk,
            ..Case::HEADLINE
        }];
        vary(&mut cases, &self.role, |case, role| case.role = role);
        vary(&mut cases, &self.mac, |case, mac| {
            case.ah = match mac {
                MacName::Gmac => MacAlgorithm::Aes128Gmac,
                MacName::Hmac => MacAlgorithm::HmacSha256_128,
                MacName::Cmac => MacAlgorithm::AesCmac96,
            }
        });
        vary(&mut cases, &self.aivts, |case, aivts| case.aivts = aivts);
        vary(&mut cases, &self.burst, |case, burst| case.burst = burst);
        vary(&mut cases, &self.hops, |case, hops| case.hops = hops);
        let ways = |case: &Case| match (self.ways.as_slice(), case.role) {
            ([], Role::Intermediate) => vec![Ways::Both],
            ([], Role::Entrance | Role::Exit) => vec![Ways::Forward, Ways::Backward],
            (ways, _) => ways.to_vec(),
        };
        cases
            .iter()
            .flat_map(|case| ways(case).into_iter().map(|ways| Case { ways, ..*case }))
            .collect()
    }
}

fn vary<T: Copy>(cases: &mut Vec<Case>, values: &[T], set: impl Fn(&mut Case, T)) {
    let with = |case: &Case, value: T| {
        let mut case = *case;
        set(&mut case, value);
        case
    };
    *cases = values
        .iter()
        .flat_map(|value| cases.iter().map(|case| with(case, *value)))
        .collect();
}

impl Cli {
    /// Does what was asked for.
    pub fn run(self) -> anyhow::Result<()> {
        if let What::Fill { aivts, no_node } = self.what {
            return with(self.backend, Filled { aivts, node: !no_node });
        }
        if let What::Pcap(pcap) = &self.what {
            return with(self.backend, pcap);
        }
        if let What::Differential(differential) = &self.what {
            return with(self.backend, differential);
        }
        if let What::Shape(shape) = &self.what {
            return shape.run();
        }
        // As a node has them unless configured otherwise.
        if let Err(error) = hugepages::place(self.heap_bytes(), hugepages::Kind::Transparent) {
            eprintln!("tables and keys are in ordinary pages: {error}");
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let core = self.core.unwrap_or(cores - 1);
        #[cfg(feature = "dpdk")]
        let mut memories = ain_bench::memory::Dpdk::start(core)?;
        #[cfg(not(feature = "dpdk"))]
        let mut memories = {
            ain_worker::pin::set_up_thread("ain-bench", Some(core))?;
            ain_bench::memory::Ordinary::default()
        };
        let choice = self.backend;
        let other = (0..cores).rev().find(|other| *other != core);
        with(choice, Chosen(self, &mut memories, (core, other)))
    }

    /// Room for the tables and keys of the largest case, the floor's own keys included.
    fn heap_bytes(&self) -> usize {
        const EACH: usize = 4 << 10;
        const ONCE: usize = 64 << 20;
        let aivts = match &self.what {
            What::All | What::Roles => roles::cases(self.scale()).iter().map(|case| case.aivts).max(),
            What::Role(lines) => lines.aivts.iter().copied().max(),
            _ => None,
        };
        ONCE + EACH * aivts.unwrap_or(10_000) as usize
    }

    fn scale(&self) -> Scale {
        match (self.smoke, self.full) {
            (true, _) => Scale::Smoke,
            (_, true) => Scale::Full,
            _ => Scale::Quick,
        }
    }
}

struct Filled {
    aivts: u32,
    node: bool,
}

impl WithBackend for Filled {
    type Output = anyhow::Result<()>;

    fn run<C: Fresh>(self) -> anyhow::Result<()> {
        memory::fill::<C>(self.aivts, self.node)
    }
}

struct Chosen<'a, P>(Cli, &'a mut P, (usize, Option<usize>));

impl<P: Memories> WithBackend for Chosen<'_, P> {
    type Output = anyhow::Result<()>;

    fn run<C: Fresh>(self) -> anyhow::Result<()> {
        let Self(cli, memories, (core, other_core)) = self;
        let clock = Clock::new();
        println!(
            "{} backend, {}, TSC {:.2} GHz",
            C::NAME,
            memories.describe(),
            clock.hz() / 1e9
        );
        let scale = cli.scale();
        let mut run = Run {
            memories,
            core,
            other_core,
            clock,
            scale,
            summary: Summary::default(),
        };
        let turns = scale.pick(1, 60, 200);
        let what = &cli.what;
        if let What::Role(lines) = what {
            return roles::run::<C, P>(&mut run, &lines.cases(), lines.turns);
        }
        machine::describe(&mut run.summary, &run.clock, C::NAME, &run.memories.describe());
        let steal = Steal::begin();
        let all = matches!(what, What::All);
        if all || matches!(what, What::Primitives) {
            primitives::run::<C, P>(&mut run, turns)?;
        }
        if all || matches!(what, What::Roles) {
            roles::run::<C, P>(&mut run, &roles::cases(scale), turns)?;
        }
        if all || matches!(what, What::Stages) {
            stages::run::<C, P>(&mut run, turns)?;
        }
        if all || matches!(what, What::Scaling) {
            scaling::run::<C, P>(&mut run, turns)?;
        }
        if all || matches!(what, What::Create) {
            create::run::<C, P>(&mut run)?;
        }
        if all || matches!(what, What::Flood) {
            flood::run::<C, P>(&mut run)?;
        }
        let (latency, churn) = (all || matches!(what, What::Latency), all || matches!(what, What::Churn));
        if latency || churn {
            live::run::<C, P>(&mut run, latency, churn)?;
        }
        if all || matches!(what, What::Memory) {
            memory::run::<C, P>(&mut run)?;
        }
        run.summary.put("machine.steal_percent", steal.percent());
        run.summary.write(&cli.out.join("summary.json"))?;
        plot::write(&run.summary, &cli.out)?;
        if all {
            goals::print(&run.summary);
            println!(
                "\n{}: summary.json, efficiency.svg, cycles.svg, gbps.svg",
                cli.out.display()
            );
        }
        Ok(())
    }
}
