//! Decides which proxy may send how many requests to which sandbox generation, until when, and which proxies there are.

use miren_api::lease::LEASE_TTL;
use std::time::Duration;

mod changes;
mod closing;
mod desk;
mod proxies;
mod share;
mod table;
#[cfg(test)]
mod tests;

pub use changes::Changes;
pub use desk::{About, Connected, Desk, Leased, Tell};
pub use proxies::ProxyTable;
pub use share::{Claim, divide};
pub use table::{Ask, Effects, Granted, LeaseTable, UnderWay};

/// A proxy that has said nothing for this long is taken for gone.
pub const SILENCE: Duration = Duration::from_secs(5);
/// A proxy that follows nothing for this long keeps its leases, but no share that another is short of: it may have been
/// killed, and the one that takes its place needs what it had. One that lives is back after some 50 ms.
pub const ABSENCE: Duration = Duration::from_millis(250);
/// A proxy that speaks but does not serve a snapshot after this long no longer holds up what waits for it.
pub const ACK_LIMIT: Duration = LEASE_TTL;
