//! The ingress of miren: takes HTTP from clients and sends it to sandboxes that are RUNNING, and to no other.

#![deny(clippy::unwrap_used)]

mod binding;
pub mod config;
mod control;
mod edge;
mod error;
mod file;
mod lease;
mod life;
mod listen;
mod metrics;
mod request;
mod routing;
mod slots;

pub use config::{Config, reference, schema};
pub use error::StartError;
pub use life::{Addresses, Ended, Prepared, Stop, facts, memory, privileges, replace};
pub use metrics::reference as metrics_reference;
pub use routing::{Found, Miss, RouteTable, SnapshotStore, SnapshotWriter, Target};
