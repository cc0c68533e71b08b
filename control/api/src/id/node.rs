//! Which node is meant: a small number that the store gives out once, so that a key with it is copied and compared for nothing.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;
use utoipa::ToSchema;

/// One node of a store: `node-1`, `node-2`, … in the order in which they came; no number is given out again.
///
/// What names no node means [`NodeId::FIRST`]: releases that knew of one node only neither wrote nor took a name for it, and what
/// is about the first one is told in their words still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String)]
pub struct NodeId(NonZeroU16);

/// Text that names no node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no node: a node is called node-1, node-2, …")]
pub struct NodeIdError(String);

impl NodeId {
    /// The node that made the store.
    pub const FIRST: Self = Self(NonZeroU16::MIN);

    pub fn is_first(&self) -> bool {
        *self == Self::FIRST
    }
}

impl Default for NodeId {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "node-{}", self.0)
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    /// Takes only what is written the way [`NodeId`] is: two texts never mean one node.
    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        let number = text.strip_prefix("node-").and_then(|number| number.parse().ok());
        let node = number.map(Self).filter(|node| node.to_string() == text);
        node.ok_or_else(|| NodeIdError(text.to_owned()))
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_written_in_one_way_and_nothing_else_names_one() {
        assert_eq!(NodeId::FIRST.to_string(), "node-1");
        for number in [1, 2, 10, u16::MAX] {
            let node: NodeId = format!("node-{number}").parse().unwrap();
            assert_eq!(serde_json::to_string(&node).unwrap(), format!("\"node-{number}\""));
            assert_eq!(
                serde_json::from_str::<NodeId>(&format!("\"node-{number}\"")).unwrap(),
                node
            );
        }
        for text in [
            "",
            "node-",
            "node-0",
            "node-01",
            "node-+1",
            "node-65536",
            "node--1",
            "Node-1",
            "1",
            "node-1 ",
        ] {
            assert_eq!(text.parse::<NodeId>(), Err(NodeIdError(text.to_owned())), "{text:?}");
        }
    }
}
