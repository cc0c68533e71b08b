//! What has to be the same before numbers mean the same: the slot table, the history of routing, the daemon that speaks.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Event `identity` of the proxy's stream, before its first snapshot; and part of each answer about leases.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Identity {
    /// The slot table that control writes. A slot and its generation mean nothing in another one: a proxy that reads another
    /// one ends, for a successor that may open this one.
    pub slot_table: String,
    /// The history that routing is of now.
    pub lineage: String,
    /// Counts the daemons that opened this store; a copy of it counts on from where it was made.
    pub epoch: u64,
}
