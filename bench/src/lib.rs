//! Measurements of the running system: an open-loop load generator, and the fast path's own clock.

pub mod fastpath;
pub mod load;
