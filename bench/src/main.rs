//! `ain-bench`: the measurements of `make bench`, one by one.

use ain_bench::backend::{Fresh, WithBackend, with_fastest};
use ain_bench::clock::Clock;
use ain_bench::memory::Memories;
use ain_bench::role::intermediate::{Case, Intermediate, Ways};
use ain_bench::turns::measure;
use ain_crypto::MacAlgorithm;
use ain_dataplane::wire::cell::CellProfile;
use clap::{Args, Parser, Subcommand};

/// What a packet costs a node, beside the bare primitives over the same bytes in the same run.
#[derive(Parser)]
struct Cli {
    /// Core to measure on; the last one by default.
    #[arg(long)]
    core: Option<usize>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Cycles a packet by role.
    Roles(Roles),
}

/// Which lines of the table.
#[derive(Args)]
struct Roles {
    /// AH algorithms: gmac, hmac.
    #[arg(long, value_delimiter = ',', default_value = "gmac")]
    mac: Vec<String>,
    /// AIVTs.
    #[arg(long, value_delimiter = ',', default_value = "1000")]
    aivts: Vec<u32>,
    /// Packets of a burst, 1..=64.
    #[arg(long, value_delimiter = ',', default_value = "32")]
    burst: Vec<usize>,
    /// Jumbo cells.
    #[arg(long)]
    jumbo: bool,
    /// Packets made beforehand for a turn.
    #[arg(long, default_value_t = 4096)]
    chunk: usize,
    /// Turns of path and floor each.
    #[arg(long, default_value_t = 100)]
    turns: usize,
}

struct RunRoles<'a, P> {
    roles: &'a Roles,
    memories: &'a mut P,
}

impl<P: Memories> WithBackend for RunRoles<'_, P> {
    type Output = anyhow::Result<()>;

    fn run<C: Fresh>(self) -> anyhow::Result<()> {
        let clock = Clock::new();
        println!(
            "{} backend, {}, TSC {:.2} GHz",
            C::NAME,
            self.memories.describe(),
            clock.hz() / 1e9
        );
        println!(
            "{:<28} {:>8} {:>8} {:>6} {:>7} {:>7} {:>8} {:>8} {:>6} {:>6}",
            "intermediate", "path", "floor", "eff", "Mpps", "Gb/s", "path min", "flr min", "iqr%", "iqr%"
        );
        for mac in &self.roles.mac {
            let ah = match mac.as_str() {
                "gmac" => MacAlgorithm::Aes128Gmac,
                "hmac" => MacAlgorithm::HmacSha256_128,
                other => anyhow::bail!("no AH algorithm {other:?}"),
            };
            for (&aivts, &burst) in self
                .roles
                .aivts
                .iter()
                .flat_map(|a| self.roles.burst.iter().map(move |b| (a, b)))
            {
                let profile = if self.roles.jumbo {
                    CellProfile::Jumbo
                } else {
                    CellProfile::Standard
                };
                let case = Case {
                    ah,
                    profile,
                    aivts,
                    burst,
                    chunk: self.roles.chunk,
                    ways: Ways::Both,
                };
                let frame = Intermediate::<C, P::Pool>::frame_len(&case);
                let pool = self.memories.pool((2 * case.chunk).next_power_of_two() - 1, frame)?;
                let figures = measure(&mut Intermediate::<C, _>::new(case, pool)?, &clock, self.roles.turns)?;
                println!(
                    "{:<28} {:>8.0} {:>8.0} {:>6.3} {:>7.3} {:>7.2} {:>8.0} {:>8.0} {:>6.1} {:>6.1}",
                    format!("{mac} {aivts} burst {burst}"),
                    figures.path.median,
                    figures.floor.median,
                    figures.efficiency(),
                    figures.mpps(),
                    figures.gbps(),
                    figures.path.min,
                    figures.floor.min,
                    figures.path.iqr_percent(),
                    figures.floor.iqr_percent()
                );
            }
        }
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let core = cli
        .core
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(0, |n| n.get() - 1));
    #[cfg(feature = "dpdk")]
    let mut memories = ain_bench::memory::Dpdk::start(core)?;
    #[cfg(not(feature = "dpdk"))]
    let mut memories = {
        ain_worker::pin::set_up_thread("ain-bench", Some(core))?;
        ain_bench::memory::Ordinary::default()
    };
    match &cli.what {
        What::Roles(roles) => with_fastest(RunRoles {
            roles,
            memories: &mut memories,
        }),
    }
}
