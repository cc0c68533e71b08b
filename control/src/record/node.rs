//! Decides what is kept of a node: which one it is, what people call it, and whether it takes new work.

use super::Stored;
use crate::store::Kind;
use jiff::Timestamp;
use miren_api::id::NodeId;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// One node of this store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    pub id: NodeId,
    /// What its settings call it; another one after they were changed, and still the same node.
    pub name: String,
    pub created_at: Timestamp,
    /// Nothing new is placed on it; what it runs goes on.
    #[serde(default)]
    pub cordoned: bool,
}

impl Stored for NodeRecord {
    const KIND: Kind = Kind::Node;

    fn id(&self) -> Cow<'_, str> {
        self.id.to_string().into()
    }
}
