//! Measurements of the running system: an open-loop load generator, the fast path by its own clock, deploys under load,
//! cold starts, the ingress's processor time per request beside others', upgrades and drains beside theirs.

pub mod coldstart;
mod crowd;
pub mod deploy;
pub mod drain;
pub mod exercise;
pub mod fastpath;
pub mod load;
mod node;
pub mod peer;
pub mod steady;
pub mod upgrade;
