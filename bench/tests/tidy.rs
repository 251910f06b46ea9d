//! House rules that a machine can keep. What they are for stands in `ARCHITECTURE.md`.

use std::fs;
use std::path::{Path, PathBuf};

/// Crate, its folder, and which of our crates it may depend on: the arrows of `ARCHITECTURE.md`.
const CRATES: [(&str, &str, &[&str]); 10] = [
    ("hugepages", "ffi/hugepages", &[]),
    ("dpdk-sys", "ffi/dpdk", &[]),
    ("ipsec-mb-sys", "ffi/ipsec-mb", &["ain-crypto"]),
    ("ain-crypto", "dataplane/crypto", &[]),
    ("ain-dataplane", "dataplane", &["ain-crypto"]),
    (
        "ain-worker",
        "dataplane/worker",
        &["ain-crypto", "ain-dataplane", "dpdk-sys"],
    ),
    ("ain-controlplane", "controlplane", &["ain-crypto", "ain-dataplane"]),
    (
        "ain",
        "controlplane/daemon",
        &[
            "ain-crypto",
            "ain-dataplane",
            "ain-controlplane",
            "ain-worker",
            "dpdk-sys",
            "hugepages",
            "ipsec-mb-sys",
        ],
    ),
    (
        "ain-bench",
        "bench",
        &[
            "ain",
            "ain-crypto",
            "ain-dataplane",
            "ain-controlplane",
            "ain-worker",
            "dpdk-sys",
            "hugepages",
            "ipsec-mb-sys",
        ],
    ),
    (
        "ain-fuzz",
        "bench/fuzz",
        &["ain-crypto", "ain-dataplane", "ain-controlplane", "ain", "ain-worker"],
    ),
];

/// Crates without clock, socket or foreign code.
const HEARTS: [&str; 3] = ["dataplane/crypto", "dataplane", "controlplane"];

/// Libraries that would let a heart reach the machine.
const MACHINE: [&str; 9] = [
    "libc",
    "nix",
    "rustix",
    "tokio",
    "mio",
    "socket2",
    "core_affinity",
    "bindgen",
    "cc",
];

/// Where `unsafe` may stand besides `ffi/`: the processor's own instructions.
const UNSAFE_ROOMS: [&str; 3] = [
    "dataplane/crypto/src/onion/aesni.rs",
    "dataplane/crypto/src/onion/avx512.rs",
    "dataplane/crypto/src/prefetch.rs",
];

