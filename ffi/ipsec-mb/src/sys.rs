//! Raw bindings, made by bindgen from `intel-ipsec-mb.h`. Layouts are checked at compile time by the generated assertions.
#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    dead_code,
    unused_qualifications,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::cast_lossless
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
