//! Measurements of the running system: an open-loop load generator, the fast path by its own clock, deploys under load,
//! cold starts.

pub mod coldstart;
pub mod deploy;
pub mod fastpath;
pub mod load;
mod node;
