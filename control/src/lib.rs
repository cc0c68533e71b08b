//! `miren-control`: the daemon that keeps the wanted sandboxes of every app running and tells proxies where they are.

#![deny(clippy::unwrap_used)]

pub mod app;
pub mod apps;
pub mod artifact;
pub mod clock;
pub mod collector;
pub mod config;
pub mod control;
mod daemon;
pub mod drain;
pub mod executor;
mod facts;
pub mod fatal;
pub mod images;
pub mod lease;
pub mod leasing;
pub mod ledger;
pub mod metrics;
pub mod node_faults;
pub mod nodes;
pub mod output;
pub mod policy;
pub mod reads;
pub mod record;
pub mod reserve;
pub mod routing;
pub mod server;
mod shutdown;
pub mod store;

pub use config::{Config, reference, schema};
pub use daemon::run;
pub use facts::facts;
pub use metrics::reference as metrics_reference;
pub use shutdown::Shutdown;
