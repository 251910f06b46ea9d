//! Writes the bindings of `intel-ipsec-mb.h` and names the library to the linker.

use std::env;
use std::path::{Path, PathBuf};
use std::process::exit;

use clang::Clang;

#[path = "../clang.rs"]
mod clang;

/// Debian packages that the build needs; told whenever one of them is missing.
const PACKAGES: &str = "libipsec-mb-dev libc6-dev libclang-dev";
/// Foreign functions that the safe layer calls by name. All others are reached through the manager.
const FUNCTIONS: &str = "(alloc|free)_mb_mgr|init_mb_mgr_(auto|sse)|imb_get_(feature_flags|version)";

fn main() {
    println!("cargo:rerun-if-changed=../clang.rs");
    println!("cargo:rerun-if-env-changed=LIBCLANG_PATH");
    let clang = Clang::find().unwrap_or_else(|e| stop(e));
    let bindings = bindgen::Builder::default()
        .clang_args(clang.iter().flat_map(Clang::use_it))
        // The names of release 0.53, which would only fill the bindings.
        .clang_arg("-DNO_COMPAT_IMB_API_053")
        .header_contents("ipsec-mb.h", "#include <intel-ipsec-mb.h>\n")
        .use_core()
        .allowlist_function(FUNCTIONS)
        .allowlist_var("IMB_(FEATURE|CPUFLAGS)_.*|IMB_MAX_BURST_SIZE|IMB_VERSION_NUM")
        .allowlist_type("IMB_MGR|IMB_JOB|gcm_key_data|gcm_context_data|IMB_ARCH|IMB_STATUS")
        .default_enum_style(bindgen::EnumVariation::ModuleConsts)
        .generate_comments(false)
        .derive_debug(false)
        .derive_default(true)
        .layout_tests(true)
        .generate()
        .unwrap_or_else(|e| stop(&format!("the header of Intel IPsec Multi-Buffer cannot be read: {e}")));
    let out = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    write(&bindings, &out.join("bindings.rs"));
    println!("cargo:rustc-link-lib=dylib=IPSec_MB");
}

fn write(bindings: &bindgen::Bindings, path: &Path) {
    if let Err(e) = bindings.write_to_file(path) {
        stop(&format!("cannot write {}: {e}", path.display()));
    }
}

/// Says what is wrong and what to install, and ends the build.
fn stop(reason: &str) -> ! {
    eprintln!(
        "error: {reason}\n\n    On Debian: apt-get install {PACKAGES}\n    Or build without it: --no-default-features, and --features dpdk\n"
    );
    exit(1);
}
