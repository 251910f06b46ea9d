//! See the crate description; modules land as they are written.
