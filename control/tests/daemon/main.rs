//! The daemon over its real API and its real stores, on a simulated machine.

mod api;
mod clockwork;
mod collecting;
mod crashes;
mod deploys;
mod disks;
mod faulty;
mod followers;
mod identities;
mod kept;
mod leases;
mod machine;
mod memory;
mod node;
mod outputs;
mod previews;
mod previews_api;
mod previews_killed;
mod previews_replaced;
mod previews_routing;
mod scale;
mod stage;
mod steps;
mod store;
mod upgrade;
mod versions;
