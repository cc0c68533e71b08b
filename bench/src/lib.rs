//! Measurements of the running system: an open-loop load generator, the fast path by its own clock, deploys under load,
//! cold starts, the ingress's processor time per request beside others'.

pub mod coldstart;
pub mod deploy;
pub mod fastpath;
pub mod load;
mod node;
pub mod steady;
