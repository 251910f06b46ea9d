//! Part of the build scripts of the crates here: which clang bindgen is to read headers with.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// A libclang and the compiler headers of its own version: with two versions installed, a mix does not parse `immintrin.h`.
pub struct Clang {
    root: PathBuf,
    headers: PathBuf,
}

impl Clang {
    /// The newest complete LLVM below `/usr/lib`. `None` if the builder's environment chooses, or another system's layout does.
    ///
    /// # Errors
    /// On Debian, where there is one place to look, when there is none.
    pub fn find() -> Result<Option<Self>, &'static str> {
        if env::var_os("LIBCLANG_PATH").is_some() || !Path::new("/usr/lib").is_dir() {
            return Ok(None);
        }
        let mut roots: Vec<(u32, PathBuf)> = entries(Path::new("/usr/lib"))
            .filter_map(|p| Some((p.file_name()?.to_str()?.strip_prefix("llvm-")?.parse().ok()?, p)))
            .collect();
        roots.sort();
        let found = roots.into_iter().rev().find_map(|(_, root)| Self::at(root));
        if found.is_none() && Path::new("/etc/debian_version").exists() {
            return Err("no libclang with its compiler headers was found below /usr/lib/llvm-*");
        }
        Ok(found)
    }

    fn at(root: PathBuf) -> Option<Self> {
        let library = entries(&root.join("lib")).any(|p| is_libclang(p.file_name()));
        let headers = entries(&root.join("lib/clang")).find(|p| p.join("include/stddef.h").is_file())?;
        library.then_some(Self { root, headers })
    }

    /// Points bindgen to this library. Returns the arguments that name its headers.
    pub fn use_it(&self) -> [String; 2] {
        // SAFETY: the build script has one thread, so nobody reads the environment meanwhile.
        unsafe {
            env::set_var("LIBCLANG_PATH", self.root.join("lib"));
            let compiler = self.root.join("bin/clang");
            if compiler.is_file() {
                env::set_var("CLANG_PATH", compiler);
            }
        }
        ["-resource-dir".into(), self.headers.display().to_string()]
    }
}

fn is_libclang(name: Option<&OsStr>) -> bool {
    name.and_then(OsStr::to_str)
        .is_some_and(|n| n.starts_with("libclang.so") || n.starts_with("libclang-") && n.contains(".so"))
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}
