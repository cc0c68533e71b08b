//! The real proxy in this process, on ports of its own, between fake apps and a fake control.

mod app;
mod bursts;
mod client;
mod control;
mod crashes;
mod crowds;
mod draining;
mod echo;
mod greedy;
mod hostile;
mod identities;
mod kept;
mod layers;
mod leases;
mod lifecycle;
mod limits;
mod previews;
mod protocol;
mod raw;
mod routing;
mod settings;
mod stage;
mod stalls;
mod unusual;
mod waiting;
mod wire;