/// Longest file, lines.
const MAX_LINES: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Every file with one of these endings, as a path below the root, with its text. Build results are left out.
fn files(endings: &[&str]) -> Vec<(String, String)> {
    fn walk(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && name != ".git" {
                    walk(&path, endings, found);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    let root = root();
    let mut found = Vec::new();
    walk(&root, endings, &mut found);
    assert!(!found.is_empty(), "no {endings:?} below {}", root.display());
    found.sort();
    let below = |path: &PathBuf| path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
    found
        .iter()
        .map(|path| (below(path), fs::read_to_string(path).unwrap()))
        .collect()
}

fn manifest(folder: &str) -> toml::Table {
    let path = root().join(folder).join("Cargo.toml");
    fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .parse()
        .unwrap()
}

/// Names in a table of dependencies, those of `[target.'cfg(..)'.*]` included.
fn dependencies(manifest: &toml::Table, kind: &str) -> Vec<String> {
    let of = |table: &toml::Table| match table.get(kind) {
        Some(toml::Value::Table(entries)) => entries.keys().cloned().collect(),
        _ => Vec::new(),
    };
    let mut names = of(manifest);
    if let Some(toml::Value::Table(targets)) = manifest.get("target") {
        names.extend(targets.values().filter_map(toml::Value::as_table).flat_map(of));
    }
    names
}

/// Fails with every complaint at once.
fn report(rule: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{rule}:\n  {}", complaints.join("\n  "));
}

/// The code of a line: without a trailing comment, and without what stands in quotes.
fn code(line: &str) -> String {
    let unquoted: String = line.split('"').step_by(2).collect();
    unquoted.split("//").next().unwrap_or_default().to_owned()
}

#[test]
fn crates_depend_only_downwards() {
    let ours: Vec<&str> = CRATES.iter().map(|(name, _, _)| *name).collect();
    let mut complaints = Vec::new();
    for (name, folder, allowed) in CRATES {
        let manifest = manifest(folder);
        assert_eq!(manifest["package"]["name"].as_str(), Some(name), "{folder}");
        for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
            for dependency in dependencies(&manifest, kind) {
                if ours.contains(&dependency.as_str()) && !allowed.contains(&dependency.as_str()) {
                    complaints.push(format!("{name} has {dependency} among its {kind}"));
                }
            }
        }
    }
    report("a crate depends against the arrows", &complaints);
}

#[test]
fn every_crate_is_known_here_and_keeps_the_shared_lints() {
    let members = manifest("")["workspace"]["members"].as_array().unwrap().clone();
    let mut members: Vec<&str> = members.iter().map(|member| member.as_str().unwrap()).collect();
    let mut known: Vec<&str> = CRATES.iter().map(|(_, folder, _)| *folder).collect();
    members.sort_unstable();
    known.sort_unstable();
    assert_eq!(members, known, "members of the workspace against the list in this test");
    for folder in known {
        let inherits = manifest(folder)
            .get("lints")
            .and_then(|lints| lints.get("workspace")?.as_bool());
        assert_eq!(
            inherits,
            Some(true),
            "{folder}/Cargo.toml wants [lints] workspace = true"
        );
    }
}

#[test]
fn hearts_are_pure() {
    for folder in HEARTS {
        let lib = fs::read_to_string(root().join(folder).join("src/lib.rs")).unwrap();
        let has_room = UNSAFE_ROOMS
            .iter()
            .any(|room| room.starts_with(&format!("{folder}/src/")));
        let lint = if has_room { "deny" } else { "forbid" };
        assert!(
            lib.contains(&format!("#![{lint}(unsafe_code)]")),
            "{folder}/src/lib.rs does not {lint} unsafe code"
        );
        let dependencies = dependencies(&manifest(folder), "dependencies");
        let reach: Vec<_> = dependencies
            .iter()
            .filter(|name| MACHINE.contains(&name.as_str()))
            .collect();
        assert!(reach.is_empty(), "{folder} depends on {reach:?}");
    }
    let mut complaints = Vec::new();
    for (path, text) in files(&[".rs"]) {
        let heart = HEARTS.iter().any(|heart| path.starts_with(&format!("{heart}/src")));
        for (number, line) in text.lines().enumerate().filter(|_| heart) {
            let line = code(line);
            if [
                "SystemTime",
                "Instant::now",
                "std::net::Udp",
                "std::net::Tcp",
                "std::thread::sleep",
            ]
            .iter()
            .any(|reach| line.contains(reach))
            {
                complaints.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    report("a heart reads a clock or opens a socket", &complaints);
}

#[test]
fn unsafe_stays_in_its_rooms() {
    let mut complaints = Vec::new();
    for (path, text) in files(&[".rs"]) {
        if path.starts_with("ffi/") || UNSAFE_ROOMS.contains(&path.as_str()) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let line = code(line);
            let word = |word: &str| word == "unsafe";
            if line.split(|c: char| !c.is_alphanumeric() && c != '_').any(word) {
                complaints.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    report("unsafe outside its rooms", &complaints);
}

#[test]
fn files_are_short() {
    let long = |(path, text): (String, String)| {
        let lines = text.lines().count();
        (lines > MAX_LINES).then(|| format!("{path}: {lines} lines"))
    };
    let complaints: Vec<_> = files(&[".rs", ".py", ".sh", ".c", ".h"])
        .into_iter()
        .filter_map(long)
        .collect();
    report("longer than 600 lines", &complaints);
}

#[test]
fn nothing_is_left_for_later() {
    // In two pieces, so that this file does not complain about itself.
    let marks = [
        ("to", "do!("),
        ("unimple", "mented!("),
        ("#[ig", "nore"),
        ("FIX", "ME"),
        ("XX", "X "),
    ];
    let marks = marks.map(|(one, two)| format!("{one}{two}"));
    let mut complaints = Vec::new();
    for (path, text) in files(&[".rs", ".py", ".sh"]) {
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                complaints.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    report("left for later", &complaints);
}

#[test]
fn every_fuzz_target_is_built_and_has_seeds() {
    let manifest = manifest("bench/fuzz");
    let mut listed: Vec<&str> = manifest["bin"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bin| bin["name"].as_str().unwrap())
        .collect();
    let mut present: Vec<String> = files(&[".rs"])
        .into_iter()
        .filter_map(|(path, _)| {
            path.strip_prefix("bench/fuzz/targets/")?
                .strip_suffix(".rs")
                .map(str::to_owned)
        })
        .collect();
    listed.sort_unstable();
    present.sort_unstable();
    assert_eq!(listed, present);
    for name in listed {
        let seeds = fs::read_dir(root().join("bench/fuzz/corpus").join(name))
            .unwrap()
            .count();
        assert!(seeds > 0, "bench/fuzz/corpus/{name} is empty");
    }
}
