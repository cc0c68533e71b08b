//! The node as the API shows it: whether it takes work, how far its drain is, and what holds that up.

use crate::id::NodeId;
use crate::settings::parse_duration;
use crate::{ApiError, ErrorCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use utoipa::ToSchema;

/// Most blockers that a status names; how many more there are it tells as a number.
pub const MOST_BLOCKERS: usize = 20;

/// Whether a node takes work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NodeState {
    Active,
    /// Takes no new placements; what it runs goes on, replacements and their number included.
    Cordoned,
    /// Takes nothing new, and what it has comes to an end.
    Draining,
    /// Drained: no sandbox is left, nor anything that one had.
    Empty,
    /// Its daemon ends.
    Down,
}

/// As [`NodeState`], with the forced end of a drain told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NodePhase {
    Active,
    Cordoned,
    Draining,
    /// What is left is killed.
    Forced,
    Empty,
    Down,
}

impl NodePhase {
    pub const ALL: [Self; 6] = [
        Self::Active,
        Self::Cordoned,
        Self::Draining,
        Self::Forced,
        Self::Empty,
        Self::Down,
    ];

    /// The text form, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Cordoned => "CORDONED",
            Self::Draining => "DRAINING",
            Self::Forced => "FORCED",
            Self::Empty => "EMPTY",
            Self::Down => "DOWN",
        }
    }

    pub fn state(self) -> NodeState {
        match self {
            Self::Active => NodeState::Active,
            Self::Cordoned => NodeState::Cordoned,
            Self::Draining | Self::Forced => NodeState::Draining,
            Self::Empty => NodeState::Empty,
            Self::Down => NodeState::Down,
        }
    }
}

/// What a drain waits for, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrainStep {
    /// Deploys, previews and changes that were let in before it began.
    Admitted,
    /// Sandboxes that are being started.
    Starts,
    /// Sandboxes that are there.
    Sandboxes,
    /// What is removed of those that have ended: processes, namespaces, mounts, cgroups, addresses.
    CleanUps,
}

impl DrainStep {
    /// In words.
    pub fn as_words(self) -> &'static str {
        match self {
            Self::Admitted => "what was let in before",
            Self::Starts => "sandboxes that are starting",
            Self::Sandboxes => "sandboxes to end",
            Self::CleanUps => "what ended sandboxes had",
        }
    }
}

/// Which of the node's two gates are closed: that of the API is always the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeGate {
    Open,
    /// Nothing new is let in; what was let in may start sandboxes.
    ApiClosed,
    /// No sandbox is started.
    Closed,
}

/// One thing that a drain waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Blocker {
    /// Of a deploy or a sandbox; where something is left that is neither, what it is.
    pub id: String,
    /// Of a deploy or a sandbox; `CLEANING_UP` of one that has ended.
    pub state: String,
    /// Since when it is waited for.
    #[schema(value_type = Option<String>)]
    pub since: Option<Timestamp>,
    pub why: String,
}

/// The node, now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeStatus {
    /// Its name.
    pub node: String,
    pub id: NodeId,
    pub state: NodeState,
    pub phase: NodePhase,
    pub gate: NodeGate,
    /// Of the daemon: how often its store was opened.
    pub epoch: u64,
    /// How often this daemon has opened the gates anew.
    pub generation: u64,
    /// Nothing new is placed on it, before, while and after it drains.
    pub cordoned: bool,
    /// What the drain waits for; none when none is under way.
    pub waits_for: Option<DrainStep>,
    /// Deploys, previews and changes that were let in and are not over.
    pub admitted: u64,
    /// Sandboxes that are being started.
    pub starts: u64,
    /// Requests in flight, as proxies last told, tunnels included.
    pub requests: u64,
    /// How many of them are tunnels, as far as proxies tell: those of earlier releases do not.
    #[serde(default)]
    pub tunnels: u64,
    /// Sandboxes that have not ended, by state.
    pub sandboxes: BTreeMap<String, u64>,
    /// What is left of sandboxes that have ended; looked at while a drain waits for it.
    pub clean_ups: u64,
    /// When the drain began.
    #[schema(value_type = Option<String>)]
    pub since: Option<Timestamp>,
    /// When the drain is forced; in the forced phase, when that is over. None: never.
    #[schema(value_type = Option<String>)]
    pub deadline: Option<Timestamp>,
    /// The forced phase is over, and something is left.
    pub overdue: bool,
    /// What the drain waits for, the oldest first; at most 20.
    pub blockers: Vec<Blocker>,
    /// How many more there are.
    pub more_blockers: u64,
    /// What failed while it drained, each once.
    pub errors: Vec<String>,
}

impl NodeStatus {
    /// Sandboxes that have not ended.
    pub fn living(&self) -> u64 {
        self.sandboxes.values().sum()
    }

    /// Whether whoever waits for the drain need not wait any longer: it is done, given up by time, or called off.
    pub fn is_over(&self) -> bool {
        self.overdue || !matches!(self.phase, NodePhase::Draining | NodePhase::Forced)
    }
}

/// How a node is to be drained. Asked for again, it may only become shorter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// After which what is left is forced to end, as `30s`; `0s` waits for ever; none: what `drain.node_timeout` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// What is left is forced to end now.
    #[serde(default)]
    pub force: bool,
    /// There is no other node: everything it serves is down until it is undrained.
    #[serde(default)]
    pub allow_outage: bool,
}

/// Reads the limit of a drain.
///
/// # Errors
/// `invalid_value` for what is no duration.
pub fn parse_timeout(text: &str) -> Result<Duration, ApiError> {
    parse_duration(text).map_err(|why| {
        let error = ApiError::new(ErrorCode::InvalidValue, format!("timeout {why}")).field("timeout");
        error.remedy("write it like \"90s\" or \"10m\"; \"0s\" waits for ever")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d4_no_time_at_all_is_a_limit_and_what_is_none_is_refused_by_its_field() {
        assert_eq!(parse_timeout("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_timeout("90s"), Ok(Duration::from_secs(90)));
        for text in ["", "soon", "-1s", "90"] {
            let error = parse_timeout(text).unwrap_err();
            assert_eq!(
                (error.code, error.field.as_deref()),
                (ErrorCode::InvalidValue, Some("timeout")),
                "{text:?}: {}",
                error.message
            );
        }
    }

    #[test]
    fn d1_each_phase_has_one_text_form() {
        for phase in NodePhase::ALL {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.as_str());
        }
    }
}
