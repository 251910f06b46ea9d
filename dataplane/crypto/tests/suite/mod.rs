//! What every backend has to pass. Whoever includes this module brings the backend as `Subject` and makes it in `subject()`.

mod backend;
mod vectors;
