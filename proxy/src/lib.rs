//! The ingress of miren: takes HTTP from clients and sends it to sandboxes that are RUNNING, and to no other.

mod admin;
mod binding;
pub mod config;
mod control;
mod edge;
mod error;
mod file;
mod gate;
mod lease;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the edge takes its connections from Pingora still")
)]
mod listen;
mod metrics;
pub mod privileges;
mod refusal;
mod routing;
mod run;
mod slots;

pub use config::{Config, reference};
pub use error::StartError;
pub use metrics::reference as metrics_reference;
pub use routing::{Found, Miss, RouteTable, SnapshotStore, SnapshotWriter, Target};
pub use run::{Addresses, Ended, Prepared, Stop};
