//! Decides how sandboxes run on this node: their network, their isolation, their life from PENDING to the last clean-up.
//!
//! A crate of its own because libcontainer, containerd-client and rtnetlink are compiled and linked here and nowhere else.

#![deny(clippy::unwrap_used)]

mod adopt;
mod blame;
mod bundle;
mod cgroup;
mod config;
mod containerd;
mod embedded;
mod exec;
mod exit;
mod files;
mod helper;
mod image;
mod left;
mod lifecycle;
pub mod logs;
mod network;
mod node;
mod order;
mod outlet;
mod process;
mod readable;
mod registry;
mod runtime;
mod sandboxes;
mod signal_number;
mod streams;
mod volumes;

pub use blame::{node_fault_of_io, node_fault_of_pull};
pub use config::{HealthChecks, LogLimits, LogRate, NodeConfig, RuntimeConfig};
pub use exec::{Exec, ExecEnd, ExecError};
pub use helper::helper_main_if_asked;
pub use left::Left;
pub use network::{Connections, Destination, DestinationError, Egress, RulesStatus, Subnet, SubnetError, Tracking};
pub use order::{Attach, Budgets, EndedBy, Facts, Known, OneOff, Root, SandboxChange, StartOrder};
pub use outlet::Outlet;
pub use registry::CleanUp;
pub use sandboxes::{OpenError, Sandboxes};
pub use streams::{Input, Output, Streams, Window};
pub use volumes::Volumes;
