//! The real proxy in this process, on ports of its own, between fake apps and a fake control.

mod app;
mod client;
mod control;
mod kept;
mod layers;
mod leases;
mod lifecycle;
mod limits;
mod protocol;
mod routing;
mod stage;
mod stalls;
mod waiting;
