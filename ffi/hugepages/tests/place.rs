//! A heap in hugepages. One heap a process, so one test; `main` and no harness, whose threads have heaps of their own.

use std::fs;

use hugepages::{Kind, PAGE, PlaceError, free_mib, place};

const BYTES: usize = 48 << 20;
const MIB: usize = 1 << 20;

fn main() {
    // Nobody has 16 TiB in hugepages; how much there is may change meanwhile.
    let too_much = place(16 << 40, Kind::Pool);
    let named = |error| matches!(error, PlaceError::Pool { needed_mib, free_mib } if needed_mib == 16 << 20 && free_mib < needed_mib);
    assert!(too_much.is_err_and(named));
    let before = in_hugepages();
    let free_before = free_mib();
    let pool = place(BYTES, Kind::Pool);
    if pool.is_ok() {
        // Promised, and hardly one touched. Others may take pages meanwhile, and hardly give that many back.
        let taken = free_before.saturating_sub(free_mib());
        assert!(taken >= BYTES / 2 / MIB, "{taken} MiB count as taken");
    }
    if pool.is_err() {
        // Others may take pages meanwhile.
        place(BYTES, Kind::Transparent).expect("ordinary memory");
    }
    let entries: Vec<Box<[u8; 700]>> = (0..BYTES / 2 / 1024).map(|at| Box::new([at as u8; 700])).collect();
    let large = vec![7u8; BYTES / 4];
    for (at, entry) in entries.iter().enumerate() {
        assert!(entry.iter().all(|byte| *byte == at as u8));
    }
    assert!(large.iter().all(|byte| *byte == 7));
    let grown = in_hugepages() - before;
    println!("{} KiB more in hugepages, pool: {}", grown, pool.is_ok());
    if pool.is_ok() {
        assert!(grown * 1024 >= BYTES / 2, "entries and the large block lie in them");
    }
    drop((entries, large));
    let beyond: Vec<Vec<u8>> = (0..BYTES / PAGE + 8).map(|_| vec![1u8; PAGE]).collect();
    assert!(
        beyond.iter().all(|block| block[PAGE - 1] == 1),
        "more than was placed is to be had too"
    );
}

/// KiB of this process in hugepages of either kind.
fn in_hugepages() -> usize {
    let all = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let of = |line: &str| -> Option<usize> { line.split_whitespace().nth(1)?.parse().ok() };
    let wanted = |line: &&str| line.starts_with("AnonHugePages") || line.starts_with("Private_Hugetlb");
    all.lines().filter(wanted).filter_map(of).sum()
}
