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
    /// It takes no work and drains, for as long as this boot of the machine lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainRecord>,
}

/// A drain of a node, as far as the next daemon has to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainRecord {
    /// The boot of the machine that it is about: after the next one the node takes work again.
    pub boot: String,
    /// When what is left is forced to end.
    pub deadline: Option<Timestamp>,
    /// No sandbox is started any more.
    pub starts_closed: bool,
}

impl Stored for NodeRecord {
    const KIND: Kind = Kind::Node;

    fn id(&self) -> Cow<'_, str> {
        self.id.to_string().into()
    }
}
