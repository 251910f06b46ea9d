//! Finds DPDK and one matching pair of libclang and compiler headers, builds the C shim, writes the bindings.

use std::env;
use std::path::PathBuf;
use std::process::{Command, exit};

use clang::Clang;

#[path = "../clang.rs"]
mod clang;

/// Debian packages that the build needs; told whenever one of them is missing.
const PACKAGES: &str = "libdpdk-dev pkg-config gcc libc6-dev libclang-dev";
/// Oldest release that the code is written for.
const DPDK: &str = "22.11";
/// Libraries that the binary calls. Drivers, buses and mempool handlers are plugins that the EAL loads at run time.
const LIBRARIES: [&str; 4] = ["rte_ethdev", "rte_mbuf", "rte_mempool", "rte_eal"];
/// Foreign functions and data that the safe layer uses, and nothing else.
const FUNCTIONS: &str = "shim_.*|rte_eal_(init|cleanup)|rte_strerror|rte_dev_probe|rte_thread_(un)?register|rte_get_tsc_hz\
    |rte_pktmbuf_(pool_create|free_bulk)|rte_mempool_(avail|in_use)_count\
    |rte_eth_(find_next|dev_get_(name_by_port|port_by_name)|dev_(adjust_nb_rx_tx_desc|start|stop|close|set_mtu)\
    |[rt]x_queue_setup|promiscuous_(enable|disable|get)|allmulticast_enable|stats_get|xstats_get|xstats_get_names)";

fn main() {
    println!("cargo:rerun-if-changed=csrc/shim.c");
    println!("cargo:rerun-if-changed=csrc/shim.h");
    println!("cargo:rerun-if-changed=../clang.rs");
    println!("cargo:rerun-if-env-changed=LIBCLANG_PATH");
    let library = pkg_config::Config::new()
        .atleast_version(DPDK)
        .cargo_metadata(false)
        .probe("libdpdk");
    let library =
        library.unwrap_or_else(|e| stop(&format!("DPDK {DPDK} or later is needed, and pkg-config says: {e}")));
    let flags = compiler_flags();
    compile_shim(&flags);
    write_bindings(&flags);
    for path in library.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }
    for name in LIBRARIES {
        println!("cargo:rustc-link-lib=dylib={name}");
    }
}

/// Says what is wrong and what to install, and ends the build.
fn stop(reason: &str) -> ! {
    eprintln!(
        "error: {reason}\n\n    On Debian: apt-get install {PACKAGES}\n    Or build without DPDK: --no-default-features\n"
    );
    exit(1);
}

/// Flags of the public headers: include paths, `-include rte_config.h` and the instruction set that the inline functions need.
fn compiler_flags() -> Vec<String> {
    let tool = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let output = match Command::new(&tool).args(["--cflags", "libdpdk"]).output() {
        Ok(output) if output.status.success() => output,
        _ => stop(&format!("`{tool} --cflags libdpdk` failed")),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let mut flags: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    flags.push("-DALLOW_EXPERIMENTAL_API".into());
    flags
}

fn compile_shim(flags: &[String]) {
    let mut build = cc::Build::new();
    build.file("csrc/shim.c").opt_level(3).warnings(true);
    for flag in flags {
        build.flag(flag);
    }
    if let Err(e) = build.try_compile("ain_dpdk_shim") {
        stop(&format!("the C shim does not compile: {e}"));
    }
}

fn write_bindings(flags: &[String]) {
    let clang = Clang::find().unwrap_or_else(|e| stop(e));
    let bindings = bindgen::Builder::default()
        .clang_args(clang.iter().flat_map(Clang::use_it))
        .header("csrc/shim.h")
        .clang_args(flags)
        .use_core()
        .allowlist_function(FUNCTIONS)
        .allowlist_var("SHIM_.*|rte_eth_fp_ops")
        .allowlist_type("shim_.*|rte_eth_fp_ops")
        .opaque_type("rte_mbuf|rte_mempool|rte_eth_rxconf|rte_eth_txconf|rte_device")
        .default_enum_style(bindgen::EnumVariation::ModuleConsts)
        .generate_comments(false)
        .derive_debug(false)
        .derive_default(true)
        .layout_tests(true)
        .generate()
        .unwrap_or_else(|e| stop(&format!("bindgen failed: {e}")));
    let out = env::var_os("OUT_DIR")
        .map(PathBuf::from)
        .unwrap_or_default()
        .join("bindings.rs");
    if let Err(e) = bindings.write_to_file(&out) {
        stop(&format!("cannot write {}: {e}", out.display()));
    }
}
