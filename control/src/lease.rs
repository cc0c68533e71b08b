//! Decides which proxy may send requests to which sandbox generation, until when, and which proxies are there at all.

use miren_api::lease::LEASE_TTL;
use std::time::Duration;

mod desk;
mod proxies;
mod table;
#[cfg(test)]
mod tests;

pub use desk::{Connected, Desk, Leased};
pub use proxies::ProxyTable;
pub use table::LeaseTable;

/// A proxy that has said nothing for this long is taken for gone.
pub const SILENCE: Duration = Duration::from_secs(5);
/// A proxy that speaks but does not serve a snapshot after this long no longer holds up what waits for it.
pub const ACK_LIMIT: Duration = LEASE_TTL;
