//! Decides how faults of the node are told and how often they are tried again: each pool that meets one waits a second or more,
//! none of it counts against an app, and all of it ends with the fault.

use crate::clock::later;
use crate::metrics::Metrics;
use jiff::Timestamp;
use miren_api::id::{AppName, PoolId};
use miren_api::resource::NodeFault;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;

/// How soon a pool tries again.
const AGAIN: Duration = Duration::from_secs(1);
/// Attempts of the whole node in that time: a node in trouble is not given more of it.
const AT_ONCE: usize = 16;

/// Who waits for a fault of the node to pass.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waits {
    Pool(PoolId),
    /// A deploy or a preview, by its number, for its images.
    Images(AppName, u64),
}

impl From<&PoolId> for Waits {
    fn from(pool: &PoolId) -> Self {
        Self::Pool(pool.clone())
    }
}

/// What it met when it last tried to start a sandbox, or to get an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    pub fault: NodeFault,
    /// How the attempt failed.
    pub why: String,
    /// When the next one may be made, by [`crate::clock::Clock::steady`].
    pub retry_at: Timestamp,
}

impl Met {
    /// As it is shown.
    pub fn told(&self) -> String {
        format!("{}: {}", self.fault.as_str(), self.why)
    }
}

/// All that cannot go on because of the node. Each has one writer, the task of its app.
pub struct NodeFaults {
    of: Mutex<BTreeMap<Waits, Met>>,
    metrics: Metrics,
}

impl NodeFaults {
    pub fn new(metrics: Metrics) -> Self {
        Self {
            of: Mutex::default(),
            metrics,
        }
    }

    /// An attempt has failed. The first of a kind is an alarm; the others are counted.
    pub fn note(&self, who: impl Into<Waits>, fault: NodeFault, why: &str, now: Timestamp) {
        let (who, mut of) = (who.into(), self.of.lock());
        let waiting = of.len() + usize::from(!of.contains_key(&who));
        let met = Met {
            fault,
            why: why.to_owned(),
            retry_at: later(now, pause(waiting)),
        };
        let is_news = !of.values().any(|other| other.fault == fault);
        let before = of.insert(who, met);
        if is_news {
            tracing::error!(
                fault = fault.as_str(),
                why,
                "the node cannot start sandboxes or get their images; trying again until it can"
            );
        }
        self.count(&of, before.map(|before| before.fault));
        self.count(&of, Some(fault));
    }

    /// It has what it tried to get, or wants it no more.
    pub fn clear(&self, who: impl Into<Waits>) {
        let mut of = self.of.lock();
        let Some(met) = of.remove(&who.into()) else { return };
        if !of.values().any(|other| other.fault == met.fault) {
            tracing::info!(
                fault = met.fault.as_str(),
                "no pool waits for this fault of the node any more"
            );
        }
        self.count(&of, Some(met.fault));
    }

    pub fn of(&self, who: impl Into<Waits>) -> Option<Met> {
        self.of.lock().get(&who.into()).cloned()
    }

    fn count(&self, of: &BTreeMap<Waits, Met>, fault: Option<NodeFault>) {
        let Some(fault) = fault else { return };
        let pools = of.values().filter(|met| met.fault == fault).count();
        let gauge = self.metrics.node_faults.with_label_values(&[fault.as_str()]);
        gauge.set(i64::try_from(pools).unwrap_or(i64::MAX));
    }
}

/// How long each of so many pools waits between two attempts.
fn pause(pools: usize) -> Duration {
    let rounds = u32::try_from(pools.div_ceil(AT_ONCE)).unwrap_or(u32::MAX);
    AGAIN.saturating_mul(rounds.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f9_a_pool_tries_each_second_and_a_node_sixteen_times() {
        assert_eq!(pause(1), AGAIN);
        assert_eq!(pause(AT_ONCE), AGAIN);
        assert_eq!(pause(AT_ONCE + 1), AGAIN * 2);
        assert_eq!(pause(1000), AGAIN * 63);
    }

    #[test]
    fn f9_the_gauge_of_a_fault_goes_up_and_back_with_the_pools_that_met_it() {
        let metrics = Metrics::new();
        let faults = NodeFaults::new(metrics.clone());
        let now = Timestamp::from_second(1_000_000).unwrap();
        let pools: Vec<PoolId> = (0..2).map(|_| PoolId::generate()).collect();
        let gauge = |fault: NodeFault| metrics.node_faults.with_label_values(&[fault.as_str()]).get();
        pools
            .iter()
            .for_each(|pool| faults.note(pool, NodeFault::DiskFull, "full", now));
        assert_eq!(gauge(NodeFault::DiskFull), 2);
        assert_eq!(faults.of(&pools[0]).unwrap().retry_at, later(now, AGAIN));
        faults.note(&pools[0], NodeFault::Runtime, "away", now);
        assert_eq!((gauge(NodeFault::DiskFull), gauge(NodeFault::Runtime)), (1, 1));
        pools.iter().for_each(|pool| faults.clear(pool));
        assert_eq!((gauge(NodeFault::DiskFull), gauge(NodeFault::Runtime)), (0, 0));
        assert_eq!(faults.of(&pools[0]), None);
    }
}
